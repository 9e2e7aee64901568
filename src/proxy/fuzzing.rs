//! Any bytes as a request's head, through every step that it takes before it is forwarded.
//!
//! ```text
//! bytes ─▶ head, as the library would hand it over ─▶ framing ─▶ hops ─▶ underscores ─▶ Target ─▶ hop-by-hop ─▶ Via
//!                                                          ─▶ forwarding headers ─▶ cookies ─▶ one framing
//! ```

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use ipnet::IpNet;

use crate::model::listener::UnderscoreHeaders;
use crate::model::path::{match_key, resolve_dots};
use crate::telemetry::metrics::Metrics;

use super::forwarded::{Vouched, strip_hop_by_hop};
use super::target::Target;
use super::{fields, framing, hops};

/// `method target version`, then a field a line; what the library refuses is left out.
pub fn check(data: &[u8]) {
    let (Some((head, trusted)), [seed, ..]) = (head(data), data) else { return };
    let ended = seed & 2 != 0;
    let Some(mut passed) = checked(head) else { return };
    let before = passed.clone();
    let authority = normalised(&passed);
    strip_hop_by_hop(&mut passed.headers);
    hops::mark(&mut passed.headers, passed.version);
    vouched(trusted).apply(&mut passed.headers, &authority, None);
    fields::join_cookies(&mut passed.headers);
    framing::frame_request(&mut passed.headers, passed.version, ended);
    forwarded(&before.headers, &passed.headers, trusted, ended);
}

fn head(data: &[u8]) -> Option<(Parts, bool)> {
    let trusted = data.first()? & 1 != 0;
    let mut lines = data.get(1..)?.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(3, |byte| *byte == b' ');
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
    *request.version_mut() = match words.next() {
        Some(b"1.0") => Version::HTTP_10,
        Some(b"2") => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let (name, value) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value[1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            // Lengths that differ are the library's to refuse.
            let length = name == CONTENT_LENGTH;
            let taken = request.headers().get(CONTENT_LENGTH).is_some_and(|first| *first != value);
            if !(length && (taken || value.to_str().map_or(true, |text| text.parse::<u64>().is_err()))) {
                request.headers_mut().append(name, value);
            }
        }
    }
    Some((request.into_parts().0, trusted))
}

fn vouched(trusted: bool) -> Vouched {
    let all: IpNet = IpNet::from(std::net::IpAddr::from([0, 0, 0, 0]));
    let all = IpNet::new(all.addr(), 0).unwrap_or(all);
    let nets = if trusted { vec![all] } else { Vec::new() };
    Vouched::new(([192, 0, 2, 7], 9).into(), true, 443, &HeaderValue::from_static("edge"), &nets)
}

/// The steps that may refuse. `None` where one did.
fn checked(mut head: Parts) -> Option<Parts> {
    framing::check_request(&head).ok()?;
    hops::check(&mut head).ok()?;
    fields::underscores(&mut head.headers, UnderscoreHeaders::Drop, &Metrics::new().lane()).ok()?;
    Target::of(&head).ok()?;
    Some(head)
}

