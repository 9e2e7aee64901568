//! The golden cases of translation: `tests/golden/docker/<case>/in.yaml` must give `out.yaml`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use bollard::models::{EventActor, EventMessage, EventMessageTypeEnum};
use serde::Deserialize;
use tokio::time::Instant;

use crate::config::settings::DockerSettings;
use crate::config::{read, yaml};
use crate::golden;
use crate::model::Provider;
use crate::model::diagnostic::{Denial, Diagnostic};
use crate::model::id::Source;
use crate::model::middleware::MiddlewareKind;
use crate::model::service::{Endpoint, Phase, Traffic};
use crate::model::snapshot::Snapshot;
use crate::provider::lower::{self, Author};

use super::departures::Departures;
use super::event::Event;
use super::objects::{Container, Surroundings};
use super::translate::translate;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Case {
    settings: DockerSettings,
    surroundings: Surroundings,
    containers: Vec<Container>,
    /// What the engine told after it listed them, in this order.
    events: Vec<Told>,
    /// Seconds after the list at which it is looked at.
    at: u64,
}

/// An event by the name that the engine gives it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Told {
    /// Seconds after the list.
    at: u64,
    /// `container` where nothing is said.
    kind: String,
    action: String,
    /// The container's id.
    container: String,
    attributes: BTreeMap<String, String>,
}

#[test]
fn every_golden_case_translates_to_its_output() {
    golden::check("docker", 15, |input, reversed| printed(&translated(input, reversed)));
}

/// What every case translates to.
pub fn snapshots() -> Vec<Snapshot> {
    golden::cases("docker").iter().map(|case| translated(&case.join("in.yaml"), false)).collect()
}

/// One schema, several spellings.
#[test]
fn a_file_says_the_same_as_labels() {
    let middlewares = |snapshot: &Snapshot| -> BTreeMap<String, MiddlewareKind> {
        snapshot.middlewares.iter().map(|one| (one.id.name.to_string(), one.kind.clone())).collect()
    };
    let (filed, labelled) = spelt_twice("middlewares");
    assert_eq!(middlewares(&labelled).len(), 5);
    assert_eq!(middlewares(&filed), middlewares(&labelled));

    let policies = |snapshot: &Snapshot| -> BTreeMap<String, String> {
        let policies = snapshot
            .policies
            .iter()
            .map(|p| (&p.id.name, format!("{:?}", (&p.rules, &p.trust, &p.revoked, &p.denied))));
        let bundles = snapshot.bundles.iter().map(|b| (&b.id.name, format!("{:?}", (&b.from, &b.denied))));
        let lists = snapshot.revocations.iter().map(|r| (&r.id.name, format!("{:?}", (&r.from, r.stale, &r.denied))));
        policies.chain(bundles).chain(lists).map(|(name, said)| (name.to_string(), said)).collect()
    };
    let (filed, labelled) = spelt_twice("mtls");
    assert_eq!(policies(&labelled).len(), 8);
    assert_eq!(policies(&filed), policies(&labelled));
}

/// What a case's file says, and what its labels do.
fn spelt_twice(case: &str) -> (Snapshot, Snapshot) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/docker").join(case);
    let path = case.join("file.yaml");
    let text = std::fs::read_to_string(&path).expect("readable");
    let tree = yaml::parse(&path.display().to_string().into(), &text).expect("valid YAML");
    let source = Source::new(Provider::File, None);
    let document = lower::document(&tree, &Author { source, created: jiff::Timestamp::UNIX_EPOCH, replica: None });
    assert_eq!(document.findings, []);
    (document, translated(&case.join("in.yaml"), false))
}

