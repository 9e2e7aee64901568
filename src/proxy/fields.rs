//! A request's header fields in the one form that every endpoint reads alike.
//!
//! `fields as received ─▶ underscores, cookies ─▶ fields as forwarded`. RFC 9110 §5.1 (names), RFC 9113 §8.2.3 (cookies).

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::listener::UnderscoreHeaders;
use crate::telemetry::metrics::MetricsLane;

use super::error::{ErrorKind, ProxyError};

/// CGI and its heirs read `X_User` and `X-User` as one variable (RFC 3875 §4.1.18), so that whoever may send the first
/// can pass for the second.
pub fn underscores(
    headers: &mut HeaderMap,
    policy: UnderscoreHeaders,
    metrics: &MetricsLane,
) -> Result<(), ProxyError> {
    let underscored = |name: &&HeaderName| name.as_str().contains('_');
    if policy == UnderscoreHeaders::Pass || !headers.keys().any(|name| underscored(&name)) {
        return Ok(());
    }
    if policy == UnderscoreHeaders::Refuse {
        return Err(ProxyError::new(ErrorKind::Malformed, "a header name has an underscore"));
    }
    let names: Vec<HeaderName> = headers.keys().filter(underscored).cloned().collect();
    for name in names {
        headers.remove(name);
        metrics.dropped_field("underscore");
    }
    Ok(())
}

/// h2 clients may send a cookie a field; an h1 endpoint gets one `Cookie` (RFC 9113 §8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // What was legal apart is legal together.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
pub fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[cfg(test)]
mod tests {
    use crate::telemetry::metrics::Metrics;

    use super::*;

    #[test]
    fn underscores_are_dropped_and_counted_passed_or_refused() {
        let metrics = Metrics::new();
        let lane = metrics.lane();
        let given = headers(&[("x_user", "1"), ("x_user", "2"), ("x-user", "3"), ("x_role", "4")]);

        let mut dropped = given.clone();
        assert_eq!(underscores(&mut dropped, UnderscoreHeaders::Drop, &lane), Ok(()));
        assert_eq!(dropped, headers(&[("x-user", "3")]));
        lane.flush();
        assert!(metrics.encode().contains("portolan_fields_dropped_total{reason=\"underscore\"} 2"));

        let mut passed = given.clone();
        assert_eq!(underscores(&mut passed, UnderscoreHeaders::Pass, &lane), Ok(()));
        assert_eq!(passed, given);

        let refused = |mut headers| underscores(&mut headers, UnderscoreHeaders::Refuse, &lane).map_err(|e| e.kind);
        assert_eq!(refused(given), Err(ErrorKind::Malformed));
        assert_eq!(refused(headers(&[("x-user", "3")])), Ok(()));
    }

    #[test]
    fn crumbs_make_one_cookie_in_their_order() {
        let mut crumbs = headers(&[("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")]);
        join_cookies(&mut crumbs);
        assert_eq!(crumbs, headers(&[("cookie", "a=1; b=2; c=3; d=4")]));
    }
}
