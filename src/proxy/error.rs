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
    /// The route's policy wants a client certificate and there is none.
    CertificateRequired,
    /// There is one, and the policy does not verify it.
    CertificateUnverified,
    CertificateExpired,
    CertificateRevoked,
    /// It is verified, and the policy's `allow` does not name it.
    CertificateNotAllowed,
    NoRoute,
    ConnectRefused,
    /// TRACE that would be answered here.
    TraceRefused,
    /// A transfer coding that is not `chunked`.
    TransferCoding,
    /// An expectation that is not `100-continue`.
    Expectation,
    LoopDetected,
    /// The route of an exchange under way is gone or another, and the time to finish is over.
    RouteWithdrawn,
    /// A route that is closed, with what closed it.
    Denied(Reason),
    /// A known route without an endpoint that is ready.
    NoEndpoint(Option<Reason>),
    EndpointUnreachable,
    /// Its certificate is not one that the service takes.
    EndpointCertificate,
    /// The two could not agree on TLS, or it speaks none.
    EndpointTls,
    EndpointReset,
    /// It departed before it answered, and the request could go nowhere else.
    EndpointGone,
    /// An answer whose end cannot be told for certain.
    EndpointMalformed,
    /// It answered otherwise where only another protocol would do, or switched to one that nobody asked for.
    UpgradeRefused,
    ConnectTimeout,
    ResponseTimeout,
    RequestTimeout,
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
            ErrorKind::CertificateRequired => (StatusCode::FORBIDDEN, "CertificateRequired", Client),
            ErrorKind::CertificateUnverified => (StatusCode::FORBIDDEN, "CertificateUnverified", Client),
            ErrorKind::CertificateExpired => (StatusCode::FORBIDDEN, "CertificateExpired", Client),
            ErrorKind::CertificateRevoked => (StatusCode::FORBIDDEN, "CertificateRevoked", Client),
            ErrorKind::CertificateNotAllowed => (StatusCode::FORBIDDEN, "CertificateNotAllowed", Client),
            ErrorKind::NoRoute => (StatusCode::NOT_FOUND, "NoRoute", Client),
            ErrorKind::ConnectRefused => (StatusCode::NOT_IMPLEMENTED, "ConnectNotSupported", Client),
            ErrorKind::TraceRefused => (StatusCode::NOT_IMPLEMENTED, "TraceNotSupported", Client),
            ErrorKind::TransferCoding => (StatusCode::NOT_IMPLEMENTED, "TransferCodingNotSupported", Client),
            ErrorKind::Expectation => (StatusCode::EXPECTATION_FAILED, "ExpectationFailed", Client),
            ErrorKind::LoopDetected => (StatusCode::LOOP_DETECTED, "LoopDetected", Us),
            ErrorKind::RouteWithdrawn => (StatusCode::SERVICE_UNAVAILABLE, "RouteWithdrawn", Us),
            ErrorKind::Denied(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason.as_str(), Us),
            ErrorKind::NoEndpoint(reason) => {
                (StatusCode::SERVICE_UNAVAILABLE, reason.map_or("NoEndpoint", Reason::as_str), Upstream)
            }
            ErrorKind::EndpointUnreachable => (StatusCode::BAD_GATEWAY, "EndpointUnreachable", Upstream),
            ErrorKind::EndpointCertificate => (StatusCode::BAD_GATEWAY, "EndpointCertificate", Upstream),
            ErrorKind::EndpointTls => (StatusCode::BAD_GATEWAY, "EndpointTls", Upstream),
            ErrorKind::EndpointReset => (StatusCode::BAD_GATEWAY, "EndpointReset", Upstream),
            ErrorKind::EndpointGone => (StatusCode::BAD_GATEWAY, "EndpointGone", Upstream),
            ErrorKind::EndpointMalformed => (StatusCode::BAD_GATEWAY, "EndpointMalformed", Upstream),
            ErrorKind::UpgradeRefused => (StatusCode::BAD_GATEWAY, "UpgradeRefused", Upstream),
            ErrorKind::ConnectTimeout => (StatusCode::GATEWAY_TIMEOUT, "ConnectTimeout", Upstream),
            ErrorKind::ResponseTimeout => (StatusCode::GATEWAY_TIMEOUT, "ResponseTimeout", Upstream),
            ErrorKind::RequestTimeout => (StatusCode::GATEWAY_TIMEOUT, "RequestTimeout", Upstream),
        }
    }

    pub fn reason(self) -> &'static str {
        self.row().1
    }

    /// Whether an h1 connection ends with the answer: it came to the wrong place, where the next request begins is in
    /// doubt, or what the client still sends is not wanted.
    pub fn closes(self) -> bool {
        use ErrorKind::{
            BodyTooLarge, BodyTooSlow, CertificateExpired, CertificateRequired, HeadersTooLarge, Malformed,
            Misdirected, TransferCoding, UriTooLong,
        };
        matches!(
            self,
            Misdirected | Malformed | TransferCoding | UriTooLong | HeadersTooLarge | BodyTooLarge | BodyTooSlow
                // A certificate belongs to the connection: with the next one the client has to come anew.
                | CertificateRequired | CertificateExpired
        )
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

    pub fn denied(denial: &Denial) -> ProxyError {
        ProxyError::new(ErrorKind::Denied(denial.reason), &*denial.detail)
    }
}
