//! A route stands from its first container's creation to the last one's removal, whatever state they are in.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::container::Container;
use crate::support::engine::{Engine, busybox};
use crate::support::http::{self, Answer};
use crate::support::portolan::Portolan;
use crate::support::wait::{eventually, throughout};

#[test]
fn a_known_route_answers_503_and_never_404_through_every_state() {
    let Some(engine) = Engine::shared() else { return };
    let network = engine.network("states-net", &[]);
    let health = tempfile::Builder::new().prefix("health-").tempdir().unwrap();
    let ok = health.path().join("ok");
    let portolan = Portolan::beside(engine);
    let host = "web.states.test";
    let web = Container::compose(engine, "states", "web", 1)
        .network(&network.name)
        .label("portolan.host", host)
        .label("portolan.listeners", "plain")
        .option("--volume", &format!("{}:/bin/sh:ro", busybox().display()))
        .option("--volume", &format!("{}:/health:ro", health.path().display()))
        .option("--health-cmd", "test -e /health/ok")
        .option("--health-interval", "500ms")
        .option("--health-retries", "1")
        // So long that it is not over before the proof that it is on.
        .option("--health-start-period", "60s")
        .create();
    let closed = |state: &str| {
        let answer = eventually(state, || match http::get_plain(portolan.plain, host, "/") {
            Ok(answer) if answer.status == 503 && answer.reason() == Some("NotReady") => Ok(answer),
            other => Err(other),
        });
        assert!(answer.header("retry-after").is_some(), "{state}: {answer:?}");
    };
    let open = |state: &str| {
        eventually(state, || match http::get_plain(portolan.plain, host, "/") {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(other),
        });
    };
    closed("created");
    let watch = Watch::start(portolan.plain, host);
    web.start();
    eventually("it runs", || match web.inspect("{{.State.Health.Status}}").as_str() {
        "starting" => Ok(()),
        other => Err(other.to_string()),
    });
    let stays_closed = || match http::get_plain(portolan.plain, host, "/") {
        Ok(answer) if answer.status == 503 => Ok(()),
        other => Err(other),
    };
    throughout("a container whose health check has not passed gets nothing", Duration::from_secs(1), stays_closed);
    closed("starting");
    std::fs::write(&ok, "").unwrap();
    open("healthy");

    engine.docker(&["kill", "--signal", "HUP", &web.id]);
    let stays_open = || match http::get_plain(portolan.plain, host, "/") {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(other),
    };
    throughout("HUP takes nothing out", Duration::from_secs(1), stays_open);

    std::fs::remove_file(&ok).unwrap();
    closed("unhealthy");
    std::fs::write(&ok, "").unwrap();
    open("healthy again");
    web.told_to("pause");
    closed("paused");
    web.told_to("unpause");
    open("unpaused");
    web.disconnect(&network.name);
    let off = |answer: &Answer| answer.status == 503 && answer.reason() == Some("NoNetwork");
    eventually("off its network", || match http::get_plain(portolan.plain, host, "/") {
        Ok(answer) if off(&answer) => Ok(()),
        other => Err(other),
    });
    web.connect(&network.name);
    open("connected");
    web.told_to("restart");
    open("restarted");
    web.stop();
    closed("stopped");
    engine.docker(&["rename", &web.id, "states-other-1"]);
    web.start();
    open("started");
    web.told_to("kill");
    closed("killed");

    let seen = watch.stop();
    assert!(seen.contains("200") && seen.contains("503 NotReady"), "{seen:?}");
    assert!(!seen.iter().any(|answer| answer.starts_with("404")), "{seen:?}");
    web.remove();
    eventually("removed", || match http::get_plain(portolan.plain, host, "/") {
        Ok(answer) if answer.status == 404 => Ok(()),
        other => Err(other),
    });
    portolan.stop();
}

#[test]
fn a_container_drains_by_its_own_stop_signal_until_it_is_started_again() {
    let Some(engine) = Engine::shared() else { return };
    let portolan = Portolan::beside(engine);
    // Nothing catches SIGHUP in it, and the kernel delivers no default action to a first process: it goes on.
    let [own, other] = [("own", "SIGHUP"), ("other", "SIGTERM")].map(|(service, signal)| {
        Container::compose(engine, "drain", service, 1)
            .label("portolan.host", &format!("{service}.drain.test"))
            .label("portolan.listeners", "plain")
            .option("--stop-signal", signal)
            .start()
    });
    let ask = |service: &str| http::get_plain(portolan.plain, &format!("{service}.drain.test"), "/");
    for service in ["own", "other"] {
        eventually(service, || match ask(service) {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(other),
        });
    }
    for container in [&own, &other] {
        engine.docker(&["kill", "--signal", "HUP", &container.id]);
    }
    let drained = eventually("it drains", || match ask("own") {
        Ok(answer) if answer.status == 503 => Ok(answer),
        other => Err(other),
    });
    assert_eq!(drained.reason(), Some("NotReady"), "{drained:?}");
    assert_eq!(own.inspect("{{.State.Running}}"), "true");
    throughout("lists that say that it runs do not bring it back", Duration::from_secs(1), || {
        match (ask("own"), ask("other")) {
            (Ok(own), Ok(other)) if own.status == 503 && other.status == 200 => Ok(()),
            both => Err(format!("{both:?}")),
        }
    });
    // Ten seconds to stop is the engine's default, then it is killed.
    engine.docker(&["restart", "--time", "0", &own.id]);
    eventually("it is back", || match ask("own") {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(other),
    });
    portolan.stop();
}

/// Asks all the time, and remembers which answers there were.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn start(to: SocketAddr, host: &'static str) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = stop.clone();
            move || {
                let mut seen = BTreeSet::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = match http::get_plain(to, host, "/") {
                        Ok(answer) => format!("{} {}", answer.status, answer.reason().unwrap_or_default()),
                        Err(error) => error.to_string(),
                    };
                    seen.insert(answer.trim_end().to_string());
                    thread::sleep(Duration::from_millis(5));
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
