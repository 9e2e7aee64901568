//! Services: what any provider reads alike, and the endpoints that the operator writes as URLs.

use std::net::{IpAddr, SocketAddr};

use crate::config::tree::Tree;
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::id::Kind;
use crate::model::schema::{Scheme, ServiceSpec};
use crate::model::service::{Endpoint, NamedEndpoint, Service};

use super::Author;
use super::reading::{Reading, operator_only};
use super::traffic::traffic;

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
        balance: _,
        hash: _,
        weight: _,
        weights,
        health: _,
        ejection: _,
        retry: _,
        timeouts: _,
        sticky: _,
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
    if weights.is_some() && !author.is_operator() {
        reading.invalid("weights", "\"weights\" is for endpoints that are written; a container has one, weight:");
    }
    let traffic = traffic(&mut reading, &spec);
    let service = Service {
        origin: tree.origin.clone(),
        replica: author.replica.clone(),
        created: author.created,
        endpoints: Vec::new(),
        names: Vec::new(),
        traffic,
        running: author.is_operator(),
        denied: reading.denied,
        absent: None,
        id: reading.id,
    };
    (spec, service)
}

/// Endpoints that the operator wrote as URLs.
pub(super) fn written_endpoints(
    spec: &ServiceSpec,
    service: &mut Service,
    tree: &Tree,
    findings: &mut Vec<Diagnostic>,
) {
    let mut invalid = |service: &mut Service, field: &str, detail: String| {
        let origin = tree.field(field).unwrap_or(tree).origin.clone();
        let diagnostic = Diagnostic::error(service.id.clone(), Reason::Invalid, origin, detail).on(field);
        service.denied.get_or_insert_with(|| Denial::of(&diagnostic));
        findings.push(diagnostic);
    };
    for (field, given) in
        [("port", spec.port.is_some()), ("network", spec.network.is_some()), ("address", spec.address.is_some())]
    {
        if given {
            let detail = "is for containers; here the endpoints say it, as in http://10.0.0.7:8080";
            invalid(service, field, format!("\"{field}\" {detail}"));
        }
    }
    if spec.weight.is_some() {
        let detail = "\"weight\" is for containers; here it is weights: { \"http://10.0.0.7:8080\": 3 }";
        invalid(service, "weight", detail.into());
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
            Ok(Written::Address(endpoint)) => service.endpoints.push(endpoint),
            Ok(Written::Name(named)) => service.names.push(named),
            Err((reason, why)) => {
                let origin = tree.field("endpoints").unwrap_or(tree).origin.clone();
                let diagnostic = Diagnostic::error(service.id.clone(), reason, origin, why).on("endpoints");
                service.denied.get_or_insert_with(|| Denial::of(&diagnostic));
                findings.push(diagnostic);
            }
        }
    }
    weigh(spec, service, tree, findings);
}

/// Weights go by address or name: a URL may be spelt in more than one way.
fn weigh(spec: &ServiceSpec, service: &mut Service, tree: &Tree, findings: &mut Vec<Diagnostic>) {
    for (url, weight) in spec.weights.iter().flatten() {
        let weighed = match endpoint(url) {
            Ok(Written::Address(Endpoint { address, .. })) => {
                let named = service.endpoints.iter_mut().filter(|endpoint| endpoint.address == address);
                named.map(|endpoint| endpoint.weight = *weight).count()
            }
            Ok(Written::Name(NamedEndpoint { host, port, .. })) => {
                let named = service.names.iter_mut().filter(|named| (&named.host, named.port) == (&host, port));
                named.map(|named| named.weight = *weight).count()
            }
            Err(_) => 0,
        };
        if weighed == 0 && service.denied.is_none() {
            let origin = tree.field("weights").unwrap_or(tree).origin.clone();
            let detail = format!("\"{url}\" is none of the endpoints; weights name them as endpoints does");
            let diagnostic = Diagnostic::error(service.id.clone(), Reason::Invalid, origin, detail).on("weights");
            service.denied = Some(Denial::of(&diagnostic));
            findings.push(diagnostic);
        }
    }
}

/// What a URL names.
#[derive(Debug)]
pub(super) enum Written {
    Address(Endpoint),
    Name(NamedEndpoint),
}

pub(super) fn endpoint(url: &str) -> Result<Written, (Reason, String)> {
    let shape = "write it like http://10.0.0.7:8080 or http://kuard:8080";
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
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(invalid("it has a user"));
    }
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(80);
    if port == 0 {
        return Err(invalid("0 is no port"));
    }
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(Written::Address(Endpoint::new(SocketAddr::new(ip, port), url)));
    }
    if !is_name(host) {
        return Err(invalid("its host is neither an address nor a name"));
    }
    let host = host.to_ascii_lowercase().into();
    Ok(Written::Name(NamedEndpoint { host, port, weight: 1, url: url.into() }))
}

/// Labels of letters, digits, `-` and `_` (engines' own names have it), and a dot at the end where it is meant as it
/// stands (RFC 1035 §2.3.1). A last label of digits alone is an address that was misspelt.
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}
