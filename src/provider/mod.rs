//! Providers watch something and say what they want: each emits its FULL desired [`Snapshot`].
//!
//! ```text
//! engine, files, settings ──▶ Provider::run ──SnapshotSink──▶ Board ──▶ control (latest wins)
//! ```
//! Events are hints to list again; an error is never an empty answer. Providers never import each other.

pub mod docker;
pub mod file;
mod heard;
pub mod labels;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod labels_fuzzing;
pub mod lower;
pub mod rule;
pub mod settings;
pub mod speaker;
pub mod swarm;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
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

/// What a provider said before this process started.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub snapshot: Arc<Snapshot>,
    pub at: Timestamp,
}

/// Where a provider puts what it wants. A newer word replaces an older one that nobody has read yet.
#[derive(Clone)]
pub struct SnapshotSink {
    provider: model::Provider,
    board: Arc<watch::Sender<Board>>,
    /// The provider's settings as text: part of each of its words.
    under: Arc<str>,
    /// In force from the moment the provider is known to be out of reach without having spoken.
    kept: Option<Kept>,
}

impl SnapshotSink {
    /// Announces the provider: from here on readiness waits for its first word.
    pub fn open(provider: model::Provider, board: Arc<watch::Sender<Board>>) -> SnapshotSink {
        board.send_modify(|board| {
            board.entry(provider).or_insert(ProviderState::Starting);
        });
        SnapshotSink { provider, board, under: "".into(), kept: None }
    }

    fn under(self, settings: Arc<str>, kept: Option<Kept>) -> SnapshotSink {
        SnapshotSink { under: settings, kept, ..self }
    }

    /// The full desired state. Says nothing where it is what is in force already.
    pub fn live(&self, snapshot: Snapshot) {
        let next = ProviderState::Live(Arc::new(Snapshot { under: self.under.clone(), ..snapshot }));
        self.board.send_if_modified(|board| {
            if board.get(&self.provider) == Some(&next) {
                return false;
            }
            board.insert(self.provider, next);
            true
        });
    }

    /// The same word, and what has to be true as soon as it is heard: `also` runs before anybody can read it.
    pub fn live_and(&self, snapshot: Snapshot, also: impl FnOnce()) {
        let next = ProviderState::Live(Arc::new(Snapshot { under: self.under.clone(), ..snapshot }));
        self.board.send_modify(|board| {
            also();
            board.insert(self.provider, next);
        });
    }

