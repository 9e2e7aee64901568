//! Requests that came to the wrong connection: 421, so that their client asks again on another (RFC 9110 §15.5.20).
//!
//! ```text
//! name of the handshake ─▶ client-auth key ─┐
//! host of the request   ─▶ client-auth key ─┴─▶ the same? else 421
//! ```
//! Both are resolved in the table in force, so that a connection whose own policy has changed goes on where its client
//! still satisfies it. Keys are compared and not names, so that hosts of one wildcard share connections.

use crate::table::TableListener;

use super::error::{ErrorKind, ProxyError};
use super::handshake::TlsFacts;

pub fn check(tls: Option<&TlsFacts>, listener: &TableListener, host: &str) -> Result<(), ProxyError> {
    let Some(tls) = tls else { return Ok(()) };
    let detail = if !listener.agree(Some(&tls.name), host) {
        format!("{host} stands under another client-certificate policy than {}", tls.name)
    } else if Some(tls.version) < listener.scope(Some(host)).keyed.key.min_version {
        format!("{host} asks for a later version of TLS than the connection's")
    } else {
        return Ok(());
    };
    Err(ProxyError::new(ErrorKind::Misdirected, detail))
}

/// A client that was never asked for a certificate, because nobody wanted one when it came, could show one on another
/// connection: that is what it is told instead of 403.
pub fn anew(tls: Option<&TlsFacts>, listener: &TableListener, host: &str, error: ProxyError) -> ProxyError {
    let asked_since = error.kind == ErrorKind::CertificateRequired
        && tls.is_some_and(|tls| !tls.keyed.asks())
        && listener.scope(Some(host)).keyed.asks();
    match asked_since {
        true => ProxyError { kind: ErrorKind::Misdirected, ..error },
        false => error,
    }
}
