//! The Docker provider: the containers of one engine as routes and services.
//!
//! ```text
//!            ┌──────────── backoff, for ever ────────────┐
//!            ▼                                           │ Stale
//! endpoint ─▶ connect ─▶ open events ─▶ list ─▶ lay departures over it ─translate─▶ Live
//!                             │          ▲             ▲  at once
//!                             │          │ at once · again 40 and 250 ms after the last event · every 30 s
//!                             └──────────┴─────────────┘
//! ```
//! What the engine lists is what is, and its events are hints to list again; but a list of a busy engine takes its time,
//! so what leaves by an event leaves at once ([`departures`]). Events are opened before the first list, so that nothing
//! falls between the two. An error is never an empty answer, and a sudden fall to nothing is believed when it was read
//! twice. Whatever goes wrong (an error, silence, half an answer, a stream that ends, another socket in the place of the
//! first), what was said last stays in force.

pub(super) mod address;
mod call;
pub(super) mod connect;
pub(super) mod departures;
pub(super) mod event;
#[cfg(test)]
mod golden;
mod list;
pub mod objects;
pub(super) mod own;
mod patience;
mod picture;
mod rhythm;
pub mod signal;
pub mod translate;

#[cfg(test)]
pub use golden::{printed as golden_printed, snapshots as golden_snapshots};

use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::settings::DockerSettings;
use crate::model;

use super::{Provider, SnapshotSink};
use connect::{Endpoint, Engine, EngineError};
use list::Inspected;
use picture::Picture;

/// A list of very many containers takes the engine seconds; one that takes longer than this takes for ever.
const LIST: Duration = Duration::from_secs(60);
/// How often a provider that is on by itself looks for its socket, and any for another socket in its place.
const LOOK: Duration = Duration::from_secs(2);
/// The same while it is tried again and again.
const GLANCE: Duration = Duration::from_millis(200);
/// Between a list that suddenly says nothing and the one that has to say the same.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// An engine that was followed for so long and then fails is tried again at once.
const STEADY: Duration = Duration::from_secs(5);

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
        // Ids are of one container for ever, on whichever engine answers next.
        let mut inspected = Inspected::new();
        loop {
            self.await_socket(&endpoint, out).await;
            let socket = endpoint.identity();
            let Err(error) = self.follow(&endpoint, out, &mut backoff, &mut inspected).await;
            let why = error.to_string();
            // For ever is long: what was said already is not said with every try.
            if backoff.failures == 0 || why != said {
                tracing::warn!(provider = "docker", endpoint = %endpoint, "{why}");
                said.clone_from(&why);
            }
            out.stale(why);
            rest(&endpoint, socket, backoff.next()).await;
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
        inspected: &mut Inspected,
    ) -> Result<std::convert::Infallible, EngineError> {
        // Before the first call: all that follows is of this socket's engine.
        let socket = endpoint.identity();
        let engine = Engine::connect(endpoint, &self.settings).await?;
        let own = own::container(&engine).await?;
        let options = EventsOptionsBuilder::new()
            .filters(&std::collections::HashMap::from([("type", vec!["container", "network"])]))
            .build();
        let mut events = pin!(engine.api.events(Some(options)));
        let mut picture = Picture::empty(own, engine.remote);
        tokio::select! {
            biased;
            () = engine.listening() => {}
            event = next(&engine, &mut events) => picture.hear(&event?, Instant::now()),
        }
        tracing::info!(provider = "docker", endpoint = %endpoint, api = %engine.version, own_container = picture.own.as_deref(), "following the engine");

        // What is in force may also be from before: nothing falls to nothing by one list alone.
        let mut doubt = Doubt { was_bare: !out.in_force(), since: None };
        let mut steady_from = None;
        loop {
            replaced(endpoint, socket)?;
            let began = Instant::now();
            picture.begin(began);
            // Events that come while a list is under way ask for one more after it, not for one each; what leaves by
            // them leaves at once.
            let listing = {
                let mut list = pin!(timeout(LIST, list::list(&engine, &self.settings, inspected)));
                loop {
                    tokio::select! {
                        listed = &mut list => break listed.map_err(|_| EngineError::Slow("a list of its containers"))??,
                        event = next(&engine, &mut events) => {
                            picture.hear(&event?, Instant::now());
                            picture.publish(&self.settings, out);
                        }
                    }
                }
            };
            if doubt.believes(listing.is_bare(), began) {
                picture.take(listing, began);
                picture.publish(&self.settings, out);
            }
            let steady_from = *steady_from.get_or_insert(began + STEADY);
            while !picture.is_due(Instant::now()) && doubt.second_look().is_none_or(|then| Instant::now() < then) {
                let look = Instant::now() + LOOK;
                tokio::select! {
                    event = next(&engine, &mut events) => {
                        picture.hear(&event?, Instant::now());
                        picture.publish(&self.settings, out);
                    }
                    () = sleep_until(doubt.second_look().into_iter().fold(picture.wake().min(look), Instant::min)) => {}
                }
                let now = Instant::now();
                replaced(endpoint, socket)?;
                if picture.is_deaf(now) {
                    return Err(EngineError::EventsMissing);
                }
                if steady_from <= now {
                    backoff.reset();
                }
            }
        }
    }
}