    /// Out of reach: the last good state stays in force; where this process has heard none, the one that was kept comes
    /// into force. `since` is kept from the first of several reports.
    pub fn stale(&self, why: impl Into<Arc<str>>) {
        let why = why.into();
        self.board.send_if_modified(|board| {
            let state = board.entry(self.provider).or_insert(ProviderState::Starting);
            let next = match &*state {
                ProviderState::Stale { last, since, why: before, restored } => {
                    if *before == why {
                        return false;
                    }
                    ProviderState::Stale { last: last.clone(), since: *since, why, restored: *restored }
                }
                ProviderState::Live(last) => {
                    ProviderState::Stale { last: Some(last.clone()), since: Timestamp::now(), why, restored: None }
                }
                ProviderState::Starting => ProviderState::Stale {
                    last: self.kept.as_ref().map(|kept| kept.snapshot.clone()),
                    since: Timestamp::now(),
                    why,
                    restored: self.kept.as_ref().map(|kept| kept.at),
                },
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

    /// Whether something of this provider is in force, or comes into force as soon as it is known to be out of reach.
    pub fn in_force(&self) -> bool {
        match self.board.borrow().get(&self.provider) {
            Some(ProviderState::Starting) => self.kept.is_some(),
            Some(state) => state.snapshot().is_some(),
            None => false,
        }
    }

    fn is_starting(&self) -> bool {
        self.board.borrow().get(&self.provider) == Some(&ProviderState::Starting)
    }

    /// Takes the provider off again: one that was on by itself and whose engine was never there.
    pub fn withdraw(&self) {
        self.board.send_if_modified(|board| board.remove(&self.provider).is_some());
    }
}

/// How long a provider may think about its first word before the one that it is known by comes into force.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// Runs a provider on the current runtime until `stop`; its early end is a stale state, never a silent one. `settings`
/// are the provider's own as text. The end of the returned task is the end of its words.
///
/// What was `kept` waits for the provider to fail, or to be slow: who answers at once is asked first, so that what it
/// has withdrawn meanwhile is not served again, not even for a moment.
pub fn supervise<P: Provider>(
    provider: P,
    settings: Arc<str>,
    kept: Option<Kept>,
    board: &Arc<watch::Sender<Board>>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    let late = kept.is_some();
    let sink = SnapshotSink::open(provider.name(), board.clone()).under(settings, kept);
    tokio::spawn(async move {
        let said = sink.clone();
        let overdue = async {
            tokio::time::sleep(FIRST_WORD).await;
            if late && said.is_starting() {
                said.stale("it has not answered yet");
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = provider.run(sink.clone(), stop) => if let Err(why) = ended {
                sink.stale(why);
            },
            () = overdue => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: model::Provider = model::Provider::Docker;

    /// Says what it is told to.
    struct Told(tokio::sync::mpsc::UnboundedReceiver<Result<(), &'static str>>);

    impl Provider for Told {
        fn name(&self) -> model::Provider {
            DOCKER
        }

        async fn run(mut self, out: SnapshotSink, _stop: CancellationToken) -> Result<(), String> {
            while let Some(word) = self.0.recv().await {
                match word {
                    Ok(()) => out.live(Snapshot::empty(DOCKER)),
                    Err(why) => out.stale(why),
                }
            }
            Ok(())
        }
    }

    fn kept() -> Kept {
        let mut snapshot = Snapshot::empty(DOCKER);
        snapshot.unbuilt.push(model::ObjectId::new(
            &model::Source::new(DOCKER, None),
            model::Kind::TcpRoute,
            "from before",
        ));
        Kept { snapshot: Arc::new(snapshot), at: Timestamp::UNIX_EPOCH }
    }

    struct Stage {
        tell: tokio::sync::mpsc::UnboundedSender<Result<(), &'static str>>,
        seen: watch::Receiver<Board>,
    }

    fn stage(kept: Option<Kept>) -> Stage {
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        let (board, seen) = watch::channel(Board::new());
        supervise(Told(told), "{}".into(), kept, &Arc::new(board), CancellationToken::new());
        Stage { tell, seen }
    }

    impl Stage {
        async fn until(&mut self, wanted: impl Fn(&ProviderState) -> bool) -> ProviderState {
            let seen = self.seen.wait_for(|board| board.get(&DOCKER).is_some_and(&wanted));
            let board = tokio::time::timeout(FIRST_WORD * 10, seen).await.expect("in time").expect("a state");
            board[&DOCKER].clone()
        }
    }

    #[tokio::test]
    async fn what_was_kept_comes_into_force_when_the_provider_fails() {
        let mut stage = stage(Some(kept()));
        stage.tell.send(Err("nobody listens")).expect("sent");
        let state = stage.until(|state| matches!(state, ProviderState::Stale { .. })).await;
        assert_eq!(state.snapshot(), Some(&kept().snapshot));
        assert!(!state.is_heard(), "nobody has said so to this process");
        let ProviderState::Stale { why, restored, .. } = state else { panic!("{state:?}") };
        assert_eq!((&*why, restored), ("nobody listens", Some(Timestamp::UNIX_EPOCH)));

        // A second fault is another reason, not another state.
        stage.tell.send(Err("nobody answers")).expect("sent");
        let state = stage.until(|s| matches!(s, ProviderState::Stale { why, .. } if &**why == "nobody answers")).await;
        assert!(!state.is_heard() && state.snapshot().is_some());

        stage.tell.send(Ok(())).expect("sent");
        let state = stage.until(|state| matches!(state, ProviderState::Live(_))).await;
        assert!(state.is_heard());
        assert!(state.snapshot().is_some_and(|snapshot| snapshot.unbuilt.is_empty() && &*snapshot.under == "{}"));

        stage.tell.send(Err("away")).expect("sent");
        let state = stage.until(|state| matches!(state, ProviderState::Stale { .. })).await;
        assert!(state.is_heard() && state.snapshot().is_some_and(|snapshot| snapshot.unbuilt.is_empty()));
    }

    #[tokio::test]
    async fn who_answers_at_once_is_asked_first_and_who_is_slow_is_not_waited_for() {
        let mut slow = stage(Some(kept()));
        let begun = tokio::time::Instant::now();
        let state = slow.until(|state| state.snapshot().is_some()).await;
        assert_eq!(state.snapshot(), Some(&kept().snapshot));
        assert!(begun.elapsed() >= FIRST_WORD);
        // Without anything kept, slow is slow.
        let mut blank = stage(None);
        tokio::time::sleep(FIRST_WORD + FIRST_WORD / 5).await;
        assert_eq!(blank.until(|_| true).await, ProviderState::Starting);
        let mut prompt = stage(Some(kept()));
        prompt.tell.send(Ok(())).expect("sent");
        let first = prompt.until(|state| *state != ProviderState::Starting).await;
        assert!(matches!(first, ProviderState::Live(_)), "{first:?}");
        tokio::time::sleep(FIRST_WORD + FIRST_WORD / 5).await;
        assert!(matches!(prompt.until(|_| true).await, ProviderState::Live(_)));
    }
}
