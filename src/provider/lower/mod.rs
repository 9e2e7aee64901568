//! From the schema as users spell it to the typed objects of `model`: one place for settings, files, labels and the API.
//!
//! ```text
//! Tree (one object) ──read::lenient──▶ RouteSpec ──lower──▶ Route + Diagnostics
//! ```
//! Nothing is dropped: a field that is wrong, reserved to the operator or not built yet denies the object that needs it
//! and says so. Only `health` is passed over.

mod certificate;
mod middleware;
mod reading;
mod route;
mod service;
mod traffic;

use jiff::Timestamp;

use crate::config::read;
use crate::config::tree::{Node, Tree, snake_case};
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::id::{Kind, Name, ObjectId, Source};
use crate::model::route::Replica;
use crate::model::schema::TrustBundleSpec;
use crate::model::snapshot::Snapshot;

use certificate::certificate;
use middleware::middleware;
use reading::{Reading, operator_only};
use service::written_endpoints;

pub use crate::model::schema::SECTIONS;
pub use route::route;
pub use service::service;

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
    fn only_health_is_passed_over() {
        let text = "services: { s: { endpoints: ['http://10.0.0.1:80'], balance: random, health: {}, retry: {}, \
                    timeouts: {}, sticky: {} } }";
        let snapshot = lowered(Provider::File, text);
        assert_eq!(snapshot.services[0].denied, None);
        assert_eq!(reasons(&snapshot), [Reason::NotSupportedYet]);
        let text = "services: { s: { endpoints: ['http://10.0.0.1:80'], scheme: h2c } }";
        assert!(lowered(Provider::File, text).services[0].denied.is_some());
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
    fn endpoints_are_addresses() {
        for (url, reason) in [
            ("http://kuard:8080", Reason::NotSupportedYet),
            ("https://10.0.0.1", Reason::NotSupportedYet),
            ("10.0.0.1:80", Reason::Invalid),
            ("http://10.0.0.1/x", Reason::Invalid),
        ] {
            assert_eq!(service::endpoint(url).expect_err(url).0, reason, "{url}");
        }
        assert_eq!(service::endpoint("http://[::1]:8080").expect("valid").address.to_string(), "[::1]:8080");
    }
}
