//! Replicas leave in every way that an engine knows, under a steady load, and nobody who asks notices.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::announce;
use crate::support::contained::Contained;
use crate::support::container::{Container, Running};
use crate::support::engine::{Engine, Network, busybox};
use crate::support::load::{Load, Plan, Protocol, Record};
use crate::support::portolan::Portolan;
use crate::support::wait::eventually;

const REPLICAS: u32 = 6;
/// Requests a second, of each protocol.
const RATE: u32 = 250;
/// When the last request may reach one that has left, after the event that told of it.
const LATEST: Duration = Duration::from_millis(100);
/// Between two changes: long enough for a mistake to show.
const SETTLED: Duration = Duration::from_millis(500);

/// Two loads at once would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn no_request_fails_whatever_replicas_do_asked_from_the_host() {
    let Some(engine) = Engine::shared() else { return };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut fleet = Fleet::start(engine, "leave-host");
    let portolan = Portolan::beside_with(engine, quiet());
    for name in fleet.names() {
        portolan.get_from(&fleet.url(), &name);
    }
    let load = fleet.plan(portolan.https, portolan.root()).start();
    fleet.sail(load);
    portolan.stop();
}

#[test]
fn no_request_fails_whatever_replicas_do_asked_from_another_container() {
    let Some(engine) = Engine::shared() else { return };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut fleet = Fleet::start(engine, "leave-contained");
    let portolan = Contained::with(engine, "leave-portolan", &[&fleet.network.name], quiet());
    for name in fleet.names() {
        portolan.get_from(&fleet.url(), &name);
    }
    let plan = fleet.plan(portolan.https(), portolan.root());
    let load = plan.start_in(engine, "leave-client", &fleet.network.name);
    fleet.sail(load);
    portolan.stop();
}

/// A line for every request would go through the engine where Portolan is a container, and the engine is the one that
/// has to be quick here.
fn quiet() -> Value {
    json!({ "access_log": { "enabled": false }, "log": { "level": "info" } })
}

/// The replicas of one compose service.
struct Fleet {
    engine: &'static Engine,
    project: &'static str,
    replicas: Vec<Running>,
    /// Holds the file by which the replica with a health check calls itself healthy.
    health: TempDir,
    network: Network,
}

/// A replica that has left: who, by which event, and from when on it may be back.
struct Departure {
    how: &'static str,
    name: String,
    told: Duration,
    until: Duration,
}

impl Fleet {
    fn start(engine: &'static Engine, project: &'static str) -> Fleet {
        let network = engine.network(&format!("{project}-net"), &[]);
        let health = tempfile::Builder::new().prefix("health-").tempdir().unwrap();
        std::fs::write(health.path().join("ok"), "").unwrap();
        let mut fleet = Fleet { engine, project, replicas: Vec::new(), health, network };
        fleet.replicas = (1..=REPLICAS).map(|n| fleet.replica(n)).collect();
        engine.give_weight();
        fleet
    }

    fn replica(&self, n: u32) -> Running {
        let container = Container::compose(self.engine, self.project, "web", n)
            .network(&self.network.name)
            .label("portolan.host", &format!("web.{}.test", self.project));
        if n != 5 {
            return container.start();
        }
        // A shell, since there is none in the image; it looks for a file, whatever the server in the container does.
        container
            .option("--volume", &format!("{}:/bin/sh:ro", busybox().display()))
            .option("--volume", &format!("{}:/health:ro", self.health.path().display()))
            .option("--health-cmd", "test -e /health/ok")
            .option("--health-interval", "500ms")
            .option("--health-retries", "1")
            .start()
    }

    fn url(&self) -> String {
        format!("https://web.{}.test/", self.project)
    }

    fn names(&self) -> Vec<String> {
        self.replicas.iter().map(|replica| replica.name.clone()).collect()
    }

    fn plan(&self, to: std::net::SocketAddr, root: PathBuf) -> Plan {
        Plan {
            to,
            host: format!("web.{}.test", self.project),
            root: std::fs::read_to_string(root).unwrap(),
            rates: BTreeMap::from([(Protocol::H1, RATE), (Protocol::H2, RATE)]),
        }
    }

    /// Everything that the fleet does, one thing after the other, and what the load says to it.
    fn sail(&mut self, load: Load) {
        let start = SystemTime::now();
        let mut log: Vec<(Duration, String)> = Vec::new();
        let mut note = |what: String| log.push((now(), what));
        sleep(2 * SETTLED);

        let mut departures = Vec::new();
        for (at, how) in ["kill", "pause", "stop", "network disconnect", "unhealthy"].into_iter().enumerate() {
            note(format!("{how} of {}", self.replicas[at].name));
            departures.push(self.leave(&self.replicas[at], how));
            sleep(SETTLED);
        }
        sleep(SETTLED);
        let back = now();
        for departure in &mut departures {
            departure.until = back;
        }
        note("they come back".into());
        let [killed, paused, stopped, disconnected, ..] = &self.replicas[..] else { unreachable!() };
        killed.start();
        paused.told_to("unpause");
        stopped.start();
        disconnected.connect(&self.network.name);
        std::fs::write(self.health.path().join("ok"), "").unwrap();
        self.wait_until_healthy();
        sleep(2 * SETTLED);

        for replica in &self.replicas {
            note(format!("restart of {}", replica.name));
            replica.told_to("restart");
        }
        self.wait_until_healthy();
        sleep(SETTLED);

        for n in 1..=REPLICAS {
            note(format!("replacement of {}", self.replicas[0].name));
            let new = self.replica(REPLICAS + n);
            let old = self.replicas.remove(0);
            old.stop();
            old.remove();
            self.replicas.push(new);
        }
        sleep(2 * SETTLED);
        note("the end".into());

        let lasted = start.elapsed().unwrap();
        judge(&load.stop(), &departures, &log, lasted);
    }

