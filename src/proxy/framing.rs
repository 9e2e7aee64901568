//! Where a message ends: one framing comes in, one goes out.
//!
//! ```text
//! client's head ─▶ check_request ─▶ … ─▶ frame_request ─▶ endpoint
//! client ◀─ … ◀─ check_response ◀─ endpoint's head
//! ```
//! The library below reads chunks and lengths; what it takes although two readers could take it differently is refused
//! here. RFC 9112 §6 (message body length), RFC 9110 §8.6 (Content-Length), §10.1.1 (Expect).

use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Version};

use super::error::{ErrorKind, ProxyError};

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// What an answer's head says about the connection that it came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAnswer {
    Reusable,
    /// The endpoint announced content where there can be none: what it sends next may be the rest of this answer. Or it
    /// did not wait for the request's.
    Suspect,
}

/// Refuses a transfer coding that is not `chunked` once, and an expectation that cannot be met.
pub fn check_request(head: &Parts) -> Result<(), ProxyError> {
    match codings(&head.headers) {
        Codings::None | Codings::Chunked => {}
        Codings::ChunkedTwice => return Err(ProxyError::new(ErrorKind::Malformed, "chunked is applied twice")),
        Codings::Other => {
            return Err(ProxyError::new(ErrorKind::TransferCoding, "a transfer coding other than chunked"));
        }
    }
    let expects_more = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if head.version > Version::HTTP_10 && head.headers.get_all(EXPECT).iter().any(expects_more) {
        return Err(ProxyError::new(ErrorKind::Expectation, "an expectation other than 100-continue"));
    }
    Ok(())
}

/// Gives a request that goes to an h1 endpoint its one framing. `ended`: nothing follows the head.
///
/// Left to itself the library drops a body of unknown length where the method is GET or HEAD.
pub fn frame_request(headers: &mut HeaderMap, version: Version, ended: bool) {
    if let Some(length) = headers.get(CONTENT_LENGTH) {
        if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
            // Equal ones, or the library would have refused them.
            let length = length.clone();
            headers.insert(CONTENT_LENGTH, length);
        }
    } else if !ended {
        headers.insert(TRANSFER_ENCODING, CHUNKED);
    }
    // Without content nothing is waited for, HTTP/1.0 does not know it, and h2 clients cannot be told to go on.
    if (ended || version != Version::HTTP_11) && headers.contains_key(EXPECT) {
        headers.remove(EXPECT);
    }
}

/// Refuses an answer whose end two readers could see in different places; leaves at most one `Content-Length`.
pub fn check_response(status: StatusCode, headers: &mut HeaderMap) -> Result<AfterAnswer, ProxyError> {
    let malformed = |why| Err(ProxyError::new(ErrorKind::EndpointMalformed, why));
    let length = match length(headers) {
        Ok(length) => length,
        Err(()) => return malformed("Content-Length is not one number"),
    };
    match codings(headers) {
        Codings::None => {}
        Codings::Chunked if length.is_some() => return malformed("Content-Length beside Transfer-Encoding"),
        Codings::Chunked => {}
        Codings::ChunkedTwice | Codings::Other => return malformed("a transfer coding other than chunked, once"),
    }
    if status != StatusCode::NO_CONTENT {
        return Ok(AfterAnswer::Reusable);
    }
    headers.remove(CONTENT_LENGTH);
    let announced = length.is_some_and(|length| length > 0) || headers.contains_key(TRANSFER_ENCODING);
    Ok(if announced { AfterAnswer::Suspect } else { AfterAnswer::Reusable })
}

enum Codings {
    None,
    Chunked,
    ChunkedTwice,
    Other,
}

fn codings(headers: &HeaderMap) -> Codings {
    if !headers.contains_key(TRANSFER_ENCODING) {
        return Codings::None;
    }
    let mut times = 0;
    for value in headers.get_all(TRANSFER_ENCODING) {
        let Ok(value) = value.to_str() else { return Codings::Other };
        // Empty elements of a list are no elements (RFC 9110 §5.6.1.2).
        for coding in value.split(',').map(str::trim).filter(|coding| !coding.is_empty()) {
            if !coding.eq_ignore_ascii_case("chunked") {
                return Codings::Other;
            }
            times += 1;
        }
    }
    match times {
        1 => Codings::Chunked,
        // An empty Transfer-Encoding frames nothing that anybody could agree on.
        0 => Codings::Other,
        _ => Codings::ChunkedTwice,
    }
}

