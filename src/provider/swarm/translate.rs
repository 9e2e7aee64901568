//! From the services of a swarm to the neutral vocabulary.
//!
//! ```text
//! Service ─Speaker─▶ Route, Service, …      its tasks ─reach─▶ Endpoints | Absence
//! ```
//! A service speaks by its own labels, once, however many tasks it has. Its routes live as long as it does; a task is an
//! endpoint while it runs on a node that is heard of, and drains from when it is meant to end. Pure.

use crate::config::settings::SwarmSettings;
use crate::config::tree::{Entry, Node as Value, Tree, spells};
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::id::{Kind, Provider};
use crate::model::schema::AddressMode;
use crate::model::service::{self as model, Endpoint, Phase};
use crate::model::snapshot::Snapshot;
use crate::provider::docker::address::{Absence, Wish};
use crate::provider::labels::{self, Wearer};
use crate::provider::lower::{self, Lowered};
use crate::provider::speaker::{Speaker, Terms, entries_mut, refuse};

use super::objects::{Config, Node, Service, Surroundings, Swarm, Task, Told};
use super::reach;
use super::wire::STACK;

/// Everything that the services of one swarm want. The order of what is in `swarm` does not matter.
pub fn translate(swarm: &Swarm, around: &Surroundings, settings: &SwarmSettings) -> Snapshot {
    let mut sorted: Vec<&Service> = swarm.services.iter().collect();
    sorted.sort_by_key(|service| (&service.name, &service.id));
    let mut snapshot = Snapshot::empty(Provider::Swarm);
    for service in sorted {
        let mut tasks: Vec<&Task> = swarm.tasks.iter().filter(|task| task.service == service.id).collect();
        tasks.sort_by_key(|task| (task.slot, &task.id));
        let speaker = speaker(service);
        let terms = Terms {
            expose: settings.expose,
            default_host: &settings.default_host,
            is_self: around.own_service.as_ref() == Some(&service.id),
        };
        let seen = Seen { service, tasks, nodes: &swarm.nodes, around, settings };
        let amend = |document: &mut Tree| fill_configs(document, speaker.project, &swarm.configs);
        snapshot.absorb(speaker.speak(&terms, amend, |object, findings| seen.lower(&speaker, object, findings)));
    }
    snapshot
}

/// Whether any of its labels names a config of the swarm.
pub fn names_config(service: &Service) -> bool {
    let mut keys = service.labels.keys().filter_map(|key| key.strip_prefix(labels::PREFIX));
    keys.any(|key| {
        let segments: Vec<&str> = key.split('.').collect();
        matches!(segments[..], [kind, _, field] if lower::section_kind(kind) == Some(Kind::TrustBundle) && spells(field, "config"))
    })
}

fn speaker(service: &Service) -> Speaker<'_> {
    let stack = service.labels.get(STACK).map(String::as_str).filter(|stack| !stack.is_empty());
    // As the stack's file has it.
    let bare = stack.and_then(|stack| service.name.strip_prefix(stack)?.strip_prefix('_'));
    let name = bare.unwrap_or(&service.name);
    let wearer = Wearer::Service(&service.name);
    Speaker::new(Provider::Swarm, wearer, &service.labels, stack, name, service.created)
}

/// Puts what configs hold where they are named: `config: ca` becomes `pem: …`. One that is not there, or is another
/// stack's, stays as it is written, for lowering to deny.
fn fill_configs(document: &mut Tree, stack: Option<&str>, configs: &[Config]) {
    for bundle in entries_mut(document, Kind::TrustBundle) {
        let Value::Map(fields) = &mut bundle.value.node else { continue };
        let [field] = &mut fields[..] else { continue };
        let Value::Word { text, .. } = &field.value.node else { continue };
        if !spells(&field.key, "config") {
            continue;
        }
        let own = |config: &&Config| config.stack.as_deref() == stack;
        let named = |name: &str| configs.iter().filter(own).find(|config| config.name == name);
        let prefixed = stack.and_then(|stack| named(&format!("{stack}_{text}")));
        let Some(config) = prefixed.or_else(|| named(text)) else { continue };
        field.key = "pem".into();
        field.value.node = Value::Word { text: config.data.clone(), plain: false };
    }
}

/// A service and what stands behind it.
struct Seen<'s> {
    service: &'s Service,
    tasks: Vec<&'s Task>,
    nodes: &'s [Node],
    around: &'s Surroundings,
    settings: &'s SwarmSettings,
}

