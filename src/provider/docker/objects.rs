//! What the engine says about containers and networks, as plain data: the input of [`super::translate`].
//!
//! Only what translation needs, in our own words, so that a golden case can be written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::signal::Signal;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Container {
    /// 64 hex digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub created: Timestamp,
    pub state: State,
    /// `HostConfig.NetworkMode`: `bridge`, `host`, `none`, `container:<id or name>` or a network's name.
    pub network_mode: String,
    pub networks: BTreeMap<String, Attachment>,
    /// TCP ports that the image or the container declares.
    pub exposed: BTreeSet<u16>,
    /// TCP ports on the engine's host that lead to the container.
    pub published: BTreeSet<Publication>,
    pub health: Health,
    /// It runs, and was told to stop.
    pub stopping: bool,
    /// `Config.StopSignal`, where one is given.
    pub stop_signal: Option<Signal>,
    /// `Config.StopTimeout` in seconds, where one is given; negative is without end.
    pub stop_timeout: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    Dead,
}

impl State {
    pub fn has_process(self) -> bool {
        matches!(self, State::Running | State::Paused)
    }

    /// It has a process, or the engine is about to give it one again: what it holds is not given away.
    pub fn is_up(self) -> bool {
        self.has_process() || self == State::Restarting
    }

    pub fn as_str(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running => "running",
            State::Paused => "paused",
            State::Restarting => "restarting",
            State::Exited => "exited",
            State::Dead => "dead",
        }
    }
}

/// Of the image's or the container's own `HEALTHCHECK`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// There is no check.
    #[default]
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// A container's place on one network. Addresses are absent while it does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attachment {
    pub ipv4: Option<Ipv4Addr>,
    /// The global one.
    pub ipv6: Option<Ipv6Addr>,
    /// The engine's host on this network.
    pub gateway: Option<IpAddr>,
}

impl Attachment {
    pub fn address(&self) -> Option<IpAddr> {
        self.ipv4.map(IpAddr::V4).or(self.ipv6.map(IpAddr::V6))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    pub container_port: u16,
    /// The address on the engine's host; unspecified is all of them.
    pub host_ip: IpAddr,
    pub host_port: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub driver: String,
    /// `local`, or `swarm` for networks that span nodes.
    pub scope: String,
    /// No way out, and on some engines no way in from the host either.
    pub internal: bool,
}

impl Network {
    /// Whether the engine's own host has an interface on it.
    pub fn is_local_bridge(&self) -> bool {
        self.driver == "bridge" && self.scope == "local"
    }
}

/// Where Portolan stands, as seen from this engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Surroundings {
    /// Portolan runs in this container, with networks of its own.
    pub own_container: Option<OwnContainer>,
    /// Portolan shares the network of the engine's host.
    pub shares_host: bool,
    /// The engine's host, where it is another machine.
    pub remote: Option<IpAddr>,
    pub networks: Vec<Network>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OwnContainer {
    pub id: String,
    pub networks: BTreeMap<String, Attachment>,
}

impl Surroundings {
    /// `own` is the id of Portolan's own container on this engine; `remote` the host of an engine that is spoken to by
    /// TCP, which counts only where Portolan is not itself a container of that engine.
    pub fn seen(
        own: Option<&str>,
        containers: &[Container],
        networks: Vec<Network>,
        remote: Option<IpAddr>,
    ) -> Surroundings {
        let own = own.and_then(|id| containers.iter().find(|container| container.id == id));
        let nowhere = Surroundings { networks, ..Surroundings::default() };
        let Some(own) = own else {
            return Surroundings { shares_host: remote.is_none(), remote, ..nowhere };
        };
        let keeper = network_keeper(own, containers).unwrap_or(own);
        if keeper.network_mode == "host" {
            return Surroundings { shares_host: true, ..nowhere };
        }
        let own_container = OwnContainer { id: own.id.clone(), networks: keeper.networks.clone() };
        Surroundings { own_container: Some(own_container), ..nowhere }
    }

    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }
}

/// The container whose network namespace another one lives in: itself, unless its mode is `container:<id>`. `None`
/// where that one is not there.
pub fn network_keeper<'c>(container: &'c Container, all: &'c [Container]) -> Option<&'c Container> {
    let mut keeper = container;
    // The engine forbids longer chains; a ring of them must not hold us.
    for _ in 0..4 {
        let Some(of) = keeper.network_mode.strip_prefix("container:") else { return Some(keeper) };
        keeper = all
            .iter()
            .find(|other| other.id == of || other.name == of)
            .or_else(|| all.iter().find(|other| of.len() >= 12 && other.id.starts_with(of)))?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, mode: &str) -> Container {
        let networks = BTreeMap::from([(format!("net-of-{id}"), Attachment::default())]);
        Container {
            id: id.into(),
            name: format!("name-{id}"),
            network_mode: mode.into(),
            networks,
            ..Container::default()
        }
    }

    #[test]
    fn a_ring_of_shared_networks_has_no_keeper() {
        let all = [
            container("a", "container:b"),
            container("b", "container:a"),
            container("c", "container:name-d"),
            container("d", "bridge"),
        ];
        assert_eq!(network_keeper(&all[0], &all), None);
        assert_eq!(network_keeper(&all[2], &all).map(|keeper| keeper.id.as_str()), Some("d"));
        assert_eq!(network_keeper(&container("e", "container:gone"), &all), None);
    }

    #[test]
    fn portolan_is_in_a_container_or_on_the_host_or_far_away() {
        let all = [container("a", "bridge"), container("b", "host"), container("c", "container:a")];
        let remote = Some(IpAddr::from([192, 0, 2, 1]));
        let seen = |own: Option<&str>, remote| Surroundings::seen(own, &all, Vec::new(), remote);

        let inside = seen(Some("a"), remote);
        assert!(inside.own_container.is_some() && !inside.shares_host && inside.remote.is_none());
        assert!(seen(Some("b"), remote).shares_host);
        let guest = seen(Some("c"), None).own_container.expect("a container");
        assert!(guest.networks.contains_key("net-of-a"), "{guest:?}");
        assert!(seen(None, None).shares_host);
        let far = seen(None, remote);
        assert!(far.remote == remote && !far.shares_host);
    }
}
