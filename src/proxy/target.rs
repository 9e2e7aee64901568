//! What a request asks for, normalised once and used for match, policy, rewrite and log alike.

use std::borrow::Cow;

use http::header::HOST;
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, Uri, Version};

use crate::model::path::{lenient_keys, match_key, resolve_dots};

use super::error::{ErrorKind, ProxyError};

/// The request's target in every form that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'r> {
    /// As the client wrote it, port included: what the endpoint is told.
    pub authority: &'r str,
    /// Lower-case, without port and trailing dot: what routes match.
    pub host: Cow<'r, str>,
    /// Dot segments resolved, every other byte as received: what is forwarded.
    pub path: Cow<'r, str>,
    pub query: Option<&'r str>,
}

impl<'r> Target<'r> {
    pub fn of(head: &'r Parts) -> Result<Target<'r>, ProxyError> {
        let malformed = |why: &str| ProxyError::new(ErrorKind::Malformed, why);
        if head.method == Method::CONNECT {
            return Err(ProxyError::new(ErrorKind::ConnectRefused, "CONNECT is not for a reverse proxy"));
        }
        // Only CONNECT names an authority alone (RFC 9112 §3.2.3).
        if head.uri.authority().is_some() && head.uri.scheme().is_none() {
            return Err(malformed("the target is an authority and no path"));
        }
        if head.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
            return Err(malformed("the target's scheme is neither http nor https"));
        }
        let authority = authority(head)?;
        let host = host(authority).ok_or_else(|| malformed("the host is not one"))?;
        let raw = path(&head.uri);
        if !raw.starts_with('/') {
            return Err(malformed("the path does not start with /"));
        }
        let path = resolve_dots(raw).ok_or_else(|| malformed("the path climbs above the root"))?;
        Ok(Target { authority, host, path, query: head.uri.query() })
    }

    /// The spelling that is compared with the routes' paths.
    pub fn key(&self) -> Cow<'_, str> {
        match_key(&self.path)
    }

    /// How lenient endpoints might read the path, where that could differ from [`Target::key`]. `None` where that is past
    /// telling.
    pub fn readings(&self) -> Option<Vec<String>> {
        lenient_keys(&self.path)
    }
}

fn path(uri: &Uri) -> &str {
    match uri.path() {
        "" => "/",
        path => path,
    }
}

/// Host, `:authority` and the absolute form agree, or the request is refused (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn authority(head: &Parts) -> Result<&str, ProxyError> {
    let malformed = |why: &str| ProxyError::new(ErrorKind::Malformed, why);
    let mut hosts = head.headers.get_all(HOST).iter();
    let header = hosts.next().map(|value| value.to_str().map_err(|_| malformed("Host is not text"))).transpose()?;
    if hosts.next().is_some() {
        return Err(malformed("there are several Host headers"));
    }
    let target = head.uri.authority().map(|authority| authority.as_str());
    match (target, header) {
        (Some(target), _) if target.contains('@') => Err(malformed("the authority carries user information")),
        (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => {
            Err(malformed("Host and the request's authority differ"))
        }
        (Some(target), _) => Ok(target),
        (None, Some(header)) => Ok(header),
        (None, None) if head.version == Version::HTTP_10 => Err(malformed("HTTP/1.0 without a Host header")),
        (None, None) => Err(malformed("there is no Host header")),
    }
}

/// The host of an authority in the form that routes match, or `None` where it is not one.
fn host(authority: &str) -> Option<Cow<'_, str>> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (ip, rest) = rest.split_once(']')?;
            ip.parse::<std::net::Ipv6Addr>().ok()?;
            (ip, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    // RFC 3986 §3.2.3: a port may be empty.
    let port = port?;
    if !port.bytes().all(|b| b.is_ascii_digit()) || !port.is_empty() && port.parse::<u16>().is_err() {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(legal) {
        return None;
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some(Cow::Owned(host.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(host))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).expect("valid").into_parts().0
    }

    #[test]
    fn hosts_lose_port_case_and_trailing_dot() {
        for (authority, expected) in [
            ("Shop.Example.com:8443", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("[::1]:443", "::1"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(host(authority).as_deref(), Some(expected), "{authority}");
        }
        for bad in ["", "a b", "a:b:c", "[::1", "[zz]", "a/b", "a:80x", ":80", "a:65536", "a:+80"] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        assert!(Target::of(&parts("/", &["a.example"])).is_ok());
        for (uri, hosts) in [
            ("/", vec![]),
            ("/", vec!["a", "b"]),
            ("http://a/", vec!["b"]),
            ("http://u@a/", vec![]),
            ("a:80", vec!["a:80"]),
            ("ftp://a/", vec![]),
        ] {
            let refused = Target::of(&parts(uri, &hosts)).map(|_| ()).map_err(|error| error.kind);
            assert_eq!(refused, Err(ErrorKind::Malformed), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn the_path_is_resolved_once() {
        let head = parts("/a/../b%2Fc?x=/../y", &["a"]);
        let target = Target::of(&head).expect("valid");
        assert_eq!((&*target.path, target.query), ("/b%2Fc", Some("x=/../y")));
        let head = parts("/../etc", &["a"]);
        assert_eq!(Target::of(&head).map_err(|e| e.kind).err(), Some(ErrorKind::Malformed));
    }
}
