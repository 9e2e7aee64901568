//! Connections that end before there is a request to answer: by a limit, or by what the HTTP library refuses itself.
//!
//! The metric counts them; where the client was sent a status, the access log has a line without method and path.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::telemetry::access_log::Record;

use super::connection::Connection;
use super::handshake::TlsFacts;

/// What became of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unheard {
    /// The word for log and metric.
    pub reason: &'static str,
    /// What the client was sent.
    pub status: Option<StatusCode>,
}

impl Unheard {
    pub const fn silent(reason: &'static str) -> Unheard {
        Unheard { reason, status: None }
    }

    /// What the library did about an error, where it was the client's. A client that just goes away is none.
    pub fn of(error: &hyper::Error) -> Option<Unheard> {
        let refused = |reason, status| Some(Unheard { reason, status: Some(status) });
        if error.is_parse_too_large() {
            return refused("HeadersTooLarge", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        if error.is_parse() {
            // The library has no other sign for it.
            if error.to_string().starts_with("URI too long") {
                return refused("UriTooLong", StatusCode::URI_TOO_LONG);
            }
            return refused("Malformed", StatusCode::BAD_REQUEST);
        }
        let h2 = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
        if !h2.is_library() {
            return None;
        }
        match h2.reason()? {
            h2::Reason::NO_ERROR => None,
            h2::Reason::ENHANCE_YOUR_CALM => Some(Unheard::silent("H2Flood")),
            _ => Some(Unheard::silent("ProtocolError")),
        }
    }

    /// Counts and logs it.
    pub fn note(self, connection: &Connection, lasted: Duration) {
        let Connection { worker, vouched, listener, tls, h2, .. } = connection;
        worker.metrics.cut(self.reason);
        tracing::debug!(client = %vouched.peer(), %listener, reason = self.reason, "connection ended");
        let Some(status) = self.status.filter(|_| worker.log.is_on()) else { return };
        worker.log.write(&Record {
            time: Timestamp::now(),
            client: vouched.peer(),
            listener: listener.as_str(),
            protocol: if *h2 { "HTTP/2.0" } else { "HTTP/1.1" },
            method: "",
            host: "",
            path: "",
            status: status.as_u16(),
            request_bytes: 0,
            response_bytes: 0,
            duration: lasted,
            upstream_duration: None,
            route: None,
            service: None,
            endpoint: None,
            tls: tls.as_ref().map(TlsFacts::record),
            client_certificate: None,
            reason: Some(self.reason),
            user_agent: None,
            referer: None,
        });
    }
}

/// 408 for a head that does not come to its end (RFC 9110 §15.5.9), and the end of the connection.
pub async fn request_timeout<S: AsyncWrite + Unpin>(mut stream: S, reason: Option<&str>) {
    let reason = reason.map_or_else(String::new, |reason| format!("portolan-reason: {reason}\r\n"));
    let text = "408 Request Timeout\n";
    let length = text.len();
    let head = format!(
        "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\n{reason}\r\n"
    );
    // Best effort: the client may be gone, or take nothing.
    let _ = stream.write_all((head + text).as_bytes()).await;
    let _ = stream.shutdown().await;
}
