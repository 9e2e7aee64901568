//! The state directory after a kill in the middle of a write.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use portolan::control::ca::InternalCa;
use portolan::control::last_good::LastGood;
use portolan::control::state::StateDir;
use portolan::model::{Hold, Kind, Ledger, ObjectId, Provider, ProviderState, Snapshot, Source};
use portolan::provider::Board;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::announce;
use crate::support::wait::eventually;

const KILLS: usize = 100;
/// Where the writer is to write. Without it, the writer is a test that has nothing to do.
const WRITE_TO: &str = "PORTOLAN_TEST_WRITE_TO";

fn source(n: u64) -> Source {
    Source::new(Provider::Docker, Some(format!("project-{n}").into()))
}

/// Writes ledger, snapshot and CA over and over, as fast as the disk lets it, until it is killed.
#[test]
fn writer() {
    let Ok(dir) = std::env::var(WRITE_TO) else { return };
    let dir = Path::new(&dir);
    // A process that another test is starting this very moment has the parent's lock for as long as it takes to exec.
    let mut state = None;
    eventually("the lock is free", || StateDir::open(dir).map(|open| state = Some(open)));
    let state = Arc::new(state.unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for n in 0.. {
        let hold = Hold {
            holder: source(n),
            since: jiff::Timestamp::UNIX_EPOCH,
            idle_since: None,
            matches: Default::default(),
            protected: false,
        };
        let holds: BTreeMap<String, Hold> = (0..200).map(|host| (format!("h{host}.test"), hold.clone())).collect();
        state.store_ledger(&Ledger { holds }).unwrap();
        let mut snapshot = Snapshot::empty(Provider::Docker);
        let names = (0..2000).map(|name| ObjectId::new(&source(n), Kind::TcpRoute, format!("object-{name}")));
        snapshot.unbuilt = names.collect();
        let word = ProviderState::Live(Arc::new(snapshot));
        let board = watch::Sender::new(Board::from([(Provider::Docker, word)]));
        let stop = CancellationToken::new();
        stop.cancel();
        // With its end in sight, it writes at once.
        runtime.block_on(LastGood::new(state.clone()).follow(board.subscribe(), stop));
        if n % 10 == 0 {
            // Renamed first: to be killed while removing is not what is tried here.
            let _ = std::fs::rename(state.issuer_dir("corp"), state.issuer_dir("gone"));
            let _ = std::fs::remove_dir_all(state.issuer_dir("gone"));
        }
        InternalCa::open(&state.issuer_dir("corp"), "corp").unwrap();
    }
}

#[test]
fn a_hundred_kills_in_the_middle_of_writes_leave_state_that_loads() {
    let dir = tempfile::tempdir().unwrap();
    let (mut halves, mut versions) = (0, std::collections::BTreeSet::new());
    let mut kills = 0;
    // More of them where none has hit the middle of a write yet: a kill between two shows nothing.
    while kills < KILLS || (halves == 0 && kills < 5 * KILLS) {
        kills += 1;
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["proxy::state::writer", "--exact"])
            .env(WRITE_TO, dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let before = std::fs::metadata(dir.path().join("ledger.json")).and_then(|file| file.modified()).ok();
        eventually("it writes", || {
            match std::fs::metadata(dir.path().join("ledger.json")).and_then(|f| f.modified()) {
                Ok(now) if Some(now) != before => Ok(()),
                other => Err(format!("{other:?}, {:?}", writer.try_wait())),
            }
        });
        std::thread::sleep(Duration::from_micros((kills as u64 * 7919) % 40_000));
        assert!(writer.try_wait().unwrap().is_none(), "it ended by itself");
        writer.kill().unwrap();
        writer.wait().unwrap();

        let half = |path: &str| usize::from(dir.path().join(path).exists());
        halves += half(".ledger.json.new") + half("snapshots/.docker.json.new");
        let mut opened = None;
        eventually("the lock is free", || StateDir::open(dir.path()).map(|open| opened = Some(open)));
        let state = Arc::new(opened.unwrap());
        let holds = state.ledger().unwrap().holds;
        let holders: std::collections::BTreeSet<&Source> = holds.values().map(|hold| &hold.holder).collect();
        assert_eq!((holds.len(), holders.len()), (200, 1), "one whole ledger");
        let store = LastGood::new(state.clone());
        let kept = store.read(Provider::Docker, "");
        if dir.path().join("snapshots/docker.json").exists() {
            let kept = kept.unwrap_or_else(|| panic!("{:?}", store.faults().borrow()));
            let namespaces: std::collections::BTreeSet<_> =
                kept.snapshot.unbuilt.iter().map(|id| &id.namespace).collect();
            assert_eq!((kept.snapshot.unbuilt.len(), namespaces.len()), (2000, 1), "one whole snapshot");
            versions.insert(kept.at);
        }
        InternalCa::open(&state.issuer_dir("corp"), "corp").unwrap();
    }
    announce(&format!("{kills} kills, {halves} of them with a file half written, {} snapshots", versions.len()));
    assert!(halves > 0 && versions.len() > KILLS / 4, "{halves} {}", versions.len());
}
