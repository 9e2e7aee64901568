//! Engines that fail in ways that a real one cannot be made to: what was said last stays in force, and it is told why.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::announce;
use crate::support::backend::Backend;
use crate::support::fake_engine::{Call, FakeEngine, Fault};
use crate::support::http;
use crate::support::portolan::Portolan;
use crate::support::wait::eventually;

const HOST: &str = "web.faults.test";

/// A proxy that follows a fake engine with one container, and somebody who asks for that all the time.
struct Stage {
    engine: FakeEngine,
    portolan: Portolan,
    backend: Backend,
    watch: Watch,
}

impl Stage {
    fn set(engine: FakeEngine) -> Stage {
        let backend = Backend::named("web");
        engine.run("web", backend.address.port(), &labels(HOST));
        let portolan = Portolan::start(json!({ "providers": { "docker": { "endpoint": engine.endpoint() } } }));
        serves(&portolan, HOST);
        engine.is_heard();
        let watch = Watch::start(portolan.plain);
        Stage { engine, portolan, backend, watch }
    }

    /// The problem that names all these words; the proxy is ready and serves meanwhile.
    fn is_stale(&self, words: &[&str]) -> Value {
        let patience = Instant::now() + Duration::from_secs(60);
        let problem = loop {
            let problems = self.portolan.problems();
            let told = problems.iter().find(|problem| {
                let text = problem.to_string();
                problem["reason"] == "ProviderUnavailable" && words.iter().all(|word| text.contains(word))
            });
            match told {
                Some(told) => break told.clone(),
                None => assert!(Instant::now() < patience, "no problem with {words:?}: {problems:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let text = problem.to_string();
        assert!(text.contains("out of reach since 20") && text.contains("last good state stays in force"), "{text}");
        assert_eq!(self.portolan.ready(), Ok(()), "stale is not unready");
        let metrics = self.portolan.metrics();
        assert!(
            metrics.lines().any(|line| line.contains("docker") && line.contains("stale") && line.ends_with(" 1")),
            "{metrics}"
        );
        serves(&self.portolan, HOST);
        problem
    }

    /// The engine is well again, and a container that is new to it is served.
    fn recovers(&self) {
        self.engine.mend();
        self.portolan.without_problems();
        self.follows("after.faults.test");
    }

    /// What the engine starts now is served.
    fn follows(&self, host: &str) {
        self.engine.is_heard();
        self.engine.run(host, self.backend.address.port(), &labels(host));
        serves(&self.portolan, host);
    }

    /// Its route was there at every moment.
    fn ends(self) {
        let seen = self.watch.stop();
        assert_eq!(seen, BTreeSet::from(["200".to_string()]));
        self.portolan.stop();
    }
}

fn labels(host: &str) -> [(&str, &str); 2] {
    [("portolan.host", host), ("portolan.listeners", "plain")]
}

fn serves(portolan: &Portolan, host: &str) {
    eventually(host, || match http::get_plain(portolan.plain, host, "/") {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}\n{}", portolan.log())),
    });
}

#[test]
fn a_list_that_is_an_error_takes_nothing_away() {
    let stage = Stage::set(FakeEngine::start());
    stage.engine.fault(Call::Containers, Fault::Error);
    stage.engine.tell("rename", "web");
    stage.is_stale(&["GET /containers/json", "broken for now"]);
    stage.engine.has_faulted(Call::Containers, 3);
    stage.recovers();
    stage.ends();
}

#[test]
fn half_a_list_takes_nothing_away() {
    for call in [Call::Containers, Call::Networks] {
        let stage = Stage::set(FakeEngine::start());
        stage.engine.fault(call, Fault::Half);
        stage.engine.tell("rename", "web");
        stage.is_stale(&[if call == Call::Networks { "GET /networks" } else { "GET /containers/json" }]);
        stage.recovers();
        stage.ends();
    }
}

#[test]
fn a_list_that_is_no_list_takes_nothing_away() {
    let stage = Stage::set(FakeEngine::start());
    stage.engine.fault(Call::Containers, Fault::Garbage);
    stage.engine.tell("rename", "web");
    stage.is_stale(&["GET /containers/json"]);
    stage.recovers();
    stage.ends();
}

/// At the same time, since all that happens is waiting.
#[test]
fn an_engine_that_hangs_is_given_up() {
    let hangs = |call: Call, fault: Fault, what: &str| {
        let stage = Stage::set(FakeEngine::start());
        stage.engine.fault(call, fault);
        // What it is asked first at each new beginning must end as well.
        if call == Call::Version {
            stage.engine.cut_events()
        } else {
            stage.engine.tell("rename", "web")
        }
        let hung = Instant::now();
        stage.is_stale(&["did not answer", what, "in time"]);
        announce(&format!("{what} ({fault:?}): given up after {:.1?}", hung.elapsed()));
        stage.recovers();
        stage.ends();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| hangs(Call::Containers, Fault::Hang, "GET /containers/json"));
        scope.spawn(|| hangs(Call::Containers, Fault::Silence, "GET /containers/json"));
        scope.spawn(|| hangs(Call::Version, Fault::Hang, "GET /version"));
        scope.spawn(an_event_stream_that_falls_silent_hides_nothing_for_long);
    });
}