impl Seen<'_> {
    fn lower(&self, speaker: &Speaker<'_>, object: &Entry, findings: &mut Vec<Diagnostic>) -> model::Service {
        let Lowered { spec, tls, mut service } = lower::service(&object.key, &object.value, &speaker.author, findings);
        service.running = self.tasks.iter().any(|task| self.is_there(task) || (task.is_wanted() && !task.is_over()));
        if spec.port == Some(0) {
            refuse(&mut service, &object.value, "port", "0 is no port", findings);
        }
        let by_vip = spec.address == Some(AddressMode::Vip);
        if by_vip && self.service.dnsrr {
            let detail = "a service with endpoint_mode: dnsrr has no virtual address; leave this out";
            refuse(&mut service, &object.value, "address", detail, findings);
            service.absent = service.denied.clone();
            return service;
        }
        let prefix = speaker.prefix(&object.key);
        let Some(wish) = Wish::of(&spec, object, self.settings.network.as_deref(), speaker.project, &prefix) else {
            service.absent = service.denied.clone();
            return service;
        };
        let reached = match by_vip {
            true => self.vip(&wish).map(|endpoint| vec![endpoint]),
            false => self.endpoints(&wish),
        };
        match reached {
            Ok(endpoints) => {
                let (weight, scheme) = (spec.weight.unwrap_or(1), spec.scheme.unwrap_or_default());
                let spoken = |endpoint| Endpoint { weight, scheme, tls: tls.clone(), ..endpoint };
                service.endpoints = endpoints.into_iter().map(spoken).collect();
                let best = service.endpoints.iter().map(|endpoint| endpoint.phase).min();
                let why = match best.unwrap_or_default() {
                    Phase::Ready => None,
                    Phase::Draining => Some("the last task of it that runs was told to stop"),
                    Phase::Unhealthy => Some("its health check fails"),
                };
                service.absent = why.map(|why| Denial::new(Reason::NotReady, why));
            }
            Err(absence) => findings.extend(absence.tell(&mut service, object, speaker)),
        }
        service
    }

    /// It runs, as far as anybody knows: what is said of a node that nobody hears of is from before.
    fn is_there(&self, task: &Task) -> bool {
        task.runs() && !self.node(task).is_some_and(|node| node.down)
    }

    fn node(&self, task: &Task) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == task.node)
    }

    fn endpoints(&self, wish: &Wish<'_>) -> Result<Vec<Endpoint>, Absence> {
        let there: Vec<&&Task> = self.tasks.iter().filter(|task| self.is_there(task)).collect();
        if there.is_empty() {
            return Err(self.why_none_is_ready());
        }
        let port = reach::port(self.service, wish)?;
        let mut endpoints = Vec::new();
        let mut absent = None;
        for task in there {
            match reach::task(task, self.node(task), port, wish, self.around) {
                Ok(address) => {
                    endpoints.push(Endpoint { phase: self.phase(task), ..Endpoint::new(address, self.name(task)) });
                }
                Err(absence) => absent = absent.or(Some(absence)),
            }
        }
        match absent {
            Some(absence) if endpoints.is_empty() => Err(absence),
            _ => Ok(endpoints),
        }
    }

    /// How a task takes part. One that is meant to end still runs for seconds before it is told so (its node first takes it
    /// out of Swarm's own balancing): while there is no other, it is asked.
    fn phase(&self, task: &Task) -> Phase {
        let is_ready = |task: &&&Task| self.is_there(task) && task.is_wanted() && task.told == Told::Nothing;
        match task.told {
            Told::Unhealthy => Phase::Unhealthy,
            Told::Stopping | Told::Stopped => Phase::Draining,
            Told::Nothing if task.is_wanted() || self.tasks.iter().find(is_ready).is_none() => Phase::Ready,
            Told::Nothing => Phase::Draining,
        }
    }

    /// As ready as the best of its tasks.
    fn vip(&self, wish: &Wish<'_>) -> Result<Endpoint, Absence> {
        let there = self.tasks.iter().filter(|task| self.is_there(task));
        let phase = there.map(|task| self.phase(task)).min().ok_or_else(|| self.why_none_is_ready())?;
        let port = reach::port(self.service, wish)?;
        let address = reach::vip(self.service, port, wish, self.around)?;
        Ok(Endpoint { phase, ..Endpoint::new(address, self.service.name.as_str()) })
    }

    /// As the task's container is named.
    fn name(&self, task: &Task) -> String {
        let Service { name, .. } = self.service;
        match task.slot {
            Some(slot) => format!("{name}.{slot}.{}", task.id),
            None => format!("{name}.{}.{}", task.node, task.id),
        }
    }

    fn why_none_is_ready(&self) -> Absence {
        if self.service.replicas == Some(0) {
            return Absence::resting("the service is scaled to 0".into());
        }
        let wanted: Vec<&&Task> = self.tasks.iter().filter(|task| task.is_wanted()).collect();
        let lost = wanted.iter().find_map(|task| self.node(task).filter(|node| node.down));
        let troubled = wanted.iter().find(|task| !task.error.is_empty());
        let detail = match (troubled, lost, wanted.first()) {
            (Some(task), ..) => format!("no task of it runs; one is {}: {}", task.state, task.error),
            (None, Some(node), _) => format!("no task of it runs; the node {} is down", node.name),
            (None, None, Some(task)) => format!("no task of it runs; one is {}", task.state),
            (None, None, None) => "no task of it runs".into(),
        };
        Absence::resting(detail)
    }
}
