//! `redirect: { scheme: https }` sends the client to another URL.
//!
//! ```text
//! asked URL + path as rewritten so far ─▶ target ─▶ the very URL that was asked for? Continue : Respond with Location
//! ```
//! What the settings leave open stays as the client asked for it (RFC 9110 §7.1), but for the path, which is the one that
//! earlier middlewares have made of it. `Location` is always an absolute URL: no path can name another host in it.

use http::header::LOCATION;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::model::middleware::{Redirect as To, UrlScheme};
use crate::model::path::match_key;

use super::flow::{Flow, RequestHead};

#[derive(Debug, Clone, PartialEq)]
pub struct Redirect {
    scheme: Option<UrlScheme>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Option<Box<str>>,
    status: StatusCode,
}

impl Redirect {
    /// `None` where the status is none; lowering has said so already.
    pub fn compile(to: &To) -> Option<Redirect> {
        let To { scheme, host, port, path, status } = to;
        Some(Redirect {
            scheme: *scheme,
            host: host.as_deref().map(Into::into),
            port: *port,
            path: path.as_deref().map(Into::into),
            status: StatusCode::from_u16(*status).ok()?,
        })
    }

    pub fn on_request(&self, head: &mut RequestHead<'_>) -> Flow {
        match self.location(head) {
            Ok(None) => Flow::Continue,
            Ok(Some(location)) => {
                let headers = HeaderMap::from_iter([(LOCATION, location)]);
                Flow::Respond { status: self.status, headers, reason: "Redirect" }
            }
            // Nowhere to send the client to, and the endpoint was not to be reached at this URL.
            Err(Unwritable) => {
                Flow::Respond { status: StatusCode::BAD_REQUEST, headers: HeaderMap::new(), reason: "Malformed" }
            }
        }
    }

    /// `None` where the client is at the target already.
    fn location(&self, head: &RequestHead<'_>) -> Result<Option<HeaderValue>, Unwritable> {
        let asked = Authority::try_from(head.asked.authority.as_bytes()).map_err(|_| Unwritable)?;
        let asked_host = asked.host().trim_end_matches('.').to_ascii_lowercase();
        let asked_scheme = head.asked.scheme;
        let scheme = self.scheme.unwrap_or(asked_scheme);
        let host = self.host.as_deref().unwrap_or(&asked_host);
        let port = match self.port {
            None if scheme == asked_scheme => asked.port_u16(),
            port => port,
        };
        let port = port.unwrap_or(scheme.default_port());
        let path = self.path.as_deref().unwrap_or(&head.path);
        let asked_port = asked.port_u16().unwrap_or(asked_scheme.default_port());
        if (scheme, host, port) == (asked_scheme, &*asked_host, asked_port)
            && match_key(path) == match_key(head.asked.path)
        {
            return Ok(None);
        }
        let mut url = format!("{}://{host}", scheme.as_str());
        if port != scheme.default_port() {
            url.push_str(&format!(":{port}"));
        }
        url.push_str(path);
        if let Some(query) = head.query {
            url.push('?');
            url.push_str(query);
        }
        HeaderValue::try_from(url).map(Some).map_err(|_| Unwritable)
    }
}

