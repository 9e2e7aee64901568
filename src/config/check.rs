//! What reads well and still cannot be: settings that contradict each other, or name what is not there or not built.

use super::layer::subject;
use super::listener;
use super::read::{self, Fault, What};
use super::settings::{Dialect, DockerSettings, EngineTlsSettings, InternalIssuerSettings, Settings, SwarmSettings};
use super::tree::Tree;
use crate::model::units::Span;
use crate::model::{Diagnostic, Kind, Listener, Name, Origin, Reason};

/// Renewed when two thirds of it are over, in whole seconds.
const SHORTEST_LEAF: Span = Span::seconds(2);

/// What the settings come to.
#[derive(Debug, Default)]
pub struct Verdict {
    pub listeners: Vec<Listener>,
    pub faults: Vec<Fault>,
    pub findings: Vec<Diagnostic>,
}

/// The settings under review, and the tree that knows where each value was written.
pub(super) struct Review<'s> {
    pub settings: &'s Settings,
    tree: &'s Tree,
    pub verdict: Verdict,
}

/// `objects` are the sections that stand beside the settings.
pub fn check(settings: &Settings, tree: &Tree, objects: &Tree) -> Verdict {
    let mut review = Review { settings, tree, verdict: Verdict::default() };
    listener::check(&mut review);
    admin(&mut review);
    issuers(&mut review);
    default_certificate(&mut review, objects);
    providers(&mut review);
    if !settings.claims.is_empty() {
        review.refuse(&["claims"], not_built("who may use what would not be enforced"));
    }
    review.verdict
}

pub(super) fn not_built(consequence: &str) -> String {
    format!("this is not built yet (NotSupportedYet), and without it {consequence}; leave it out")
}

impl Review<'_> {
    /// Of the value at a path, or of what comes nearest to it.
    pub fn origin(&self, path: &[&str]) -> Origin {
        self.tree.nearest(path).origin.clone()
    }

    pub fn refuse(&mut self, path: &[&str], why: impl Into<String>) {
        let origin = self.origin(path);
        let path = path.iter().map(|key| (*key).to_string()).collect();
        self.verdict.faults.push(Fault { path, origin, what: What::Invalid(why.into()) });
    }

    pub fn pass_over(&mut self, kind: Kind, name: &str, path: &[&str], detail: &str) {
        let diagnostic = Diagnostic::warning(subject(kind, name), Reason::NotSupportedYet, self.origin(path), detail);
        self.verdict.findings.push(diagnostic.on(path.join(".")));
    }
}

fn admin(review: &mut Review<'_>) {
    let address = review.settings.admin.address;
    if address.ip.is_none_or(|ip| !ip.is_loopback()) {
        let why = "the admin API has neither TLS nor rights yet, so that it listens on a loopback address only; \
                   write \"127.0.0.1:9180\"";
        review.refuse(&["admin", "address"], why);
    }
}

fn issuers(review: &mut Review<'_>) {
    let settings = review.settings;
    for (name, issuer) in &settings.issuers {
        let path = ["issuers", name.as_str()];
        match (&issuer.internal, &issuer.acme) {
            (_, Some(_)) => {
                review.refuse(&[path[0], path[1], "acme"], not_built("no certificate would come from it"));
            }
            (Some(internal), None) => internal_issuer(review, name, internal),
            (None, None) => review.refuse(&path, "an issuer is of one kind; write internal: {}"),
        }
    }
    let known: Vec<&str> = settings.issuers.keys().map(String::as_str).collect();
    for wanted in &settings.default_issuers {
        if !known.contains(&Name::normalised(wanted).as_str()) {
            review.refuse(&["default_issuers"], absent("issuer", wanted, &known));
        }
    }
}

fn internal_issuer(review: &mut Review<'_>, name: &str, internal: &InternalIssuerSettings) {
    let path = |field| ["issuers", name, "internal", field];
    let InternalIssuerSettings { ttl, intermediate_ttl, name_constraints, passphrase_file: _ } = internal;
    if *ttl < SHORTEST_LEAF {
        review.refuse(&path("ttl"), format!("a certificate needs a moment to be used; write {SHORTEST_LEAF} or more"));
    }
    if ttl.0.saturating_mul(2) > intermediate_ttl.0 {
        let least = Span(ttl.0.saturating_mul(2));
        let why = format!("no certificate outlives the intermediate that signs it; write twice ttl or more: {least}");
        review.refuse(&path("intermediate_ttl"), why);
    }
    for kind in name_constraints.empty_kinds() {
        let path = ["issuers", name, "internal", "name_constraints", kind];
        review.refuse(&path, "this names nothing that may be signed; write what may, or leave it out to permit all");
    }
}

