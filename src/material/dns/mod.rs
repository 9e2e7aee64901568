//! Names whose addresses somebody else decides, looked up again and again.
//!
//! ```text
//! set(names) ─▶ NameWatch ─▶ a task per name: look up ─▶ wait for the TTL, 5 s at most, or until told ─┐
//!                  │            ▲──────────────────────────────────────────────────────────────────────┘
//!                  ▼
//!              changed() ─▶ current(): name to Answer
//! ```
//! The last addresses stay in force when a lookup fails, and a name that is suddenly unknown (NXDOMAIN) is a failure like
//! any other: an engine's DNS forgets a container for the moment in which it is recreated.

mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use self::system::SystemResolver;

/// An engine's own DNS says 600 s of addresses that change within one.
const LONGEST: Duration = Duration::from_secs(5);
const SHORTEST: Duration = Duration::from_secs(1);
/// Between the lookups of one name, however often somebody asks for one.
const PAUSE: Duration = Duration::from_millis(250);

/// What is known of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Sorted; of the last lookup that found any.
    pub addresses: Vec<IpAddr>,
    /// Why the last lookup found none, in words for a person.
    pub failure: Option<String>,
}

/// What one lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    addresses: Vec<IpAddr>,
    ttl: Duration,
}

/// A set of names and their addresses. Lookups run in the runtime of whoever calls [`NameWatch::set`].
#[derive(Debug)]
pub struct NameWatch {
    names: BTreeMap<Arc<str>, Watched>,
    answers: BTreeMap<Arc<str>, Answer>,
    resolver: Arc<SystemResolver>,
    news: UnboundedReceiver<News>,
    tell: UnboundedSender<News>,
}

#[derive(Debug)]
struct Watched {
    again: Arc<Notify>,
    task: JoinHandle<()>,
}

type News = (Arc<str>, Result<Found, String>);

impl NameWatch {
    /// Watches nothing yet.
    pub fn new() -> NameWatch {
        let (tell, news) = unbounded_channel();
        NameWatch { names: BTreeMap::new(), answers: BTreeMap::new(), resolver: Arc::default(), news, tell }
    }

    /// From now on these names and no others. What is known of those that stay is kept.
    pub fn set(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        let names: BTreeSet<Arc<str>> = names.into_iter().collect();
        self.names.retain(|name, _| names.contains(name));
        self.answers.retain(|name, _| names.contains(name));
        for name in names {
            if self.names.contains_key(&name) {
                continue;
            }
            let again = Arc::new(Notify::new());
            let task = tokio::spawn(watch(name.clone(), self.resolver.clone(), again.clone(), self.tell.clone()));
            self.names.insert(name, Watched { again, task });
        }
    }

    /// What is known of every name that was looked up at least once.
    pub fn current(&self) -> &BTreeMap<Arc<str>, Answer> {
        &self.answers
    }

    /// Looks the name up now: what it said may not hold any more.
    pub fn again(&self, name: &str) {
        if let Some(watched) = self.names.get(name) {
            watched.again.notify_one();
        }
    }

    /// Waits until an answer differs from what [`NameWatch::current`] said. May be dropped and called again without
    /// losing anything.
    pub async fn changed(&mut self) {
        loop {
            // Never `None`: a sender is here.
            let Some(news) = self.news.recv().await else { return };
            let mut changed = self.hear(news);
            // Many names that are new are one change.
            while let Ok(news) = self.news.try_recv() {
                changed |= self.hear(news);
            }
            if changed {
                return;
            }
        }
    }

    fn hear(&mut self, (name, found): News) -> bool {
        // A name that is not watched any more may have had an answer under way.
        if !self.names.contains_key(&name) {
            return false;
        }
        let known = self.answers.get(&name);
        let answer = Answer::after(known, found);
        let changed = known != Some(&answer);
        self.answers.insert(name, answer);
        changed
    }
}

impl Default for NameWatch {
    fn default() -> NameWatch {
        NameWatch::new()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answer {
    fn after(before: Option<&Answer>, found: Result<Found, String>) -> Answer {
        match found {
            Ok(Found { mut addresses, ttl: _ }) => {
                addresses.sort_unstable();
                addresses.dedup();
                Answer { addresses, failure: None }
            }
            Err(why) => {
                let addresses = before.map(|answer| answer.addresses.clone()).unwrap_or_default();
                Answer { addresses, failure: Some(why) }
            }
        }
    }
}

async fn watch(name: Arc<str>, resolver: Arc<SystemResolver>, again: Arc<Notify>, tell: UnboundedSender<News>) {
    loop {
        let started = Instant::now();
        let found = resolver.look_up(&name).await;
        let next = started + until_next(&found);
        if tell.send((name.clone(), found)).is_err() {
            return;
        }
        tokio::select! {
            () = sleep_until(next) => {}
            () = again.notified() => sleep(PAUSE.saturating_sub(started.elapsed())).await,
        }
    }
}

fn until_next(found: &Result<Found, String>) -> Duration {
    match found {
        Ok(found) => found.ttl.clamp(SHORTEST, LONGEST),
        Err(_) => SHORTEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str], ttl: u64) -> Result<Found, String> {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        Ok(Found { addresses, ttl: Duration::from_secs(ttl) })
    }

    #[test]
    fn the_last_addresses_outlive_a_failure() {
        let failed = || Err::<Found, _>("no such name".to_string());
        let never = Answer::after(None, failed());
        assert_eq!((never.addresses.len(), never.failure.as_deref()), (0, Some("no such name")));
        let first = Answer::after(Some(&never), found(&["10.0.0.2", "::1", "10.0.0.1", "10.0.0.2"], 1));
        assert_eq!(first, Answer::after(None, found(&["::1", "10.0.0.1", "10.0.0.2"], 9)), "sorted, once each");
        let kept = Answer::after(Some(&first), failed());
        assert_eq!((&kept.addresses, kept.failure.is_some()), (&first.addresses, true));
        let other = Answer::after(Some(&kept), found(&["10.0.0.3"], 1));
        assert_eq!((other.addresses.len(), other.failure), (1, None));
    }

    #[test]
    fn a_name_is_looked_up_again_by_its_ttl_within_bounds() {
        let next = |ttl| until_next(&found(&["10.0.0.1"], ttl)).as_secs();
        assert_eq!([0, 1, 3, 5, 600].map(next), [1, 1, 3, 5, 5]);
        assert_eq!(until_next(&Err(String::new())), SHORTEST);
    }
}
