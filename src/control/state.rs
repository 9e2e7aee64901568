//! The state directory: what outlives a process, and the lock by which one process at a time keeps it.
//!
//! ```text
//! StateDir::open ─▶ StateDir (lock held; reads and writes)
//! StateDir::view ─▶ StateView (no lock; commands read beside a running proxy)
//! ```
//!
//! Every file in it is written whole or not at all. One that cannot be read is an error that names it, never taken for
//! an empty one: an empty ledger would give every host away.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::durable;
use crate::model::Ledger;

const LOCK: &str = "lock";
const LEDGER: &str = "ledger.json";
const STICKY_KEY: &str = "sticky.key";
/// Raised when a reader of the old form would misunderstand the new one.
const LEDGER_VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(
        "the state directory {} is in use by another Portolan; stop that one, or give this one a directory of its own \
         with --state_dir", path.display()
    )]
    InUse { path: PathBuf },
    #[error(
        "the state directory {} cannot be used: {source}; make it writable for this user, or choose another with \
         --state_dir", path.display()
    )]
    Unusable { path: PathBuf, source: io::Error },
    #[error("{} cannot be read: {source}; make it readable for this user", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} cannot be written: {source}; the old content stands; see to space and permissions there", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error(
        "the ledger of who holds a host, {}, is damaged: {why}; restore it from a backup, or remove it to have every \
         host go to the oldest that claims it now", path.display()
    )]
    LedgerDamaged { path: PathBuf, why: String },
    #[error(
        "the ledger of who holds a host, {}, has version {found} and this Portolan reads up to {LEDGER_VERSION}; run \
         the newer Portolan that wrote it, or remove it to have every host go to the oldest that claims it now",
        path.display()
    )]
    LedgerNewer { path: PathBuf, found: u32 },
    #[error(
        "the record of the highest revocation lists seen, {}, is damaged: {why}; restore it from a backup, or remove it to \
         take the lists that are there now for the newest", path.display()
    )]
    NumbersDamaged { path: PathBuf, why: String },
    #[error("\"{}\" does not name a file inside the state directory", path.display())]
    Outside { path: PathBuf },
}

/// The state directory for the one process that may write it; the lock goes with the value.
#[derive(Debug)]
pub struct StateDir {
    view: StateView,
    /// Also what keeps two threads from sharing a temporary file.
    lock: Mutex<File>,
}

/// The state directory for those who only read it.
#[derive(Debug, Clone)]
pub struct StateView {
    path: PathBuf,
}

impl StateDir {
    /// Creates the directory (0700) if it is missing, and takes its lock.
    pub fn open(path: &Path) -> Result<StateDir, StateError> {
        let unusable = |source| StateError::Unusable { path: path.into(), source };
        durable::create_private_dir(path).map_err(unusable)?;
        let lock = durable::open_lock(&path.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(StateDir { view: StateDir::view(path), lock: Mutex::new(lock) }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse { path: path.into() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Takes no lock and creates nothing; the directory need not exist.
    pub fn view(path: &Path) -> StateView {
        StateView { path: path.into() }
    }

    /// `relative` is below the state directory; directories missing in between are made. `mode` is that of the file,
    /// 0600 for whatever names or holds a key.
    pub fn write_atomic(&self, relative: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), StateError> {
        let path = self.view.locate(relative.as_ref())?;
        let unwritable = |source| StateError::Unwritable { path: path.clone(), source };
        // A poisoned lock guards no data that could be half changed.
        let _writing = self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(parent) = path.parent() {
            durable::create_private_dir(parent).map_err(unwritable)?;
        }
        durable::write_atomic(&path, bytes, mode).map_err(unwritable)
    }

    pub fn store_ledger(&self, ledger: &Ledger) -> Result<(), StateError> {
        let file = LedgerFile { version: LEDGER_VERSION, ledger };
        let mut text = serde_json::to_vec_pretty(&file)
            .map_err(|error| StateError::Unwritable { path: self.view.path.join(LEDGER), source: error.into() })?;
        text.push(b'\n');
        self.write_atomic(LEDGER, &text, durable::PRIVATE)
    }

    /// What sticky cookies are signed with, made at the first start: clients come back to their endpoints after a
    /// restart. One that is damaged is replaced, at the price of clients that move once.
    pub fn sticky_key(&self) -> Result<[u8; 32], StateError> {
        let stored = self.read(STICKY_KEY)?;
        if let Some(key) = stored.as_deref().and_then(|bytes| bytes.try_into().ok()) {
            return Ok(key);
        }
        if stored.is_some() {
            let path = self.view.path.join(STICKY_KEY);
            tracing::warn!(path = %path.display(), "the key of sticky cookies is damaged; a new one is made");
        }
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| StateError::Unwritable {
            path: self.view.path.join(STICKY_KEY),
            source: io::Error::other("the system gives no random numbers"),
        })?;
        self.write_atomic(STICKY_KEY, &key, durable::PRIVATE)?;
        Ok(key)
    }
}

impl Deref for StateDir {
    type Target = StateView;

    fn deref(&self) -> &StateView {
        &self.view
    }
}

impl StateView {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the internal CA of an issuer keeps its files.
    pub fn issuer_dir(&self, issuer: &str) -> PathBuf {
        self.path.join("issuers").join(issuer)
    }

    /// `None` where there is no such file.
    pub fn read(&self, relative: impl AsRef<Path>) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.locate(relative.as_ref())?;
        durable::read_if_present(&path).map_err(|source| StateError::Unreadable { path, source })
    }

    /// Empty where none was ever stored.
    pub fn ledger(&self) -> Result<Ledger, StateError> {
        let Some(bytes) = self.read(LEDGER)? else {
            return Ok(Ledger::default());
        };
        let path = self.path.join(LEDGER);
        let damaged =
            |error: serde_json::Error| StateError::LedgerDamaged { path: path.clone(), why: error.to_string() };
        // The version first: what a later one holds need not fit the struct.
        let Version { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version > LEDGER_VERSION {
            return Err(StateError::LedgerNewer { path, found: version });
        }
        let file: LedgerFile<Ledger> = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok(file.ledger)
    }

    fn locate(&self, relative: &Path) -> Result<PathBuf, StateError> {
        let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || relative.file_name().is_none() {
            return Err(StateError::Outside { path: relative.into() });
        }
        Ok(self.path.join(relative))
    }
}

#[derive(Serialize, Deserialize)]
struct LedgerFile<L> {
    version: u32,
    #[serde(flatten)]
    ledger: L,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::{Hold, Provider, Source};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    fn ledger() -> Ledger {
        let hold = Hold {
            holder: Source::new(Provider::Docker, Some("shop".into())),
            since: "2026-01-02T03:04:05.678Z".parse().expect("a time"),
            idle_since: None,
            matches: ["/".to_string()].into(),
            protected: true,
        };
        Ledger { holds: [("shop.example.com".to_string(), hold)].into() }
    }

    #[test]
    fn a_missing_directory_is_made_for_the_owner_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("var/portolan");
        let _state = StateDir::open(&path).expect("opened");
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(LOCK)), 0o600);
    }