/// With a file provider the name may also be one that comes from there.
fn default_certificate(review: &mut Review<'_>, objects: &Tree) {
    let Some(wanted) = &review.settings.default_certificate else { return };
    if review.settings.providers.file.is_some() {
        return;
    }
    let names: Vec<Name> = objects
        .field("certificates")
        .map_or(&[][..], Tree::entries)
        .iter()
        .map(|entry| Name::normalised(&entry.key))
        .collect();
    let known: Vec<&str> = names.iter().map(Name::as_str).collect();
    let bare = wanted.strip_suffix("@settings").unwrap_or(wanted);
    if !known.contains(&Name::normalised(bare).as_str()) {
        review.refuse(&["default_certificate"], absent("certificate", wanted, &known));
    }
}

fn absent(what: &str, wanted: &str, known: &[&str]) -> String {
    let hint = match (read::nearest(wanted, known), known) {
        (Some(near), _) => format!("did you mean \"{near}\"?"),
        (None, []) => format!("{what}s: has none"),
        (None, known) => format!("known are {}", known.join(", ")),
    };
    format!("there is no {what} \"{wanted}\"; {hint}")
}

fn providers(review: &mut Review<'_>) {
    let providers = &review.settings.providers;
    for (name, given) in [("kubernetes", providers.kubernetes.is_some()), ("api", providers.api.is_some())] {
        if given {
            review.pass_over(
                Kind::Provider,
                name,
                &["providers", name],
                "this provider is not built yet and does not run",
            );
        }
    }
    if let Some(docker) = &providers.docker {
        self::docker(review, docker);
    }
    if let Some(swarm) = &providers.swarm {
        self::swarm(review, swarm);
    }
}

fn docker(review: &mut Review<'_>, docker: &DockerSettings) {
    let DockerSettings { endpoint, network: _, expose: _, default_host: _, dialects, tls } = docker;
    engines(review, ["docker", "endpoint"], std::slice::from_ref(endpoint), tls.as_ref());
    let path = |field| ["providers", "docker", field];
    for dialect in dialects.iter().filter(|dialect| **dialect != Dialect::Portolan) {
        let detail = match dialect {
            Dialect::Traefik => "labels in Traefik's dialect are not read yet",
            Dialect::Caddy => "labels in Caddy's dialect are not read yet",
            Dialect::Portolan => continue,
        };
        review.pass_over(Kind::Provider, "docker", &path("dialects"), detail);
    }
}

fn swarm(review: &mut Review<'_>, swarm: &SwarmSettings) {
    let SwarmSettings { endpoints, network: _, expose: _, default_host: _, tls } = swarm;
    if endpoints.is_empty() {
        let why = "the list is empty; name a manager, like unix:///var/run/docker.sock";
        review.refuse(&["providers", "swarm", "endpoints"], why);
    }
    engines(review, ["swarm", "endpoints"], endpoints, tls.as_ref());
}

fn engines(
    review: &mut Review<'_>,
    [provider, field]: [&str; 2],
    endpoints: &[String],
    tls: Option<&EngineTlsSettings>,
) {
    let over_tcp = |endpoint: &String| {
        endpoint.strip_prefix("tcp://").is_some_and(|authority| {
            authority.parse::<http::uri::Authority>().is_ok_and(|authority| authority.port_u16().is_some())
        })
    };
    for endpoint in endpoints {
        if !over_tcp(endpoint) && endpoint.strip_prefix("unix://").is_none_or(str::is_empty) {
            let why = format!(
                "\"{endpoint}\" is no engine; write it like unix:///var/run/docker.sock or tcp://engine.example:2376"
            );
            review.refuse(&["providers", provider, field], why);
        }
    }
    let Some(tls) = tls else { return };
    for (name, file) in [("ca_file", &tls.ca_file), ("cert_file", &tls.cert_file), ("key_file", &tls.key_file)] {
        if file.as_os_str().is_empty() {
            let why = format!("\"{name}\" is missing; an engine over TLS takes ca_file, cert_file and key_file");
            review.refuse(&["providers", provider, "tls", name], why);
        }
    }
    if !endpoints.iter().any(over_tcp) {
        let why = "TLS is for a tcp:// endpoint; this one is a socket on this machine";
        review.refuse(&["providers", provider, "tls"], why);
    }
}
