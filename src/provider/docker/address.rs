//! At which address and port a container is asked. Never an arbitrary choice.
//!
//! ```text
//! label's network ─▶ settings' network ─▶ networks shared with Portolan ─▶ host mode ─▶ published port ─▶ Absence
//!                                          (non-internal first, by name)
//! port: label ─▶ the only exposed one ─▶ Absence
//! ```
//! Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::tree::Entry;
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::schema::ServiceSpec;
use crate::model::service::{Phase, Service};
use crate::provider::speaker::Speaker;

use super::objects::{Attachment, Container, Health, State, Surroundings, network_keeper};

/// What labels and settings say about reaching one service of a container.
#[derive(Debug, Clone, Default)]
pub struct Wish<'a> {
    pub port: Option<u16>,
    /// Exact, or without the project's prefix.
    pub network: Option<&'a str>,
    /// The settings' network, where the labels name none.
    pub default_network: Option<&'a str>,
    /// Compose names its networks `<project>_<network>`.
    pub project: Option<&'a str>,
    /// How the labels of this service begin: `portolan.` or `portolan.services.api.`.
    pub prefix: &'a str,
}

impl<'a> Wish<'a> {
    /// What the labels of one service say. `None` where one of them could not be read: it was there all the same, and to
    /// guess in its stead would be arbitrary.
    pub fn of(
        spec: &'a ServiceSpec,
        object: &Entry,
        default_network: Option<&'a str>,
        project: Option<&'a str>,
        prefix: &'a str,
    ) -> Option<Wish<'a>> {
        let (port, network) = (spec.port.filter(|port| *port != 0), spec.network.as_deref());
        let given = |field: &str| object.value.field(field).is_some();
        let unread = (given("port") && port.is_none()) || (given("network") && network.is_none());
        (!unread).then_some(Wish { port, network, default_network, project, prefix })
    }
}

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    pub reason: Reason,
    /// The field to change.
    pub field: Option<&'static str>,
    pub detail: String,
    /// Whether somebody has to do something about it; a stopped container is no problem.
    pub is_problem: bool,
}

impl Absence {
    pub fn resting(detail: String) -> Absence {
        Absence { reason: Reason::NotReady, field: None, detail, is_problem: false }
    }

    pub fn problem(reason: Reason, field: &'static str, detail: String) -> Absence {
        Absence { reason, field: Some(field), detail, is_problem: true }
    }

    /// What the service's routes answer, and the finding where somebody has to do something about it.
    pub fn tell(self, service: &mut Service, object: &Entry, speaker: &Speaker<'_>) -> Option<Diagnostic> {
        service.absent = Some(Denial::new(self.reason, self.detail.as_str()));
        if !self.is_problem {
            return None;
        }
        let written = self.field.and_then(|field| object.value.field(field));
        let origin = written.map_or_else(|| speaker.origin(), |tree| tree.origin.clone());
        let finding = Diagnostic::error(service.id.clone(), self.reason, origin, self.detail);
        Some(Diagnostic { field: self.field.map(Into::into), ..finding })
    }
}

/// Where a service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    pub address: SocketAddr,
    pub phase: Phase,
    /// Why it gets no new request, where it is not ready.
    pub why: Option<Absence>,
}

/// Finds the one address of a service, or says why there is none and what to do.
pub fn reach(
    container: &Container,
    wish: &Wish<'_>,
    all: &[Container],
    around: &Surroundings,
) -> Result<Reached, Absence> {
    ready(container)?;
    let port = port(container, wish)?;
    let Some(keeper) = network_keeper(container, all) else {
        let mode = &container.network_mode;
        return Err(Absence::problem(
            Reason::NoNetwork,
            "network",
            format!("its network is that of another container ({mode}), which is not there; start that one again"),
        ));
    };
    // A paused container's network is there for the others in it.
    if !keeper.state.has_process() {
        return Err(Absence::resting(format!(
            "{}, whose network it uses, is not running ({})",
            keeper.name,
            keeper.state.as_str()
        )));
    }
    let address = match ip(keeper, wish, around)? {
        Some(ip) => SocketAddr::new(ip, port),
        None => published(keeper, port, around).ok_or_else(|| no_network(keeper, port, wish, around))?,
    };
    let (phase, why) = phase(container, keeper);
    Ok(Reached { address, phase, why: why.map(Absence::resting) })
}

