//! TLS from the client hello to the stream.
//!
//! ```text
//! ClientHello ─▶ SNI ─▶ table: scope ─▶ certificate ─▶ config ─▶ TlsStream + TlsFacts
//!                            └─ none: unrecognized_name alert
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::CertificateError;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::model::certificate::LeafName;
use crate::model::schema::TlsVersion;
use crate::table::TableListener;
use crate::table::peer::Peer;
use crate::table::tls::{CertificateSource, TlsKeyed, TlsScope};
use crate::telemetry::access_log::TlsRecord;

/// What is known of a connection once its handshake is over.
#[derive(Debug)]
pub struct TlsFacts {
    /// Lower-case, without trailing dot.
    pub sni: Option<Arc<str>>,
    /// What the handshake was resolved by: the server name, or the address of a client that sent none.
    pub name: Arc<str>,
    /// What the handshake was bound to when it was.
    pub keyed: Arc<TlsKeyed>,
    /// Who the client is, as far as it showed a certificate.
    pub peer: Peer,
    pub version: TlsVersion,
    pub cipher: &'static str,
    pub resumed: bool,
    pub h2: bool,
}

impl TlsFacts {
    /// As the access log shows them.
    pub fn record(&self) -> TlsRecord<'_> {
        let version = match self.version {
            TlsVersion::V1_2 => "TLSv1.2",
            TlsVersion::V1_3 => "TLSv1.3",
        };
        TlsRecord { version, cipher: self.cipher, sni: self.sni.as_deref(), resumed: Some(self.resumed) }
    }
}

/// Why a handshake came to nothing. `reason` is a metric label.
#[derive(Debug)]
pub struct HandshakeError {
    pub reason: &'static str,
    pub detail: String,
}

/// A fatal `unrecognized_name` alert (RFC 6066 §3) as a record: rustls has no way to send one before a config is chosen.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

pub async fn handshake(
    stream: TcpStream,
    local: SocketAddr,
    listener: &TableListener,
) -> Result<(TlsStream<TcpStream>, TlsFacts), HandshakeError> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
        .await
        .map_err(|error| HandshakeError { reason: "hello", detail: error.to_string() })?;
    let sni: Option<Arc<str>> = start
        .client_hello()
        .server_name()
        .map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into());
    let (name, scope): (Arc<str>, TlsScope) = match &sni {
        Some(name) => (name.clone(), listener.scope(Some(name)).clone()),
        None => addressed(listener, local),
    };
    let certificate = match scope.certificate.certificate() {
        Ok(certificate) => certificate,
        Err(why) => {
            let mut io = start.io;
            // Best effort: the client may be gone.
            let _ = io.write_all(&UNRECOGNIZED_NAME).await;
            let _ = io.shutdown().await;
            let name = sni.as_deref().unwrap_or("no server name");
            return Err(HandshakeError { reason: "unrecognized_name", detail: format!("{name}: {why}") });
        }
    };
    let (config, found) = scope.keyed.config(certificate);
    let stream = start
        .into_stream(config)
        .await
        .map_err(|error| HandshakeError { reason: reason(&error), detail: error.to_string() })?;
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    let peer = Peer::new(chain.iter().map(|certificate| certificate.clone().into_owned()).collect());
    let peer = match found.get() {
        Some((trust, until)) => peer.knowing(*trust, *until),
        None => peer,
    };
    let facts = TlsFacts {
        sni,
        name,
        peer,
        keyed: scope.keyed,
        version: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => TlsVersion::V1_3,
            _ => TlsVersion::V1_2,
        },
        cipher: session.negotiated_cipher_suite().map_or("", |suite| suite.suite().as_str().unwrap_or("")),
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        h2: session.alpn_protocol() == Some(b"h2"),
    };
    Ok((stream, facts))
}

/// A client that names nobody is served under the address it came to.
fn addressed(listener: &TableListener, local: SocketAddr) -> (Arc<str>, TlsScope) {
    let ip = local.ip().to_canonical();
    let name: Arc<str> = ip.to_string().into();
    let named = listener.scope(Some(&name)).clone();
    if let CertificateSource::None = named.certificate {
        let certificate = CertificateSource::Issued { name: LeafName::Ip(ip), issuers: listener.issuers.clone() };
        return (name, TlsScope { certificate, ..named });
    }
    (name, named)
}

/// The metric label of a failed handshake: few, and none that a client can make up.
fn reason(error: &std::io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(_)) => "client_alert",
        Some(rustls::Error::PeerIncompatible(_)) => "incompatible",
        Some(rustls::Error::NoApplicationProtocol) => "alpn",
        Some(rustls::Error::NoCertificatesPresented) => "client_certificate_required",
        Some(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::UnknownIssuer => "client_certificate_unknown_ca",
            CertificateError::Expired | CertificateError::NotValidYet => "client_certificate_expired",
            CertificateError::Revoked => "client_certificate_revoked",
            CertificateError::UnknownRevocationStatus => "client_certificate_revocation_unknown",
            CertificateError::InvalidPurpose => "client_certificate_purpose",
            CertificateError::BadSignature => "client_certificate_signature",
            _ => "client_certificate_bad",
        },
        Some(_) => "protocol",
        None => "closed",
    }
}
