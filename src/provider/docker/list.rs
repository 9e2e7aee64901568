//! What the engine's list and inspect calls answer, brought into the words of [`super::objects`].
//!
//! ```text
//! GET /containers/json?all + GET /networks ─▶ inspect each new one that concerns us ─▶ Listing
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryHealthStatusEnum, ContainerSummaryStateEnum,
    EndpointSettings, PortSummaryTypeEnum,
};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::config::settings::DockerSettings;

use super::connect::{Engine, EngineError};
use super::objects::{Attachment, Container, Health, Network, Publication, State};
use super::signal::Signal;
use super::translate::concerns;

/// Inspects under way at once, when Portolan meets an engine full of containers.
const AT_ONCE: usize = 16;

pub struct Listing {
    pub containers: Vec<Container>,
    pub networks: Vec<Network>,
    /// The engine could not tell of a container what only an inspect tells; it is there by what the list says.
    pub incomplete: bool,
}

impl Listing {
    /// Whether there is less than any engine has that was seen with more: no containers at all, or none of the networks
    /// that every engine has.
    pub fn is_bare(&self) -> bool {
        self.containers.is_empty() || self.networks.is_empty()
    }
}

/// What only an inspect tells, by container id. It does not change while the container lives.
pub type Inspected = BTreeMap<String, Facts>;

#[derive(Debug, Clone)]
pub struct Facts {
    /// The list knows whole seconds only.
    created: Option<Timestamp>,
    exposed: BTreeSet<u16>,
    stop_signal: Option<Signal>,
    stop_timeout: Option<i64>,
}

