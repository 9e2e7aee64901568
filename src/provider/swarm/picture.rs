//! What a manager listed last, and what its engine has told since of the containers that run on it: together what is.
//!
//! ```text
//! list ──take──▶ Picture ──publish──▶ translate ─▶ board
//! event ──hear─▶    │
//!                   └─▶ is_due, wake: when to look again
//! ```
//! A manager hears of its tasks late. What an engine tells of containers, it tells at once, though only of its own; the
//! rules of when it is believed are those of [`Departures`].

use std::collections::BTreeSet;

use bollard::models::{EventMessage, EventMessageTypeEnum};
use tokio::time::Instant;

use crate::config::settings::SwarmSettings;
use crate::provider::SnapshotSink;
use crate::provider::docker::departures::Departures;
use crate::provider::docker::event::{Change, Event};
use crate::provider::docker::objects::{Attachment, Container, Health, State};

use super::list::Listing;
use super::objects::{Task, Told};
use super::rhythm::{Looked, Rhythm};
use super::translate::translate;

const TASK: &str = "com.docker.swarm.task.id";

pub struct Picture {
    listed: Option<Listing>,
    departures: Departures,
    /// Containers that somebody paused, of which no manager hears.
    paused: BTreeSet<String>,
    rhythm: Rhythm,
}

impl Picture {
    pub fn empty() -> Picture {
        let rhythm = Rhythm::start(Instant::now());
        Picture { listed: None, departures: Departures::default(), paused: BTreeSet::new(), rhythm }
    }

    /// Whether what is published may be another now.
    pub fn hear(&mut self, message: &EventMessage, now: Instant) -> bool {
        match message.typ {
            Some(EventMessageTypeEnum::CONTAINER) if !is_of_a_task(message) => return false,
            Some(EventMessageTypeEnum::CONTAINER | EventMessageTypeEnum::NETWORK) => match Event::read(message) {
                Event::Container { id, change } => self.note(&id, &change, now),
                Event::Hint | Event::NetworkGone(_) => {}
                Event::Irrelevant => return false,
            },
            // Of services, nodes and configs, whatever it is.
            _ => {}
        }
        self.rhythm.hear(now);
        true
    }

    fn note(&mut self, id: &str, change: &Change, now: Instant) {
        match change {
            Change::Paused => {
                self.paused.insert(id.to_string());
            }
            Change::Unpaused | Change::Started | Change::Died => {
                self.paused.remove(id);
                self.departures.hear(id, change, now);
            }
            change => self.departures.hear(id, change, now),
        }
    }

    /// A look begins.
    pub fn begin(&mut self, now: Instant) {
        self.rhythm.begin(now);
    }

    /// What the look that began at `began` saw.
    pub fn take(&mut self, listing: Listing, began: Instant) {
        self.departures.settle(&containers(&listing), began);
        self.paused.retain(|id| listing.swarm.tasks.iter().any(|task| task.container == *id));
        let looked = Looked {
            settled: listing.swarm.is_settled(),
            updating: listing.swarm.is_updating(),
            changed: self.listed.as_ref().is_none_or(|before| before.swarm.tasks != listing.swarm.tasks),
        };
        self.listed = Some(listing);
        self.rhythm.settle(looked, Instant::now());
    }

    /// Puts on the board what is known by now; nothing before the first look.
    pub fn publish(&self, settings: &SwarmSettings, out: &SnapshotSink) {
        let Some(listing) = &self.listed else { return };
        let mut told = containers(listing);
        self.departures.lay_over(&mut told, Instant::now());
        let mut swarm = listing.swarm.clone();
        for container in told {
            let mut tasks = swarm.tasks.iter_mut();
            let Some(task) = tasks.find(|task| task.container == container.id) else { continue };
            task.told = match (container.state, container.health) {
                _ if self.paused.contains(&container.id) => Told::Stopped,
                (State::Running, Health::Unhealthy) => Told::Unhealthy,
                (State::Running, _) if container.stopping => Told::Stopping,
                (State::Running, _) => Told::Nothing,
                _ => Told::Stopped,
            };
            task.networks.retain(|name, _| container.networks.contains_key(name));
        }
        out.live(translate(&swarm, &listing.around, settings));
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.rhythm.is_due(now) || self.wake() <= now
    }

    pub fn wake(&self) -> Instant {
        let listed = self.listed.as_ref().map(containers).unwrap_or_default();
        self.departures.wake(&listed).into_iter().fold(self.rhythm.wake(), Instant::min)
    }
}

fn is_of_a_task(message: &EventMessage) -> bool {
    let attributes = message.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
    attributes.is_some_and(|attributes| attributes.contains_key(TASK))
}

/// The tasks that run, as the containers that they are.
fn containers(listing: &Listing) -> Vec<Container> {
    let running = listing.swarm.tasks.iter().filter(|task| task.state == "running" && !task.container.is_empty());
    let attachment = |task: &Task| {
        let names = task.networks.keys();
        names.map(|name| (name.clone(), Attachment::default())).collect()
    };
    running
        .map(|task| Container {
            id: task.container.clone(),
            state: State::Running,
            networks: attachment(task),
            stop_signal: task.stop_signal,
            stop_timeout: task.stop_grace,
            ..Container::default()
        })
        .collect()
}
