//! Portolan's own answers as gRPC clients read them: HTTP 200 and the outcome in `grpc-status`, in a head that is all there
//! is ("Trailers-Only" of the gRPC protocol over HTTP/2).
//!
//! A client that is answered in plain HTTP would guess the status from it, and lose the reason.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a request asks for gRPC: `application/grpc` alone, or with a format (`+proto`) or parameters behind it. gRPC-Web
/// is another protocol.
pub fn is_asked(method: &Method, headers: &HeaderMap) -> bool {
    // Most requests are settled by their method.
    *method == Method::POST && headers.get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
}

fn is_grpc(content_type: &[u8]) -> bool {
    let Some((name, rest)) = content_type.split_at_checked(b"application/grpc".len()) else { return false };
    name.eq_ignore_ascii_case(b"application/grpc") && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The one table from what would have been the status (the gRPC project's mapping for answers of proxies, and
/// DEADLINE_EXCEEDED where the proxy knows that time ran out).
pub fn code(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 | 417 => 13,       // INTERNAL
        401 => 16,             // UNAUTHENTICATED
        403 => 7,              // PERMISSION_DENIED
        404 | 501 => 12,       // UNIMPLEMENTED
        408 | 504 => 4,        // DEADLINE_EXCEEDED
        413 | 414 | 431 => 8,  // RESOURCE_EXHAUSTED
        429 | 502 | 503 => 14, // UNAVAILABLE
        _ => 2,                // UNKNOWN
    }
}

/// Turns an answer's head into one of gRPC.
pub fn shape(status: StatusCode, reason: Option<&str>, headers: &mut HeaderMap) -> StatusCode {
    let canonical = status.canonical_reason().unwrap_or("");
    let message = match reason {
        Some(reason) => format!("{} {canonical}: {reason}", status.as_u16()),
        None => format!("{} {canonical}", status.as_u16()),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code(status))));
    // Neither a canonical reason nor one of ours has a character that is to be percent-encoded.
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(GRPC_MESSAGE, message);
    }
    StatusCode::OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_from_what_only_begins_alike() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(content_type.as_bytes()), expected, "{content_type}");
        }
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))]);
        assert!(is_asked(&Method::POST, &headers) && !is_asked(&Method::GET, &headers));
        assert!(!is_asked(&Method::POST, &HeaderMap::new()));
    }

    #[test]
    fn every_answer_of_a_proxy_has_its_code() {
        for (status, expected) in
            [(400, 13), (401, 16), (403, 7), (404, 12), (413, 8), (421, 2), (429, 14), (502, 14), (503, 14), (504, 4)]
        {
            assert_eq!(code(StatusCode::from_u16(status).expect("a status")), expected, "{status}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(shape(StatusCode::NOT_FOUND, Some("NoRoute"), &mut headers), StatusCode::OK);
        assert_eq!(headers["grpc-status"], "12");
        assert_eq!(headers["grpc-message"], "404 Not Found: NoRoute");
        assert_eq!(headers["content-type"], "application/grpc");
    }
}
