//! At which address a task is asked, or a service as a whole. Never an arbitrary choice.
//!
//! ```text
//! label's network ─▶ settings' network ─▶ networks shared with Portolan ─▶ host's network ─▶ host-mode port ─▶ Absence
//!                                          (non-internal first, by name; never the ingress network)
//! port: label ─▶ the only published one ─▶ Absence
//! ```
//! Overlay networks are reached from containers on them alone, not even from the host of the engine. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::model::diagnostic::Reason;
use crate::provider::docker::address::{Absence, Wish};

use super::objects::{Node, Service, Surroundings, Task};

/// The image of a service may be on no engine that we ask, so what it exposes is not known.
pub fn port(service: &Service, wish: &Wish<'_>) -> Result<u16, Absence> {
    let mut ports = service.ports.iter();
    let prefix = wish.prefix;
    match (wish.port, ports.next(), ports.next()) {
        (Some(port), ..) | (None, Some(&port), None) => Ok(port),
        (None, None, _) => Err(Absence::problem(
            Reason::NoPort,
            "port",
            format!("the service says nowhere on which port its tasks listen; add {prefix}port to deploy.labels"),
        )),
        (None, Some(_), Some(_)) => {
            let published: Vec<String> = service.ports.iter().map(u16::to_string).collect();
            let detail = format!(
                "it publishes the ports {}; choose one with {prefix}port in deploy.labels",
                published.join(", ")
            );
            Err(Absence::problem(Reason::AmbiguousPort, "port", detail))
        }
    }
}

/// The service's virtual address, behind which the nodes' own balancer stands.
pub fn vip(service: &Service, port: u16, wish: &Wish<'_>, around: &Surroundings) -> Result<SocketAddr, Absence> {
    let names: Vec<&str> = service.vips.keys().map(String::as_str).collect();
    let name = network(&service.name, &names, wish, around)?.ok_or_else(|| no_network(&names, port, wish, around))?;
    match service.vips.get(name) {
        Some(ip) => Ok(SocketAddr::new(*ip, port)),
        None => Err(no_network(&names, port, wish, around)),
    }
}

/// One task's own address.
pub fn task(
    task: &Task,
    node: Option<&Node>,
    port: u16,
    wish: &Wish<'_>,
    around: &Surroundings,
) -> Result<SocketAddr, Absence> {
    let names: Vec<&str> = task.networks.keys().map(String::as_str).collect();
    if let Some(name) = network("the service", &names, wish, around)? {
        let address = task.networks.get(name).copied().flatten();
        return address.map(|ip| SocketAddr::new(ip, port)).ok_or_else(|| {
            let detail = format!("a task of it has no address on the network {name} (yet)");
            Absence::problem(Reason::NoAddress, "network", detail)
        });
    }
    let in_hosts_network =
        names.iter().any(|name| around.network(name).is_some_and(|network| network.driver == "host"));
    let published = task.published.iter().find(|published| published.task_port == port);
    let on_node = if in_hosts_network { Some(port) } else { published.map(|published| published.node_port) };
    let Some(on_node) = on_node else { return Err(no_network(&names, port, wish, around)) };
    let ip = match around.shares_host && task.node == around.node {
        true => IpAddr::V4(Ipv4Addr::LOCALHOST),
        false => node.and_then(|node| node.address).ok_or_else(|| {
            let detail = "the node that a task of it runs on has no address; see docker node inspect".to_string();
            Absence::problem(Reason::NoAddress, "network", detail)
        })?,
    };
    Ok(SocketAddr::new(ip, on_node))
}

/// `None` leaves the nodes' own addresses as the only way.
fn network<'n>(
    who: &str,
    names: &[&'n str],
    wish: &Wish<'_>,
    around: &Surroundings,
) -> Result<Option<&'n str>, Absence> {
    if let Some(wanted) = wish.network {
        let Some(name) = attached(names, wanted, wish.project) else {
            let also = wish.project.map_or(String::new(), |stack| format!(" nor on \"{stack}_{wanted}\""));
            let detail = format!(
                "{who} is not on the network \"{wanted}\"{also} (its networks: {}); correct {}network or put the service on \
                 that network",
                listed(names),
                wish.prefix,
            );
            return Err(Absence::problem(Reason::NoNetwork, "network", detail));
        };
        if is_host(name, around) {
            return Ok(None);
        }
        return reachable(name, around).map(Some);
    }
    let by_settings = wish.default_network.and_then(|wanted| attached(names, wanted, wish.project));
    if let Some(name) = by_settings.filter(|name| !is_host(name, around)) {
        return reachable(name, around).map(Some);
    }
    let own = around.own_networks.as_ref();
    let shares = |name: &&&str| own.is_some_and(|own| own.contains(**name)) && !is_ingress(name, around);
    let rank = |name: &&&'n str| (around.network(name).is_some_and(|network| network.internal), **name);
    Ok(names.iter().filter(shares).min_by_key(rank).copied())
}

/// A network that somebody chose. Where Portolan is known not to be on it, nothing would ever answer.
fn reachable<'n>(name: &'n str, around: &Surroundings) -> Result<&'n str, Absence> {
    let overlay = around.network(name).is_some_and(|network| network.driver == "overlay");
    let detail = match &around.own_networks {
        Some(own) if !own.contains(name) => format!(
            "Portolan is not on the network {name} (Portolan's: {}); put it there",
            listed(&own.iter().map(String::as_str).collect::<Vec<_>>()),
        ),
        None if overlay && around.shares_host => format!(
            "Portolan runs on the host, from where the overlay network {name} cannot be reached; run it in a container on \
             that network, or publish the port with mode: host and leave the network out",
        ),
        _ => return Ok(name),
    };
    Err(Absence::problem(Reason::NoNetwork, "network", detail))
}

/// Exact, or without the stack's prefix.
fn attached<'n>(names: &[&'n str], wanted: &str, stack: Option<&str>) -> Option<&'n str> {
    let prefixed = stack.map(|stack| format!("{stack}_{wanted}"));
    let exact = names.iter().find(|name| **name == wanted);
    exact.or_else(|| names.iter().find(|name| Some(**name) == prefixed.as_deref())).copied()
}

fn is_ingress(name: &str, around: &Surroundings) -> bool {
    around.network(name).is_some_and(|network| network.ingress)
}

fn is_host(name: &str, around: &Surroundings) -> bool {
    around.network(name).is_some_and(|network| network.driver == "host")
}

fn no_network(names: &[&str], port: u16, wish: &Wish<'_>, around: &Surroundings) -> Absence {
    let names: Vec<&str> = names.iter().filter(|name| !is_ingress(name, around)).copied().collect();
    let names = listed(&names);
    let detail = match &around.own_networks {
        Some(own) => {
            let own: Vec<&str> = own.iter().map(String::as_str).filter(|name| !is_ingress(name, around)).collect();
            format!(
                "it is on no network of Portolan's (its networks: {names}; Portolan's: {}); put both on one overlay network, \
                 or publish port {port} with mode: host",
                listed(&own),
            )
        }
        None if around.shares_host => format!(
            "Portolan runs on the host, from where overlay networks cannot be reached (its networks: {names}); run Portolan \
             in a container on one of them, or publish port {port} with mode: host"
        ),
        None => format!(
            "it is not known which networks Portolan is on (its networks: {names}); name one that it shares with {}network \
             or providers.swarm.network, or publish port {port} with mode: host",
            wish.prefix,
        ),
    };
    Absence::problem(Reason::NoNetwork, "network", detail)
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