    fn leave(&self, replica: &Running, how: &'static str) -> Departure {
        let since = SystemTime::now();
        let about = format!("container={}", replica.id);
        let filters = match how {
            "kill" | "pause" => {
                replica.told_to(how);
                vec![about, format!("event={how}")]
            }
            // Its departure is told by the signal; `stop` comes when all is over.
            "stop" => {
                replica.told_to(how);
                vec![about, "event=kill".to_string()]
            }
            "unhealthy" => {
                std::fs::remove_file(self.health.path().join("ok")).unwrap();
                vec![about, "event=health_status: unhealthy".to_string()]
            }
            _ => {
                replica.disconnect(&self.network.name);
                vec!["type=network".to_string(), "event=disconnect".to_string()]
            }
        };
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let event = eventually(&format!("the event of {how}"), || {
            let told = self.engine.told(since, &filters);
            let is_about = |event: &&Value| {
                event["Actor"]["ID"] == replica.id || event["Actor"]["Attributes"]["container"] == replica.id
            };
            told.iter().find(is_about).cloned().ok_or(told)
        });
        let told = Duration::from_nanos(event["timeNano"].as_u64().unwrap());
        Departure { how, name: replica.name.clone(), told, until: Duration::MAX }
    }

    fn wait_until_healthy(&self) {
        let checked = &self.replicas[4];
        eventually("the health check passes", || match checked.inspect("{{.State.Health.Status}}").as_str() {
            "healthy" => Ok(()),
            other => Err(other.to_string()),
        });
    }
}

fn judge(records: &[Record], departures: &[Departure], log: &[(Duration, String)], lasted: Duration) {
    let mut counts: BTreeMap<Protocol, (usize, Duration)> = BTreeMap::new();
    for record in records {
        let (count, slowest) = counts.entry(record.protocol).or_default();
        *count += 1;
        *slowest = record.took.max(*slowest);
    }
    let mut failures: Vec<(bool, String)> = records
        .iter()
        .filter_map(|record| {
            let why = record.failure()?;
            let during = log.iter().rev().find(|(at, _)| *at <= record.sent);
            let (since, what) = during.map_or((Duration::ZERO, "the start"), |(at, what)| (record.sent - *at, what));
            let text = format!("{:?} {since:.1?} after {what}, in {:.1?}: {why}", record.protocol, record.took);
            Some((record.outcome.is_ok(), text))
        })
        .collect();
    // Those that were answered, only late, may be the machine's; the others never are.
    failures.sort_by_key(|(late, _)| *late);
    let too_late = failures.iter().filter(|(late, _)| *late).count();
    let last: Vec<String> = departures
        .iter()
        .map(|departure| {
            let latest = late(records, departure).max().unwrap_or_default();
            format!("{} {latest:.0?}", departure.how)
        })
        .collect();
    announce(&format!(
        "{} requests in {lasted:.0?} ({}), {} failed; last request after the event: {}",
        records.len(),
        counts
            .iter()
            .map(|(p, (n, slowest))| format!("{p:?} {n}, slowest {slowest:.0?}"))
            .collect::<Vec<_>>()
            .join("; "),
        failures.len(),
        last.join(", "),
    ));
    let shown: Vec<&str> = failures.iter().take(40).map(|(_, text)| text.as_str()).collect();
    assert!(
        failures.is_empty(),
        "{} of {} failed, {too_late} of them by being late alone:\n{}",
        failures.len(),
        records.len(),
        shown.join("\n")
    );
    for departure in departures {
        let too_late = late(records, departure).filter(|after| *after > LATEST).count();
        assert_eq!(
            too_late, 0,
            "requests that {} got more than {LATEST:?} after its {}",
            departure.name, departure.how
        );
        let before = records
            .iter()
            .any(|r| r.outcome.as_ref().is_ok_and(|s| s.by == departure.name && s.received < departure.told));
        assert!(before, "{} had requests before", departure.name);
    }
    for protocol in [Protocol::H1, Protocol::H2] {
        let due = (lasted.as_secs_f64() * f64::from(RATE) * 0.8) as usize;
        assert!(
            counts.get(&protocol).is_some_and(|(count, _)| *count > due),
            "{protocol:?}: a load of {counts:?} in {lasted:?}"
        );
    }
}

/// How long after a departure each request came that it got all the same.
fn late<'r>(records: &'r [Record], departure: &'r Departure) -> impl Iterator<Item = Duration> + 'r {
    let served = records.iter().filter_map(|record| record.outcome.as_ref().ok());
    let by_it = served.filter(|served| served.by == departure.name && served.received < departure.until);
    by_it.filter_map(|served| served.received.checked_sub(departure.told))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
