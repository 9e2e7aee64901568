//! One look at a swarm, by the calls of its manager.
//!
//! ```text
//! GET /services + GET /tasks + GET /nodes + Portolan's own container (+ GET /configs, where labels name one) ─▶ Listing
//! ```
//! `desired-state` is no filter here: a task that is meant to end is told by nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::provider::docker::connect::{Engine, EngineError};
use crate::provider::docker::own;

use super::objects::{Config, Surroundings, Swarm};
use super::translate::names_config;
use super::wire;

/// Configs never change, but they come and go; an event tells of it sooner.
const CONFIGS: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    pub swarm: Swarm,
    pub around: Surroundings,
}

/// What is asked of whom, for as long as one manager answers.
pub struct Manager {
    pub engine: Engine,
    /// The node that it runs on.
    pub node: String,
    /// Portolan's own container on its engine.
    own: Option<String>,
    /// The configs of some moment.
    configs: Option<(Instant, Vec<Config>)>,
}

impl Manager {
    pub async fn of(engine: Engine, node: String) -> Result<Manager, EngineError> {
        let own = own::container(&engine).await?;
        Ok(Manager { engine, node, own, configs: None })
    }

    pub fn own(&self) -> Option<&str> {
        self.own.as_deref()
    }

    /// What is known of configs is not true any more.
    pub fn forget_configs(&mut self) {
        self.configs = None;
    }

    pub async fn list(&mut self) -> Result<Listing, EngineError> {
        let engine = &self.engine;
        let (services, tasks, nodes, own) = tokio::try_join!(
            engine.get::<Vec<wire::Service>>("GET /services", "/services"),
            engine.get::<Vec<wire::Task>>("GET /tasks", "/tasks"),
            engine.get::<Vec<wire::Node>>("GET /nodes", "/nodes"),
            own_container(engine, self.own.as_deref()),
        )?;
        let known: BTreeMap<_, _> = tasks.iter().flat_map(wire::Task::networks).collect();
        let names: wire::Names = known.iter().map(|(id, network)| (id.clone(), network.name.clone())).collect();
        let mut swarm = Swarm {
            services: services.into_iter().map(|service| service.read(&names)).collect(),
            tasks: tasks.into_iter().map(wire::Task::read).collect(),
            nodes: nodes.into_iter().map(wire::Node::read).collect(),
            configs: Vec::new(),
        };
        if swarm.services.iter().any(names_config) {
            swarm.configs = self.configs().await?;
        }
        let mut around = self.around(own, &names, &swarm);
        around.networks = known.into_values().collect();
        around.networks.sort();
        around.networks.dedup();
        Ok(Listing { swarm, around })
    }

    async fn configs(&mut self) -> Result<Vec<Config>, EngineError> {
        if let Some((at, configs)) = &self.configs
            && at.elapsed() < CONFIGS
        {
            return Ok(configs.clone());
        }
        let said = self.engine.get::<Vec<wire::Config>>("GET /configs", "/configs").await?;
        let configs: Vec<Config> = said.into_iter().map(wire::Config::read).collect();
        self.configs = Some((Instant::now(), configs.clone()));
        Ok(configs)
    }

    /// Where Portolan stands: by its own container where this engine runs it, by the swarm's task where another one does.
    fn around(&self, own: Option<wire::Container>, names: &wire::Names, swarm: &Swarm) -> Surroundings {
        let nowhere = Surroundings { node: self.node.clone(), ..Surroundings::default() };
        if let Some(own) = own {
            let own_service = own.config.labels.get(SERVICE).cloned();
            if own.host_config.network_mode == "host" {
                return Surroundings { shares_host: true, own_service, ..nowhere };
            }
            return Surroundings { own_networks: Some(own.networks(names)), own_service, ..nowhere };
        }
        let ids = own::candidates();
        let is_own = |container: &str| ids.iter().any(|id| container.starts_with(id.as_str()));
        match swarm.tasks.iter().find(|task| task.runs() && is_own(&task.container)) {
            Some(task) => Surroundings {
                own_networks: Some(task.networks.keys().cloned().collect()),
                own_service: Some(task.service.clone()),
                ..nowhere
            },
            None => Surroundings { shares_host: self.engine.remote.is_none(), ..nowhere },
        }
    }
}

const SERVICE: &str = "com.docker.swarm.service.id";

/// With the networks of the container whose network it uses, where that is another.
async fn own_container(engine: &Engine, id: Option<&str>) -> Result<Option<wire::Container>, EngineError> {
    let inspect = |id: &str| {
        let path = format!("/containers/{id}/json");
        async move { engine.get::<wire::Container>("GET /containers/{id}/json", &path).await }
    };
    let Some(id) = id else { return Ok(None) };
    let mut own = inspect(id).await?;
    if let Some(keeper) = own.host_config.network_mode.strip_prefix("container:") {
        let keeper = inspect(keeper).await?;
        own.host_config = keeper.host_config;
        own.network_settings = keeper.network_settings;
    }
    Ok(Some(own))
}
