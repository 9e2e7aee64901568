//! What a request may weigh before anything is done with it.

use http::request::Parts;
use http_body::Body;

use crate::model::listener::ListenerLimits;

use super::error::{ErrorKind, ProxyError};

/// Bytes that a header field takes beside its name and value (RFC 9113 §6.5.2).
const FIELD: usize = 32;

/// How large a head the HTTP library takes, in bytes. Twice what is allowed: a head that is a little too large is refused
/// here, with its reason, and one that is beyond all measure there.
pub fn library_head(limits: &ListenerLimits) -> usize {
    usize::try_from((limits.header_size.0 + limits.uri_size.0) * 2).unwrap_or(usize::MAX)
}

pub fn within(limits: &ListenerLimits, head: &Parts, body: &impl Body) -> Result<(), ProxyError> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target as u64 > limits.uri_size.0 {
        let detail = format!("a target of {target} bytes; uri_size is {}", limits.uri_size);
        return Err(ProxyError::new(ErrorKind::UriTooLong, detail));
    }
    let count = head.headers.len();
    if count > limits.headers as usize {
        let detail = format!("{count} header fields; headers is {}", limits.headers);
        return Err(ProxyError::new(ErrorKind::HeadersTooLarge, detail));
    }
    let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD).sum();
    if size as u64 > limits.header_size.0 {
        let detail = format!("{size} bytes of header fields; header_size is {}", limits.header_size);
        return Err(ProxyError::new(ErrorKind::HeadersTooLarge, detail));
    }
    if let Some(most) = limits.body
        && body.size_hint().lower() > most.0
    {
        let detail = format!("a body of {} bytes; body is {most}", body.size_hint().lower());
        return Err(ProxyError::new(ErrorKind::BodyTooLarge, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::Full;

    use super::*;
    use crate::model::units::Size;

    fn refused(limits: &ListenerLimits, uri: &str, headers: &[(&str, &str)], body: usize) -> Option<ErrorKind> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("valid").into_parts();
        within(limits, &head, &Full::new(bytes::Bytes::from(vec![0; body]))).err().map(|error| error.kind)
    }

    #[test]
    fn each_limit_holds_to_the_byte() {
        let limits = ListenerLimits {
            header_size: Size(100),
            headers: 2,
            uri_size: Size(10),
            body: Some(Size(5)),
            ..ListenerLimits::default()
        };
        assert_eq!(refused(&limits, "http://host.example/345678?0", &[], 5), None);
        assert_eq!(refused(&limits, "/2345678?01", &[], 0), Some(ErrorKind::UriTooLong));
        assert_eq!(refused(&limits, "/", &[], 6), Some(ErrorKind::BodyTooLarge));
        // 64 for the fields, 2 and 34 for what they say.
        let (fits, over) = ("x".repeat(17), "x".repeat(18));
        assert_eq!(refused(&limits, "/", &[("a", &fits), ("b", &fits)], 0), None);
        assert_eq!(refused(&limits, "/", &[("a", &fits), ("b", &over)], 0), Some(ErrorKind::HeadersTooLarge));
        assert_eq!(refused(&limits, "/", &[("a", ""), ("a", ""), ("a", "")], 0), Some(ErrorKind::HeadersTooLarge));
    }
}
