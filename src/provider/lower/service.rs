//! Services: what any provider reads alike, and the endpoints that the operator writes as URLs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::config::tree::Tree;
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::id::Kind;
use crate::model::schema::{Scheme, ServiceSpec};
use crate::model::service::{Endpoint, NamedEndpoint, Service, UpstreamTls};

use super::Author;
use super::reading::{Reading, operator_only};
use super::traffic::traffic;
use super::upstream_tls::upstream_tls;

const NOT_SECURE: &str = "\"tls\" is for endpoints that are spoken to over TLS: scheme https or h2";

/// A service as far as any provider reads it alike. Endpoints are the caller's to fill in.
#[derive(Debug)]
pub struct Lowered {
    pub spec: ServiceSpec,
    /// Of every endpoint that is spoken to over TLS.
    pub tls: Option<Arc<UpstreamTls>>,
    pub service: Service,
}

/// The fields of a service that any provider reads alike.
pub fn service(name: &str, tree: &Tree, author: &Author, findings: &mut Vec<Diagnostic>) -> Lowered {
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
    let tls = tls.as_ref().map(|tls| Arc::new(upstream_tls(&mut reading, tls, tree, author)));
    if tls.is_some() && endpoints.is_none() && !scheme.unwrap_or_default().is_secure() {
        reading.invalid("tls", NOT_SECURE);
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
    Lowered { spec, tls, service }
}

/// Endpoints that the operator wrote as URLs.
pub(super) fn written_endpoints(lowered: Lowered, tree: &Tree, findings: &mut Vec<Diagnostic>) -> Service {
    let Lowered { spec, tls, mut service } = lowered;
    let mut close = |service: &mut Service, field: &str, reason: Reason, detail: String| {
        let origin = tree.field(field).unwrap_or(tree).origin.clone();
        let diagnostic = Diagnostic::error(service.id.clone(), reason, origin, detail).on(field);
        service.denied.get_or_insert_with(|| Denial::of(&diagnostic));
        findings.push(diagnostic);
    };
    for (field, given) in
        [("port", spec.port.is_some()), ("network", spec.network.is_some()), ("address", spec.address.is_some())]
    {
        if given {
            let detail = "is for containers; here the endpoints say it, as in http://10.0.0.7:8080";
            close(&mut service, field, Reason::Invalid, format!("\"{field}\" {detail}"));
        }
    }
    if spec.weight.is_some() {
        let detail = "\"weight\" is for containers; here it is weights: { \"http://10.0.0.7:8080\": 3 }";
        close(&mut service, "weight", Reason::Invalid, detail.into());
    }
    let Some(urls) = &spec.endpoints else {
        let detail = "the service has no endpoints; write endpoints: [\"http://10.0.0.7:8080\"]";
        close(&mut service, "endpoints", Reason::Invalid, detail.into());
        return service;
    };
    for url in urls {
        match endpoint(url, spec.scheme) {
            Ok(written) if tls.is_some() && !written.scheme().is_secure() => {
                let detail = format!("{NOT_SECURE}; \"{url}\" is not one of them");
                close(&mut service, "tls", Reason::Invalid, detail);
            }
            Ok(Written::Address(endpoint)) => service.endpoints.push(Endpoint { tls: tls.clone(), ..endpoint }),
            Ok(Written::Name(named)) => service.names.push(NamedEndpoint { tls: tls.clone(), ..named }),
            Err((reason, why)) => close(&mut service, "endpoints", reason, why),
        }
    }
    weigh(&spec, &mut service, tree, findings);
    service
}

/// Weights go by address or name: a URL may be spelt in more than one way.
fn weigh(spec: &ServiceSpec, service: &mut Service, tree: &Tree, findings: &mut Vec<Diagnostic>) {
    for (url, weight) in spec.weights.iter().flatten() {
        let weighed = match endpoint(url, spec.scheme) {
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

impl Written {
    fn scheme(&self) -> Scheme {
        match self {
            Written::Address(endpoint) => endpoint.scheme,
            Written::Name(named) => named.scheme,
        }
    }
}

/// `scheme` is the service's own word, which a URL may not contradict: `h2c` says more of `http://`, `h2` of `https://`.
pub(super) fn endpoint(url: &str, scheme: Option<Scheme>) -> Result<Written, (Reason, String)> {
    let shape = "write it like http://10.0.0.7:8080 or http://kuard:8080";
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
    if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
        return Err(invalid("it has a path; a middleware changes paths"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(invalid("it has a user"));
    }
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if spoken.is_secure() { 443 } else { 80 });
    if port == 0 {
        return Err(invalid("0 is no port"));
    }
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        let endpoint = Endpoint::new(SocketAddr::new(ip, port), url);
        return Ok(Written::Address(Endpoint { scheme: spoken, ..endpoint }));
    }
    if !is_name(host) {
        return Err(invalid("its host is neither an address nor a name"));
    }
    let host = host.to_ascii_lowercase().into();
    Ok(Written::Name(NamedEndpoint { host, port, weight: 1, url: url.into(), scheme: spoken, tls: None }))
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
