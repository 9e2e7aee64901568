//! From the schema as users spell it to the typed objects of `model`: one place for settings, files, labels and the API.
//!
//! ```text
//! Tree (one object) ──read::lenient──▶ RouteSpec ──lower──▶ Route + Diagnostics
//! ```
//! Nothing is dropped: a field that is wrong, reserved to the operator or not built yet denies the object that needs it
//! and says so. Only `balance`, `health`, `retry`, `timeouts` and `sticky` are passed over.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::config::read::{self, Fault, What};
use crate::config::tree::{Node, Tree, snake_case};
use crate::model::certificate::Certificate;
use crate::model::diagnostic::{Denial, Diagnostic, Origin, Reason};
use crate::model::host::HostPattern;
use crate::model::id::{Kind, Name, NameRef, ObjectId, Source};
use crate::model::middleware::{HeaderChanges, Middleware, MiddlewareKind};
use crate::model::path::PathMatch;
use crate::model::route::{Replica, Route, RouteMatch, RouteTls};
use crate::model::schema::{
    CertificateSpec, HeaderChangesSpec, HeadersSpec, MiddlewareSpec, RouteSpec, Scheme, ServiceSpec, TrustBundleSpec,
};
use crate::model::service::{Endpoint, Service};
use crate::model::snapshot::Snapshot;

/// Who wrote the objects.
#[derive(Debug, Clone)]
pub struct Author {
    pub source: Source,
    pub created: Timestamp,
    pub replica: Option<Replica>,
}

impl Author {
    fn id(&self, kind: Kind, name: &str) -> ObjectId {
        ObjectId::new(&self.source, kind, Name::normalised(name).shared())
    }

    fn is_operator(&self) -> bool {
        self.source.is_operator()
    }
}

pub use crate::model::schema::SECTIONS;

pub fn section_kind(section: &str) -> Option<Kind> {
    let folded = snake_case(section);
    SECTIONS.iter().find(|(name, _)| *name == folded).map(|(_, kind)| *kind)
}

/// Lowers a whole document: a file, or the operator's own objects in the settings.
pub fn document(tree: &Tree, author: &Author) -> Snapshot {
    let mut snapshot = Snapshot::empty(author.source.provider);
    let mut unplaced = Vec::new();
    for section in tree.entries() {
        let Some(kind) = section_kind(&section.key) else {
            let known: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
            let hint = match read::nearest(&section.key, &known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known are {}", known.join(", ")),
            };
            let subject = author.id(Kind::Document, &section.key);
            let detail = format!("there is no section \"{}\"; {hint}", section.key);
            snapshot.findings.push(
                Diagnostic::error(subject, Reason::UnknownField, section.origin.clone(), detail)
                    .on(section.key.as_str()),
            );
            continue;
        };
        if !matches!(section.value.node, Node::Map(_) | Node::Null) {
            let subject = author.id(Kind::Document, &section.key);
            let detail = format!("\"{}\" holds a map from names to objects", section.key);
            let origin = section.value.origin.clone();
            snapshot
                .findings
                .push(Diagnostic::error(subject, Reason::Invalid, origin, detail).on(section.key.as_str()));
            continue;
        }
        for entry in section.value.entries() {
            object(kind, &entry.key, &entry.value, author, &mut snapshot, &mut unplaced);
        }
    }
    snapshot
}

/// Lowers one object into the snapshot. A route of which not even a host could be read goes to `unplaced`: its author
/// has to close what it can.
pub fn object(
    kind: Kind,
    name: &str,
    tree: &Tree,
    author: &Author,
    snapshot: &mut Snapshot,
    unplaced: &mut Vec<Denial>,
) {
    let findings = &mut snapshot.findings;
    match kind {
        Kind::Route => match route(name, tree, author, findings) {
            Ok(route) => snapshot.routes.push(route),
            Err(denial) => unplaced.push(denial),
        },
        Kind::Service => {
            let (spec, mut service) = service(name, tree, author, findings);
            written_endpoints(&spec, &mut service, tree, findings);
            snapshot.services.push(service);
        }
        Kind::Middleware => snapshot.middlewares.push(middleware(name, tree, author, findings)),
        Kind::Certificate => snapshot.certificates.extend(certificate(name, tree, author, findings)),
        Kind::TrustBundle => {
            let reading = Reading::<TrustBundleSpec>::of(author.id(kind, name), tree, findings);
            if reading.spec.file.is_some() && !author.is_operator() {
                let Reading { id, faults, .. } = reading;
                faults.push(operator_only(
                    &id,
                    tree,
                    "file",
                    "carry the certificates in pem:, or name an operator's bundle",
                ));
            }
            snapshot.unbuilt.push(author.id(kind, name));
        }
        _ => {
            let subject = author.id(kind, name);
            let detail = format!("{} objects are not built yet; a route that needs this one is denied", kind.as_str());
            findings.push(Diagnostic::warning(subject.clone(), Reason::NotSupportedYet, tree.origin.clone(), detail));
            snapshot.unbuilt.push(subject);
        }
    }
}

