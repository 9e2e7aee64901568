//! Middlewares: exactly one kind each.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use crate::config::tree::Tree;
use crate::model::diagnostic::Diagnostic;
use crate::model::host::HostPattern;
use crate::model::id::Kind;
use crate::model::middleware::{HeaderChanges, Middleware, MiddlewareKind, Redirect, UrlScheme};
use crate::model::path::PathMatch;
use crate::model::schema::{HeaderChangesSpec, HeadersSpec, MiddlewareSpec, RedirectSpec};
use crate::model::vouching::{CERTIFICATE_HEADERS, starts};

use super::Author;
use super::reading::Reading;

pub(super) fn middleware(name: &str, tree: &Tree, author: &Author, findings: &mut Vec<Diagnostic>) -> Middleware {
    let mut reading = Reading::<MiddlewareSpec>::of(author.id(Kind::Middleware, name), tree, findings);
    let MiddlewareSpec { add_prefix, headers, strip_prefix, redirect } = std::mem::take(&mut reading.spec);
    let given = [add_prefix.is_some(), headers.is_some(), strip_prefix.is_some(), redirect.is_some()];
    let count = given.iter().filter(|given| **given).count();
    if count != 1 && reading.denied.is_none() {
        let field = tree.entries().first().map_or("", |entry| &entry.key).to_string();
        reading.invalid(&field, "a middleware is of exactly one kind: add_prefix, headers, strip_prefix or redirect");
    }
    let mut kind = MiddlewareKind::Unusable;
    if let Some(prefix) = add_prefix {
        match PathMatch::prefix(&prefix) {
            Ok(_) if prefix.trim_end_matches('/').is_empty() => {
                reading.invalid("add_prefix", "a prefix of / adds nothing");
            }
            Ok(_) => kind = MiddlewareKind::AddPrefix(prefix.trim_end_matches('/').to_string()),
            Err(why) => reading.invalid("add_prefix", why),
        }
    }
    if let Some(prefixes) = strip_prefix {
        kind = MiddlewareKind::StripPrefix(stripped(&mut reading, &prefixes));
    }
    if let Some(spec) = redirect {
        kind = MiddlewareKind::Redirect(redirected(&mut reading, spec));
    }
    if let Some(HeadersSpec { request, response }) = headers {
        let request = header_changes(&mut reading, Side::Request, request);
        let response = header_changes(&mut reading, Side::Response, response);
        kind = MiddlewareKind::Headers { request, response };
    }
    if reading.denied.is_some() {
        kind = MiddlewareKind::Unusable;
    }
    Middleware { origin: tree.origin.clone(), kind, denied: reading.denied, id: reading.id }
}

/// Longest first, so that none is hidden behind a shorter one whatever the order they are written in.
fn stripped(reading: &mut Reading<'_, MiddlewareSpec>, raw: &[String]) -> Vec<String> {
    if raw.is_empty() {
        reading.invalid("strip_prefix", "the list is empty; write the prefixes, as in strip_prefix: [/api]");
    }
    let mut prefixes = Vec::with_capacity(raw.len());
    for raw in raw {
        match PathMatch::prefix(raw) {
            Ok(PathMatch::Prefix(prefix)) if &*prefix != "/" && is_header_value(&prefix) => {
                prefixes.push(prefix.to_string());
            }
            Ok(PathMatch::Prefix(prefix)) if &*prefix != "/" => {
                reading.invalid("strip_prefix", format!("\"{raw}\" cannot stand in X-Forwarded-Prefix"));
            }
            Ok(_) => reading.invalid("strip_prefix", format!("a prefix of \"{raw}\" takes nothing away")),
            Err(why) => reading.invalid("strip_prefix", why),
        }
    }
    let segments = |prefix: &String| prefix.split('/').count();
    prefixes.sort_by(|a, b| (segments(b), a).cmp(&(segments(a), b)));
    prefixes.dedup();
    prefixes
}

/// Permanent and with the method kept, as the redirect of a listener is.
const REDIRECT_STATUS: u16 = 308;