/// Lists everything; inspects what is new. What is gone leaves `known`, which a list that fails leaves as it is.
pub async fn list(engine: &Engine, settings: &DockerSettings, known: &mut Inspected) -> Result<Listing, EngineError> {
    let all = ListContainersOptionsBuilder::new().all(true).build();
    let containers =
        async { engine.api.list_containers(Some(all)).await.map_err(|e| engine.explain("GET /containers/json", e)) };
    let networks = async { engine.api.list_networks(None).await.map_err(|e| engine.explain("GET /networks", e)) };
    let (summaries, networks) = tokio::try_join!(containers, networks)?;
    let mut containers: Vec<Container> = summaries.into_iter().map(container).collect();

    let fresh = containers.iter().filter(|c| !known.contains_key(&c.id) && concerns(c, settings)).map(|c| c.id.clone());
    let facts: Vec<(String, Found)> = stream::iter(fresh.collect::<Vec<_>>())
        .map(|id| async move { Ok::<_, EngineError>((id.clone(), inspect(engine, &id).await?)) })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let mut inspected: Inspected =
        containers.iter().filter_map(|c| known.get_key_value(&c.id)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut incomplete = false;
    for (id, found) in facts {
        match found {
            Found::Facts(facts) => drop(inspected.insert(id, facts)),
            Found::Gone => {}
            Found::Broken => incomplete = true,
        }
    }

    for container in &mut containers {
        let Some(facts) = inspected.get(&container.id) else { continue };
        container.created = facts.created.unwrap_or(container.created);
        container.exposed.extend(&facts.exposed);
        container.stop_signal = facts.stop_signal;
        container.stop_timeout = facts.stop_timeout;
    }
    let networks = networks.into_iter().map(network).collect();
    *known = inspected;
    Ok(Listing { containers, networks, incomplete })
}

enum Found {
    Facts(Facts),
    /// It went away in between, of which an event will tell.
    Gone,
    /// The engine has an error for this one container; the others are none the worse for it.
    Broken,
}

async fn inspect(engine: &Engine, id: &str) -> Result<Found, EngineError> {
    use bollard::errors::Error::{DockerResponseServerError, JsonDataError};
    match engine.api.inspect_container(id, None).await {
        Ok(said) => Ok(Found::Facts(facts(said))),
        Err(DockerResponseServerError { status_code: 404, .. }) => Ok(Found::Gone),
        Err(DockerResponseServerError { status_code: 500.., message }) => {
            tracing::debug!(provider = "docker", container = id, message, "the engine cannot say all of a container");
            Ok(Found::Broken)
        }
        Err(JsonDataError { message, .. }) => {
            tracing::debug!(provider = "docker", container = id, message, "what the engine says of a container is cut");
            Ok(Found::Broken)
        }
        Err(error) => Err(engine.explain("GET /containers/{id}/json", error)),
    }
}

fn facts(said: ContainerInspectResponse) -> Facts {
    let config = said.config.unwrap_or_default();
    let exposed = config.exposed_ports.unwrap_or_default();
    Facts {
        created: said.created.and_then(|created| created.parse().ok()),
        exposed: exposed.iter().filter_map(|port| tcp_port(port)).collect(),
        // The engine takes no signal that it cannot read itself.
        stop_signal: config.stop_signal.and_then(|signal| signal.parse().ok()),
        stop_timeout: config.stop_timeout,
    }
}

/// `8080/tcp`; without a protocol it is TCP.
fn tcp_port(port: &str) -> Option<u16> {
    match port.split_once('/') {
        None => port.parse().ok(),
        Some((number, "tcp")) => number.parse().ok(),
        Some(_) => None,
    }
}

fn container(summary: ContainerSummary) -> Container {
    let names = summary.names.unwrap_or_default();
    // Legacy links add names with a second slash.
    let own = names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
    let id = summary.id.unwrap_or_default();
    let ports = summary.ports.unwrap_or_default();
    let tcp = || ports.iter().filter(|port| port.typ == Some(PortSummaryTypeEnum::TCP));
    let published = tcp().filter_map(|port| {
        let host_ip = port.ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0").parse().ok()?;
        Some(Publication { container_port: port.private_port, host_ip, host_port: port.public_port? })
    });
    let reported = summary.health.and_then(|health| health.status);
    let networks = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    Container {
        name: own.map_or_else(|| id.chars().take(12).collect(), str::to_string),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        created: Timestamp::from_second(summary.created.unwrap_or_default()).unwrap_or_default(),
        state: state(summary.state),
        stopping: summary.state == Some(ContainerSummaryStateEnum::STOPPING),
        stop_signal: None,
        stop_timeout: None,
        network_mode: summary.host_config.and_then(|config| config.network_mode).unwrap_or_default(),
        networks: attachments(networks),
        exposed: tcp().map(|port| port.private_port).collect(),
        published: published.collect(),
        health: health(reported, summary.status.as_deref().unwrap_or_default()),
        id,
    }
}

/// Whatever an engine will call its states one day: only what runs is asked.
fn state(state: Option<ContainerSummaryStateEnum>) -> State {
    use ContainerSummaryStateEnum as Said;
    match state {
        Some(Said::RUNNING | Said::STOPPING) => State::Running,
        Some(Said::PAUSED) => State::Paused,
        Some(Said::RESTARTING) => State::Restarting,
        Some(Said::EXITED) => State::Exited,
        Some(Said::DEAD | Said::REMOVING) => State::Dead,
        Some(Said::CREATED | Said::EMPTY) | None => State::Created,
    }
}

/// Engines before API 1.52 say it only in the text that `docker ps` shows.
fn health(reported: Option<ContainerSummaryHealthStatusEnum>, status: &str) -> Health {
    use ContainerSummaryHealthStatusEnum as Said;
    match reported {
        Some(Said::STARTING) => Health::Starting,
        Some(Said::HEALTHY) => Health::Healthy,
        Some(Said::UNHEALTHY) => Health::Unhealthy,
        Some(Said::NONE) => Health::None,
        Some(Said::EMPTY) | None if status.ends_with("(health: starting)") => Health::Starting,
        Some(Said::EMPTY) | None if status.ends_with("(unhealthy)") => Health::Unhealthy,
        Some(Said::EMPTY) | None if status.ends_with("(healthy)") => Health::Healthy,
        Some(Said::EMPTY) | None => Health::None,
    }
}

fn attachments(networks: HashMap<String, EndpointSettings>) -> BTreeMap<String, Attachment> {
    let read = |address: Option<String>| address.filter(|text| !text.is_empty());
    networks
        .into_iter()
        .map(|(name, endpoint)| {
            let gateway: Option<IpAddr> =
                read(endpoint.gateway).or(read(endpoint.ipv6_gateway)).and_then(|address| address.parse().ok());
            let attachment = Attachment {
                ipv4: read(endpoint.ip_address).and_then(|address| address.parse().ok()),
                ipv6: read(endpoint.global_ipv6_address).and_then(|address| address.parse().ok()),
                gateway,
            };
            (name, attachment)
        })
        .collect()
}

fn network(summary: bollard::models::Network) -> Network {
    Network {
        id: summary.id.unwrap_or_default(),
        name: summary.name.unwrap_or_default(),
        driver: summary.driver.unwrap_or_default(),
        scope: summary.scope.unwrap_or_default(),
        internal: summary.internal.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_of_engine_20_10_is_read_whole() {
        let json = r#"{"Id":"abc","Names":["/shop-web-1","/other/link"],"Created":1767261600,"State":"running",
            "Status":"Up 2 seconds (health: starting)","Labels":{"portolan.host":"a"},
            "Ports":[{"IP":"0.0.0.0","PrivatePort":8080,"PublicPort":18080,"Type":"tcp"},
                     {"IP":"::","PrivatePort":8080,"PublicPort":18080,"Type":"tcp"},
                     {"PrivatePort":9090,"Type":"tcp"},{"PrivatePort":53,"Type":"udp"}],
            "HostConfig":{"NetworkMode":"shop_default"},
            "NetworkSettings":{"Networks":{"shop_default":{"IPAddress":"172.18.0.2","Gateway":"172.18.0.1",
                "GlobalIPv6Address":"","IPv6Gateway":""}}}}"#;
        let read = container(serde_json::from_str(json).expect("a summary"));
        assert_eq!(read.name, "shop-web-1");
        assert_eq!((read.state, read.health), (State::Running, Health::Starting));
        assert_eq!(read.created.to_string(), "2026-01-01T10:00:00Z");
        assert_eq!(read.exposed, BTreeSet::from([8080, 9090]));
        assert_eq!(read.published.len(), 2);
        let attachment = &read.networks["shop_default"];
        assert_eq!(attachment.address(), Some(IpAddr::from([172, 18, 0, 2])));
        assert_eq!((attachment.gateway, attachment.ipv6), (Some(IpAddr::from([172, 18, 0, 1])), None));
    }

    #[test]
    fn an_inspect_tells_how_a_container_is_stopped() {
        let json = r#"{"Created":"2026-01-01T10:00:00.5Z","Config":{"ExposedPorts":{"8080/tcp":{}},
            "StopSignal":"SIGRTMIN+3","StopTimeout":30}}"#;
        let read = facts(serde_json::from_str(json).expect("an inspect"));
        assert_eq!(read.stop_signal, "37".parse().ok());
        assert_eq!((read.stop_timeout, read.exposed), (Some(30), BTreeSet::from([8080])));
        let bare = facts(serde_json::from_str(r#"{"Config":{"StopSignal":""}}"#).expect("an inspect"));
        assert_eq!((bare.stop_signal, bare.stop_timeout), (None, None));
    }

    #[test]
    fn only_tcp_ports_count() {
        assert_eq!(["8080/tcp", "53/udp", "80", "x/tcp"].map(tcp_port), [Some(8080), None, Some(80), None]);
    }
}
