use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::model::{Denial, HostPattern, NameRef, PathMatch, Route, RouteMatch};

const DOCKER: Provider = Provider::Docker;

fn snapshot(name: &str) -> Snapshot {
    let source = Source::new(DOCKER, Some("shop".into()));
    let host = format!("{name}.example").parse::<HostPattern>().expect("a host");
    let mut snapshot = Snapshot::empty(DOCKER);
    snapshot.under = "{}".into();
    snapshot.routes.push(Route {
        id: ObjectId::new(&source, Kind::Route, name),
        origin: Origin::Container { name: name.into() },
        replica: None,
        created: Timestamp::UNIX_EPOCH,
        matches: vec![RouteMatch::new(host, PathMatch::everything())],
        guessed: false,
        listeners: None,
        priority: 0,
        middlewares: Vec::new(),
        backend: crate::model::route::Backend::Service(NameRef::new(name)),
        mtls: [NameRef::new("partners")].into(),
        tls: None,
        denied: Some(Denial::new(Reason::NotSupportedYet, "policies are not built yet")),
    });
    snapshot
}

struct Stage {
    dir: tempfile::TempDir,
    store: LastGood,
    board: watch::Sender<Board>,
}

impl Stage {
    fn new() -> Stage {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(dir.path()).expect("opened");
        Stage { store: LastGood::new(Arc::new(state)), dir, board: watch::Sender::new(Board::new()) }
    }

    fn say(&self, snapshot: Snapshot) {
        let state = ProviderState::Live(Arc::new(snapshot));
        self.board.send_modify(|board| drop(board.insert(DOCKER, state)));
    }

    fn follow(&self) -> (tokio::task::JoinHandle<()>, CancellationToken) {
        let stop = CancellationToken::new();
        (tokio::spawn(self.store.clone().follow(self.board.subscribe(), stop.clone())), stop)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("snapshots/docker.json")
    }

    fn kept(&self) -> Option<Snapshot> {
        self.store.read(DOCKER, "{}").map(|kept| (*kept.snapshot).clone())
    }

    fn fault(&self) -> Option<String> {
        self.store.faults().borrow().get(&DOCKER).map(Diagnostic::to_string)
    }
}