fn redirected(reading: &mut Reading<'_, MiddlewareSpec>, spec: RedirectSpec) -> Redirect {
    let RedirectSpec { scheme, host, path, port, status } = spec;
    if scheme.is_none() && host.is_none() && path.is_none() && port.is_none() && reading.denied.is_none() {
        reading.invalid("redirect", "a redirect changes something: scheme, host, port or path");
    }
    let scheme = scheme.and_then(|raw| match raw.to_ascii_lowercase().as_str() {
        "http" => Some(UrlScheme::Http),
        "https" => Some(UrlScheme::Https),
        _ => {
            reading.invalid("redirect.scheme", format!("\"{raw}\" is no scheme to go to: http or https"));
            None
        }
    });
    let host = host.and_then(|raw| match raw.parse() {
        Ok(HostPattern::Exact(host)) if host.contains(':') => Some(format!("[{host}]")),
        Ok(HostPattern::Exact(host)) => Some(host.to_string()),
        Ok(_) => {
            reading.invalid("redirect.host", format!("\"{raw}\" is a pattern; a redirect goes to one host"));
            None
        }
        Err(why) => {
            let port = if why.contains("port") { "; the port is a field of its own, port" } else { "" };
            reading.invalid("redirect.host", format!("{why}{port}"));
            None
        }
    });
    let path = path.and_then(|raw| match PathMatch::exact(&raw) {
        // What no URL may carry as it is would be the client's to guess.
        Ok(PathMatch::Exact(path)) if path.parse::<http::uri::PathAndQuery>().is_ok() => Some(path.to_string()),
        Ok(_) => {
            reading.invalid("redirect.path", format!("\"{raw}\" cannot stand in a URL; write it percent-encoded"));
            None
        }
        Err(why) => {
            let query = if raw.contains('?') { "; the query stays as the client sent it" } else { "" };
            reading.invalid("redirect.path", format!("{why}{query}"));
            None
        }
    });
    if port == Some(0) {
        reading.invalid("redirect.port", "there is no port 0");
    }
    let status = status.unwrap_or(REDIRECT_STATUS);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        let why = format!("{status} is no redirect: 301 and 308 are for good, 302, 303 and 307 for now");
        reading.invalid("redirect.status", why);
    }
    Redirect { scheme, host, port, path, status }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

fn header_changes(
    reading: &mut Reading<'_, MiddlewareSpec>,
    side: Side,
    spec: Option<HeaderChangesSpec>,
) -> HeaderChanges {
    let HeaderChangesSpec { set, add, remove } = spec.unwrap_or_default();
    let part = if side == Side::Request { "headers.request" } else { "headers.response" };
    let mut check = |action: &str, name: &str, value: Option<&str>| -> Option<String> {
        let why = match name.parse::<HeaderName>() {
            Err(_) => format!("\"{name}\" is not a header name"),
            Ok(header) if FRAMING.contains(&header.as_str()) => {
                format!("\"{header}\" is the proxy's own: it frames or routes the message")
            }
            Ok(header) if side == Side::Request && value.is_some() && says_who_asks(header.as_str()) => {
                format!(
                    "\"{header}\" says who the client is, which Portolan alone knows; it can be removed, not made up"
                )
            }
            Ok(_) if value.is_some_and(|value| !is_header_value(value)) => {
                format!("the value of \"{name}\" cannot stand in a header")
            }
            Ok(header) => return Some(header.as_str().to_string()),
        };
        reading.invalid(&format!("{part}.{action}"), why);
        None
    };
    let mut pairs = |action: &str, map: Option<BTreeMap<String, String>>| -> Vec<(String, String)> {
        let pairs = map.unwrap_or_default().into_iter();
        pairs.filter_map(|(name, value)| check(action, &name, Some(&value)).map(|name| (name, value))).collect()
    };
    let set = pairs("set", set);
    let add = pairs("add", add);
    let remove = remove.unwrap_or_default().iter().filter_map(|name| check("remove", name, None)).collect();
    HeaderChanges { remove, set, add }
}

fn is_header_value(value: &str) -> bool {
    HeaderValue::from_str(value).is_ok()
}

/// Headers that carry the framing of a message, or its target.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// By what a request header starts that names the client or its certificate. The rest of the family (`X-Forwarded-Proto`,
/// `-Host`, `-Port`, `-Prefix`) describes the URL: whoever runs a balancer in front may have to set it right.
const IDENTITY: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

fn says_who_asks(header: &str) -> bool {
    IDENTITY.iter().chain(&CERTIFICATE_HEADERS).any(|prefix| starts(header, prefix))
}
