//! What a manager says about services, tasks, nodes and configs, as plain data: the input of [`super::translate`].
//!
//! Only what translation needs, in our own words, so that a golden case can be written by hand. Networks go by name,
//! which is unique among those of a swarm.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::provider::docker::signal::Signal;

/// One look at a swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Swarm {
    pub services: Vec<Service>,
    pub tasks: Vec<Task>,
    pub nodes: Vec<Node>,
    /// Looked up only while the labels of some service name one.
    pub configs: Vec<Config>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    pub id: String,
    /// With its stack's prefix.
    pub name: String,
    /// `deploy.labels`.
    pub labels: BTreeMap<String, String>,
    pub created: Timestamp,
    /// How many tasks are wanted; absent for global services and jobs.
    pub replicas: Option<u64>,
    /// `endpoint_mode: dnsrr`: there is no virtual address.
    pub dnsrr: bool,
    /// Virtual addresses by network.
    pub vips: BTreeMap<String, IpAddr>,
    /// TCP ports of its tasks that are published in any mode.
    pub ports: BTreeSet<u16>,
    /// An update or a rollback is in progress.
    pub updating: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Task {
    pub id: String,
    /// The service's id.
    pub service: String,
    /// Absent for tasks of global services.
    pub slot: Option<u64>,
    /// The node's id, once there is one.
    pub node: String,
    /// The container's id, once there is one.
    pub container: String,
    /// As the engine has it: `new`, `pending`, … `running`, … `failed`.
    pub state: String,
    pub desired: String,
    /// Why it is not where it should be.
    pub error: String,
    /// Addresses by network; absent on networks that give none.
    pub networks: BTreeMap<String, Option<IpAddr>>,
    /// TCP ports published on its node alone (`mode: host`).
    pub published: BTreeSet<Published>,
    pub stop_signal: Option<Signal>,
    /// Seconds from the stop signal to the kill.
    pub stop_grace: Option<i64>,
    /// What events of its container have told, of a node that is the engine's own.
    pub told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    pub task_port: u16,
    pub node_port: u16,
}

/// What is known of a task before its manager knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    #[default]
    Nothing,
    /// It was told to stop.
    Stopping,
    Unhealthy,
    /// It died, or is paused.
    Stopped,
}

impl Task {
    /// It runs; swarm says so only once a health check has passed, and no longer when it fails.
    pub fn runs(&self) -> bool {
        self.state == "running" && self.told != Told::Stopped
    }

    /// It will not run again.
    pub fn is_over(&self) -> bool {
        ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"].contains(&self.state.as_str())
    }

    /// It is to run, or is a job that is to run to its end.
    pub fn is_wanted(&self) -> bool {
        ["running", "complete"].contains(&self.desired.as_str())
    }

    /// Something about it is about to change.
    fn is_settled(&self) -> bool {
        match self.is_wanted() {
            true => self.runs() || (self.is_over() && self.desired == "complete"),
            false => self.is_over(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    pub id: String,
    /// Its host name.
    pub name: String,
    /// Where other nodes reach it.
    pub address: Option<IpAddr>,
    /// Nobody hears of it, so what its tasks are said to be is from before.
    pub down: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// With its stack's prefix.
    pub name: String,
    /// The stack that it belongs to.
    pub stack: Option<String>,
    pub data: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    pub name: String,
    /// `overlay`, `macvlan`, `host`, …
    pub driver: String,
    pub internal: bool,
    /// The routing mesh's own, on which services are not to be asked.
    pub ingress: bool,
}

/// Where Portolan stands in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Surroundings {
    /// Portolan runs in a container that is on these networks of the swarm. Absent where it is none, or none that this
    /// manager knows.
    pub own_networks: Option<BTreeSet<String>>,
    /// Portolan shares the network of the engine's host.
    pub shares_host: bool,
    /// The service that Portolan itself is a task of.
    pub own_service: Option<String>,
    /// The node whose engine is asked.
    pub node: String,
    /// Networks that tasks are on.
    pub networks: Vec<Network>,
}

impl Surroundings {
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }
}

impl Swarm {
    /// Tasks are about to come or go.
    pub fn is_settled(&self) -> bool {
        let wanted = |service: &Service| {
            let count =
                self.tasks.iter().filter(|task| task.service == service.id && task.desired == "running").count();
            service.replicas.is_none_or(|replicas| usize::try_from(replicas).is_ok_and(|replicas| replicas == count))
        };
        self.tasks.iter().all(Task::is_settled) && self.services.iter().all(wanted)
    }

    /// There is less than any swarm has that was seen with more: no service, or not even the manager's own node.
    pub fn is_bare(&self) -> bool {
        self.services.is_empty() || self.nodes.is_empty()
    }

    pub fn is_updating(&self) -> bool {
        self.services.iter().any(|service| service.updating)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swarm(replicas: Option<u64>, tasks: &[(&str, &str)]) -> Swarm {
        let task = |(state, desired): &(&str, &str)| Task {
            service: "s".into(),
            state: (*state).into(),
            desired: (*desired).into(),
            ..Task::default()
        };
        let service = Service { id: "s".into(), replicas, ..Service::default() };
        Swarm { services: vec![service], tasks: tasks.iter().map(task).collect(), ..Swarm::default() }
    }

    #[test]
    fn a_swarm_is_settled_when_everything_is_where_it_should_be() {
        for (replicas, tasks, settled) in [
            (Some(0), &[][..], true),
            (Some(1), &[], false),
            (Some(1), &[("running", "running")], true),
            (Some(1), &[("running", "running"), ("running", "running")], false),
            (Some(1), &[("running", "running"), ("shutdown", "shutdown"), ("failed", "shutdown")], true),
            (Some(1), &[("running", "running"), ("running", "remove")], false),
            (Some(1), &[("preparing", "running")], false),
            (Some(1), &[("failed", "running")], false),
            (Some(1), &[("running", "running"), ("ready", "ready")], false),
            (None, &[("running", "running"), ("running", "running")], true),
            (None, &[("complete", "complete"), ("running", "complete")], true),
            (None, &[("starting", "complete")], false),
        ] {
            assert_eq!(swarm(replicas, tasks).is_settled(), settled, "{replicas:?} {tasks:?}");
        }
    }
}