fn an_event_stream_that_falls_silent_hides_nothing_for_long() {
    let stage = Stage::set(FakeEngine::start());
    // The lists that confirm the first one would see it as well.
    eventually("the lists come to rest", || {
        let lists = stage.engine.count(Call::Containers);
        std::thread::sleep(Duration::from_millis(600));
        if stage.engine.count(Call::Containers) == lists { Ok(()) } else { Err(lists) }
    });
    let _open = stage.engine.forget_listeners();
    let started = Instant::now();
    stage.engine.run("untold", stage.backend.address.port(), &labels("untold.faults.test"));
    while started.elapsed() < Duration::from_secs(60) {
        if http::get_plain(stage.portolan.plain, "untold.faults.test", "/").is_ok_and(|answer| answer.status == 200) {
            announce(&format!("seen without an event after {:.1?}", started.elapsed()));
            return stage.ends();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("not seen:\n{}", stage.portolan.log());
}

#[test]
fn a_sudden_fall_to_nothing_is_believed_when_it_was_read_twice() {
    let stage = Stage::set(FakeEngine::start());
    for call in [Call::Containers, Call::Networks] {
        stage.engine.fault(call, Fault::EmptyOnce);
        let before = stage.engine.count(call);
        stage.engine.tell("rename", "web");
        eventually("a second look", || match stage.engine.count(call) {
            asked if asked > before + 1 => Ok(()),
            asked => Err((before, asked)),
        });
        stage.portolan.without_problems();
    }
    stage.follows("more.faults.test");
    let Stage { engine, portolan, watch, .. } = stage;
    // That was once; this is so.
    assert_eq!(watch.stop(), BTreeSet::from(["200".to_string()]));
    engine.fault(Call::Containers, Fault::Empty);
    engine.tell("rename", "web");
    eventually("an engine without containers", || match http::get_plain(portolan.plain, HOST, "/") {
        Ok(answer) if answer.status == 404 => Ok(()),
        other => Err(other),
    });
    portolan.stop();
}

#[test]
fn an_event_stream_that_stops_without_an_end_is_opened_again() {
    let stage = Stage::set(FakeEngine::start());
    // Its next answer comes only when that has been seen.
    stage.engine.fault(Call::Version, Fault::Error);
    stage.engine.cut_events();
    stage.is_stale(&["GET /version", "broken for now"]);
    assert!(stage.portolan.log().contains("ended its event stream"), "{}", stage.portolan.log());
    stage.recovers();
    stage.ends();
}

#[test]
fn a_container_that_the_engine_cannot_describe_keeps_no_other_from_being_served() {
    let stage = Stage::set(FakeEngine::start());
    stage.engine.fault(Call::Inspect, Fault::Error);
    stage.engine.run("dim", stage.backend.address.port(), &labels("dim.faults.test"));
    stage.engine.has_faulted(Call::Inspect, 1);
    // By what the list says of it.
    serves(&stage.portolan, "dim.faults.test");
    stage.portolan.without_problems();
    stage.ends();
}

#[test]
fn a_socket_that_is_replaced_is_followed_though_the_old_engine_lives_on() {
    let stage = Stage::set(FakeEngine::start());
    let new = FakeEngine::at(&stage.engine.socket);
    new.run("web", stage.backend.address.port(), &labels(HOST));
    new.run("new", stage.backend.address.port(), &labels("new.faults.test"));
    serves(&stage.portolan, "new.faults.test");
    stage.portolan.without_problems();
    assert!(stage.portolan.log().contains("is another one now"), "{}", stage.portolan.log());
    new.is_heard();
    new.run("later", stage.backend.address.port(), &labels("later.faults.test"));
    serves(&stage.portolan, "later.faults.test");
    stage.ends();
}

#[test]
fn an_engine_that_is_started_again_is_followed_again() {
    let Stage { engine, portolan, backend, watch } = Stage::set(FakeEngine::start());
    let socket = engine.socket.clone();
    let dir = tempfile::tempdir().unwrap();
    // Away: the file is there and nobody listens.
    std::fs::rename(&socket, dir.path().join("old.sock")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    engine.cut_events();
    portolan.problem("ProviderUnavailable", &["nobody answers at unix://", "out of reach since"]);
    assert_eq!(portolan.ready(), Ok(()));
    let again = FakeEngine::at(&socket);
    again.run("web", backend.address.port(), &labels(HOST));
    portolan.without_problems();
    assert_eq!(watch.stop(), BTreeSet::from(["200".to_string()]));
    portolan.stop();
}

#[test]
fn every_call_carries_a_version_that_both_sides_speak() {
    for engine in [FakeEngine::start(), FakeEngine::strict()] {
        let stage = Stage::set(engine);
        stage.follows("more.faults.test");
        let asked = stage.engine.asked();
        let unversioned: BTreeSet<&String> = asked.iter().filter(|path| !path.starts_with("/v1.51/")).collect();
        let negotiation = ["/version".to_string(), "/v1.44/version".to_string()];
        assert!(unversioned.iter().all(|path| negotiation.contains(path)), "{asked:#?}");
        for call in [Call::Containers, Call::Inspect, Call::Networks, Call::Events] {
            assert!(stage.engine.count(call) > 0, "{call:?}: {asked:#?}");
        }
        stage.ends();
    }
}

/// Asks for the one route, all the time.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn start(to: std::net::SocketAddr) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let mut seen = BTreeSet::new();
                while !stop.load(Ordering::Relaxed) {
                    seen.insert(match http::get_plain(to, HOST, "/") {
                        Ok(answer) => answer.status.to_string(),
                        Err(why) => why.to_string(),
                    });
                    std::thread::sleep(Duration::from_millis(20));
                }
                seen
            }
        });
        Watch { stop, thread }
    }

    fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
