//! From containers to the neutral vocabulary.
//!
//! ```text
//! Container ─Speaker─▶ Route, Service, …      address::reach ─▶ Endpoint | Absence
//! ```
//! Every container speaks for itself: replicas of one compose service emit the same ids, which `reconcile` unites. A
//! route lives from its container's creation until the last one is destroyed, with or without an endpoint; an endpoint
//! drains where its container was told to stop, or is unhealthy. Pure.

use crate::config::settings::{DockerSettings, Expose};
use crate::config::tree::Entry;
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::id::Provider;
use crate::model::schema::AddressMode;
use crate::model::service::{Endpoint, Service};
use crate::model::snapshot::Snapshot;
use crate::provider::labels::{self, Wearer};
use crate::provider::lower::{self, Lowered};
use crate::provider::speaker::{Speaker, Terms, refuse};

use super::address::{self, Reached, Wish};
use super::objects::{Container, Surroundings};

const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const SWARM_TASK: [&str; 2] = ["com.docker.swarm.task.id", "com.docker.swarm.service.id"];

/// Everything that the containers of one engine want. The order of `containers` does not matter.
pub fn translate(containers: &[Container], around: &Surroundings, settings: &DockerSettings) -> Snapshot {
    let mut sorted: Vec<&Container> = containers.iter().collect();
    sorted.sort_by_key(|container| (&container.name, &container.id));
    let mut snapshot = Snapshot::empty(Provider::Docker);
    for container in sorted {
        let speaker = speaker(container);
        if belongs_to_swarm(container) {
            snapshot.findings.extend(task_labels(container, &speaker));
            continue;
        }
        let own = around.own_container.as_ref();
        let terms = Terms {
            expose: settings.expose,
            default_host: &settings.default_host,
            is_self: own.is_some_and(|own| own.id == container.id),
        };
        let mut service = |object: &Entry, findings: &mut Vec<Diagnostic>| {
            self::service(&speaker, container, object, containers, around, settings, findings)
        };
        snapshot.absorb(speaker.speak(&terms, |_| {}, &mut service));
    }
    snapshot
}

fn belongs_to_swarm(container: &Container) -> bool {
    SWARM_TASK.iter().any(|label| container.labels.contains_key(*label))
}

/// Whether translation will need what only an inspect tells.
pub fn concerns(container: &Container, settings: &DockerSettings) -> bool {
    settings.expose == Expose::All || container.labels.keys().any(|key| key.starts_with(labels::PREFIX))
}

fn speaker(container: &Container) -> Speaker<'_> {
    let label = |key| container.labels.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let service = label(COMPOSE_SERVICE).unwrap_or(&container.name);
    let wearer = Wearer::Container(&container.name);
    Speaker::new(Provider::Docker, wearer, &container.labels, label(COMPOSE_PROJECT), service, container.created)
}

fn task_labels(container: &Container, speaker: &Speaker<'_>) -> Option<Diagnostic> {
    let key = container.labels.keys().find(|key| key.starts_with(labels::PREFIX))?;
    if !speaker.read().enable {
        return None;
    }
    let detail = "the container is a task of a Swarm service, whose labels are not read from the container; write them \
                  under deploy.labels of the service";
    Some(Diagnostic::warning(speaker.subject(), Reason::SwarmTask, speaker.wearer.label(key), detail))
}

fn service(
    speaker: &Speaker<'_>,
    container: &Container,
    object: &Entry,
    all: &[Container],
    around: &Surroundings,
    settings: &DockerSettings,
    findings: &mut Vec<Diagnostic>,
) -> Service {
    let Lowered { spec, tls, mut service } = lower::service(&object.key, &object.value, &speaker.author, findings);
    service.running = container.state.is_up();
    if spec.port == Some(0) {
        refuse(&mut service, &object.value, "port", "0 is no port", findings);
    }
    if spec.address == Some(AddressMode::Vip) {
        let detail = "only Swarm services have a virtual address; leave this out";
        refuse(&mut service, &object.value, "address", detail, findings);
    }
    let prefix = speaker.prefix(&object.key);
    let Some(wish) = Wish::of(&spec, object, settings.network.as_deref(), speaker.project, &prefix) else {
        service.absent = service.denied.clone();
        return service;
    };
    match address::reach(container, &wish, all, around) {
        Ok(Reached { address, phase, why }) => {
            let weight = spec.weight.unwrap_or(1);
            let name = container.name.as_str();
            let scheme = spec.scheme.unwrap_or_default();
            service.endpoints.push(Endpoint { phase, weight, scheme, tls, ..Endpoint::new(address, name) });
            service.absent = why.map(|why| Denial::new(why.reason, why.detail));
        }
        Err(absence) => findings.extend(absence.tell(&mut service, object, speaker)),
    }
    service
}