/// One object being read: its struct, and the first thing that closes it.
struct Reading<'f, T> {
    id: ObjectId,
    spec: T,
    tree: Tree,
    denied: Option<Denial>,
    /// Fields that could not be read, by top-level name.
    broken: Vec<String>,
    faults: &'f mut Vec<Diagnostic>,
}

impl<'f, T: DeserializeOwned + Default> Reading<'f, T> {
    fn of(id: ObjectId, tree: &Tree, faults: &'f mut Vec<Diagnostic>) -> Reading<'f, T> {
        let (spec, found) = read::lenient::<T>(tree);
        let mut reading = Reading { id, spec, tree: tree.clone(), denied: None, broken: Vec::new(), faults };
        for fault in found {
            if let Some(first) = fault.path.first() {
                reading.broken.push(snake_case(first));
            }
            let diagnostic = diagnose(&reading.id, &fault);
            reading.deny(diagnostic);
        }
        reading
    }

    fn origin(&self, field: &str) -> Origin {
        self.tree.field(field).unwrap_or(&self.tree).origin.clone()
    }

    fn deny(&mut self, diagnostic: Diagnostic) {
        self.denied.get_or_insert_with(|| Denial::of(&diagnostic));
        self.faults.push(diagnostic);
    }

    fn invalid(&mut self, field: &str, why: impl Into<String>) {
        self.deny(Diagnostic::error(self.id.clone(), Reason::Invalid, self.origin(field), why).on(field));
    }

    fn not_yet(&mut self, field: &str) {
        let detail = format!("\"{field}\" is not built yet; what needs it is denied rather than served without it");
        self.deny(Diagnostic::error(self.id.clone(), Reason::NotSupportedYet, self.origin(field), detail).on(field));
    }

    fn passed_over(&mut self, field: &str) {
        let detail = format!("\"{field}\" is not built yet and is passed over");
        let origin = self.origin(field);
        self.faults.push(Diagnostic::warning(self.id.clone(), Reason::NotSupportedYet, origin, detail).on(field));
    }

    fn is_broken(&self, field: &str) -> bool {
        self.broken.iter().any(|broken| broken == field)
    }
}

fn diagnose(id: &ObjectId, fault: &Fault) -> Diagnostic {
    let reason = match fault.what {
        What::UnknownField { .. } => Reason::UnknownField,
        What::Invalid(_) => Reason::Invalid,
    };
    Diagnostic::error(id.clone(), reason, fault.origin.clone(), fault.message()).on(fault.field())
}

fn operator_only(id: &ObjectId, tree: &Tree, field: &str, instead: &str) -> Diagnostic {
    let origin = tree.field(field).unwrap_or(tree).origin.clone();
    let detail = format!("\"{field}\" may come from the settings and the file provider only; {instead}");
    Diagnostic::error(id.clone(), Reason::OperatorOnly, origin, detail).on(field)
}

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

