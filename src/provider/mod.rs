//! Providers watch something and say what they want: each emits its FULL desired [`Snapshot`].
//!
//! ```text
//! engine, files, settings ──▶ Provider::run ──SnapshotSink──▶ Board ──▶ control (latest wins)
//! ```
//! Events are hints to list again; an error is never an empty answer. Providers never import each other.

pub mod docker;
pub mod file;
pub mod labels;
pub mod lower;
pub mod rule;
pub mod settings;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::model::{self, ProviderState, Snapshot};

/// The one trait of the project: the only open set.
pub trait Provider: Send + 'static {
    fn name(&self) -> model::Provider;

    /// Runs until `stop`. Faults of the outside world (an engine that is away, a file that cannot be read) are reported
    /// through the sink and tried again; the future ends early only where nothing can ever come of it, and says why.
    fn run(self, out: SnapshotSink, stop: CancellationToken) -> impl Future<Output = Result<(), String>> + Send;
}

/// The latest word of every provider that is on.
pub type Board = BTreeMap<model::Provider, ProviderState>;

/// Where a provider puts what it wants. A newer word replaces an older one that nobody has read yet.
#[derive(Clone)]
pub struct SnapshotSink {
    provider: model::Provider,
    board: Arc<watch::Sender<Board>>,
}

impl SnapshotSink {
    /// Announces the provider: from here on readiness waits for its first word.
    pub fn open(provider: model::Provider, board: Arc<watch::Sender<Board>>) -> SnapshotSink {
        board.send_modify(|board| {
            board.entry(provider).or_insert(ProviderState::Starting);
        });
        SnapshotSink { provider, board }
    }

    /// The full desired state. Says nothing where it is what is in force already.
    pub fn live(&self, snapshot: Snapshot) {
        let next = ProviderState::Live(Arc::new(snapshot));
        self.board.send_if_modified(|board| {
            if board.get(&self.provider) == Some(&next) {
                return false;
            }
            board.insert(self.provider, next);
            true
        });
    }

    /// Out of reach: the last good state stays in force. `since` is kept from the first of several reports.
    pub fn stale(&self, why: impl Into<Arc<str>>) {
        let why = why.into();
        self.board.send_if_modified(|board| {
            let state = board.entry(self.provider).or_insert(ProviderState::Starting);
            let next = match &*state {
                ProviderState::Stale { last, since, why: before } => {
                    if *before == why {
                        return false;
                    }
                    ProviderState::Stale { last: last.clone(), since: *since, why }
                }
                other => ProviderState::Stale { last: other.snapshot().cloned(), since: Timestamp::now(), why },
            };
            *state = next;
            true
        });
    }

    /// Puts the provider back on after [`SnapshotSink::withdraw`].
    pub fn announce(&self) {
        self.board.send_if_modified(|board| match board.entry(self.provider) {
            Entry::Vacant(entry) => {
                entry.insert(ProviderState::Starting);
                true
            }
            Entry::Occupied(_) => false,
        });
    }

    /// Whether something of this provider is in force: what it said, or what was restored from its last good snapshot.
    pub fn in_force(&self) -> bool {
        self.board.borrow().get(&self.provider).is_some_and(|state| state.snapshot().is_some())
    }

    /// Takes the provider off again: one that was on by itself and whose engine was never there.
    pub fn withdraw(&self) {
        self.board.send_if_modified(|board| board.remove(&self.provider).is_some());
    }
}

/// Runs a provider on the current runtime until `stop`; its early end is a stale state, never a silent one.
pub fn supervise<P: Provider>(provider: P, board: &Arc<watch::Sender<Board>>, stop: CancellationToken) {
    let sink = SnapshotSink::open(provider.name(), board.clone());
    tokio::spawn(async move {
        if let Err(why) = provider.run(sink.clone(), stop).await {
            sink.stale(why);
        }
    });
}
