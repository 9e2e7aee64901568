//! From the schema as users spell it to the typed objects of `model`: one place for settings, files, labels and the API.
//!
//! ```text
//! Tree (one object) ──read::lenient──▶ RouteSpec ──lower──▶ Route + Diagnostics
//! ```
//! Nothing is dropped: a field that is wrong, reserved to the operator or not built yet denies the object that needs it
//! and says so.

mod certificate;
mod health;
mod middleware;
mod mtls;
mod narrow;
mod reading;
mod route;
mod service;
mod traffic;
mod trust;
mod upstream_tls;

use jiff::Timestamp;

use crate::config::read;
use crate::config::tree::{Node, Tree, snake_case};
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::id::{Kind, Name, ObjectId, Source};
use crate::model::route::Replica;
use crate::model::snapshot::Snapshot;

use certificate::certificate;
use middleware::middleware;
use service::written_endpoints;

pub use crate::model::schema::SECTIONS;
pub use route::route;
pub use service::{Lowered, service};

/// Who wrote the objects.
#[derive(Debug, Clone)]
pub struct Author {
    pub source: Source,
    pub created: Timestamp,
    pub replica: Option<Replica>,
}

impl Author {
    pub(super) fn id(&self, kind: Kind, name: &str) -> ObjectId {
        ObjectId::new(&self.source, kind, Name::normalised(name).shared())
    }

