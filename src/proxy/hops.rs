//! How far a request may travel: `Via` and `Max-Forwards`.
//!
//! ```text
//! head ─▶ check ─▶ Onward::Forward ─▶ mark ─▶ endpoint
//!           └─ LoopDetected (508), or Onward::Final: answered here
//! ```
//! RFC 9110 §7.6.3 (a gateway marks what it forwards), §7.6.2 (Max-Forwards).

use http::header::{MAX_FORWARDS, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};

use super::error::{ErrorKind, ProxyError};

/// A pseudonym (RFC 9110 §7.6.3) rather than a name: which machine it is stays Portolan's own.
const PSEUDONYM: &str = "portolan";

/// A request that passes Portolan a second time may be meant to: an application that copies headers to what it asks of
/// another one behind the same proxy. This often it is a loop.
const MAX_PASSES: usize = 10;

/// Where a request goes from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onward {
    Forward,
    /// Portolan is the last recipient: `Max-Forwards: 0`.
    Final,
}

/// Refuses what came round too often. Counts `Max-Forwards` down, which only OPTIONS and TRACE have.
pub fn check(head: &mut Parts) -> Result<Onward, ProxyError> {
    if head.headers.contains_key(VIA) && passes(&head.headers) >= MAX_PASSES {
        let detail = format!("the request has passed {PSEUDONYM} {MAX_PASSES} times; a route leads back here");
        return Err(ProxyError::new(ErrorKind::LoopDetected, detail));
    }
    if !matches!(head.method, Method::OPTIONS | Method::TRACE) || !head.headers.contains_key(MAX_FORWARDS) {
        return Ok(Onward::Forward);
    }
    let malformed = || ProxyError::new(ErrorKind::Malformed, "Max-Forwards is not one number");
    let mut values = head.headers.get_all(MAX_FORWARDS).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(malformed()) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let left: u32 = digits.and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?;
    let Some(left) = left.checked_sub(1) else {
        return match head.method {
            Method::OPTIONS => Ok(Onward::Final),
            // Echoing a request back shows a script the cookies that it must not read.
            _ => Err(ProxyError::new(ErrorKind::TraceRefused, "TRACE that ends at the proxy")),
        };
    };
    head.headers.insert(MAX_FORWARDS, HeaderValue::from(left));
    Ok(Onward::Forward)
}

/// Adds this hop to what is forwarded.
pub fn mark(headers: &mut HeaderMap, received: Version) {
    let mark = match received {
        Version::HTTP_10 => "1.0 portolan",
        Version::HTTP_2 => "2.0 portolan",
        _ => "1.1 portolan",
    };
    headers.append(VIA, HeaderValue::from_static(mark));
}

fn passes(headers: &HeaderMap) -> usize {
    let elements =
        headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    elements.filter(|element| element.split_whitespace().nth(1).is_some_and(|by| by == PSEUDONYM)).count()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: Method, pairs: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        request.body(()).expect("valid").into_parts().0
    }

    fn kind(result: Result<Onward, ProxyError>) -> Result<Onward, ErrorKind> {
        result.map_err(|error| error.kind)
    }

    #[test]
    fn what_marks_itself_ten_times_is_a_loop() {
        let mut request = head(Method::GET, &[("via", "1.1 portolan-like, 1.0 other (portolan)")]);
        for passed in 0..MAX_PASSES {
            assert_eq!(check(&mut request), Ok(Onward::Forward), "after {passed}");
            mark(&mut request.headers, Version::HTTP_2);
        }
        assert_eq!(kind(check(&mut request)), Err(ErrorKind::LoopDetected));
        let joined = ["HTTP/1.1 portolan"; MAX_PASSES].join(",");
        assert_eq!(kind(check(&mut head(Method::GET, &[("via", &joined)]))), Err(ErrorKind::LoopDetected));
    }

    #[test]
    fn max_forwards_counts_down_to_the_last_recipient() {
        let mut request = head(Method::OPTIONS, &[("max-forwards", "1")]);
        assert_eq!(check(&mut request), Ok(Onward::Forward));
        assert_eq!(request.headers["max-forwards"], "0");
        assert_eq!(check(&mut request), Ok(Onward::Final));
        assert_eq!(kind(check(&mut head(Method::TRACE, &[("max-forwards", "0")]))), Err(ErrorKind::TraceRefused));
        for bad in ["", "-1", "+1", "one", "4294967296"] {
            let refused = kind(check(&mut head(Method::OPTIONS, &[("max-forwards", bad)])));
            assert_eq!(refused, Err(ErrorKind::Malformed), "{bad}");
        }
        let mut other = head(Method::GET, &[("max-forwards", "0")]);
        assert_eq!(check(&mut other), Ok(Onward::Forward));
        assert_eq!(other.headers["max-forwards"], "0");
    }
}