#[tokio::test]
async fn the_last_word_is_on_disk_when_the_process_ends_in_order() {
    let stage = Stage::new();
    let (following, stop) = stage.follow();
    for n in 0..50 {
        stage.say(snapshot(&format!("r{n}")));
        tokio::task::yield_now().await;
    }
    stop.cancel();
    following.await.expect("ends");
    assert_eq!(stage.kept(), Some(snapshot("r49")));
    assert_eq!(fs::metadata(stage.file()).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(stage.fault(), None);
}

#[tokio::test]
async fn a_word_is_written_soon_and_a_busy_engine_does_not_keep_the_disk_busy() {
    let stage = Stage::new();
    let (following, stop) = stage.follow();
    let mut seen = Vec::new();
    let begun = Instant::now();
    for n in 0.. {
        stage.say(snapshot(&format!("r{n}")));
        tokio::time::sleep(Duration::from_millis(20)).await;
        seen.extend(stage.kept().map(|kept| kept.routes[0].id.name.clone()));
        seen.dedup();
        if seen.len() == 3 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{seen:?}");
    }
    assert!(begun.elapsed() >= PAUSE, "{seen:?} in {:?}", begun.elapsed());
    stop.cancel();
    following.await.expect("ends");
}

#[tokio::test]
async fn what_was_restored_or_never_said_is_not_written() {
    let stage = Stage::new();
    let stale = |restored| ProviderState::Stale {
        last: Some(Arc::new(snapshot("old"))),
        since: Timestamp::UNIX_EPOCH,
        why: "away".into(),
        restored,
    };
    for state in [ProviderState::Starting, stale(Some(Timestamp::UNIX_EPOCH))] {
        stage.board.send_modify(|board| drop(board.insert(DOCKER, state)));
        let (following, stop) = stage.follow();
        stop.cancel();
        following.await.expect("ends");
        assert!(!stage.file().exists());
    }
    // A word that was said before the engine went away is one.
    stage.board.send_modify(|board| drop(board.insert(DOCKER, stale(None))));
    let (following, stop) = stage.follow();
    stop.cancel();
    following.await.expect("ends");
    assert_eq!(stage.kept(), Some(snapshot("old")));
}

#[tokio::test]
async fn a_provider_that_is_off_leaves_nothing() {
    let stage = Stage::new();
    stage.say(snapshot("a"));
    let word = Arc::new(snapshot("a"));
    stage.store.write(&word, &stage.board.subscribe());
    assert!(stage.kept().is_some());
    stage.board.send_modify(|board| drop(board.remove(&DOCKER)));
    stage.store.forget(DOCKER);
    assert!(!stage.file().exists());
    // A write that was under way comes too late.
    stage.store.write(&word, &stage.board.subscribe());
    assert!(!stage.file().exists());
    stage.store.forget(DOCKER);
    assert_eq!(stage.fault(), None);
}

#[test]
fn under_other_settings_it_might_have_said_something_else() {
    let stage = Stage::new();
    stage.say(snapshot("a"));
    stage.store.write(&Arc::new(snapshot("a")), &stage.board.subscribe());
    assert!(stage.store.read(DOCKER, "{\"expose\":\"all\"}").is_none());
    let fault = stage.fault().expect("a finding");
    assert!(fault.contains("docker.json") && fault.contains("settings of the provider were others"), "{fault}");
}

#[test]
fn what_does_not_say_what_it_said_is_not_used() {
    let stage = Stage::new();
    stage.say(snapshot("a"));
    stage.store.write(&Arc::new(snapshot("a")), &stage.board.subscribe());
    let text = fs::read_to_string(stage.file()).expect("written");
    let policy = "\"mtls\":[\"partners\"],";
    assert!(text.contains(policy), "{text}");
    for (damaged, why) in [
        (String::new(), "damaged"),
        (text[..text.len() / 2].to_string(), "damaged"),
        // An optional field that is called something else elsewhere: read as absent, and the route would be open.
        (text.replace("\"tls\":null,", ""), "another version"),
        (text.replace(policy, ""), "damaged"),
        (text.replace(policy, "\"client_auth\":[\"partners\"],"), "damaged"),
        (text.replace("\"version\":1", "\"version\":2"), "version 2"),
        (text.replace("\"provider\":\"docker\"", "\"provider\":\"swarm\""), "another version"),
    ] {
        assert_ne!(damaged, text);
        fs::write(stage.file(), &damaged).expect("written");
        assert_eq!(stage.kept(), None, "{damaged}");
        let fault = stage.fault().expect("a finding");
        assert!(fault.contains("snapshots/docker.json") && fault.contains(why), "{why}: {fault}");
    }
    stage.store.write(&Arc::new(snapshot("a")), &stage.board.subscribe());
    assert_eq!((stage.kept(), stage.fault()), (Some(snapshot("a")), None), "the next word mends it");
}

#[test]
fn a_disk_that_takes_nothing_is_a_finding() {
    let stage = Stage::new();
    fs::create_dir_all(stage.file().join("in the way")).expect("made");
    stage.say(snapshot("a"));
    stage.store.write(&Arc::new(snapshot("a")), &stage.board.subscribe());
    let fault = stage.fault().expect("a finding");
    assert!(fault.contains("cannot be written"), "{fault}");
}

#[test]
fn a_process_that_was_killed_in_the_middle_of_a_write_leaves_the_one_before() {
    let stage = Stage::new();
    stage.say(snapshot("a"));
    stage.store.write(&Arc::new(snapshot("a")), &stage.board.subscribe());
    fs::write(stage.file().with_file_name(".docker.json.new"), "{\"version\":1,\"at\"").expect("written");
    assert_eq!(stage.kept(), Some(snapshot("a")));
}

/// Every object that the golden cases of all stages make, through JSON and back.
#[test]
fn every_golden_snapshot_survives_the_disk() {
    let mut objects = 0;
    for snapshot in crate::provider::docker::golden_snapshots().into_iter().chain(crate::reconcile::golden_snapshots())
    {
        let bytes = print(Timestamp::UNIX_EPOCH, &snapshot).expect("printed");
        let kept = parse(snapshot.provider, &bytes).unwrap_or_else(|why| panic!("{why}: {snapshot:?}"));
        assert_eq!(*kept.snapshot, snapshot);
        objects +=
            snapshot.routes.len() + snapshot.services.len() + snapshot.middlewares.len() + snapshot.findings.len();
    }
    assert!(objects > 100, "only {objects} objects");
}
