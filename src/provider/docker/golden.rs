//! The golden cases of translation: `tests/golden/docker/<case>/in.yaml` must give `out.yaml`.

use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;

use crate::config::settings::DockerSettings;
use crate::config::{read, yaml};
use crate::golden;
use crate::model::diagnostic::{Denial, Diagnostic};
use crate::model::snapshot::Snapshot;

use super::objects::{Container, Surroundings};
use super::translate::translate;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Case {
    settings: DockerSettings,
    surroundings: Surroundings,
    containers: Vec<Container>,
}

#[test]
fn every_golden_case_translates_to_its_output() {
    golden::check("docker", 15, |input, reversed| printed(&translated(input, reversed)));
}

/// What every case translates to.
pub fn snapshots() -> Vec<Snapshot> {
    golden::cases("docker").iter().map(|case| translated(&case.join("in.yaml"), false)).collect()
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
    translate(&case.containers, &case.surroundings, &case.settings)
}

/// What a reader of the case wants to know of each object, one YAML line per fact.
fn printed(snapshot: &Snapshot) -> String {
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
                    ("service", Some(route.service.to_string())),
                    ("priority", (route.priority != 0).then(|| route.priority.to_string())),
                    ("listeners", route.listeners.as_ref().map(|names| join(names))),
                    ("use", (!route.middlewares.is_empty()).then(|| join(&route.middlewares))),
                    ("mtls", route.mtls.as_ref().map(ToString::to_string)),
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
                let endpoints: Vec<String> =
                    service.endpoints.iter().map(|e| format!("{} ({})", e.address, e.name)).collect();
                vec![
                    ("id", Some(service.id.to_string())),
                    ("replica", service.replica.as_ref().map(|replica| replica.container.to_string())),
                    ("endpoints", Some(endpoints.join(" "))),
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
            .map(|middleware| vec![("id", Some(middleware.id.to_string())), ("denied", denial(&middleware.denied))])
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
