//! Services: what any provider reads alike, and the endpoints that the operator writes as URLs.

use std::net::SocketAddr;

use crate::config::tree::Tree;
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::id::Kind;
use crate::model::schema::{Scheme, ServiceSpec};
use crate::model::service::{Endpoint, Service};

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
        health,
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
    if scheme.is_some_and(Scheme::is_secure) {
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
    if health.is_some() {
        reading.passed_over("health");
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
        match endpoint(url, spec.scheme) {
            Ok(endpoint) => service.endpoints.push(endpoint),
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

/// Weights go by address: a URL may be spelt in more than one way.
fn weigh(spec: &ServiceSpec, service: &mut Service, tree: &Tree, findings: &mut Vec<Diagnostic>) {
    for (url, weight) in spec.weights.iter().flatten() {
        let address = endpoint(url, spec.scheme).ok().map(|endpoint| endpoint.address);
        let named = service.endpoints.iter_mut().filter(|endpoint| Some(endpoint.address) == address);
        let count = named.map(|endpoint| endpoint.weight = *weight).count();
        if count == 0 && service.denied.is_none() {
            let origin = tree.field("weights").unwrap_or(tree).origin.clone();
            let detail = format!("\"{url}\" is none of the endpoints; weights name them as endpoints does");
            let diagnostic = Diagnostic::error(service.id.clone(), Reason::Invalid, origin, detail).on("weights");
            service.denied = Some(Denial::of(&diagnostic));
            findings.push(diagnostic);
        }
    }
}

/// `scheme` is the service's own word, which a URL may not contradict: `h2c` says more of `http://`, `h2` of `https://`.
pub(super) fn endpoint(url: &str, scheme: Option<Scheme>) -> Result<Endpoint, (Reason, String)> {
    let shape = "write it like http://10.0.0.7:8080";
    let invalid = |why: &str| (Reason::Invalid, format!("\"{url}\" is no endpoint: {why}; {shape}"));
    let uri: http::Uri = url.parse().map_err(|_| invalid("it is not a URL"))?;
    let written = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("h2c") => Scheme::H2c,
        Some("https") => Scheme::Https,
        Some("h2") => Scheme::H2,
        _ => return Err(invalid("its scheme is none of http, h2c, https and h2")),
    };
    let spoken = match (written, scheme) {
        (written, None) => written,
        (Scheme::Http, Some(Scheme::H2c)) => Scheme::H2c,
        (Scheme::Https, Some(Scheme::H2)) => Scheme::H2,
        (written, Some(scheme)) if written == scheme => scheme,
        (_, Some(scheme)) => return Err(invalid(&format!("the service's scheme is {}", scheme.as_str()))),
    };
    if spoken.is_secure() {
        return Err((Reason::NotSupportedYet, format!("\"{url}\": TLS to endpoints is not built yet")));
    }
    if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
        return Err(invalid("it has a path; a middleware changes paths"));
    }
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if spoken.is_secure() { 443 } else { 80 });
    match host.trim_matches(['[', ']']).parse() {
        Ok(ip) => Ok(Endpoint { scheme: spoken, ..Endpoint::new(SocketAddr::new(ip, port), url) }),
        Err(_) => {
            let why = format!("\"{url}\": endpoints by DNS name are not built yet; write the address");
            Err((Reason::NotSupportedYet, why))
        }
    }
}
