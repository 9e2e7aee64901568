//! How soon a started container answers: from the engine's own `start` event to the first 200 that the backend gave.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::announce;
use crate::support::contained::Contained;
use crate::support::container::{Container, Running};
use crate::support::engine::Engine;
use crate::support::http;
use crate::support::portolan::Portolan;
use crate::support::wait::PATIENCE;

const RUNS: usize = 20;
const TARGET: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(2);

/// Two measurements at once would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_started_container_answers_within_100_ms_with_portolan_on_the_host() {
    let Some(engine) = Engine::shared() else { return };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let portolan = Portolan::beside(engine);
    judge(measure(engine, portolan.plain, "latency-host"));
    portolan.stop();
}

#[test]
fn a_started_container_answers_within_100_ms_with_portolan_in_a_container() {
    let Some(engine) = Engine::shared() else { return };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let portolan = Contained::start(engine, "latency-portolan", &["bridge"]);
    judge(measure(engine, portolan.plain(), "latency-contained"));
    portolan.stop();
}

/// A container after the other, each under a host name that nobody has asked for before.
fn measure(engine: &'static Engine, plain: SocketAddr, prefix: &str) -> Vec<Duration> {
    (1..=RUNS)
        .map(|run| {
            let name = format!("{prefix}-{run}");
            let host = format!("{name}.test");
            let polling = thread::spawn({
                let (name, host) = (name.clone(), host.clone());
                move || first_answer(plain, &host, &name)
            });
            let container = Container::named(engine, &name)
                .label("portolan.host", &host)
                .label("portolan.listeners", "plain")
                .start();
            let first = polling.join().unwrap();
            let started = start_event(engine, &container);
            // Earlier than the event is possible: the process runs before the engine says so, and a list may show it.
            first.saturating_sub(started)
        })
        .collect()
}

/// Wall-clock time, as the engine's events have it, of the first answer from the container itself.
fn first_answer(plain: SocketAddr, host: &str, name: &str) -> Duration {
    let patience = Instant::now();
    loop {
        let answer = http::get_plain(plain, host, "/");
        if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            assert_eq!(answer.unwrap().whoami("Name"), Some(name));
            return now;
        }
        assert!(patience.elapsed() < PATIENCE, "{host} never answered 200; last: {answer:?}");
        thread::sleep(POLL);
    }
}

fn start_event(engine: &Engine, container: &Running) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let since = now.saturating_sub(Duration::from_secs(60)).as_secs().to_string();
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let nanos = engine.docker(&[
        "events",
        "--since",
        &since,
        "--until",
        &until,
        "--filter",
        &format!("container={}", container.id),
        "--filter",
        "event=start",
        "--format",
        "{{.TimeNano}}",
    ]);
    Duration::from_nanos(nanos.trim().parse().unwrap_or_else(|e| panic!("one start event ({e}), not {nanos:?}")))
}

fn judge(mut took: Vec<Duration>) {
    took.sort();
    let median = (took[RUNS / 2 - 1] + took[RUNS / 2]) / 2;
    let max = took[RUNS - 1];
    announce(&format!("start event to first 200, {RUNS} runs: median {median:.1?}, maximum {max:.1?}"));
    assert!(median < TARGET, "median {median:?} of {took:?}");
}