/// What a target promises. Its authority.
fn normalised(head: &Parts) -> HeaderValue {
    let target = Target::of(head);
    assert!(target.is_ok(), "{target:?}, though it was one a moment ago");
    let Ok(target) = target else { return HeaderValue::from_static("") };
    let (host, path) = (&*target.host, &*target.path);
    assert!(
        !host.is_empty() && !host.bytes().any(|byte| byte.is_ascii_uppercase() || b"/@?#\\ ".contains(&byte)),
        "{host}"
    );
    assert!(target.authority.to_ascii_lowercase().contains(host), "{} of {}", host, target.authority);

    assert!(path.starts_with('/'), "{path}");
    let decoded = |segment: &str| segment.to_ascii_lowercase().replace("%2e", ".");
    assert!(!path.split('/').any(|segment| [".", ".."].contains(&&*decoded(segment))), "{path} has a dot segment left");
    assert_eq!(resolve_dots(path).as_deref(), Some(path), "once is enough");
    assert_eq!(slowly_resolved(head.uri.path()).as_deref(), Some(path), "of {}", head.uri.path());

    let key = target.key();
    assert_eq!(match_key(&key), key, "the key of a key is itself");
    assert_eq!(decode(&key), decode(path), "{key} says what {path} says");
    assert!(!key.bytes().any(|byte| !byte.is_ascii_graphic()), "{key}");
    let separators = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
    assert_eq!(separators(&key), separators(path), "an escape is no separator");

    let origin = Uri::try_from(path);
    assert!(origin.is_ok(), "{path} can be forwarded");
    let authority = HeaderValue::from_str(target.authority);
    assert!(authority.is_ok(), "{}", target.authority);
    authority.unwrap_or(HeaderValue::from_static(""))
}

/// RFC 3986 §5.2.4, segment by segment and from the left.
fn slowly_resolved(path: &str) -> Option<String> {
    let path = if path.is_empty() { "/" } else { path };
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        let reads = segment.replace("%2e", ".").replace("%2E", ".");
        if reads == ".." {
            kept.pop()?;
        }
        match &*reads {
            "." | ".." if last => kept.push(""),
            "." | ".." => {}
            _ => kept.push(segment),
        }
    }
    Some(format!("/{}", kept.join("/")))
}

fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let escaped = escaped.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// What an endpoint may rely on.
fn forwarded(before: &HeaderMap, after: &HeaderMap, trusted: bool, ended: bool) {
    let lines = |name: &HeaderName| after.get_all(name).iter().count();
    let framings = lines(&CONTENT_LENGTH) + lines(&TRANSFER_ENCODING);
    assert!(framings <= 1 && (ended || framings == 1), "{framings} framings in {after:?}");
    assert_eq!(after.contains_key(CONTENT_LENGTH), before.contains_key(CONTENT_LENGTH), "whose length it is");
    for name in
        ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "proxy-authorization"]
    {
        assert!(!after.contains_key(name), "{name} went on");
    }
    let listed =
        before.get_all("connection").iter().filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(','));
    for name in listed.map(|name| name.trim().to_ascii_lowercase()) {
        // What Portolan writes itself, and what nobody may take away.
        let own = ["host", "via", "content-length", "transfer-encoding"].contains(&&*name)
            || name.starts_with("x-forwarded")
            || ["forwarded", "x-real-ip"].contains(&&*name);
        assert!(own || !after.contains_key(name.as_str()), "{name} was for this hop alone");
    }
    assert!(lines(&COOKIE) <= 1 && !after.keys().any(|name| name.as_str().contains('_')), "{after:?}");
    assert_eq!(lines(&VIA), before.get_all(VIA).iter().count() + 1, "a mark was added, and none taken away");
    assert_eq!(after.get_all(HOST).iter().count(), before.get_all(HOST).iter().count());

    let last = after.get("x-forwarded-for").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(lines(&HeaderName::from_static("x-forwarded-for")) == 1 && last.ends_with("192.0.2.7"), "{last}");
    if trusted {
        return;
    }
    let own = [
        "x-forwarded-for",
        "forwarded",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-real-ip",
        "x-forwarded-server",
    ];
    assert_eq!(last, "192.0.2.7", "a stranger's word was believed");
    for (name, value) in after {
        let name = name.as_str();
        let speaks =
            ["x-forwarded", "forwarded", "x-real-ip", "client-cert", "x-client-cert", "ssl-client-", "x-ssl-client-"]
                .iter()
                .any(|known| name.replace('_', "-").starts_with(known));
        assert!(!speaks || own.contains(&name), "{name}: {value:?} is a stranger's");
    }
    for name in own {
        assert_eq!(after.get_all(name).iter().count(), 1, "{name}");
    }
}