fn translated(path: &Path, reversed: bool) -> Snapshot {
    let text = std::fs::read_to_string(path).expect("readable");
    let tree =
        yaml::parse(&path.display().to_string().into(), &text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut case: Case = read::strict(&tree).unwrap_or_else(|fault| panic!("{fault}"));
    if reversed {
        case.containers.reverse();
        case.surroundings.networks.reverse();
    }
    let list = Instant::now();
    let mut departures = Departures::default();
    for told in &case.events {
        let Event::Container { id, change } = Event::read(&message(told)) else {
            panic!("{}: {} tells nothing by itself", path.display(), told.action)
        };
        departures.hear(&id, &change, list + Duration::from_secs(told.at));
    }
    departures.lay_over(&mut case.containers, list + Duration::from_secs(case.at));
    translate(&case.containers, &case.surroundings, &case.settings)
}

fn message(told: &Told) -> EventMessage {
    let mut attributes: HashMap<String, String> = told.attributes.clone().into_iter().collect();
    let is_network = told.kind == "network";
    if is_network {
        attributes.insert("container".into(), told.container.clone());
    }
    let actor = EventActor { id: Some(told.container.clone()), attributes: Some(attributes) };
    EventMessage {
        typ: Some(if is_network { EventMessageTypeEnum::NETWORK } else { EventMessageTypeEnum::CONTAINER }),
        action: Some(told.action.clone()),
        actor: Some(actor),
        ..EventMessage::default()
    }
}

/// What a reader of the case wants to know of each object, one YAML line per fact.
pub fn printed(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    let mut section = |name: &str, objects: Vec<Vec<(&str, Option<String>)>>| {
        if objects.is_empty() {
            return;
        }
        let _ = writeln!(out, "{name}:");
        for object in objects {
            let mut mark = '-';
            for (key, value) in object {
                let Some(value) = value else { continue };
                let _ = writeln!(out, "{mark} {key}: {}", serde_json::Value::String(value));
                mark = ' ';
            }
        }
    };
    section(
        "routes",
        snapshot
            .routes
            .iter()
            .map(|route| {
                let matches: Vec<String> = route.matches.iter().map(ToString::to_string).collect();
                vec![
                    ("id", Some(route.id.to_string())),
                    ("origin", Some(route.origin.to_string())),
                    (
                        "replica",
                        route.replica.as_ref().map(|r| format!("{} of {}, {}", r.container, r.service, r.created)),
                    ),
                    ("matches", Some(matches.join(" "))),
                    ("guessed", route.guessed.then(|| "true".into())),
                    ("service", Some(route.backend.to_string())),
                    ("priority", (route.priority != 0).then(|| route.priority.to_string())),
                    ("listeners", route.listeners.as_ref().map(|names| join(names))),
                    ("use", (!route.middlewares.is_empty()).then(|| join(&route.middlewares))),
                    ("mtls", route.mtls.first().map(ToString::to_string)),
                    ("denied", denial(&route.denied)),
                ]
            })
            .collect(),
    );
    section(
        "services",
        snapshot
            .services
            .iter()
            .map(|service| {
                let weight = |weight: u32| if weight == 1 { String::new() } else { format!(" x{weight}") };
                let endpoint = |e: &Endpoint| match e.phase {
                    Phase::Ready => format!("{} ({}){}", e.address, e.name, weight(e.weight)),
                    Phase::Draining => format!("{} ({}, draining){}", e.address, e.name, weight(e.weight)),
                    Phase::Unhealthy => format!("{} ({}, unhealthy){}", e.address, e.name, weight(e.weight)),
                };
                let endpoints: Vec<String> = service.endpoints.iter().map(endpoint).collect();
                let traffic = (service.traffic != Traffic::default())
                    .then(|| serde_json::to_string(&service.traffic).expect("serialises"));
                vec![
                    ("id", Some(service.id.to_string())),
                    ("replica", service.replica.as_ref().map(|replica| replica.container.to_string())),
                    ("endpoints", Some(endpoints.join(" "))),
                    ("running", (!service.running).then(|| "false".into())),
                    ("traffic", traffic),
                    ("denied", denial(&service.denied)),
                    ("absent", denial(&service.absent)),
                ]
            })
            .collect(),
    );
    section(
        "middlewares",
        snapshot
            .middlewares
            .iter()
            .map(|middleware| {
                let kind = serde_json::to_string(&middleware.kind).expect("plain data");
                vec![
                    ("id", Some(middleware.id.to_string())),
                    ("kind", (middleware.kind != MiddlewareKind::Unusable).then_some(kind)),
                    ("denied", denial(&middleware.denied)),
                ]
            })
            .collect(),
    );
    section("unbuilt", snapshot.unbuilt.iter().map(|id| vec![("id", Some(id.to_string()))]).collect());
    section("findings", snapshot.findings.iter().map(finding).collect());
    if out.is_empty() { "nothing: true\n".into() } else { out }
}

fn finding(finding: &Diagnostic) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("subject", Some(finding.subject.to_string())),
        ("reason", Some(format!("{} ({:?})", finding.reason, finding.severity).to_string())),
        ("field", finding.field.as_ref().map(ToString::to_string)),
        ("origin", Some(finding.origin.to_string())),
        ("detail", Some(finding.detail.clone())),
    ]
}

fn denial(denial: &Option<Denial>) -> Option<String> {
    denial.as_ref().map(|denial| format!("{}: {}", denial.reason, denial.detail))
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
