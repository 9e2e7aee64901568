//! What outlives the proxy: a start while the engine is away, and a power cut at any moment.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portolan::control::ca::InternalCa;
use portolan::control::last_good::LastGood;
use portolan::control::state::StateDir;
use portolan::model::Provider;
use serde_json::{Value, json};

use crate::support::announce;
use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::http::get_plain;
use crate::support::portolan::Portolan;
use crate::support::wait::{eventually, throughout};

/// What each of these does to an engine or a disk would be the others' noise.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn with_the_engine_away_a_killed_proxy_comes_back_with_what_it_served() {
    let _alone = alone();
    let Some(engine) = Engine::alone("away", "portolan1", "10.214.0.1/24") else { return };
    let mut portolan = Portolan::beside(engine);
    let web = |name: &str| {
        Container::named(engine, name)
            .label("portolan.host", &format!("{name}.away.test"))
            .label("portolan.listeners", "plain,https")
    };
    let served = |portolan: &Portolan, name: &str| {
        let host = format!("{name}.away.test");
        eventually(&host, || match get_plain(portolan.plain, &host, "/") {
            Ok(answer) if answer.status == 200 && answer.whoami("Name") == Some(name) => Ok(()),
            other => Err(format!("{other:?}\n{}", portolan.log())),
        });
    };
    let one = web("one").start();
    served(&portolan, "one");
    let kept = portolan.dir().join("state/snapshots/docker.json");
    eventually("the snapshot is on disk", || match std::fs::read_to_string(&kept) {
        Ok(text) if text.contains("one.away.test") => Ok(()),
        other => Err(format!("{other:?}")),
    });

    engine.down();
    // Its containers run on, and so does what is served.
    throughout("served without the engine", Duration::from_millis(500), || {
        match get_plain(portolan.plain, "one.away.test", "/") {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    portolan.kill();
    let started = Instant::now();
    portolan.again();
    served(&portolan, "one");
    let took = started.elapsed();
    portolan.wait_until_ready();
    portolan.get_from("https://one.away.test/", "one");
    let problem = portolan.problem("ProviderUnavailable", &["docker", "its last good snapshot, of "]);
    assert_eq!(problem["severity"], "error");
    announce(&format!("served {took:.1?} after the start, with the engine away"));
    // Nothing lapses and nothing is forgotten while nobody answers; another start changes nothing.
    portolan.kill();
    portolan.again();
    served(&portolan, "one");
    assert!(std::fs::read_to_string(&kept).unwrap().contains("one.away.test"));

    engine.up();
    let two = web("two").start();
    served(&portolan, "two");
    served(&portolan, "one");
    portolan.without_problems();
    one.remove();
    eventually("the engine's word is what counts", || match get_plain(portolan.plain, "one.away.test", "/") {
        Ok(answer) if answer.status == 404 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(two);
    portolan.stop();
}

#[test]
fn an_engine_that_is_found_by_itself_is_on_while_a_snapshot_of_it_is_there() {
    let Some(engine) = Engine::shared() else { return };
    let _alone = alone();
    // Nothing in the settings: the standard place, which is free in the enclosure.
    let standard = Path::new("/var/run/docker.sock");
    if standard.exists() {
        return announce("LEFT OUT: there is an engine at /var/run/docker.sock");
    }
    std::os::unix::fs::symlink(&engine.socket, standard).unwrap();
    let mut portolan = Portolan::start(json!({}));
    let web = Container::named(engine, "auto-kept").label("portolan.host", "auto-kept.test").start();
    portolan.get_from("https://auto-kept.test/", "auto-kept");
    let kept = portolan.dir().join("state/snapshots/docker.json");
    eventually("the snapshot is on disk", || match std::fs::read_to_string(&kept) {
        Ok(text) if text.contains("auto-kept.test") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    std::fs::remove_file(standard).unwrap();
    portolan.kill();
    portolan.again();
    portolan.wait_until_ready();
    portolan.get_from("https://auto-kept.test/", "auto-kept");
    portolan.problem("ProviderUnavailable", &["/var/run/docker.sock", "its last good snapshot, of "]);
    // `off` is the word that takes it away.
    portolan.edit(json!({ "providers": { "docker": "off" } }));
    portolan.without_problems();
    assert!(portolan.routes_of("auto-kept.test").is_empty() && !kept.exists());
    drop(web);
    portolan.stop();
}

const KILLS: u32 = 100;

/// Containers come and go, and with each of them ledger and snapshot change; a file with many routes changes all the
/// time. The CA is made anew now and then. (`proxy::state` has the same where a write is hit nearly every time.)
#[test]
fn a_proxy_that_is_killed_at_a_hundred_moments_of_a_busy_engine_leaves_state_that_loads() {
    let Some(engine) = Engine::shared() else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let routes = dir.path().join("routes.d");
    std::fs::create_dir(&routes).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let changes = Arc::new(AtomicU32::new(0));
    let containers = std::thread::spawn({
        let (stop, changes) = (stop.clone(), changes.clone());
        move || {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let name = format!("busy-{n}");
                let _one = Container::named(engine, &name).label("portolan.host", &format!("{name}.test")).start();
                changes.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let files = std::thread::spawn({
        let (stop, staged, routes) = (stop.clone(), dir.path().join("staged"), routes.join("many.json"));
        move || {
            for n in 0u32.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let many: BTreeMap<String, Value> = (0..500)
                    .map(|r| (format!("r{r}"), json!({ "host": format!("r{r}.g{n}.test"), "service": "s" })))
                    .collect();
                std::fs::write(
                    &staged,
                    json!({ "routes": many, "services": { "s": { "endpoints": ["http://127.0.0.1:9"] } } }).to_string(),
                )
                .unwrap();
                std::fs::rename(&staged, &routes).unwrap();
                std::thread::sleep(Duration::from_millis(150));
            }
        }
    });

    let mut portolan = Portolan::spawn(json!({
        "providers": {
            "docker": { "endpoint": format!("unix://{}", engine.socket.display()) },
            "file": { "path": routes },
        },
    }));
    portolan.wait_until_ready();
    let state = portolan.dir().join("state");
    let mut seen = Seen::default();
    for kill in 0..KILLS {
        // Mostly while the first words are written, sometimes before or long after.
        let wait = match kill % 4 {
            0 => random(kill) % 300,
            3 => random(kill) % 1200,
            _ => 300 + random(kill) % 500,
        };
        std::thread::sleep(Duration::from_millis(wait));
        portolan.kill();
        seen.look(&state);
        if kill % 5 == 4 {
            std::fs::remove_dir_all(state.join("issuers")).unwrap();
        }
        portolan.again();
    }
    portolan.wait_until_ready();
    let loaded = portolan.problems().into_iter().filter(|problem| problem["reason"] == "Unreadable");
    assert_eq!(loaded.collect::<Vec<_>>(), Vec::<Value>::new());
    stop.store(true, Ordering::Relaxed);
    containers.join().unwrap();
    files.join().unwrap();
    let changes = changes.load(Ordering::Relaxed);
    announce(&format!(
        "{KILLS} kills during {changes} changes of containers: {} ledgers, {} and {} snapshots of docker and files, {} \
         half-written files left behind",
        seen.ledgers.len(),
        seen.docker.len(),
        seen.file.len(),
        seen.halves,
    ));
    let (ledgers, docker, file) = (seen.ledgers.len(), seen.docker.len(), seen.file.len());
    assert!(changes > 5 && ledgers > 3 && docker > 3 && file > 3, "{ledgers} {docker} {file}");
    portolan.stop();
}

/// The different states that kills have left.
#[derive(Debug, Default)]
struct Seen {
    ledgers: std::collections::BTreeSet<u64>,
    docker: std::collections::BTreeSet<String>,
    file: std::collections::BTreeSet<String>,
    halves: usize,
}

impl Seen {
    /// Loads what is there as a start would, and fails where that would fail.
    fn look(&mut self, dir: &Path) {
        let state = Arc::new(StateDir::open(dir).unwrap());
        state.ledger().unwrap();
        self.ledgers.extend(std::fs::read(dir.join("ledger.json")).ok().map(|bytes| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            hasher.finish()
        }));
        let store = LastGood::new(state.clone());
        for (provider, seen) in [(Provider::Docker, &mut self.docker), (Provider::File, &mut self.file)] {
            let file = dir.join(format!("snapshots/{provider}.json"));
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let kept = store.read(provider, value["snapshot"]["under"].as_str().unwrap());
            assert!(kept.is_some(), "{:?}", store.faults().borrow());
            seen.insert(value["at"].as_str().unwrap().to_string());
            self.halves += usize::from(dir.join(format!("snapshots/.{provider}.json.new")).exists());
        }
        self.halves += usize::from(dir.join(".ledger.json.new").exists());
        let issuer = state.issuer_dir("corp");
        if issuer.exists() {
            InternalCa::open(&issuer, "corp").unwrap();
        }
    }
}

/// Good enough to be at another moment each time, and the same in each run.
fn random(n: u32) -> u64 {
    (u64::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33
}
