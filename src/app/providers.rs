//! The providers that run, as the settings want them.
//!
//! ```text
//! ProviderSettings ─▶ wanted ─▶ compare with what runs ─▶ keep · start · restart (the last word stays in force) ·
//!                                                         stop (its word and its snapshot on disk are withdrawn)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::settings::{DockerSettings, FileSettings, ProviderSettings, SwarmSettings};
use crate::control::last_good::LastGood;
use crate::model::Provider;
use crate::provider::docker::Docker;
use crate::provider::file::File;
use crate::provider::swarm::Swarm;
use crate::provider::{self, Board, SnapshotSink};

pub struct Providers {
    board: Arc<watch::Sender<Board>>,
    last_good: LastGood,
    stop: CancellationToken,
    running: BTreeMap<Provider, Running>,
    off: BTreeSet<Provider>,
}

struct Running {
    wanted: Wanted,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

/// A provider that is on.
#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    Docker { settings: DockerSettings, auto: bool },
    Swarm { settings: SwarmSettings, auto: bool },
    File(FileSettings),
}

/// Those that are built.
const BUILT: [Provider; 3] = [Provider::Swarm, Provider::Docker, Provider::File];

impl Providers {
    /// None runs yet. All of them end with `stop`.
    pub fn new(board: Arc<watch::Sender<Board>>, last_good: LastGood, stop: CancellationToken) -> Providers {
        Providers { board, last_good, stop, running: BTreeMap::new(), off: BTreeSet::new() }
    }

    /// Comes back when what is not wanted any more has said its last word.
    pub async fn apply(&mut self, settings: &ProviderSettings) {
        for provider in BUILT {
            let wanted = Wanted::of(provider, settings);
            let running = self.running.remove(&provider);
            if let Some(running) = running {
                if Some(&running.wanted) == wanted.as_ref() {
                    self.running.insert(provider, running);
                    continue;
                }
                running.stop.cancel();
                // A task that panicked says nothing more either.
                let _ = running.ended.await;
            }
            match wanted {
                Some(wanted) => {
                    if !wanted.is_there() {
                        self.withdraw(provider);
                    }
                    self.off.remove(&provider);
                    self.start(provider, wanted);
                }
                None if !self.off.insert(provider) => {}
                None => {
                    tracing::info!(%provider, "off");
                    self.withdraw(provider);
                    self.last_good.forget(provider);
                }
            }
        }
    }

    fn start(&mut self, provider: Provider, wanted: Wanted) {
        let stop = self.stop.child_token();
        let settings = wanted.settings();
        let said = self.board.borrow().get(&provider).is_some_and(|state| state.snapshot().is_some());
        let kept = if said { None } else { self.last_good.read(provider, &settings) };
        let (board, until) = (&self.board, stop.clone());
        let ended = match wanted.clone() {
            Wanted::Docker { settings: docker, auto } => {
                let when = if auto { "while its socket is there, or a last good snapshot of it" } else { "always" };
                tracing::info!(%provider, endpoint = docker.endpoint, when, "on");
                provider::supervise(Docker::new(docker, auto), settings, kept, board, until)
            }
            Wanted::Swarm { settings: swarm, auto } => {
                let when = if auto { "while the engine there is a manager" } else { "always" };
                tracing::info!(%provider, endpoints = swarm.endpoints.join(","), when, "on");
                provider::supervise(Swarm::new(swarm, auto), settings, kept, board, until)
            }
            Wanted::File(file) => {
                tracing::info!(%provider, path = %file.path.display(), "on");
                provider::supervise(File::new(file), settings, kept, board, until)
            }
        };
        self.running.insert(provider, Running { wanted, stop, ended });
    }

    fn withdraw(&self, provider: Provider) {
        if self.board.borrow().contains_key(&provider) {
            SnapshotSink::open(provider, self.board.clone()).withdraw();
        }
    }
}

impl Wanted {
    fn of(provider: Provider, settings: &ProviderSettings) -> Option<Wanted> {
        let ProviderSettings { docker, swarm, kubernetes: _, file, api: _, off } = settings;
        match provider {
            Provider::Docker if docker.is_none() && off.contains(&provider) => None,
            Provider::Docker => {
                Some(Wanted::Docker { settings: docker.clone().unwrap_or_default(), auto: docker.is_none() })
            }
            // Whoever wants no containers watched has said so of the socket.
            Provider::Swarm if swarm.is_none() && [provider, Provider::Docker].iter().any(|it| off.contains(it)) => {
                None
            }
            Provider::Swarm => {
                let settings = swarm.clone().unwrap_or_else(|| beside(docker.as_ref()));
                Some(Wanted::Swarm { settings, auto: swarm.is_none() })
            }
            Provider::File => file.clone().map(Wanted::File),
            _ => None,
        }
    }

    /// One that is on by itself is off where there is no socket: what an engine elsewhere said, under settings that are
    /// gone, would stay in force for ever.
    fn is_there(&self) -> bool {
        match self {
            Wanted::Docker { settings, auto: true } => Docker::new(settings.clone(), true).has_socket(),
            Wanted::Swarm { settings, auto: true } => Swarm::new(settings.clone(), true).has_socket(),
            Wanted::Docker { auto: false, .. } | Wanted::Swarm { auto: false, .. } | Wanted::File(_) => true,
        }
    }

    fn settings(&self) -> Arc<str> {
        match self {
            Wanted::Docker { settings, auto: _ } => text(settings),
            Wanted::Swarm { settings, auto: _ } => text(settings),
            Wanted::File(settings) => text(settings),
        }
    }
}

/// A swarm that nobody wrote anything about is looked for where containers are.
fn beside(docker: Option<&DockerSettings>) -> SwarmSettings {
    let Some(DockerSettings { endpoint, network, expose, default_host, dialects: _, tls }) = docker.cloned() else {
        return SwarmSettings::default();
    };
    SwarmSettings { endpoints: vec![endpoint], network, expose, default_host, tls }
}

fn text(settings: &impl Serialize) -> Arc<str> {
    // Settings are made of strings, numbers and lists: there is nothing in them that JSON has no word for.
    serde_json::to_string(settings).unwrap_or_default().into()
}
