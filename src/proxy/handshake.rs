//! TLS from the client hello to the stream.
//!
//! ```text
//! ClientHello ─▶ SNI ─▶ table: scope ─▶ certificate ─▶ config ─▶ TlsStream + TlsFacts
//!      │                     └─ none: unrecognized_name alert
//!      └─ fallen back to TLS 1.2 without need: inappropriate_fallback alert
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::server::{Acceptor, ClientHello};
use rustls::{CertificateError, CipherSuite, ContentType, Error, InvalidMessage, PeerMisbehaved};
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
    /// On which the client was told why, or was to be.
    pub stream: Option<TcpStream>,
}

/// What Portolan itself has to say before a config is chosen: rustls has no way to, or keeps silent.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    UnexpectedMessage = 10,
    DecodeError = 50,
    /// RFC 7507 §3.
    InappropriateFallback = 86,
    /// RFC 6066 §3.
    UnrecognizedName = 112,
}

impl Refusal {
    async fn send(self, mut stream: TcpStream, detail: String) -> HandshakeError {
        let reason = match self {
            Refusal::UnexpectedMessage | Refusal::DecodeError => "hello",
            Refusal::InappropriateFallback => "fallback",
            Refusal::UnrecognizedName => "unrecognized_name",
        };
        // A fatal alert as a record. Best effort: the client may be gone.
        let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, self as u8]).await;
        HandshakeError { reason, detail, stream: Some(stream) }
    }

    /// The alert that belongs to the end of a hello (RFC 8446 §5.1, §6.2), where rustls sends none.
    fn unsaid(error: &std::io::Error) -> Option<Refusal> {
        match error.get_ref()?.downcast_ref()? {
            // Nobody answers an alert.
            Error::InappropriateMessage { got_type: ContentType::Alert, .. } => None,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(PeerMisbehaved::MessageInterleavedWithHandshakeMessage) => {
                Some(Refusal::UnexpectedMessage)
            }
            Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => Some(Refusal::DecodeError),
            _ => None,
        }
    }
}

pub async fn handshake(
    stream: TcpStream,
    local: SocketAddr,
    listener: &TableListener,
) -> Result<(TlsStream<TcpStream>, TlsFacts), HandshakeError> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let start = match (&mut acceptor).await {
        Ok(start) => start,
        Err(error) => {
            let (detail, stream) = (error.to_string(), acceptor.take_io());
            return Err(match (Refusal::unsaid(&error), stream) {
                (Some(refusal), Some(stream)) => refusal.send(stream, detail).await,
                (_, stream) => HandshakeError { reason: "hello", detail, stream },
            });
        }
    };
    if fell_back(&start.client_hello()) {
        return Err(Refusal::InappropriateFallback.send(start.io, "of a client that can do better".into()).await);
    }
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
            let name = sni.as_deref().unwrap_or("no server name");
            return Err(Refusal::UnrecognizedName.send(start.io, format!("{name}: {why}")).await);
        }
    };
    let (config, found) = scope.keyed.config(certificate);
    let stream = start.into_stream(config).into_fallible().await.map_err(|(error, stream)| HandshakeError {
        reason: reason(&error),
        detail: error.to_string(),
        stream: Some(stream),
    })?;
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

/// Not a suite (RFC 7507 §2), and none that the library has a name for.
const FALLBACK_SCSV: CipherSuite = CipherSuite::Unknown(0x5600);

/// Whether the client says that it tries an earlier version because a later one failed (RFC 7507). Every listener
/// speaks TLS 1.3, so that such a client was misled, unless this is a hello of TLS 1.3: which it is if it has a suite of it.
fn fell_back(hello: &ClientHello<'_>) -> bool {
    let suites = hello.cipher_suites();
    // All suites of TLS 1.3, and no others, begin with this byte (RFC 8446 §B.4).
    suites.contains(&FALLBACK_SCSV) && !suites.iter().any(|suite| u16::from(*suite) >> 8 == 0x13)
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
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::AlertReceived(_)) => "client_alert",
        Some(Error::PeerIncompatible(_)) => "incompatible",
        Some(Error::NoApplicationProtocol) => "alpn",
        Some(Error::NoCertificatesPresented) => "client_certificate_required",
        Some(Error::InvalidCertificate(error)) => match error {
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
