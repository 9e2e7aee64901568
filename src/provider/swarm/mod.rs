//! The Swarm provider: the services of one swarm as routes and services.
//!
//! ```text
//!             ┌────────── backoff, for ever: the next manager that answers ──────────┐
//!             ▼                                                                      │ Stale
//! endpoints ─▶ connect ─▶ /info: a manager? ─▶ open events ─▶ list ─translate─▶ Live ┘
//!                           │ no: off, looked up again          ▲
//!                           └───────────────────────────────────┴── every 250 ms while something moves, else every second
//! ```
//! A manager tells of services and nodes, which is a hint to look; of tasks it tells nobody, so they are looked at in any
//! case. What the engine itself tells of its own containers leaves at once. An error is never an empty answer.

#[cfg(test)]
mod golden;
mod list;
pub mod objects;
mod picture;
mod reach;
mod rhythm;
pub mod translate;
mod wire;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::EventsOptionsBuilder;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::settings::{DockerSettings, SwarmSettings};
use crate::model::diagnostic::{Diagnostic, Origin, Reason};
use crate::model::id::{Kind, ObjectId, Source};
use crate::model::{self, Snapshot};

use super::docker::connect::{Endpoint, Engine, EngineError};
use super::docker::{self, Backoff};
use super::{Provider, SnapshotSink};
use list::Manager;
use picture::Picture;

/// One that takes longer than this takes for ever.
const LIST: Duration = Duration::from_secs(60);
/// How often a provider that is on by itself looks for a socket.
const LOOK: Duration = Duration::from_secs(2);
/// How often an engine that is no manager is asked again.
const AGAIN: Duration = Duration::from_secs(5);
/// Between a look that suddenly sees nothing and the one that has to see the same.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// A manager that was followed for so long and then fails is tried again at once.
const STEADY: Duration = Duration::from_secs(5);
/// How long the first look of a provider that is on by itself may hold back readiness.
const FIRST_LOOK: Duration = Duration::from_secs(2);

pub struct Swarm {
    settings: SwarmSettings,
    /// On while an engine is there and is a manager: nobody asked for it in the settings.
    auto: bool,
}

/// Why a swarm is not followed, or no longer.
enum Outage {
    Engine(EngineError),
    /// It answers, and does not manage a swarm.
    NoManager {
        why: String,
        /// It is part of none at all, so that there are no services.
        inactive: bool,
    },
}

impl From<EngineError> for Outage {
    fn from(error: EngineError) -> Outage {
        Outage::Engine(error)
    }
}

impl Swarm {
    pub fn new(settings: SwarmSettings, auto: bool) -> Swarm {
        Swarm { settings, auto }
    }

    /// Whether there may be a manager where the settings say: a socket is there, or one is asked over the network.
    pub fn has_socket(&self) -> bool {
        let there = |endpoint: &Endpoint| endpoint.socket().is_none_or(std::path::Path::exists);
        self.endpoints().is_ok_and(|endpoints| endpoints.iter().any(|(endpoint, _)| there(endpoint)))
    }

    fn endpoints(&self) -> Result<Vec<(Endpoint, DockerSettings)>, EngineError> {
        let SwarmSettings { endpoints, tls, .. } = &self.settings;
        let each = endpoints.iter().map(|endpoint| {
            // Certificates are for what is reached over the network.
            let tls = tls.clone().filter(|_| !endpoint.trim().starts_with("unix:"));
            let settings = DockerSettings { endpoint: endpoint.clone(), tls, ..DockerSettings::default() };
            Ok((Endpoint::of(&settings)?, settings))
        });
        each.collect()
    }
}

impl Provider for Swarm {
    fn name(&self) -> model::Provider {
        model::Provider::Swarm
    }

    async fn run(self, out: SnapshotSink, stop: CancellationToken) -> Result<(), String> {
        stop.run_until_cancelled(self.follow_for_ever(&out)).await.unwrap_or(Ok(()))
    }
}

