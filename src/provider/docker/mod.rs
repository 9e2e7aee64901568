//! The Docker provider: the containers of one engine as routes and services.
//!
//! ```text
//!            ┌──────────── backoff, for ever ────────────┐
//!            ▼                                           │ Stale
//! endpoint ─▶ connect ─▶ open events ─▶ list ─translate─▶ Live
//!                             │          ▲  at once · again 40 and 250 ms after the last event · every 30 s
//!                             └──────────┘
//! ```
//! Events are hints to list again: what the engine lists is what is. They are opened before the first list, so that
//! nothing falls between the two. An error is never an empty answer.

mod address;
mod connect;
#[cfg(test)]
mod golden;
mod list;
pub mod objects;
mod own;
pub mod translate;

#[cfg(test)]
pub use golden::snapshots as golden_snapshots;

use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::settings::DockerSettings;
use crate::model;

use super::{Provider, SnapshotSink};
use connect::{Endpoint, Engine, EngineError};
use list::{Inspected, Listing};
use objects::Surroundings;
use translate::translate;

/// An engine of 20.10 announces a network connect, and now and then a start, before its list shows it. Soon for the
/// usual case, later for an engine that is busy.
const CONFIRM: [Duration; 2] = [Duration::from_millis(40), Duration::from_millis(250)];
/// What no event told of.
const SAFETY: Duration = Duration::from_secs(30);
/// A list of very many containers takes the engine seconds; one that takes longer than this takes for ever.
const LIST: Duration = Duration::from_secs(60);
/// How often a provider that is on by itself looks for its socket.
const LOOK: Duration = Duration::from_secs(2);

pub struct Docker {
    settings: DockerSettings,
    /// On while the engine's socket is there: nobody asked for it in the settings.
    auto: bool,
}

impl Docker {
    pub fn new(settings: DockerSettings, auto: bool) -> Docker {
        Docker { settings, auto }
    }

    /// Whether an engine's socket is where the settings say.
    pub fn has_socket(&self) -> bool {
        Endpoint::of(&self.settings).is_ok_and(|endpoint| endpoint.socket().is_some_and(std::path::Path::exists))
    }
}

impl Provider for Docker {
    fn name(&self) -> model::Provider {
        model::Provider::Docker
    }

    async fn run(self, out: SnapshotSink, stop: CancellationToken) -> Result<(), String> {
        stop.run_until_cancelled(self.follow_for_ever(&out)).await.unwrap_or(Ok(()))
    }
}

impl Docker {
    /// Comes back only with a setting that can never work.
    async fn follow_for_ever(&self, out: &SnapshotSink) -> Result<(), String> {
        let endpoint = Endpoint::of(&self.settings).map_err(|error| error.to_string())?;
        let mut backoff = Backoff::default();
        let mut said = String::new();
        loop {
            self.await_socket(&endpoint, out).await;
            let Err(error) = self.follow(&endpoint, out, &mut backoff).await;
            let why = error.to_string();
            // For ever is long: what was said already is not said with every try.
            if backoff.failures == 0 || why != said {
                tracing::warn!(provider = "docker", endpoint = %endpoint, "{why}");
                said.clone_from(&why);
            }
            out.stale(why);
            let pause = backoff.next();
            tokio::time::sleep(pause).await;
        }
    }

    /// In auto mode there is no provider where there is no socket, unless something of it is still in force.
    async fn await_socket(&self, endpoint: &Endpoint, out: &SnapshotSink) {
        let Some(socket) = endpoint.socket().filter(|_| self.auto) else { return };
        while !socket.exists() {
            if out.in_force() {
                out.stale(EngineError::NoSocket(socket.to_path_buf()).to_string());
            } else {
                out.withdraw();
            }
            tokio::time::sleep(LOOK).await;
        }
        out.announce();
    }

    async fn follow(
        &self,
        endpoint: &Endpoint,
        out: &SnapshotSink,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, EngineError> {
        let engine = Engine::connect(endpoint, &self.settings).await?;
        let own = own::container(&engine).await?;
        let options = EventsOptionsBuilder::new()
            .filters(&std::collections::HashMap::from([("type", vec!["container", "network"])]))
            .build();
        let mut events = pin!(engine.api.events(Some(options)));
        let mut rhythm = Rhythm::start(Instant::now());
        tokio::select! {
            biased;
            () = engine.listening() => {}
            event = next(&engine, &mut events) => rhythm.hear(&event?, Instant::now()),
        }
        tracing::info!(provider = "docker", endpoint = %endpoint, api = %engine.version, own_container = own.as_deref(), "following the engine");

        let mut inspected = Inspected::new();
        // What is in force may also be from before: nothing falls to nothing by one list alone.
        let mut was_empty = !out.in_force();
        loop {
            // Events that come while a list is under way ask for one more after it, not for one each.
            let listing = {
                let mut list = pin!(timeout(LIST, list::list(&engine, &self.settings, std::mem::take(&mut inspected))));
                loop {
                    tokio::select! {
                        listed = &mut list => break listed.map_err(|_| EngineError::Slow("a list of its containers"))??,
                        event = next(&engine, &mut events) => rhythm.hear(&event?, Instant::now()),
                    }
                }
            };
            let (Listing { containers, networks }, facts) = listing;
            inspected = facts;
            // A sudden fall to nothing is believed when read twice.
            if containers.is_empty() && !was_empty {
                was_empty = true;
                continue;
            }
            was_empty = containers.is_empty();
            let around = Surroundings::seen(own.as_deref(), &containers, networks, engine.remote);
            out.live(translate(&containers, &around, &self.settings));
            backoff.reset();
            while !rhythm.is_due(Instant::now()) {
                tokio::select! {
                    event = next(&engine, &mut events) => rhythm.hear(&event?, Instant::now()),
                    () = sleep_until(rhythm.wake()) => {}
                }
            }
            rhythm.begin(Instant::now());
        }
    }
}

async fn next<S>(engine: &Engine, events: &mut S) -> Result<EventMessage, EngineError>
where
    S: Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin,
{
    match events.next().await {
        Some(Ok(event)) => Ok(event),
        Some(Err(bollard::errors::Error::IOError { .. })) | None => Err(EngineError::EventsEnded),
        Some(Err(error)) => Err(engine.explain("GET /events", error)),
    }
}

/// When to list next.
struct Rhythm {
    asked: bool,
    /// When the last event came, and how often the list after it has been confirmed.
    heard: Option<(Instant, usize)>,
    safety: Instant,
}

impl Rhythm {
    fn start(now: Instant) -> Rhythm {
        // The engine accepts an event stream a moment before it subscribes it.
        Rhythm { asked: false, heard: Some((now, 0)), safety: now + SAFETY }
    }

