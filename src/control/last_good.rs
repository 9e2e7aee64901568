//! The last good word of every provider, kept on disk for a start while its engine is away.
//!
//! ```text
//! Board ─(in the background, latest wins)─▶ <state_dir>/snapshots/<provider>.json ─read at the start─▶ Kept
//! ```
//!
//! A copy and no original: one that cannot be used is reported and left out, where an unreadable ledger ends the start.
//! What it holds decides who may see what, so that it is used only if it says today, byte for byte, what it said when it
//! was written: a field that this Portolan does not know, or knows and does not find, might be a policy.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::durable;
use super::state::StateDir;
use crate::model::{Diagnostic, Kind, ObjectId, Origin, Provider, ProviderState, Reason, Snapshot, Source};
use crate::provider::{Board, Kept};

/// Raised when the same words come to mean something else.
const VERSION: u32 = 1;
/// Between two writes, so that a busy engine does not keep the disk busy.
const PAUSE: Duration = Duration::from_secs(1);
/// The part of the time that may be spent writing: a large snapshot is written less often.
const SHARE: u32 = 10;

/// The store. Its writes share nothing with those of the ledger, for which the crank waits.
#[derive(Debug, Clone)]
pub struct LastGood(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Held for its lock on the directory.
    state: Arc<StateDir>,
    /// What is wrong with the file of a provider.
    faults: watch::Sender<BTreeMap<Provider, Diagnostic>>,
    writing: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct File<S> {
    version: u32,
    at: Timestamp,
    snapshot: S,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl LastGood {
    pub fn new(state: Arc<StateDir>) -> LastGood {
        LastGood(Arc::new(Inner { state, faults: watch::Sender::default(), writing: Mutex::default() }))
    }

    /// Settings are read before anything is served, and what a process makes by itself it makes again.
    fn keeps(provider: Provider) -> bool {
        match provider {
            Provider::Settings | Provider::Acme => false,
            Provider::File | Provider::Api | Provider::Kubernetes | Provider::Swarm | Provider::Docker => true,
        }
    }

    /// What is wrong with the files.
    pub fn faults(&self) -> watch::Receiver<BTreeMap<Provider, Diagnostic>> {
        self.0.faults.subscribe()
    }

    /// What the provider said last under these settings of its own. One that cannot be used is reported.
    pub fn read(&self, provider: Provider, settings: &str) -> Option<Kept> {
        let bytes = match durable::read_if_present(&self.path(provider)) {
            Ok(None) => return None,
            Ok(Some(bytes)) => bytes,
            Err(error) => {
                self.fault(
                    provider,
                    format!("it cannot be read: {error}; it is not used; make it readable for this user"),
                );
                return None;
            }
        };
        let usable = parse(provider, &bytes).and_then(|kept| match &*kept.snapshot.under == settings {
            true => Ok(kept),
            false => Err(format!("it is from {}, when the settings of the provider were others", kept.at)),
        });
        match usable {
            Ok(kept) => Some(kept),
            Err(why) => {
                self.fault(provider, format!("{why}; it is not used, and the provider's next word takes its place"));
                None
            }
        }
    }

    /// For a provider that is off: nothing that it said is wanted any more.
    pub fn forget(&self, provider: Provider) {
        let _writing = self.writing();
        self.mended(provider);
        match std::fs::remove_file(self.path(provider)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                self.fault(provider, format!("it cannot be removed: {error}; remove it, the provider is off"));
            }
            _ => {}
        }
    }

    /// Writes what is said, and at the end what was said last.
    pub async fn follow(self, mut board: watch::Receiver<Board>, stop: CancellationToken) {
        let mut written: BTreeMap<Provider, Arc<Snapshot>> = BTreeMap::new();
        loop {
            let ending = stop.is_cancelled();
            let fresh = fresh(&board.borrow_and_update(), &written);
            if fresh.is_empty() {
                if ending {
                    return;
                }
                tokio::select! {
                    changed = board.changed() => if changed.is_err() { return },
                    () = stop.cancelled() => {}
                }
                continue;
            }
            let (store, seen) = (self.clone(), board.clone());
            let write = move || {
                let started = Instant::now();
                for snapshot in &fresh {
                    store.write(snapshot, &seen);
                }
                (fresh, started.elapsed())
            };
            // The task is not aborted, and its panic would be a bug that the log has already.
            let Ok((done, took)) = tokio::task::spawn_blocking(write).await else { return };
            written.extend(done.into_iter().map(|snapshot| (snapshot.provider, snapshot)));
            tokio::select! {
                () = tokio::time::sleep(PAUSE.max(took * SHARE)) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Unless it has been taken back meanwhile.
    fn write(&self, snapshot: &Arc<Snapshot>, board: &watch::Receiver<Board>) {
        let _writing = self.writing();
        let provider = snapshot.provider;
        if !board.borrow().contains_key(&provider) {
            return;
        }
        let path = self.path(provider);
        let written = print(Timestamp::now(), snapshot).map_err(Into::into).and_then(|bytes| {
            path.parent().map_or(Ok(()), durable::create_private_dir)?;
            durable::write_atomic(&path, &bytes, durable::PRIVATE)
        });
        match written {
            Ok(()) => self.mended(provider),
            Err(error) => {
                let kept = "a start while its engine is away would not know what is in force now";
                self.fault(provider, format!("it cannot be written: {error}; {kept}; see to space and permissions"));
            }
        }
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        // It guards no data that could be half changed.
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, provider: Provider) -> PathBuf {
        self.0.state.path().join("snapshots").join(format!("{provider}.json"))
    }

    fn fault(&self, provider: Provider, why: String) {
        let subject = ObjectId::new(&Source::new(provider, None), Kind::Provider, provider.as_str());
        let origin = Origin::File { path: self.path(provider).display().to_string().into(), line: 0, column: 0 };
        let fault = Diagnostic::warning(subject, Reason::Unreadable, origin, format!("the last good snapshot: {why}"));
        self.0.faults.send_modify(|faults| drop(faults.insert(provider, fault)));
    }

    fn mended(&self, provider: Provider) {
        self.0.faults.send_if_modified(|faults| faults.remove(&provider).is_some());
    }
}

/// What was said and is not written yet. What was restored is written already.
fn fresh(board: &Board, written: &BTreeMap<Provider, Arc<Snapshot>>) -> Vec<Arc<Snapshot>> {
    let heard = board.iter().filter(|(provider, state)| LastGood::keeps(**provider) && state.is_heard());
    let said = heard.filter_map(|(_, state): (_, &ProviderState)| state.snapshot());
    said.filter(|snapshot| written.get(&snapshot.provider).is_none_or(|known| !Arc::ptr_eq(known, snapshot)))
        .cloned()
        .collect()
}

fn print(at: Timestamp, snapshot: &Snapshot) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(&File { version: VERSION, at, snapshot })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn parse(provider: Provider, bytes: &[u8]) -> Result<Kept, String> {
    let damaged = |error: serde_json::Error| format!("it is damaged: {error}");
    // The version first: what a later one holds need not fit the struct.
    let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(format!("it has version {version}, and this Portolan reads {VERSION}"));
    }
    let File { at, snapshot, .. }: File<Snapshot> = serde_json::from_slice(bytes).map_err(damaged)?;
    if snapshot.provider != provider || print(at, &snapshot).map_err(damaged)? != bytes {
        return Err("another version of Portolan wrote it".into());
    }
    Ok(Kept { snapshot: Arc::new(snapshot), at })
}

#[cfg(test)]
mod tests;
