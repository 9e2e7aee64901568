//! Routes: their matches, and what denies them.

use std::collections::BTreeMap;

use crate::config::tree::{Node, Tree};
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::host::HostPattern;
use crate::model::id::{Kind, Name, NameRef};
use crate::model::path::PathMatch;
use crate::model::route::{Backend, Route, RouteMatch, RouteTls};
use crate::model::schema::RouteSpec;

use super::Author;
use super::reading::Reading;

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
    let mut unread: Vec<String> = Vec::new();
    for (field, given) in [
        ("methods", methods.is_some()),
        ("headers", headers.is_some()),
        ("query", query.is_some()),
        ("clients", clients.is_some()),
        ("path_regex", path_regex.is_some()),
        ("rule", rule.is_some()),
    ] {
        if given || (reading.is_broken(field) && field != "rule") {
            unread.push(written(tree, field));
        }
        if given {
            reading.not_yet(field);
        }
    }

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
    if let Some(rule) = &rule {
        patterns.extend(literal_hosts(rule));
    }
    patterns.sort();
    patterns.dedup();

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
    if paths.len() + usize::from(path_regex.is_some()) > 1 {
        reading.invalid("path", "give one of path, path_exact and path_regex; two routes can share a service");
    }
    if paths.is_empty() || guessed {
        paths = vec![PathMatch::everything()];
    }

    let backend = backend(&mut reading, service, split);
    let listeners = listeners.map(|names| names.iter().map(|name| Name::normalised(name)).collect::<Vec<_>>());
    if listeners.as_ref().is_some_and(Vec::is_empty) {
        reading.invalid("listeners", "the list is empty; leave it out for every TLS listener");
    }
    if mtls.is_some() {
        reading.not_yet("mtls");
    }
    if patterns.is_empty() {
        let denial = reading.denied.clone().unwrap_or_else(|| {
            reading.invalid("host", "the route names no host; any host is written host: \"*\"");
            Denial::new(Reason::Invalid, "the route names no host")
        });
        return Err(denial);
    }

    let unread = (!unread.is_empty()).then(|| unread.join(" ").into());
    let matches = patterns
        .iter()
        .flat_map(|host| paths.iter().map(move |path| (host, path)))
        .map(|(host, path)| RouteMatch { unread: Clone::clone(&unread), ..RouteMatch::new(host.clone(), path.clone()) })
        .collect();
    Ok(Route {
        origin: tree.origin.clone(),
        replica: author.replica.clone(),
        created: author.created,
        matches,
        guessed,
        listeners,
        priority: priority.unwrap_or(0),
        middlewares: middlewares.unwrap_or_default(),
        backend,
        // A policy that could not even be read is a policy all the same: the host stays its holder's alone.
        mtls: mtls.or_else(|| reading.is_broken("mtls").then(|| NameRef::new("unreadable"))),
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

fn written(tree: &Tree, field: &str) -> String {
    fn text(tree: &Tree) -> String {
        match &tree.node {
            Node::Null => String::new(),
            Node::Word { text, .. } => text.clone(),
            Node::Seq(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
            Node::Map(entries) => {
                entries.iter().map(|e| format!("{}:{}", e.key, text(&e.value))).collect::<Vec<_>>().join(",")
            }
        }
    }
    format!("{field}={}", tree.field(field).map(text).unwrap_or_default())
}

/// The hosts that stand as literals in a rule: what is closed while the rule itself cannot be evaluated.
fn literal_hosts(rule: &str) -> Vec<HostPattern> {
    let mut hosts = Vec::new();
    let lower = rule.to_ascii_lowercase();
    for (at, _) in lower.match_indices("host(") {
        let rest = rule[at + "host(".len()..].trim_start();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '`' | '"')) else { continue };
        if let Some(name) = rest[1..].split(quote).next()
            && let Ok(host) = name.parse()
        {
            hosts.push(host);
        }
    }
    hosts
}
