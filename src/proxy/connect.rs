//! A new connection to an endpoint, spoken to by its scheme.
//!
//! ```text
//! http ─▶ socket ─▶ h1      https ─▶ socket ─▶ TLS ─ALPN─▶ h2 · h1
//! h2c  ─▶ socket ─▶ h2      h2    ─▶ socket ─▶ TLS ─ALPN─▶ h2
//! ```
//! What is to be spoken to over TLS is spoken to over TLS or not at all.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::http1::{self, Parts, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::schema::Scheme;
use crate::model::service::PeerName;
use crate::model::units::Span;
use crate::table::LiveEndpoint;
use crate::table::client_identity::Shown;
use crate::table::endpoint::EndpointTls;

use super::alert;
use super::body::RequestBody;
use super::error::{ErrorKind, ProxyError};
use super::shared::{Heard, Place, Shared};
use super::tunnel::Side;
use super::wire::{Trace, Traced};

/// A connection that can be sent on.
#[derive(Debug)]
pub enum Connected {
    /// For one request after the other.
    H1(Exclusive),
    /// For one request among others.
    H2(Place),
}

#[derive(Debug)]
pub struct Exclusive {
    pub sender: SendRequest<RequestBody>,
    pub trace: Rc<Trace>,
    left: oneshot::Receiver<Side>,
}

impl Connected {
    /// Its bytes, or those of its stream, once the endpoint has switched protocols; `None` where it is gone. `stream` is
    /// what the library put beside the answer.
    pub async fn switched(self, stream: Option<OnUpgrade>) -> Option<Side> {
        match self {
            Connected::H1(exclusive) => exclusive.left.await.ok(),
            Connected::H2(place) => {
                let stream = Box::new(TokioIo::new(stream?.await.ok()?));
                Some(Side { stream, ahead: Bytes::new(), _place: Some(place) })
            }
        }
    }
}

/// What an endpoint made of a connection.
pub enum Opened {
    H1(Exclusive),
    H2(Rc<Shared>),
}

/// `exclusive`: over h1 alone, where the endpoint would pick.
pub async fn connect(endpoint: &LiveEndpoint, limit: Duration, exclusive: bool) -> Result<Opened, ProxyError> {
    let address = endpoint.address;
    let at = |Failed(kind, why)| ProxyError::new(kind, format!("{address}: {why}"));
    timeout(limit, open(endpoint, exclusive))
        .await
        .unwrap_or_else(|_| Err(Failed(ErrorKind::ConnectTimeout, format!("no connection within {}", Span(limit)))))
        .map_err(at)
}

pub(super) struct Failed(pub ErrorKind, pub String);

fn unreachable(why: String) -> Failed {
    Failed(ErrorKind::EndpointUnreachable, why)
}

async fn open(endpoint: &LiveEndpoint, exclusive: bool) -> Result<Opened, Failed> {
    let stream = TcpStream::connect(endpoint.address).await.map_err(|error| unreachable(error.to_string()))?;
    // Requests are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let opened = match (endpoint.scheme, &endpoint.tls) {
        (Scheme::Http, _) => h1(stream).await.map(Opened::H1),
        (Scheme::H2c, _) => Shared::begin(stream, false, &Rc::default()).await.map(Opened::H2),
        (Scheme::Https | Scheme::H2, Some(tls)) => {
            let stream = handshake(stream, tls, exclusive).await?;
            match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => {
                    let heard = Rc::<Heard>::default();
                    let shared = Shared::begin(stream, true, &heard).await;
                    match heard.alerted.refusal(tls.with.shown.is_some()).filter(|_| shared.is_err()) {
                        Some(why) => return Err(Failed(ErrorKind::EndpointTls, why)),
                        None => shared.map(Opened::H2),
                    }
                }
                _ if endpoint.scheme == Scheme::H2 => {
                    return Err(Failed(ErrorKind::EndpointTls, "it does not offer HTTP/2 by ALPN".into()));
                }
                _ => h1(stream).await.map(Opened::H1),
            }
        }
        // Not compiled, and never spoken to in another way.
        (Scheme::Https | Scheme::H2, None) => {
            return Err(Failed(ErrorKind::EndpointTls, "there are no terms for TLS with it".into()));
        }
    };
    opened.map_err(unreachable)
}

/// `exclusive`: h1 alone is offered.
pub(super) async fn handshake(
    stream: TcpStream,
    tls: &EndpointTls,
    exclusive: bool,
) -> Result<TlsStream<TcpStream>, Failed> {
    let EndpointTls { with, server_name } = tls;
    if let Some(Err(why)) = with.shown.as_ref().map(Shown::now) {
        let why = format!("there is no certificate to show to it: {why}");
        return Err(Failed(ErrorKind::EndpointTls, why));
    }
    let mut config = with.config.clone();
    if exclusive {
        Arc::make_mut(&mut config).alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    let connector = TlsConnector::from(config);
    connector.connect(server_name.clone(), stream).await.map_err(|error| {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(why)) => {
                Failed(ErrorKind::EndpointCertificate, reject(why, &server_name.to_str(), with.sans()))
            }
            Some(rustls::Error::NoCertificatesPresented) => {
                Failed(ErrorKind::EndpointCertificate, "it shows no certificate".into())
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                Failed(ErrorKind::EndpointTls, "it does not answer in TLS; is its scheme http?".into())
            }
            Some(cause) => {
                let refusal = match cause {
                    rustls::Error::AlertReceived(alert) => alert::refusal(*alert, with.shown.is_some()),
                    _ => None,
                };
                let why = refusal.unwrap_or_else(|| format!("no TLS with it: {cause}"));
                Failed(ErrorKind::EndpointTls, why)
            }
            None => Failed(ErrorKind::EndpointTls, format!("it broke off the TLS handshake: {error}")),
        }
    })
}

/// Why a certificate is not taken, in the words of whoever has to mend it.
fn reject(why: &CertificateError, name: &str, sans: &[PeerName]) -> String {
    match why {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } if !sans.is_empty() => {
            let sans: Vec<String> = sans.iter().map(ToString::to_string).collect();
            format!("its certificate is for none of {}; see to tls.sans", sans.join(", "))
        }
        CertificateError::NotValidForName => {
            format!("its certificate is not for {name}; set tls.server_name to a name that it is for")
        }
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "its certificate is not for {name}, but for {}; set tls.server_name to a name that it is for",
            presented.join(", ")
        ),
        CertificateError::UnknownIssuer => {
            "its certificate leads to no CA that the service trusts; name its CA in tls.trust".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its certificate has expired ({why})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet ({why})")
        }
        other => format!("its certificate is not taken: {other}"),
    }
}

async fn h1<S>(stream: S) -> Result<Exclusive, String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let trace = Rc::<Trace>::default();
    let traced = Traced { stream, trace: trace.clone() };
    let (sender, mut connection) = http1::handshake(TokioIo::new(traced)).await.map_err(|error| error.to_string())?;
    let (leave, left) = oneshot::channel();
    let of = trace.clone();
    tokio::task::spawn_local(async move {
        // How it ended is seen by whoever was using it.
        let ended = (&mut connection).await;
        if ended.is_ok() && of.expects_switch() {
            let Parts { io, read_buf, .. } = connection.into_parts();
            // Nobody waits for it where the endpoint did not switch.
            let _ = leave.send(Side { stream: Box::new(io.into_inner()), ahead: read_buf, _place: None });
        }
    });
    Ok(Exclusive { sender, trace, left })
}