fn ready(container: &Container) -> Result<(), Absence> {
    match (container.state, container.health) {
        (State::Running, Health::Starting) => Err(Absence::resting("its health check has not passed yet".into())),
        (State::Running, Health::None | Health::Healthy | Health::Unhealthy) => Ok(()),
        (state, _) => Err(Absence::resting(format!("the container is not running ({})", state.as_str()))),
    }
}

fn phase(container: &Container, keeper: &Container) -> (Phase, Option<String>) {
    if container.health == Health::Unhealthy {
        (Phase::Unhealthy, Some("its health check fails".into()))
    } else if container.stopping {
        (Phase::Draining, Some("the container was told to stop".into()))
    } else if keeper.stopping {
        (Phase::Draining, Some(format!("{}, whose network it uses, was told to stop", keeper.name)))
    } else {
        (Phase::Ready, None)
    }
}

fn port(container: &Container, wish: &Wish<'_>) -> Result<u16, Absence> {
    let mut exposed = container.exposed.iter();
    let prefix = wish.prefix;
    match (wish.port, exposed.next(), exposed.next()) {
        (Some(port), ..) | (None, Some(&port), None) => Ok(port),
        (None, None, _) => Err(Absence::problem(
            Reason::NoPort,
            "port",
            format!("the image exposes no TCP port; say which one with {prefix}port"),
        )),
        (None, Some(_), Some(_)) => {
            let candidates: Vec<String> = container.exposed.iter().map(u16::to_string).collect();
            Err(Absence::problem(
                Reason::AmbiguousPort,
                "port",
                format!("it exposes the ports {}; choose one with {prefix}port", candidates.join(", ")),
            ))
        }
    }
}

