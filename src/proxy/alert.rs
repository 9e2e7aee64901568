//! What an endpoint says of the certificate that it was shown, or not shown.
//!
//! In TLS 1.3 it says so only once the handshake is over for us (RFC 8446 §4.4.2.4): as the first thing that is read, while
//! a request is on its way. Whoever reads it notes it here, because the HTTP library passes on no more than a text.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, ReadBuf};

use super::error::{ErrorKind, ProxyError};

/// The alert by which an endpoint has ended a connection, if it has.
#[derive(Debug, Default)]
pub struct Alerted(Cell<Option<AlertDescription>>);

impl Alerted {
    pub fn note<T>(&self, read: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = read
            && let Some(rustls::Error::AlertReceived(alert)) = error.get_ref().and_then(|cause| cause.downcast_ref())
        {
            self.0.set(Some(*alert));
        }
    }

    /// After a write that failed: an endpoint that has said why it ends the connection has closed it as well, and who
    /// writes first hears of that alone. Nothing else can come of such a connection. `false`: its words are not here yet.
    pub fn last_words(&self, stream: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> bool {
        let mut rest = [0; 64];
        let read = Pin::new(stream).poll_read(cx, &mut ReadBuf::new(&mut rest));
        self.note(&read);
        read.is_ready()
    }

    /// Why the endpoint wants none of us, where that is what it said. `shown`: whether it was shown a certificate.
    pub fn refusal(&self, shown: bool) -> Option<String> {
        refusal(self.0.get()?, shown)
    }
}

/// In the words of whoever has to mend it; `None` where the alert is about something else.
pub fn refusal(alert: AlertDescription, shown: bool) -> Option<String> {
    use AlertDescription as A;
    let word = match alert {
        A::CertificateRequired => "certificate_required",
        A::BadCertificate => "bad_certificate",
        A::UnsupportedCertificate => "unsupported_certificate",
        A::CertificateRevoked => "certificate_revoked",
        A::CertificateExpired => "certificate_expired",
        A::CertificateUnknown => "certificate_unknown",
        A::UnknownCA => "unknown_ca",
        A::AccessDenied => "access_denied",
        // What is said in TLS 1.2 for want of a better word (RFC 5246 §7.4.6).
        A::HandshakeFailure if !shown => return None,
        A::HandshakeFailure => "handshake_failure",
        _ => return None,
    };
    Some(match shown {
        true => format!("it does not take the certificate that it is shown ({word})"),
        false => format!("it asks for a client certificate ({word}), and there is none for it; set tls.client"),
    })
}

/// What a request that failed so comes to, if it is that.
pub fn refused(alerted: &Alerted, shown: bool, address: std::net::SocketAddr) -> Option<ProxyError> {
    let why = alerted.refusal(shown)?;
    Some(ProxyError::new(ErrorKind::EndpointTls, format!("{address}: {why}")))
}