    fn hear(&mut self, event: &EventMessage, now: Instant) {
        if is_relevant(event) {
            self.asked = true;
            self.heard = Some((now, 0));
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.asked || self.wake() <= now
    }

    fn wake(&self) -> Instant {
        self.heard.map_or(self.safety, |(heard, confirmed)| (heard + CONFIRM[confirmed]).min(self.safety))
    }

    /// A list begins: it answers what was heard up to now, save what has to be confirmed.
    fn begin(&mut self, now: Instant) {
        self.asked = false;
        self.heard = self.heard.and_then(|(heard, confirmed)| {
            let left = (confirmed..CONFIRM.len()).find(|step| heard + CONFIRM[*step] > now)?;
            Some((heard, left))
        });
        self.safety = now + SAFETY;
    }
}

/// Whether an event can change what we say. Health checks run through `exec_*` events all day long.
fn is_relevant(event: &EventMessage) -> bool {
    let action = event.action.as_deref().unwrap_or_default();
    match event.typ {
        Some(EventMessageTypeEnum::NETWORK) => {
            matches!(action, "connect" | "disconnect" | "create" | "destroy" | "remove")
        }
        Some(EventMessageTypeEnum::CONTAINER) => {
            matches!(
                action,
                "create"
                    | "start"
                    | "restart"
                    | "kill"
                    | "die"
                    | "oom"
                    | "stop"
                    | "destroy"
                    | "rename"
                    | "update"
                    | "pause"
                    | "unpause"
            ) || action.starts_with("health_status")
        }
        _ => false,
    }
}

/// Doubles up to 10 s, each pause cut by up to a half at random, so that many proxies do not come back as one.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LAST: Duration = Duration::from_secs(10);

    fn next(&mut self) -> Duration {
        let full = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LAST);
        self.failures += 1;
        // The standard library's own seed is the only randomness needed here.
        let share = RandomState::new().hash_one(self.failures) % 500;
        full - full / 1000 * u32::try_from(share).unwrap_or(0)
    }

    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(typ: EventMessageTypeEnum, action: &str) -> EventMessage {
        EventMessage { typ: Some(typ), action: Some(action.into()), ..EventMessage::default() }
    }

    #[test]
    fn what_cannot_change_a_route_asks_for_no_list() {
        for action in ["start", "health_status: healthy", "pause", "rename"] {
            assert!(is_relevant(&event(EventMessageTypeEnum::CONTAINER, action)), "{action}");
        }
        for action in ["exec_create: /bin/sh -c true", "exec_die", "top", "attach"] {
            assert!(!is_relevant(&event(EventMessageTypeEnum::CONTAINER, action)), "{action}");
        }
        assert!(is_relevant(&event(EventMessageTypeEnum::NETWORK, "connect")));
        assert!(!is_relevant(&event(EventMessageTypeEnum::IMAGE, "pull")));
    }

    #[test]
    fn an_event_is_acted_on_at_once_and_confirmed_after_the_last() {
        let start = Instant::now();
        let mut rhythm = Rhythm::start(start);
        rhythm.begin(start);
        assert!(!rhythm.is_due(start));
        assert!(rhythm.is_due(start + CONFIRM[0]), "the first list is confirmed");
        rhythm.begin(start + CONFIRM[0]);
        let confirmed = start + CONFIRM[1];
        assert!(rhythm.is_due(confirmed), "and once more");
        rhythm.begin(confirmed);
        assert!(!rhythm.is_due(confirmed));
        assert_eq!(rhythm.wake(), confirmed + SAFETY);

        rhythm.hear(&event(EventMessageTypeEnum::NETWORK, "connect"), confirmed);
        assert!(rhythm.is_due(confirmed));
        rhythm.begin(confirmed);
        let later = confirmed + CONFIRM[0] / 2;
        assert!(!rhythm.is_due(later));
        rhythm.hear(&event(EventMessageTypeEnum::CONTAINER, "start"), later);
        rhythm.begin(later);
        assert_eq!(rhythm.wake(), later + CONFIRM[0], "after the last event, not the first");
        let busy = later + CONFIRM[1];
        rhythm.begin(busy);
        assert_eq!(rhythm.wake(), busy + SAFETY, "a list that began after both confirms both");
    }

    #[test]
    fn pauses_grow_to_ten_seconds_and_vary() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(pauses[0] <= Backoff::FIRST && pauses[0] >= Backoff::FIRST / 2);
        assert!(pauses[10..].iter().all(|pause| *pause <= Backoff::LAST && *pause >= Backoff::LAST / 2), "{pauses:?}");
        assert!(pauses[10..].windows(2).any(|pair| pair[0] != pair[1]), "{pauses:?}");
        backoff.reset();
        assert!(backoff.next() <= Backoff::FIRST);
    }
}