/// A sudden fall to nothing is believed when it is read twice, with some time in between.
struct Doubt {
    was_bare: bool,
    /// When the first list began that said nothing where there was something.
    since: Option<Instant>,
}

impl Doubt {
    fn believes(&mut self, is_bare: bool, began: Instant) -> bool {
        if is_bare && !self.was_bare {
            let since = *self.since.get_or_insert(began);
            if began < since + SECOND_LOOK {
                return false;
            }
        }
        *self = Doubt { was_bare: is_bare, since: None };
        true
    }

    /// When to read again at the latest; sooner where an event asks for it.
    fn second_look(&self) -> Option<Instant> {
        self.since.map(|since| since + SECOND_LOOK)
    }
}

/// A pause that ends early where there is another socket than the one that failed: an engine that starts makes one.
pub(super) async fn rest(endpoint: &Endpoint, failed: Option<(u64, u64)>, pause: Duration) {
    let until = Instant::now() + pause;
    while Instant::now() < until && endpoint.identity().is_none_or(|now| Some(now) == failed) {
        sleep_until(until.min(Instant::now() + GLANCE)).await;
    }
}

/// Calls go to whoever listens at the path now, while events still come from whoever did.
pub(super) fn replaced(endpoint: &Endpoint, socket: Option<(u64, u64)>) -> Result<(), EngineError> {
    match (endpoint.socket(), endpoint.identity()) {
        (Some(path), now) if socket.is_some() && now.is_some() && now != socket => {
            Err(EngineError::Replaced(path.to_path_buf()))
        }
        _ => Ok(()),
    }
}

pub(super) async fn next<S>(engine: &Engine, events: &mut S) -> Result<EventMessage, EngineError>
where
    S: Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin,
{
    match events.next().await {
        Some(Ok(event)) => Ok(event),
        Some(Err(bollard::errors::Error::IOError { .. })) | None => Err(EngineError::EventsEnded),
        Some(Err(error)) => Err(engine.explain("GET /events", error)),
    }
}

/// Doubles up to 10 s, each pause cut by up to a half at random, so that many proxies do not come back as one.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LAST: Duration = Duration::from_secs(10);

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn next(&mut self) -> Duration {
        let full = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LAST);
        self.failures += 1;
        // The standard library's own seed is the only randomness needed here.
        let share = RandomState::new().hash_one(self.failures) % 500;
        full - full / 1000 * u32::try_from(share).unwrap_or(0)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_to_nothing_is_believed_when_it_was_read_twice_with_time_in_between() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut doubt = Doubt { was_bare: false, since: None };
        assert!(doubt.believes(false, at(0)) && doubt.second_look().is_none());
        assert!(!doubt.believes(true, at(100)));
        assert_eq!(doubt.second_look(), Some(at(600)));
        assert!(!doubt.believes(true, at(140)), "a list that an event asked for is no second look yet");
        assert!(doubt.believes(false, at(150)) && doubt.second_look().is_none(), "and it may show what is new");
        assert!(!doubt.believes(true, at(200)));
        assert!(doubt.believes(true, at(700)) && doubt.second_look().is_none());
        assert!(doubt.believes(true, at(701)), "that is how it is now");
        let mut fresh = Doubt { was_bare: true, since: None };
        assert!(fresh.believes(true, at(0)), "there was nothing before");
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
