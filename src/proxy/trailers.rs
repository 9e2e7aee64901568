//! Which trailer fields pass (RFC 9110 §6.5).
//!
//! `heads ─▶ Passing ─▶ (trailers of the body) ─▶ what the next hop gets`. h1 carries what a `Trailer` header announced,
//! and to a client only if it said `TE: trailers`; h2 carries all. None carries a field that frames, routes,
//! authenticates or describes: whoever reads it after the fact would have decided otherwise before. What does not pass
//! is counted.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, CONTENT_LENGTH, TE, TRAILER};
use http::{HeaderMap, HeaderName, Version};
use http_body::Frame;

use super::forwarded::vouches;
use super::worker::Worker;

/// Which trailer fields a body's next hop gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passing {
    None,
    Announced(Vec<HeaderName>),
    /// Of a request that goes to an h2 endpoint: all but what an endpoint would take for Portolan's word.
    Unforged,
    All,
}

impl Passing {
    /// Of a request that goes to an h1 endpoint.
    pub fn of_request(headers: &HeaderMap) -> Passing {
        // Only chunks carry trailers.
        if headers.contains_key(CONTENT_LENGTH) {
            return Passing::None;
        }
        match Passing::announced(headers) {
            Passing::Announced(names) => Passing::Announced(names.into_iter().filter(|n| !is_forged(n)).collect()),
            other => other,
        }
    }

    /// Of an answer that goes to a client of this version, which took `trailers` or did not.
    pub fn of_response(headers: &HeaderMap, to: Version, taken: bool) -> Passing {
        match to {
            Version::HTTP_2 => Passing::All,
            Version::HTTP_11 if taken && !headers.contains_key(CONTENT_LENGTH) => Passing::announced(headers),
            _ => Passing::None,
        }
    }

    fn announced(headers: &HeaderMap) -> Passing {
        if !headers.contains_key(TRAILER) {
            return Passing::None;
        }
        let values = headers.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok());
        Passing::Announced(values.flat_map(|value| value.split(',')).filter_map(|n| n.trim().parse().ok()).collect())
    }

    /// Leaves what passes; how many fields did not.
    pub fn filter(&self, trailers: &mut HeaderMap) -> usize {
        let passes = |name: &HeaderName| {
            let listed = match self {
                Passing::None => false,
                Passing::Announced(names) => names.contains(name),
                Passing::Unforged => !is_forged(name),
                Passing::All => true,
            };
            listed && !is_forbidden(name)
        };
        let dropped: Vec<HeaderName> = trailers.keys().filter(|name| !passes(name)).cloned().collect();
        for name in &dropped {
            trailers.remove(name);
        }
        dropped.len()
    }
}

/// An endpoint that joins trailers to the headers would take these for Portolan's word, in either spelling.
fn is_forged(name: &HeaderName) -> bool {
    name.as_str().contains('_') || vouches(name.as_str())
}

/// Stands before one body's trailers.
#[derive(Debug)]
pub struct TrailerGate {
    pub passing: Passing,
    worker: Rc<Worker>,
}

impl TrailerGate {
    pub fn new(passing: Passing, worker: &Rc<Worker>) -> TrailerGate {
        TrailerGate { passing, worker: worker.clone() }
    }

    /// Leaves of a frame of trailers what passes; other frames are as they were.
    pub fn filter<E>(&self, frame: &mut Option<Result<Frame<Bytes>, E>>) {
        let Some(Ok(frame)) = frame else { return };
        let Some(trailers) = frame.trailers_mut() else { return };
        for _ in 0..self.passing.filter(trailers) {
            self.worker.metrics.dropped_field("trailer");
        }
    }
}

/// Whether the client takes trailers (RFC 9110 §10.1.4).
pub fn are_taken(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// RFC 9110 §6.5.1: framing, routing, modifiers, authentication, response control data, and how to read the content.
const FORBIDDEN: [HeaderName; 39] = [
    header::ACCEPT_RANGES,
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
    header::VIA,
    header::WARNING,
    header::WWW_AUTHENTICATE,
];

fn is_forbidden(name: &HeaderName) -> bool {
    matches!(name.as_str(), "keep-alive" | "proxy-connection") || FORBIDDEN.contains(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn h1_carries_what_was_announced_and_h2_all_but_what_is_forbidden() {
        let announcing = headers(&[("trailer", "X-Sum, Authorization"), ("trailer", "x-forwarded-for, x_y")]);
        let with_length = headers(&[("trailer", "x-sum"), ("content-length", "5")]);
        let sent = [("x-sum", "1"), ("x-other", "2"), ("authorization", "3"), ("x-forwarded-for", "4"), ("x_y", "5")];
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        for (passing, left) in [
            (Passing::of_request(&announcing), &["x-sum"][..]),
            (Passing::of_request(&headers(&[])), &[]),
            (Passing::of_request(&with_length), &[]),
            (Passing::of_response(&announcing, h1, true), &["x-forwarded-for", "x-sum", "x_y"]),
            (Passing::of_response(&announcing, h1, false), &[]),
            (Passing::of_response(&announcing, Version::HTTP_10, true), &[]),
            (Passing::of_response(&headers(&[]), h2, false), &["x-forwarded-for", "x-other", "x-sum", "x_y"]),
        ] {
            let mut trailers = headers(&sent);
            assert_eq!(passing.filter(&mut trailers), sent.len() - left.len(), "{passing:?}");
            let mut names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, left, "{passing:?}");
        }
    }

    #[test]
    fn trailers_are_taken_by_name() {
        assert!(are_taken(&headers(&[("te", "gzip;q=0.5, Trailers")])));
        assert!(!are_taken(&headers(&[("te", "gzip")])));
        assert!(!are_taken(&headers(&[])));
    }
}
