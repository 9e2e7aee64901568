//! Middlewares: exactly one kind each.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use crate::config::tree::Tree;
use crate::model::diagnostic::{Diagnostic, Reason};
use crate::model::id::Kind;
use crate::model::middleware::{HeaderChanges, Middleware, MiddlewareKind};
use crate::model::path::PathMatch;
use crate::model::schema::{HeaderChangesSpec, HeadersSpec, MiddlewareSpec};

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
    if strip_prefix.is_some() {
        reading.not_yet("strip_prefix");
    }
    if redirect.is_some() {
        reading.not_yet("redirect");
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
    if let Some(HeadersSpec { request, response }) = headers {
        let request = header_changes(&mut reading, "headers.request", request);
        let response = header_changes(&mut reading, "headers.response", response);
        kind = MiddlewareKind::Headers { request, response };
    }
    Middleware { origin: tree.origin.clone(), kind, denied: reading.denied, id: reading.id }
}

fn header_changes(
    reading: &mut Reading<'_, MiddlewareSpec>,
    field: &str,
    spec: Option<HeaderChangesSpec>,
) -> HeaderChanges {
    let HeaderChangesSpec { set, add, remove } = spec.unwrap_or_default();
    let mut check = |name: &str, value: Option<&str>| -> Option<String> {
        let Ok(header) = name.parse::<HeaderName>() else {
            let why = format!("\"{name}\" is not a header name");
            reading
                .deny(Diagnostic::error(reading.id.clone(), Reason::Invalid, reading.origin("headers"), why).on(field));
            return None;
        };
        if FRAMING.contains(&header.as_str()) {
            let why = format!("\"{header}\" is the proxy's own: it frames or routes the message");
            reading
                .deny(Diagnostic::error(reading.id.clone(), Reason::Invalid, reading.origin("headers"), why).on(field));
            return None;
        }
        if value.is_some_and(|value| HeaderValue::from_str(value).is_err()) {
            let why = format!("the value of \"{name}\" cannot stand in a header");
            reading
                .deny(Diagnostic::error(reading.id.clone(), Reason::Invalid, reading.origin("headers"), why).on(field));
            return None;
        }
        Some(header.as_str().to_string())
    };
    let mut pairs = |map: Option<BTreeMap<String, String>>| -> Vec<(String, String)> {
        map.unwrap_or_default()
            .into_iter()
            .filter_map(|(name, value)| check(&name, Some(&value)).map(|name| (name, value)))
            .collect()
    };
    let set = pairs(set);
    let add = pairs(add);
    let remove = remove.unwrap_or_default().iter().filter_map(|name| check(name, None)).collect();
    HeaderChanges { remove, set, add }
}

/// Headers that carry the framing of a message, and those by which Portolan itself vouches for something.
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