/// The URL cannot stand in a `Location`.
struct Unwritable;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::middleware::flow::Asked;

    fn to() -> To {
        To { scheme: None, host: None, port: None, path: None, status: 308 }
    }

    fn flow(to: &To, url: &str, rewritten: Option<&str>) -> Flow {
        let uri: http::Uri = url.parse().expect(url);
        let scheme = if uri.scheme_str() == Some("https") { UrlScheme::Https } else { UrlScheme::Http };
        let authority = uri.authority().expect("absolute").as_str();
        let authority = Cow::Owned(HeaderValue::from_str(authority).expect("valid"));
        let mut headers = HeaderMap::new();
        let mut head = RequestHead {
            path: Cow::Borrowed(rewritten.unwrap_or(uri.path())),
            query: uri.query(),
            headers: &mut headers,
            asked: Asked { scheme, authority, path: uri.path() },
        };
        Redirect::compile(to).expect("valid").on_request(&mut head)
    }

    fn location(to: &To, url: &str) -> Option<String> {
        match flow(to, url, None) {
            Flow::Continue => None,
            Flow::Respond { headers, .. } => Some(headers[LOCATION].to_str().expect("text").to_string()),
        }
    }

    #[test]
    fn what_is_not_given_stays_as_it_was_asked_for() {
        let https = To { scheme: Some(UrlScheme::Https), ..to() };
        let host = To { host: Some("b.example".into()), ..to() };
        let port = To { port: Some(8443), ..to() };
        let path = To { path: Some("/new".into()), ..to() };
        for (to, url, expected) in [
            (&https, "http://a.example/x?y=%2F", "https://a.example/x?y=%2F"),
            (&https, "http://A.Example.:8080/x", "https://a.example/x"),
            (&https, "http://[::1]:8080/", "https://[::1]/"),
            (&host, "http://a.example:8080/x?", "http://b.example:8080/x?"),
            (&host, "https://a.example:443/x", "https://b.example/x"),
            (&port, "https://a.example/x", "https://a.example:8443/x"),
            (&path, "http://a.example:80/old?y=1", "http://a.example/new?y=1"),
            (&To { port: Some(443), ..https.clone() }, "http://a.example/", "https://a.example/"),
            (&To { port: Some(80), ..https.clone() }, "http://a.example/", "https://a.example:80/"),
        ] {
            assert_eq!(location(to, url).as_deref(), Some(expected), "{url}");
        }
    }

    #[test]
    fn a_client_that_is_there_already_goes_through() {
        let https = To { scheme: Some(UrlScheme::Https), ..to() };
        assert_eq!(location(&https, "https://a.example/x"), None);
        assert_eq!(location(&https, "https://a.example:8443/x"), None);
        let all = To {
            host: Some("a.example".into()),
            port: Some(443),
            path: Some("/~new".into()),
            scheme: Some(UrlScheme::Https),
            ..to()
        };
        for url in ["https://a.example/~new?q", "https://A.EXAMPLE.:443/%7enew"] {
            assert_eq!(location(&all, url), None, "{url}");
        }
        for url in ["http://a.example/~new", "https://a.example:444/~new", "https://a.example/~new/"] {
            assert!(location(&all, url).is_some(), "{url}");
        }
    }

    #[test]
    fn the_path_is_the_one_that_earlier_middlewares_made() {
        let host = To { host: Some("b.example".into()), status: 301, ..to() };
        let Flow::Respond { status, headers, reason } = flow(&host, "https://a.example/old/x?q=1", Some("/x")) else {
            panic!("it goes through");
        };
        assert_eq!((status.as_u16(), reason), (301, "Redirect"));
        assert_eq!(headers[LOCATION], "https://b.example/x?q=1");
        // Rewritten to what it is not: the client is somewhere else.
        let https = To { scheme: Some(UrlScheme::Https), ..to() };
        assert!(matches!(flow(&https, "https://a.example/old/x", Some("/x")), Flow::Respond { .. }));
    }

    #[test]
    fn a_path_names_no_other_host() {
        let https = To { scheme: Some(UrlScheme::Https), ..to() };
        assert_eq!(
            location(&https, "http://a.example//evil.example/x").as_deref(),
            Some("https://a.example//evil.example/x")
        );
        assert_eq!(
            location(&https, "http://a.example/@evil.example").as_deref(),
            Some("https://a.example/@evil.example")
        );
    }

    #[test]
    fn an_authority_that_is_none_is_no_target() {
        for authority in ["a b", "evil\u{e9}", "a/b", ""] {
            let mut headers = HeaderMap::new();
            let authority = Cow::Owned(HeaderValue::from_str(authority).expect("a header value"));
            let mut head = RequestHead {
                path: Cow::Borrowed("/"),
                query: None,
                headers: &mut headers,
                asked: Asked { scheme: UrlScheme::Http, authority, path: "/" },
            };
            let redirect = Redirect::compile(&To { scheme: Some(UrlScheme::Https), ..to() }).expect("valid");
            let Flow::Respond { status, headers, .. } = redirect.on_request(&mut head) else {
                panic!("it goes through")
            };
            assert!(status == StatusCode::BAD_REQUEST && headers.is_empty(), "{status} {headers:?}");
        }
    }
}