/// Several lengths are one where they are equal, in one line or in more (RFC 9110 §8.6).
fn length(headers: &mut HeaderMap) -> Result<Option<u64>, ()> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_none()
        && let Some(length) = number(first.as_bytes())
    {
        return Ok(Some(length));
    }
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for element in value.as_bytes().split(|byte| *byte == b',') {
            let element = number(element.trim_ascii()).ok_or(())?;
            if length.replace(element).is_some_and(|before| before != element) {
                return Err(());
            }
        }
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

/// Digits alone: no sign, no space, no overflow.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::fields::headers;
    use super::*;

    #[test]
    fn chunked_once_is_the_only_coding() {
        let refused = |values: &[&str]| {
            let mut request = Request::builder().uri("/");
            for value in values {
                request = request.header(TRANSFER_ENCODING, *value);
            }
            check_request(&request.body(()).expect("valid").into_parts().0).err().map(|error| error.kind)
        };
        for taken in [&[][..], &["chunked"], &["Chunked"], &[" chunked "], &[", chunked,"]] {
            assert_eq!(refused(taken), None, "{taken:?}");
        }
        for twice in [&["chunked, chunked"][..], &["chunked", "chunked"]] {
            assert_eq!(refused(twice), Some(ErrorKind::Malformed), "{twice:?}");
        }
        for other in
            [&["gzip, chunked"][..], &["gzip", "chunked"], &["identity"], &["chunked;q=1"], &[""], &["xchunked"]]
        {
            assert_eq!(refused(other), Some(ErrorKind::TransferCoding), "{other:?}");
        }
    }

    #[test]
    fn an_answer_has_one_length_or_chunks() {
        let ok = StatusCode::OK;
        for (given, left) in [
            (&[][..], None),
            (&[("content-length", "5")], Some("5")),
            (&[("content-length", "5"), ("content-length", "5")], Some("5")),
            (&[("content-length", "5, 5")], Some("5")),
            (&[("transfer-encoding", "chunked")], None),
        ] {
            let mut headers = headers(given);
            assert_eq!(check_response(ok, &mut headers), Ok(AfterAnswer::Reusable), "{given:?}");
            let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
            assert_eq!(lengths, left.iter().collect::<Vec<_>>(), "{given:?}");
        }
        for given in [
            &[("content-length", "5"), ("content-length", "6")][..],
            &[("content-length", "5, 6")],
            &[("content-length", "+5")],
            &[("content-length", "")],
            &[("content-length", "0x5")],
            &[("content-length", "18446744073709551616")],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked, chunked")],
            &[("transfer-encoding", "gzip, chunked")],
        ] {
            let refused = check_response(ok, &mut headers(given)).map_err(|error| error.kind);
            assert_eq!(refused, Err(ErrorKind::EndpointMalformed), "{given:?}");
        }
    }

    #[test]
    fn content_announced_for_204_ends_the_connection() {
        for (given, after) in [
            (&[][..], AfterAnswer::Reusable),
            (&[("content-length", "0")], AfterAnswer::Reusable),
            (&[("content-length", "5")], AfterAnswer::Suspect),
            (&[("transfer-encoding", "chunked")], AfterAnswer::Suspect),
        ] {
            let mut headers = headers(given);
            assert_eq!(check_response(StatusCode::NO_CONTENT, &mut headers), Ok(after), "{given:?}");
            assert!(!headers.contains_key(CONTENT_LENGTH), "RFC 9110 §8.6");
        }
    }

    #[test]
    fn a_body_without_a_length_goes_in_chunks_whatever_the_method() {
        let framed = |given: &[(&'static str, &'static str)], version, ended| {
            let mut headers = headers(given);
            frame_request(&mut headers, version, ended);
            let mut left: Vec<String> =
                headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
            left.sort_unstable();
            left
        };
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(framed(&[], h1, true), [""; 0]);
        assert_eq!(framed(&[], h2, false), ["transfer-encoding: chunked"]);
        assert_eq!(framed(&[("content-length", "5"), ("content-length", "5")], h2, false), ["content-length: 5"]);
        let expecting = [("content-length", "5"), ("expect", "100-continue")];
        assert_eq!(framed(&expecting, h1, false), ["content-length: 5", "expect: 100-continue"]);
        assert_eq!(framed(&expecting, h2, false), ["content-length: 5"]);
        assert_eq!(framed(&expecting, Version::HTTP_10, false), ["content-length: 5"]);
    }
}