impl Swarm {
    /// Comes back only with a setting that can never work.
    async fn follow_for_ever(&self, out: &SnapshotSink) -> Result<(), String> {
        let endpoints = self.endpoints().map_err(|error| error.to_string())?;
        let mut backoff = Backoff::default();
        let mut said = String::new();
        let mut inactive_before = false;
        let mut may_hold_back = self.auto && !out.in_force();
        loop {
            self.await_socket(&endpoints, out).await;
            let round = self.round(&endpoints, out, &mut backoff);
            let outage = if std::mem::take(&mut may_hold_back) {
                self.unless_held_back(round, out).await
            } else {
                let Err(outage) = round.await;
                outage
            };
            match outage {
                Outage::NoManager { why, inactive } => {
                    // Whoever starts says so for a moment, and then all its services are there after all.
                    let believed = inactive && inactive_before;
                    inactive_before = inactive;
                    self.no_manager(&why, believed, out);
                    sleep(if inactive && !believed { LOOK } else { AGAIN }).await;
                }
                Outage::Engine(error) => {
                    let why = error.to_string();
                    if self.auto && !out.in_force() {
                        // Whoever looks for containers there says the same.
                        tracing::debug!(provider = "swarm", "{why}");
                        out.withdraw();
                    } else {
                        if backoff.failures() == 0 || why != said {
                            tracing::warn!(provider = "swarm", "{why}");
                            said.clone_from(&why);
                        }
                        out.stale(why);
                    }
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    /// A provider that may turn out not to be on lets the others go ahead after a moment.
    async fn unless_held_back(
        &self,
        round: impl Future<Output = Result<Infallible, Outage>>,
        out: &SnapshotSink,
    ) -> Outage {
        let mut round = pin!(round);
        let ended = match timeout(FIRST_LOOK, &mut round).await {
            Ok(ended) => ended,
            Err(_) => {
                if !out.in_force() {
                    out.withdraw();
                }
                round.await
            }
        };
        let Err(outage) = ended;
        outage
    }

    /// In auto mode there is no provider where there is no engine, unless something of it is still in force.
    async fn await_socket(&self, endpoints: &[(Endpoint, DockerSettings)], out: &SnapshotSink) {
        while self.auto && !self.has_socket() {
            let first = endpoints.first().and_then(|(endpoint, _)| endpoint.socket());
            match first.filter(|_| out.in_force()) {
                Some(socket) => out.stale(EngineError::NoSocket(socket.to_path_buf()).to_string()),
                None => out.withdraw(),
            }
            sleep(LOOK).await;
        }
    }

    /// What is in force stays so while the engine may know better soon; what it denies twice is not there.
    fn no_manager(&self, why: &str, believed: bool, out: &SnapshotSink) {
        if out.in_force() && !believed {
            out.stale(why);
        } else if self.auto {
            tracing::debug!(provider = "swarm", "{why}; not on");
            out.withdraw();
        } else {
            let subject = ObjectId::new(&Source::new(model::Provider::Swarm, None), Kind::Provider, "swarm");
            let mut snapshot = Snapshot::empty(model::Provider::Swarm);
            snapshot.findings.push(Diagnostic::error(subject, Reason::ProviderUnavailable, Origin::Default, why));
            out.live(snapshot);
        }
    }

    /// Follows the first manager that answers until it no longer does. Otherwise says what the first of them is like.
    async fn round(
        &self,
        endpoints: &[(Endpoint, DockerSettings)],
        out: &SnapshotSink,
        backoff: &mut Backoff,
    ) -> Result<Infallible, Outage> {
        let mut first = None;
        for (endpoint, settings) in endpoints {
            // Before the first call: all that follows is of this socket's engine.
            let socket = endpoint.identity();
            let outage = match self.meet(endpoint, settings).await {
                Ok(manager) => {
                    out.announce();
                    let Err(outage) = self.follow(manager, endpoint, socket, out, backoff).await;
                    outage
                }
                Err(outage) => outage,
            };
            tracing::debug!(provider = "swarm", %endpoint, "{}", outage.why());
            first.get_or_insert(outage);
        }
        Err(first.unwrap_or(Outage::Engine(EngineError::Settings("endpoints names no manager".into()))))
    }

    async fn meet(&self, endpoint: &Endpoint, settings: &DockerSettings) -> Result<Manager, Outage> {
        let engine = Engine::connect(endpoint, settings).await?;
        let wire::Info { swarm } = engine.get("GET /info", "/info").await?;
        if swarm.local_node_state != "active" || !swarm.control_available {
            let why = match swarm.local_node_state.as_str() {
                "active" => "it is a worker; name a manager under providers.swarm.endpoints".to_string(),
                "locked" => "its swarm is locked; run docker swarm unlock there".to_string(),
                "" | "inactive" => "it is not part of a swarm; run docker swarm init there".to_string(),
                state if swarm.error.is_empty() => format!("its part in the swarm is \"{state}\""),
                state => format!("its part in the swarm is \"{state}\": {}", swarm.error),
            };
            let inactive = ["", "inactive"].contains(&swarm.local_node_state.as_str());
            return Err(Outage::NoManager {
                why: format!("the engine at {endpoint} manages no swarm: {why}"),
                inactive,
            });
        }
        Ok(Manager::of(engine, swarm.node_id).await?)
    }

    async fn follow(
        &self,
        mut manager: Manager,
        endpoint: &Endpoint,
        socket: Option<(u64, u64)>,
        out: &SnapshotSink,
        backoff: &mut Backoff,
    ) -> Result<Infallible, Outage> {
        let kinds = vec!["service", "node", "config", "container", "network"];
        let options = EventsOptionsBuilder::new().filters(&std::collections::HashMap::from([("type", kinds)])).build();
        let engine = manager.engine.clone();
        let mut events = pin!(engine.api.events(Some(options)));
        let mut picture = Picture::empty();
        tokio::select! {
            biased;
            () = engine.listening() => {}
            event = docker::next(&engine, &mut events) => { picture.hear(&event?, Instant::now()); }
        }
        tracing::info!(provider = "swarm", %endpoint, api = %engine.version, node = manager.node, own_container = manager.own(), "following the swarm");

        // What is in force may also be from before: nothing falls to nothing by one look alone.
        let mut was_bare = !out.in_force();
        let mut steady_from = None;
        loop {
            docker::replaced(endpoint, socket)?;
            let began = Instant::now();
            picture.begin(began);
            let mut heard = Vec::new();
            let listing = {
                let mut list = pin!(timeout(LIST, manager.list()));
                loop {
                    tokio::select! {
                        listed = &mut list => break listed.map_err(|_| EngineError::Slow("a look at its swarm"))??,
                        event = docker::next(&engine, &mut events) => {
                            let event = event?;
                            if picture.hear(&event, Instant::now()) {
                                picture.publish(&self.settings, out);
                            }
                            heard.push(event);
                        }
                    }
                }
            };
            if heard.iter().any(is_of_configs) {
                manager.forget_configs();
            }
            // A sudden fall to nothing is believed when read twice.
            let doubtful = listing.swarm.is_bare() && !was_bare;
            was_bare = listing.swarm.is_bare();
            if doubtful {
                sleep(SECOND_LOOK).await;
                continue;
            }
            picture.take(listing, began);
            picture.publish(&self.settings, out);
            let steady_from = *steady_from.get_or_insert(began + STEADY);
            if steady_from <= Instant::now() {
                backoff.reset();
            }
            while !picture.is_due(Instant::now()) {
                tokio::select! {
                    event = docker::next(&engine, &mut events) => {
                        let event = event?;
                        if is_of_configs(&event) {
                            manager.forget_configs();
                        }
                        if picture.hear(&event, Instant::now()) {
                            picture.publish(&self.settings, out);
                        }
                    }
                    () = sleep_until(picture.wake()) => {}
                }
            }
        }
    }
}

impl Outage {
    fn why(&self) -> String {
        match self {
            Outage::Engine(error) => error.to_string(),
            Outage::NoManager { why, .. } => why.clone(),
        }
    }
}

fn is_of_configs(event: &EventMessage) -> bool {
    event.typ == Some(EventMessageTypeEnum::CONFIG)
}
