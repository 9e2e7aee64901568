//! Everything that keeps a request from an endpoint's answer, in one table: [`ErrorKind::row`].

use http::StatusCode;

use crate::model::diagnostic::{Denial, Reason};

/// Why Portolan answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyError {
    pub kind: ErrorKind,
    /// For the log; clients are told the reason alone.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    Malformed,
    AmbiguousPath,
    UriTooLong,
    HeadersTooLarge,
    BodyTooLarge,
    BodyTooSlow,
    Misdirected,
    NoRoute,
    ConnectRefused,
    /// A route that is closed, with what closed it.
    Denied(Reason),
    /// A known route without an endpoint that is ready.
    NoEndpoint(Option<Reason>),
    EndpointUnreachable,
    EndpointReset,
    ConnectTimeout,
    ResponseTimeout,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Client,
    Upstream,
    Us,
}

impl ErrorKind {
    /// The one table: status, reason (header, log and metric label), whose fault.
    pub fn row(self) -> (StatusCode, &'static str, Fault) {
        use Fault::{Client, Upstream, Us};
        match self {
            ErrorKind::Malformed => (StatusCode::BAD_REQUEST, "Malformed", Client),
            ErrorKind::AmbiguousPath => (StatusCode::BAD_REQUEST, "AmbiguousPath", Client),
            ErrorKind::UriTooLong => (StatusCode::URI_TOO_LONG, "UriTooLong", Client),
            ErrorKind::HeadersTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "HeadersTooLarge", Client),
            ErrorKind::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", Client),
            ErrorKind::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "BodyTooSlow", Client),
            ErrorKind::Misdirected => (StatusCode::MISDIRECTED_REQUEST, "Misdirected", Client),
            ErrorKind::NoRoute => (StatusCode::NOT_FOUND, "NoRoute", Client),
            ErrorKind::ConnectRefused => (StatusCode::NOT_IMPLEMENTED, "ConnectNotSupported", Client),
            ErrorKind::Denied(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason.as_str(), Us),
            ErrorKind::NoEndpoint(reason) => {
                (StatusCode::SERVICE_UNAVAILABLE, reason.map_or("NoEndpoint", Reason::as_str), Upstream)
            }
            ErrorKind::EndpointUnreachable => (StatusCode::BAD_GATEWAY, "EndpointUnreachable", Upstream),
            ErrorKind::EndpointReset => (StatusCode::BAD_GATEWAY, "EndpointReset", Upstream),
            ErrorKind::ConnectTimeout => (StatusCode::GATEWAY_TIMEOUT, "ConnectTimeout", Upstream),
            ErrorKind::ResponseTimeout => (StatusCode::GATEWAY_TIMEOUT, "ResponseTimeout", Upstream),
        }
    }

    pub fn reason(self) -> &'static str {
        self.row().1
    }

    /// Whether an h1 connection ends with it: the client is at the wrong place, or what it still sends is not wanted.
    pub fn closes(self) -> bool {
        use ErrorKind::{BodyTooLarge, BodyTooSlow, HeadersTooLarge, Misdirected, UriTooLong};
        matches!(self, Misdirected | UriTooLong | HeadersTooLarge | BodyTooLarge | BodyTooSlow)
    }

    /// Seconds after which asking again makes sense.
    pub fn retry_after(self) -> Option<u32> {
        matches!(self, ErrorKind::NoEndpoint(_)).then_some(1)
    }
}

impl ProxyError {
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> ProxyError {
        ProxyError { kind, detail: detail.into() }
    }

    /// Of a kind that says all there is to say.
    pub fn plain(kind: ErrorKind) -> ProxyError {
        ProxyError::new(kind, kind.reason())
    }

    pub fn denied(denial: &Denial) -> ProxyError {
        ProxyError::new(ErrorKind::Denied(denial.reason), &*denial.detail)
    }
}