/// `None` leaves published ports as the only way.
fn ip(keeper: &Container, wish: &Wish<'_>, around: &Surroundings) -> Result<Option<IpAddr>, Absence> {
    let own_label = keeper.labels.get("portolan.network").map(String::as_str);
    if let Some(wanted) = wish.network.or(own_label) {
        let Some((name, attachment)) = attached(keeper, wanted, wish.project) else {
            return Err(not_attached(keeper, wanted, wish));
        };
        return on_network(keeper, name, attachment, around);
    }
    if let Some((name, attachment)) = wish.default_network.and_then(|wanted| attached(keeper, wanted, wish.project)) {
        return on_network(keeper, name, attachment, around);
    }
    let shared = shared(keeper, around);
    if let Some((name, attachment)) =
        shared.iter().find(|(_, attachment)| attachment.address().is_some()).or(shared.first())
    {
        return on_network(keeper, name, attachment, around);
    }
    Ok(if keeper.network_mode == "host" { host(around, IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { None })
}

fn attached<'c>(keeper: &'c Container, wanted: &str, project: Option<&str>) -> Option<(&'c str, &'c Attachment)> {
    let exact = keeper.networks.get_key_value(wanted);
    let prefixed = || project.and_then(|project| keeper.networks.get_key_value(&format!("{project}_{wanted}")));
    exact.or_else(prefixed).map(|(name, attachment)| (name.as_str(), attachment))
}

fn on_network(
    keeper: &Container,
    name: &str,
    attachment: &Attachment,
    around: &Surroundings,
) -> Result<Option<IpAddr>, Absence> {
    if keeper.network_mode == "host" {
        return Ok(host(around, IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    let waiting = || Absence {
        reason: Reason::NoAddress,
        field: Some("network"),
        detail: format!(
            "it has no address on the network {name} (yet); if this stays, connect it to that network again"
        ),
        is_problem: true,
    };
    attachment.address().map(Some).ok_or_else(waiting)
}

/// The networks that both are on, best first.
fn shared<'c>(keeper: &'c Container, around: &Surroundings) -> Vec<(&'c str, &'c Attachment)> {
    let reaches = |name: &str| match &around.own_container {
        Some(own) => own.networks.contains_key(name),
        None => around.shares_host && around.network(name).is_some_and(|network| network.is_local_bridge()),
    };
    let mut shared: Vec<(&str, &Attachment)> = keeper
        .networks
        .iter()
        .map(|(name, attachment)| (name.as_str(), attachment))
        .filter(|(name, _)| keeper.network_mode != "host" && reaches(name))
        .collect();
    shared.sort_by_key(|(name, _)| (around.network(name).is_some_and(|network| network.internal), *name));
    shared
}

/// The engine's host as Portolan reaches it; `loopback` where that is Portolan's own network.
fn host(around: &Surroundings, loopback: IpAddr) -> Option<IpAddr> {
    if around.shares_host {
        return Some(loopback);
    }
    let Some(own) = &around.own_container else { return around.remote };
    let mut ways: Vec<(bool, &str, IpAddr)> = own
        .networks
        .iter()
        .filter_map(|(name, attachment)| Some((name.as_str(), attachment.gateway?)))
        .filter(|(_, gateway)| gateway.is_ipv4() == loopback.is_ipv4())
        .map(|(name, gateway)| (around.network(name).is_some_and(|network| network.internal), name, gateway))
        .collect();
    ways.sort_unstable();
    ways.first().map(|(_, _, gateway)| *gateway)
}

fn published(keeper: &Container, port: u16, around: &Surroundings) -> Option<SocketAddr> {
    keeper
        .published
        .iter()
        .filter(|publication| publication.container_port == port)
        .filter_map(|publication| Some(SocketAddr::new(reachable(publication.host_ip, around)?, publication.host_port)))
        .min()
}

/// A published port's address, if Portolan can reach it.
fn reachable(host_ip: IpAddr, around: &Surroundings) -> Option<IpAddr> {
    if host_ip.is_unspecified() {
        let loopback = match host_ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        return host(around, loopback).filter(|ip| ip.is_ipv4() == host_ip.is_ipv4());
    }
    // The loopback of the engine's host is nobody else's.
    let reaches = !host_ip.is_loopback() || around.shares_host || around.remote == Some(host_ip);
    reaches.then_some(host_ip)
}

fn not_attached(keeper: &Container, wanted: &str, wish: &Wish<'_>) -> Absence {
    let also = wish.project.map_or(String::new(), |project| format!(" nor on \"{project}_{wanted}\""));
    let detail = format!(
        "{} is not on the network \"{wanted}\"{also} (its networks: {}); correct {}network or connect it to that network",
        keeper.name,
        names(keeper.networks.keys()),
        wish.prefix,
    );
    Absence::problem(Reason::NoNetwork, "network", detail)
}

fn no_network(keeper: &Container, port: u16, wish: &Wish<'_>, around: &Surroundings) -> Absence {
    let detail = match (&around.own_container, around.remote) {
        (Some(own), _) => format!(
            "it is on no network of Portolan's (its networks: {}; Portolan's: {}); connect one of them to a network of the \
             other, or publish port {port}",
            names(keeper.networks.keys()),
            names(own.networks.keys()),
        ),
        (None, Some(remote)) => format!(
            "the engine runs on another host ({remote}), where only published ports can be reached; publish port {port} \
             on an address of that host that Portolan reaches"
        ),
        (None, None) => format!(
            "it is on no bridge network of this host (its networks: {}); connect it to one, name the network to use with {}network, \
             or publish port {port}",
            names(keeper.networks.keys()),
            wish.prefix,
        ),
    };
    Absence::problem(Reason::NoNetwork, "network", detail)
}

fn names<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