    pub(super) fn is_operator(&self) -> bool {
        self.source.is_operator()
    }
}

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
            let lowered = service(name, tree, author, findings);
            snapshot.services.push(written_endpoints(lowered, tree, findings));
        }
        Kind::Middleware => snapshot.middlewares.push(middleware(name, tree, author, findings)),
        Kind::Certificate => snapshot.certificates.extend(certificate(name, tree, author, findings)),
        Kind::MtlsPolicy => snapshot.policies.push(mtls::policy(name, tree, author, findings)),
        Kind::TrustBundle => snapshot.bundles.push(trust::bundle(name, tree, author, findings)),
        Kind::Revocation => snapshot.revocations.push(trust::revocation(name, tree, author, findings)),
        _ => {
            let subject = author.id(kind, name);
            let detail = format!("{} objects are not built yet; a route that needs this one is denied", kind.as_str());
            findings.push(Diagnostic::warning(subject.clone(), Reason::NotSupportedYet, tree.origin.clone(), detail));
            snapshot.unbuilt.push(subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;
    use crate::model::id::Provider;
    use crate::model::service::{ClientCertificate, Service};

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
        assert_eq!(snapshot.routes[0].denied, None);
        assert_eq!(snapshot.routes[0].mtls.len(), 1);
        let snapshot = lowered(Provider::File, "routes: { shop: { host: a.example, mtls: [a, b] } }");
        assert!(!snapshot.routes[0].mtls.is_empty(), "an unreadable policy is one all the same");
        assert_eq!(snapshot.routes[0].denied.as_ref().map(|d| d.reason), Some(Reason::Invalid));
    }

    fn matches(text: &str) -> (Vec<String>, Vec<Reason>) {
        let snapshot = lowered(Provider::File, &format!("routes: {{ shop: {{ {text} }} }}"));
        let shown = snapshot.routes.iter().flat_map(|route| &route.matches).map(ToString::to_string).collect();
        assert!(snapshot.routes.iter().all(|route| route.denied.is_some() != snapshot.findings.is_empty()), "{text}");
        (shown, reasons(&snapshot))
    }

    #[test]
    fn every_field_narrows_every_match() {
        for (text, expected) in [
            ("host: a, methods: [post, ' GET']", "a/ [method=GET,POST]"),
            (
                "hosts: [a, b], path: /x, headers: { X-Env: beta, b: C }",
                "a/x [header b=C] [header x-env=beta];b/x [header b=C] [header x-env=beta]",
            ),
            ("host: a, query: { v: '2', Debug: '' }", "a/ [query Debug=] [query v=2]"),
            ("host: a, clients: [10.1.2.3/8, 10.9.0.0/16, '::1']", "a/ [client=10.0.0.0/8,::1/128]"),
            ("host: a, path_regex: /x|/y", "a/ [path~^(?:/x|/y)$]"),
            ("host: a, headers: {}", "a/"),
            ("rule: \"Host(`a`) || Path(`/x`) && Method(`GET`)\"", "a/;*=/x [method=GET]"),
        ] {
            assert_eq!(matches(text), (expected.split(';').map(String::from).collect(), vec![]), "{text}");
        }
    }

    /// It keeps what could be read, so that it closes no more than it might have chosen, and ranks before a plain claim.
    #[test]
    fn a_field_that_cannot_be_read_closes_what_it_might_have_chosen() {
        for (text, expected) in [
            ("host: a, methods: []", "a/ [methods=]"),
            ("host: a, methods: ['G T']", "a/ [methods=G T]"),
            ("host: a, methods: { a: b }", "a/ [methods=a:b]"),
            ("host: a, methods: [GET], headers: { 'a b': c }", "a/ [method=GET] [headers=a b:c]"),
            ("host: a, headers: { Host: c }", "a/ [headers=Host:c]"),
            ("host: a, headers: { a: [b] }", "a/ [headers=a:b]"),
            ("host: a, query: { '': c }", "a/ [query=:c]"),
            ("host: a, clients: []", "a/ [clients=]"),
            ("host: a, clients: [10.0.0.0/8, shop]", "a/ [clients=10.0.0.0/8,shop]"),
            ("host: a, path: /x, clients: 10.0.0.0/8", "a/x [clients=10.0.0.0/8]"),
        ] {
            assert_eq!(matches(text), (vec![expected.into()], vec![Reason::Invalid]), "{text}");
        }
    }

    #[test]
    fn a_path_that_cannot_be_read_closes_its_hosts() {
        for text in ["path_regex: '('", "path_regex: 'a)(b'", "path_regex: /x, path: /y", "path: /y, path_regex: [a]"] {
            let snapshot = lowered(Provider::File, &format!("routes: {{ shop: {{ host: a, {text} }} }}"));
            let route = &snapshot.routes[0];
            assert!(route.guessed && route.denied.is_some(), "{text}");
            assert!(route.matches[0].to_string().starts_with("a/ [path_regex="), "{text}: {}", route.matches[0]);
        }
    }

    #[test]
    fn a_rule_that_cannot_be_read_closes_the_hosts_that_it_names() {
        let rule = "rule: \"Host(`a.example`) && !Host(`b.example`) && Frob(`/x`)\", priority: 3";
        let snapshot = lowered(Provider::Api, &format!("routes: {{ shop: {{ {rule} }} }}"));
        let route = &snapshot.routes[0];
        assert!(route.guessed && route.denied.as_ref().is_some_and(|denial| denial.reason == Reason::Invalid));
        assert!(route.matches.len() == 1 && route.matches[0].to_string().starts_with("a.example/ [rule=Host("));
        let said = &snapshot.findings[0];
        assert!(
            said.field.as_deref() == Some("rule") && said.detail.starts_with("at character 44 of the rule"),
            "{said}"
        );
        assert_eq!(matches("rule: 'Host(`a` && Host(`b`)'").0.len(), 2);
        assert_eq!(matches("rule: '!Host(`a`) &&'"), (vec![], vec![Reason::Invalid]));
    }

    /// The denial of a tenant's guess stands on hosts that it holds, and nobody but the operator holds any host.
    #[test]
    fn any_host_is_none_that_a_tenant_could_close() {
        for text in ["rule: 'Host(`*`) && Nope'", "host: '*', path: x", "host: '*', path_regex: '('"] {
            let text = format!("routes: {{ shop: {{ {text} }} }}");
            assert_eq!(lowered(Provider::Docker, &text).routes, [], "{text}");
            assert_eq!(lowered(Provider::File, &text).routes.len(), 1, "{text}");
        }
    }

    #[test]
    fn a_rule_stands_alone() {
        let rule = "rule: 'Host(`a`) && Path(`/x`)'";
        for (field, expected) in [
            ("host: b, path: /y", vec!["a=/x", "b/y"]),
            ("hosts: []", vec!["a=/x"]),
            ("methods: [GET]", vec!["a=/x"]),
            ("clients: ['::1']", vec!["a=/x"]),
            ("path_exact: /y", vec!["a=/x"]),
        ] {
            let (shown, reasons) = matches(&format!("{rule}, {field}"));
            assert_eq!(
                (shown, reasons),
                (expected.into_iter().map(String::from).collect(), vec![Reason::Invalid]),
                "{field}"
            );
        }
        assert_eq!(matches(&format!("{rule}, host: null")).1, []);
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
    fn an_endpoint_is_spoken_to_as_its_url_and_its_service_agree() {
        use crate::model::schema::Scheme;
        for (fields, expected) in [
            ("endpoints: ['http://10.0.0.1']", Some((Scheme::Http, 80))),
            ("endpoints: ['http://10.0.0.1'], scheme: h2c", Some((Scheme::H2c, 80))),
            ("endpoints: ['h2c://10.0.0.1']", Some((Scheme::H2c, 80))),
            ("endpoints: ['https://10.0.0.1']", Some((Scheme::Https, 443))),
            ("endpoints: ['https://10.0.0.1'], scheme: h2", Some((Scheme::H2, 443))),
            ("endpoints: ['h2://10.0.0.1:8443'], tls: {}", Some((Scheme::H2, 8443))),
            ("endpoints: ['http://10.0.0.1'], scheme: https", None),
            ("endpoints: ['http://10.0.0.1'], scheme: h2", None),
            ("endpoints: ['https://10.0.0.1'], scheme: http", None),
            ("endpoints: ['https://10.0.0.1'], scheme: h2c", None),
            ("endpoints: ['h2c://10.0.0.1'], scheme: http", None),
            ("endpoints: ['http://10.0.0.1'], tls: {}", None),
            ("endpoints: ['https://10.0.0.1', 'http://10.0.0.2'], tls: {}", None),
        ] {
            let snapshot = lowered(Provider::File, &format!("services: {{ s: {{ {fields} }} }}"));
            let service = &snapshot.services[0];
            let spoken = service.endpoints.first().map(|endpoint| (endpoint.scheme, endpoint.address.port()));
            let found = spoken.filter(|_| service.denied.is_none());
            assert_eq!(found, expected, "{fields}: {:?}", snapshot.findings);
            assert_eq!(expected.is_some(), snapshot.findings.is_empty(), "{fields}");
        }
    }

    #[test]
    fn what_a_certificate_is_checked_against_is_never_left_out() {
        let of = |provider, tls: &str| {
            let endpoints =
                if provider == Provider::File { "endpoints: ['https://10.0.0.1']," } else { "scheme: https," };
            let snapshot = lowered(provider, &format!("services: {{ s: {{ {endpoints} tls: {{ {tls} }} }} }}"));
            let fields: Vec<String> = snapshot
                .findings
                .iter()
                .map(|f| format!("{} {}", f.reason, f.field.as_deref().unwrap_or("")))
                .collect();
            (fields, snapshot.services[0].denied.is_some())
        };
        for fine in [
            "",
            "server_name: a.example",
            "server_name: 10.0.0.1",
            "trust: [a, b@file], issuer: corp",
            "sans: [a.example, 10.0.0.1, 'fd00::1', 'spiffe://td/a', 'urn:a:b']",
            "client: { certificate: c }",
            "client: { issuer: corp, uri: 'spiffe://td/a', dns: a.example }",
        ] {
            assert_eq!(of(Provider::File, fine), (vec![], false), "{fine}");
        }
        assert_eq!(of(Provider::File, "insecure_skip_verify: true"), (vec![], false));
        for (tls, said) in [
            ("server_name: 'a b'", "Invalid tls.server_name"),
            ("trust: []", "Invalid tls.trust"),
            ("insecure_skip_verify: true, issuer: corp", "Invalid tls.insecure_skip_verify"),
            ("sans: []", "Invalid tls.sans"),
            ("sans: ['a b']", "Invalid tls.sans"),
            ("sans: ['spiffe://td/*']", "Invalid tls.sans"),
            ("insecure_skip_verify: true, sans: [a]", "Invalid tls.insecure_skip_verify"),
            ("client: {}", "Invalid tls.client"),
            ("client: { issuer: corp, certificate: c }", "Invalid tls.client"),
            ("client: { certificate: c, uri: 'spiffe://td/a' }", "Invalid tls.client"),
            ("client: { issuer: corp, uri: a }", "Invalid tls.client.uri"),
            ("client: { issuer: corp, dns: 10.0.0.1 }", "Invalid tls.client.dns"),
        ] {
            assert_eq!(of(Provider::File, tls), (vec![said.to_string()], true), "{tls}");
        }
        for value in ["true", "false"] {
            let (said, denied) = of(Provider::Docker, &format!("insecure_skip_verify: {value}"));
            assert!(said.contains(&"OperatorOnly tls.insecure_skip_verify".to_string()) && denied, "{said:?}");
        }
        for (client, field) in [
            ("issuer: corp, uri: 'spiffe://td/admin'", "uri"),
            ("issuer: corp, dns: admin", "dns"),
            ("certificate: c", "certificate"),
        ] {
            let (said, denied) = of(Provider::Docker, &format!("client: {{ {client} }}"));
            assert!(said.contains(&format!("OperatorOnly tls.client.{field}")) && denied, "{said:?}");
        }
    }

    #[test]
    fn a_service_shows_a_certificate_in_its_own_name() {
        let shown = |provider| {
            let endpoints =
                if provider == Provider::File { "endpoints: ['https://10.0.0.1']," } else { "scheme: https," };
            let text = format!("services: {{ s: {{ {endpoints} tls: {{ client: {{ issuer: corp }} }} }} }}");
            let tree = yaml::parse(&"f.yaml".into(), &text).expect("valid YAML");
            let source = Source::new(provider, (provider == Provider::Docker).then(|| "shop".into()));
            let author = Author { source, created: Timestamp::UNIX_EPOCH, replica: None };
            let tree = tree.field("services").and_then(|services| services.field("s")).expect("a service");
            let lowered = service("s", tree, &author, &mut Vec::new());
            match lowered.tls.expect("tls").client.clone().expect("a client") {
                ClientCertificate::Issued { names, .. } => names.uri.expect("a URI").to_string(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(shown(Provider::Docker), "spiffe://corp/docker/shop/s");
        assert_eq!(shown(Provider::File), "spiffe://corp/file/s");
    }

    #[test]
    fn a_route_goes_to_one_service_or_to_a_split() {
        let backend = |fields: &str| {
            let text = format!("routes: {{ shop: {{ host: a.example, {fields} }} }}");
            let snapshot = lowered(Provider::File, &text);
            (snapshot.routes[0].backend.to_string(), snapshot.routes[0].denied.as_ref().map(|d| d.reason))
        };
        assert_eq!(backend(""), ("shop".into(), None));
        assert_eq!(backend("split: { shop: 90, shop-next: 0 }"), ("shop=90 shop-next=0".into(), None));
        for wrong in ["split: {}", "split: { a: 0, b: 0 }", "split: { a: 1 }, service: a", "split: { a: -1 }"] {
            assert_eq!(backend(wrong).1, Some(Reason::Invalid), "{wrong}");
        }
        assert_eq!(
            backend("split: [a], service: b").1,
            Some(Reason::Invalid),
            "an unreadable split is one all the same"
        );
    }

    #[test]
    fn endpoints_are_addresses_or_names() {
        for (url, reason) in [
            ("ftp://10.0.0.1", Reason::Invalid),
            ("10.0.0.1:80", Reason::Invalid),
            ("http://10.0.0.1/x", Reason::Invalid),
            ("http://user@10.0.0.1", Reason::Invalid),
            ("http://10.0.0.1:0", Reason::Invalid),
            ("http://a..b", Reason::Invalid),
            ("http://-a", Reason::Invalid),
            ("http://10.0.0.256", Reason::Invalid),
        ] {
            assert_eq!(service::endpoint(url, None).expect_err(url).0, reason, "{url}");
        }
        for (url, expected) in [
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://10.0.0.7", "10.0.0.7:80"),
            ("http://Kuard:8080", "kuard:8080"),
            ("http://my_app.internal.example./", "my_app.internal.example.:80"),
            ("https://kuard", "kuard:443"),
        ] {
            let written = match service::endpoint(url, None).expect(url) {
                service::Written::Address(endpoint) => endpoint.address.to_string(),
                service::Written::Name(named) => format!("{}:{}", named.host, named.port),
            };
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn a_name_is_an_endpoint_with_a_weight() {
        let text = "services: { s: { endpoints: ['http://10.0.0.1:80', 'http://kuard:8080'], balance: weighted, \
                    weights: { 'http://KUARD:8080': 3 } } }";
        let snapshot = lowered(Provider::File, text);
        assert_eq!(snapshot.findings, []);
        let Service { endpoints, names, .. } = &snapshot.services[0];
        assert_eq!((endpoints.len(), endpoints[0].weight), (1, 1));
        assert_eq!((&*names[0].host, names[0].port, names[0].weight), ("kuard", 8080, 3));
        assert_eq!(reasons(&lowered(Provider::Docker, text)), [Reason::OperatorOnly, Reason::Invalid]);
    }
}
