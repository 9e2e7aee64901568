//! Routes: their matches, and what denies them.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::tree::{Node, Tree};
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::host::HostPattern;
use crate::model::id::{Kind, Name, NameRef};
use crate::model::path::PathMatch;
use crate::model::route::{Backend, Route, RouteTls};
use crate::model::schema::RouteSpec;

use crate::provider::rule;

use super::Author;
use super::narrow::{self, Narrowed};
use super::reading::Reading;

/// The fields that a rule stands instead of.
const NARROWING: [&str; 9] =
    ["host", "hosts", "path", "path_exact", "path_regex", "methods", "headers", "query", "clients"];

/// `Err` where no host could be read from it at all.
pub fn route(name: &str, tree: &Tree, author: &Author, findings: &mut Vec<Diagnostic>) -> Result<Route, Denial> {
    let mut reading = Reading::<RouteSpec>::of(author.id(Kind::Route, name), tree, findings);
    let RouteSpec {
        host,
        hosts,
        path,
        path_exact,
        path_regex,
        methods,
        headers,
        query,
        clients,
        rule,
        priority,
        listeners,
        middlewares,
        mtls,
        service,
        split,
        tls,
    } = std::mem::take(&mut reading.spec);

    let mut guessed =
        ["host", "hosts", "path", "path_exact", "path_regex", "rule"].iter().any(|f| reading.is_broken(f));
    let mut narrowed = Narrowed::default();
    let given = |field: &&str| tree.field(field).is_some_and(|value| value.node != Node::Null);
    let pattern = match path_regex.as_deref().map(narrow::path_regex) {
        Some(Ok(_)) if ["path", "path_exact"].iter().any(given) => {
            Some(Err("give one of path, path_exact and path_regex; two routes can share a service".into()))
        }
        pattern => pattern,
    };
    guessed |= pattern.as_ref().is_some_and(Result::is_err);
    narrowed.by(&mut reading, tree, "path_regex", pattern);
    narrowed.by(&mut reading, tree, "methods", methods.as_deref().map(narrow::methods));
    narrowed.by(&mut reading, tree, "headers", headers.as_ref().map(narrow::headers));
    narrowed.by(&mut reading, tree, "query", query.as_ref().map(narrow::query));
    narrowed.by(&mut reading, tree, "clients", clients.as_deref().map(narrow::clients));

    let mut patterns = Vec::new();
    for (field, raw) in host.iter().map(|h| ("host", h)).chain(hosts.iter().flatten().map(|h| ("hosts", h))) {
        match raw.parse::<HostPattern>() {
            Ok(pattern) => patterns.push(pattern),
            Err(why) => {
                guessed = true;
                reading.invalid(field, why);
            }
        }
    }

    let mut paths = Vec::new();
    for (field, raw, parse) in [
        ("path", &path, PathMatch::prefix as fn(&str) -> Result<PathMatch, String>),
        ("path_exact", &path_exact, PathMatch::exact),
    ] {
        let Some(raw) = raw else { continue };
        match parse(raw) {
            Ok(path) => paths.push(path),
            Err(why) => {
                guessed = true;
                reading.invalid(field, why);
            }
        }
    }
    if paths.len() > 1 {
        reading.invalid("path", "give one of path, path_exact and path_regex; two routes can share a service");
    }

    let mut ruled = Vec::new();
    if let Some(rule) = &rule {
        match rule::matches(rule) {
            Ok(matches) => ruled = matches,
            Err(why) => {
                guessed = true;
                patterns.extend(rule::literal_hosts(rule));
                narrowed = Narrowed::default();
                narrowed.by(&mut reading, tree, "rule", Some(Err(why)));
            }
        }
        let beside: Vec<&str> = NARROWING.into_iter().filter(given).collect();
        if !beside.is_empty() {
            let fields = beside.join(", ");
            reading.invalid("rule", format!("rule stands instead of {fields}; say it all in the rule, or without one"));
        }
    }
    if paths.is_empty() || guessed {
        paths = vec![PathMatch::everything()];
    }

    let backend = backend(&mut reading, service, split);
    let listeners = listeners.map(|names| names.iter().map(|name| Name::normalised(name)).collect::<Vec<_>>());
    if listeners.as_ref().is_some_and(Vec::is_empty) {
        reading.invalid("listeners", "the list is empty; leave it out for every TLS listener");
    }
    if guessed && !author.is_operator() {
        // Nobody but the operator holds it, so its denial would stand nowhere.
        patterns.retain(|host| *host != HostPattern::Any);
    }
    if patterns.is_empty() && ruled.is_empty() {
        let denial = reading.denied.clone().unwrap_or_else(|| {
            reading.invalid("host", "the route names no host; any host is written host: \"*\"");
            Denial::new(Reason::Invalid, "the route names no host")
        });
        return Err(denial);
    }

    let matches = narrowed.matches(&patterns, &paths).into_iter().chain(ruled).collect::<BTreeSet<_>>();
    Ok(Route {
        origin: tree.origin.clone(),
        replica: author.replica.clone(),
        created: author.created,
        matches: matches.into_iter().collect(),
        guessed,
        listeners,
        priority: priority.unwrap_or(0),
        middlewares: middlewares.unwrap_or_default(),
        backend,
        // A policy that could not even be read is a policy all the same: the host stays its holder's alone.
        mtls: mtls.or_else(|| reading.is_broken("mtls").then(|| NameRef::new("unreadable"))).into_iter().collect(),
        tls: tls.map(|tls| RouteTls {
            issuer: tls.issuer.as_deref().map(Name::normalised),
            certificate: tls.certificate,
            min_version: tls.min_version,
        }),
        denied: reading.denied,
        id: reading.id,
    })
}

fn backend(
    reading: &mut Reading<'_, RouteSpec>,
    service: Option<NameRef>,
    split: Option<BTreeMap<NameRef, u32>>,
) -> Backend {
    if service.is_some() && (split.is_some() || reading.is_broken("split")) {
        reading.invalid("split", "give service or split, not both: a split names every service that has a share");
    }
    match (service, split) {
        (None, Some(split)) => {
            if split.values().all(|weight| *weight == 0) {
                let why = "no service has a share: a split names at least one with a weight above 0, as in { shop: 90, \
                           shop-next: 10 }";
                reading.invalid("split", why);
            }
            Backend::Split(split)
        }
        (service, _) => Backend::Service(service.unwrap_or_else(|| NameRef::new(&reading.id.name))),
    }
}