    #[test]
    fn the_second_process_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = StateDir::open(dir.path()).expect("opened");
        let error = StateDir::open(dir.path()).expect_err("locked").to_string();
        assert!(error.contains(&dir.path().display().to_string()) && error.contains("--state_dir"), "{error}");
        assert!(StateDir::view(dir.path()).ledger().is_ok(), "a reader needs no lock");
        drop(first);
        StateDir::open(dir.path()).expect("free again");
    }

    #[test]
    fn what_is_written_is_read_and_private() {
        let dir = tempfile::tempdir().expect("tempdir");
        let state = StateDir::open(dir.path()).expect("opened");
        state.write_atomic("snapshots/docker.json", b"{}", durable::PRIVATE).expect("written");
        assert_eq!(state.read("snapshots/docker.json").expect("read").as_deref(), Some(&b"{}"[..]));
        assert_eq!(mode(&dir.path().join("snapshots")), 0o700);
        assert_eq!(mode(&dir.path().join("snapshots/docker.json")), 0o600);
        assert_eq!(state.read("snapshots/none.json").expect("read"), None);
    }

    #[test]
    fn no_path_leads_out_of_the_directory() {
        let dir = tempfile::tempdir().expect("tempdir");
        let state = StateDir::open(dir.path()).expect("opened");
        for path in ["../other", "/etc/passwd", "a/../../b", ""] {
            assert!(matches!(state.read(path), Err(StateError::Outside { .. })), "{path}");
            assert!(matches!(state.write_atomic(path, b"", 0o600), Err(StateError::Outside { .. })), "{path}");
        }
    }

    #[test]
    fn the_ledger_is_stored_and_loaded() {
        let dir = tempfile::tempdir().expect("tempdir");
        let state = StateDir::open(dir.path()).expect("opened");
        assert_eq!(state.ledger().expect("missing is empty"), Ledger::default());
        state.store_ledger(&ledger()).expect("stored");
        assert_eq!(state.ledger().expect("loaded"), ledger());
        assert_eq!(mode(&dir.path().join(LEDGER)), 0o600);
        let text = fs::read_to_string(dir.path().join(LEDGER)).expect("read");
        assert!(text.contains("\"version\": 1"), "{text}");
    }

    #[test]
    fn the_key_of_sticky_cookies_outlives_the_process_and_is_private() {
        let dir = tempfile::tempdir().expect("tempdir");
        let key = StateDir::open(dir.path()).expect("opened").sticky_key().expect("made");
        assert_eq!(mode(&dir.path().join(STICKY_KEY)), 0o600);
        let state = StateDir::open(dir.path()).expect("opened");
        assert_eq!(state.sticky_key().expect("read"), key);
        fs::write(dir.path().join(STICKY_KEY), "short").expect("written");
        let another = state.sticky_key().expect("made anew");
        assert_ne!(another, key);
        assert_eq!(state.sticky_key().expect("read"), another);
    }

    #[test]
    fn an_unreadable_ledger_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let state = StateDir::open(dir.path()).expect("opened");
        let path = dir.path().join(LEDGER);
        for (text, why) in
            [("", "damaged"), ("{}", "version"), ("{\"version\":1}", "holds"), ("{\"version\":2}", "newer")]
        {
            fs::write(&path, text).expect("written");
            let error = state.ledger().expect_err(text).to_string();
            assert!(error.contains(&path.display().to_string()) && error.contains(why), "{text}: {error}");
        }
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("created");
        assert!(matches!(state.ledger(), Err(StateError::Unreadable { .. })));
    }
}