    if let Some(split) = split {
        reading.not_yet("split");
        if split.is_empty() {
            reading.invalid("split", "a split names at least one service");
        }
    }
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
        .map(|(host, path)| RouteMatch { host: host.clone(), path: path.clone(), unread: Clone::clone(&unread) })
        .collect();
    Ok(Route {
        origin: origin_of(tree),
        replica: author.replica.clone(),
        created: author.created,
        matches,
        guessed,
        listeners,
        priority: priority.unwrap_or(0),
        middlewares: middlewares.unwrap_or_default(),
        service: service.unwrap_or_else(|| NameRef::new(&reading.id.name)),
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

/// A map made of labels stands nowhere in particular; its first field does.
fn origin_of(tree: &Tree) -> Origin {
    tree.origin.clone()
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

/// The fields of a service that any provider reads alike. Endpoints are the caller's to fill in.
pub fn service(name: &str, tree: &Tree, author: &Author, findings: &mut Vec<Diagnostic>) -> (ServiceSpec, Service) {
    let mut reading = Reading::<ServiceSpec>::of(author.id(Kind::Service, name), tree, findings);
    let spec = std::mem::take(&mut reading.spec);
    let ServiceSpec {
        endpoints,
        port: _,
        scheme,
        network: _,
        address: _,
        balance,
        health,
        retry,
        timeouts,
        sticky,
        tls,
    } = &spec;
    if endpoints.is_some() && !author.is_operator() {
        let instead = "a container's own address is found by itself; give the port with port:";
        let diagnostic = operator_only(&reading.id, tree, "endpoints", instead);
        reading.deny(diagnostic);
    }
    if scheme.is_some_and(|scheme| scheme != Scheme::Http) {
        reading.not_yet("scheme");
    }
    if let Some(tls) = tls {
        reading.not_yet("tls");
        if tls.insecure_skip_verify.is_some() && !author.is_operator() {
            let instead = "trust the endpoint's CA by a bundle instead";
            let mut diagnostic = operator_only(&reading.id, tree, "tls", instead);
            diagnostic.field = Some("tls.insecure_skip_verify".into());
            reading.deny(diagnostic);
        }
    }
    for (field, given) in [
        ("balance", balance.is_some_and(|b| b != crate::model::schema::BalanceSpec::RoundRobin)),
        ("health", health.is_some()),
        ("retry", retry.is_some()),
        ("timeouts", timeouts.is_some()),
        ("sticky", sticky.is_some()),
    ] {
        if given {
            reading.passed_over(field);
        }
    }
    let service = Service {
        origin: tree.origin.clone(),
        replica: author.replica.clone(),
        created: author.created,
        endpoints: Vec::new(),
        denied: reading.denied,
        absent: None,
        id: reading.id,
    };
    (spec, service)
}

/// Endpoints that the operator wrote as URLs.
fn written_endpoints(spec: &ServiceSpec, service: &mut Service, tree: &Tree, findings: &mut Vec<Diagnostic>) {
    for (field, given) in
        [("port", spec.port.is_some()), ("network", spec.network.is_some()), ("address", spec.address.is_some())]
    {
        if given {
            let origin = tree.field(field).unwrap_or(tree).origin.clone();
            let detail =
                format!("\"{field}\" is for containers; here the endpoints say it, as in http://10.0.0.7:8080");
            let diagnostic = Diagnostic::error(service.id.clone(), Reason::Invalid, origin, detail).on(field);
            service.denied.get_or_insert_with(|| Denial::of(&diagnostic));
            findings.push(diagnostic);
        }
    }
    let Some(urls) = &spec.endpoints else {
        let detail = "the service has no endpoints; write endpoints: [\"http://10.0.0.7:8080\"]";
        findings.push(
            Diagnostic::error(service.id.clone(), Reason::Invalid, service.origin.clone(), detail).on("endpoints"),
        );
        service.denied.get_or_insert_with(|| Denial::new(Reason::Invalid, detail));
        return;
    };
    for url in urls {
        match endpoint(url) {
            Ok(endpoint) => service.endpoints.push(endpoint),
            Err((reason, why)) => {
                let origin = tree.field("endpoints").unwrap_or(tree).origin.clone();
                let diagnostic = Diagnostic::error(service.id.clone(), reason, origin, why).on("endpoints");
                service.denied.get_or_insert_with(|| Denial::of(&diagnostic));
                findings.push(diagnostic);
            }
        }
    }
}

fn endpoint(url: &str) -> Result<Endpoint, (Reason, String)> {
    let shape = "write it like http://10.0.0.7:8080";
    let invalid = |why: &str| (Reason::Invalid, format!("\"{url}\" is no endpoint: {why}; {shape}"));
    let uri: http::Uri = url.parse().map_err(|_| invalid("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https" | "h2c" | "h2") => {
            return Err((Reason::NotSupportedYet, format!("\"{url}\": only http:// endpoints are built so far")));
        }
        _ => return Err(invalid("its scheme is not http")),
    }
    if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
        return Err(invalid("it has a path; a middleware changes paths"));
    }
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(80);
    match host.trim_matches(['[', ']']).parse() {
        Ok(ip) => Ok(Endpoint { address: SocketAddr::new(ip, port), name: url.into() }),
        Err(_) => {
            let why = format!("\"{url}\": endpoints by DNS name are not built yet; write the address");
            Err((Reason::NotSupportedYet, why))
        }
    }
}

fn middleware(name: &str, tree: &Tree, author: &Author, findings: &mut Vec<Diagnostic>) -> Middleware {
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

fn certificate(name: &str, tree: &Tree, author: &Author, findings: &mut Vec<Diagnostic>) -> Option<Certificate> {
    let mut reading = Reading::<CertificateSpec>::of(author.id(Kind::Certificate, name), tree, findings);
    let CertificateSpec { cert_file, key_file } = std::mem::take(&mut reading.spec);
    if !author.is_operator() {
        for field in ["cert_file", "key_file"] {
            if tree.field(field).is_some() {
                let diagnostic =
                    operator_only(&reading.id, tree, field, "name a certificate of the operator's instead");
                reading.deny(diagnostic);
            }
        }
    } else {
        for (field, given) in [("cert_file", cert_file.is_some()), ("key_file", key_file.is_some())] {
            if !given && !reading.is_broken(field) {
                reading.invalid(field, format!("a certificate needs \"{field}\", a PEM file"));
            }
        }
    }
    Some(Certificate {
        origin: tree.origin.clone(),
        cert_file: cert_file.unwrap_or_default().into(),
        key_file: key_file.unwrap_or_default().into(),
        denied: reading.denied,
        id: reading.id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;
    use crate::model::id::Provider;

    fn lowered(provider: Provider, text: &str) -> Snapshot {
        let tree = yaml::parse(&"f.yaml".into(), text).expect("valid YAML");
        let author = Author { source: Source::new(provider, None), created: Timestamp::UNIX_EPOCH, replica: None };
        document(&tree, &author)
    }

    fn reasons(snapshot: &Snapshot) -> Vec<Reason> {
        snapshot.findings.iter().map(|finding| finding.reason).collect()
    }

    #[test]
    fn a_misspelt_field_denies_its_route_where_it_stands() {
        let snapshot = lowered(Provider::File, "routes: { shop: { host: a.example, path: /x, mlts: partners } }");
        let route = &snapshot.routes[0];
        assert_eq!(route.denied.as_ref().map(|d| d.reason), Some(Reason::Invalid));
        assert_eq!(route.matches[0].to_string(), "a.example/x");
        assert_eq!(reasons(&snapshot), [Reason::UnknownField]);
    }

    #[test]
    fn a_policy_is_never_passed_over() {
        let snapshot = lowered(Provider::File, "routes: { shop: { host: a.example, mtls: partners } }");
        assert_eq!(snapshot.routes[0].denied.as_ref().map(|d| d.reason), Some(Reason::NotSupportedYet));
        assert!(snapshot.routes[0].mtls.is_some());
        let snapshot = lowered(Provider::File, "routes: { shop: { host: a.example, mtls: [a, b] } }");
        assert!(snapshot.routes[0].mtls.is_some(), "an unreadable policy is one all the same");
        assert_eq!(snapshot.routes[0].denied.as_ref().map(|d| d.reason), Some(Reason::Invalid));
    }

    #[test]
    fn predicates_that_are_not_built_close_what_they_might_have_chosen() {
        let snapshot = lowered(Provider::File, "routes: { shop: { host: a.example, methods: [POST] } }");
        assert_eq!(snapshot.routes[0].matches[0].to_string(), "a.example/ [methods=POST]");
        let rule = "routes: { shop: { rule: \"Host(`a.example`) && !Host(\\\"b.example\\\")\" } }";
        let hosts: Vec<String> =
            lowered(Provider::File, rule).routes[0].matches.iter().map(|m| m.host.to_string()).collect();
        assert_eq!(hosts, ["a.example", "b.example"]);
    }

    #[test]
    fn unreadable_matches_close_the_hosts_that_can_be_read() {
        let snapshot = lowered(Provider::File, "routes: { shop: { hosts: [a.example, 'b c'], path: /x } }");
        assert!(snapshot.routes[0].guessed);
        assert_eq!(snapshot.routes[0].matches[0].to_string(), "a.example/");
        let snapshot = lowered(Provider::File, "routes: { shop: { host: 'b c' } }");
        assert!(snapshot.routes.is_empty());
        assert_eq!(reasons(&snapshot), [Reason::Invalid]);
    }

    #[test]
    fn what_touches_the_proxy_itself_is_the_operators_alone() {
        let text = "services: { s: { endpoints: ['http://10.0.0.1:80'] } }\ncertificates: { c: { cert_file: /c, key_file: /k } }\n\
                    trust_bundles: { t: { file: /t } }";
        assert_eq!(
            reasons(&lowered(Provider::Api, text)),
            [Reason::OperatorOnly, Reason::OperatorOnly, Reason::OperatorOnly, Reason::OperatorOnly]
        );
        assert!(lowered(Provider::Settings, text).findings.is_empty());
    }

    #[test]
    fn only_five_fields_are_passed_over() {
        let text = "services: { s: { endpoints: ['http://10.0.0.1:80'], balance: random, health: {}, retry: {}, \
                    timeouts: {}, sticky: {} } }";
        let snapshot = lowered(Provider::File, text);
        assert_eq!(snapshot.services[0].denied, None);
        assert_eq!(reasons(&snapshot), [Reason::NotSupportedYet; 5]);
        let text = "services: { s: { endpoints: ['http://10.0.0.1:80'], scheme: h2c } }";
        assert!(lowered(Provider::File, text).services[0].denied.is_some());
    }

    #[test]
    fn endpoints_are_addresses() {
        for (url, reason) in [
            ("http://kuard:8080", Reason::NotSupportedYet),
            ("https://10.0.0.1", Reason::NotSupportedYet),
            ("10.0.0.1:80", Reason::Invalid),
            ("http://10.0.0.1/x", Reason::Invalid),
        ] {
            assert_eq!(endpoint(url).expect_err(url).0, reason, "{url}");
        }
        assert_eq!(endpoint("http://[::1]:8080").expect("valid").address.to_string(), "[::1]:8080");
    }
}
