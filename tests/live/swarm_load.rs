//! Services of a swarm that are scaled and updated under a steady load, and how soon that is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::announce;
use crate::support::contained::Contained;
use crate::support::engine::{Engine, Network};
use crate::support::load::{Plan, Protocol, Record};
use crate::support::swarm::{Service, Swarm, Task, tasks};
use crate::support::wait::PATIENCE;

/// From the task's own state to requests that go there, or go there no more.
const TARGET: Duration = Duration::from_millis(600);
/// Requests a second, of each protocol.
const RATE: u32 = 250;

/// A proxy on an overlay network, and a service there.
struct Stage {
    swarm: Swarm,
    portolan: Contained,
    service: Service,
    _net: Network,
}

impl Stage {
    fn set(name: &str, replicas: u32, options: &[&str]) -> Option<Stage> {
        let swarm = Swarm::alone()?;
        let net = swarm.overlay(name, &[]);
        // A line for every request would go through the engine, which has enough to do here.
        let quiet = json!({ "access_log": { "enabled": false }, "log": { "level": "info" } });
        let portolan = Contained::with(swarm.engine, &format!("portolan-{name}"), &["bridge", name], quiet);
        let (host, replicas) = (format!("portolan.host={name}.test"), replicas.to_string());
        let labels = ["--label", &host, "--label", "portolan.port=8080", "--replicas", &replicas];
        let service = swarm.service(&format!("{name}-web"), &[&["--network", name], &labels[..], options].concat());
        swarm.engine.give_weight();
        let stage = Stage { swarm, portolan, service, _net: net };
        for task in stage.swarm.wait_for(&stage.service.name, replicas.parse().unwrap()) {
            stage.portolan.get_from_host(&format!("https://{name}.test/"), &task.hostname);
        }
        Some(stage)
    }

    fn plan(&self, name: &str, rate: u32) -> Plan {
        Plan {
            to: self.portolan.https(),
            host: format!("{name}.test"),
            root: std::fs::read_to_string(self.portolan.root()).unwrap(),
            rates: BTreeMap::from([(Protocol::H1, rate), (Protocol::H2, rate)]),
        }
    }
}

/// Looks at the tasks of a service all the time, and remembers of each when it ran and when it was meant to end.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, Life>>,
}

/// Since the Unix epoch.
#[derive(Debug, Default, Clone)]
struct Life {
    hostname: String,
    /// Its node saw it run.
    ran: Option<Duration>,
    /// The manager meant it to end.
    meant: Option<Duration>,
    /// Its node saw it ended, or nobody knows it any more.
    ended: Option<Duration>,
}

impl Watch {
    fn begin(engine: &'static Engine, service: &str) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (stop, service) = (stop.clone(), service.to_string());
            move || {
                let mut lives: BTreeMap<String, Life> = BTreeMap::new();
                while !stop.load(Ordering::Relaxed) {
                    let seen = tasks(engine, &service);
                    note(&mut lives, &seen);
                    sleep(Duration::from_millis(25));
                }
                lives
            }
        });
        Watch { stop, thread }
    }

    fn end(self) -> BTreeMap<String, Life> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn note(lives: &mut BTreeMap<String, Life>, seen: &[Task]) {
    for task in seen {
        let life = lives.entry(task.id.clone()).or_default();
        if !task.hostname.is_empty() {
            life.hostname.clone_from(&task.hostname);
        }
        if task.state == "running" {
            life.ran.get_or_insert(task.stated);
        }
        if task.desired != "running" && task.desired != "ready" {
            life.meant.get_or_insert(task.updated);
        }
        if task.is_over() {
            life.ended.get_or_insert(task.stated);
        }
    }
    let known: BTreeSet<&String> = seen.iter().map(|task| &task.id).collect();
    for (id, life) in lives {
        if !known.contains(id) {
            life.ended.get_or_insert_with(now);
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[test]
fn what_is_scaled_is_seen_within_600_ms_of_the_tasks_own_state() {
    let Some(stage) = Stage::set("scaled", 1, &[]) else { return };
    let watch = Watch::begin(stage.swarm.engine, &stage.service.name);
    let load = stage.plan("scaled", 200).start();
    for _ in 0..2 {
        for replicas in [8, 1] {
            stage.service.scale(replicas);
            stage.swarm.wait_for(&stage.service.name, replicas as usize);
            sleep(Duration::from_millis(800));
        }
    }
    let records = load.stop();
    let lives = watch.end();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for life in lives.values() {
        let served = records.iter().filter_map(|record| record.outcome.as_ref().ok());
        let times: Vec<Duration> = served.filter(|s| s.by == life.hostname).map(|served| served.received).collect();
        let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
            panic!("{life:?} got no request");
        };
        // That of the first task was before the load.
        if let Some(ran) = life.ran.filter(|ran| *ran > records[0].sent) {
            up.push(first.saturating_sub(ran));
        }
        if let Some(meant) = life.meant {
            down.push(last.saturating_sub(meant));
        }
    }
    up.sort();
    down.sort();
    let p95 = |all: &[Duration]| all[all.len() * 95 / 100];
    let failed = records.iter().filter(|record| record.failure().is_some()).count();
    announce(&format!(
        "{} tasks came: p95 {:.0?}, all within {:.0?}; {} left: p95 {:.0?}, all within {:.0?}; {failed} of {} requests failed",
        up.len(),
        p95(&up),
        up[up.len() - 1],
        down.len(),
        p95(&down),
        down[down.len() - 1],
        records.len(),
    ));
    assert!(up.len() + down.len() >= 20, "{lives:?}");
    assert!(p95(&up) <= TARGET, "to the first request after it ran: {up:?}");
    assert!(p95(&down) <= TARGET, "to the last request after it was meant to end: {down:?}");
    stage.portolan.stop();
}

#[test]
fn an_update_that_starts_first_and_a_scale_down_lose_no_request() {
    let Some(stage) = Stage::set("rolled", 3, &["--update-order", "start-first", "--update-parallelism", "1"]) else {
        return;
    };
    stage.swarm.engine.docker(&["tag", "whoami:one", "whoami:next"]);
    let load = stage.plan("rolled", RATE).start();
    sleep(Duration::from_millis(500));
    let before: BTreeSet<String> = stage.swarm.tasks(&stage.service.name).into_iter().map(|task| task.id).collect();
    stage.service.update(&["--image", "whoami:next"]);
    let updated = wait_until_updated(&stage, &before);
    assert_eq!(updated, 3);
    let scaled = now();
    stage.service.scale(8);
    stage.swarm.wait_for(&stage.service.name, 8);
    sleep(Duration::from_millis(500));
    stage.service.scale(2);
    stage.swarm.wait_for(&stage.service.name, 2);
    sleep(Duration::from_millis(500));
    let records = load.stop();
    let failed: Vec<String> = records.iter().filter_map(|record| tell(record, scaled)).collect();
    let by: BTreeSet<&str> =
        records.iter().filter_map(|record| record.outcome.as_ref().ok()).map(|served| served.by.as_str()).collect();
    announce(&format!("{} requests, {} failed; {} tasks answered", records.len(), failed.len(), by.len()));
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), records.len(), failed[..failed.len().min(30)].join("\n"));
    assert_eq!(by.len(), 3 + 3 + 5, "old, new and scaled ones: {by:?}");
    stage.portolan.stop();
}

#[test]
fn an_update_that_stops_first_loses_requests_only_while_no_task_runs() {
    let Some(stage) = Stage::set("halted", 1, &["--update-order", "stop-first"]) else { return };
    stage.swarm.engine.docker(&["tag", "whoami:one", "whoami:next"]);
    let load = stage.plan("halted", RATE).start();
    sleep(Duration::from_millis(500));
    let before: BTreeSet<String> = stage.swarm.tasks(&stage.service.name).into_iter().map(|task| task.id).collect();
    let watch = Watch::begin(stage.swarm.engine, &stage.service.name);
    stage.service.update(&["--image", "whoami:next"]);
    wait_until_updated(&stage, &before);
    sleep(Duration::from_millis(1000));
    let records = load.stop();
    let lives = watch.end();
    // From the old one's stop signal, at which it listens no more, to the new one, and what it takes to see that.
    let told = stage.swarm.engine.told(SystemTime::now() - PATIENCE, &["type=container", "event=kill"]);
    let of_service = |event: &&serde_json::Value| {
        event["Actor"]["Attributes"]["com.docker.swarm.service.name"] == stage.service.name.as_str()
    };
    let stopped = told.iter().find(of_service).unwrap_or_else(|| panic!("no stop signal in {told:?}"));
    let from = Duration::from_nanos(stopped["timeNano"].as_u64().unwrap());
    let until = lives.values().filter_map(|life| life.ran).max().unwrap();
    assert!(until > from, "{lives:?}");
    let explained = |record: &&Record| record.sent + record.took >= from && record.sent <= until + TARGET;
    let failed: Vec<&Record> = records.iter().filter(|record| record.failure().is_some()).collect();
    let (inside, outside): (Vec<&&Record>, Vec<&&Record>) = failed.iter().partition(|record| explained(record));
    announce(&format!(
        "{} requests, {} failed in the {:.0?} without a task, {} at other times",
        records.len(),
        inside.len(),
        until - from,
        outside.len()
    ));
    let shown: Vec<String> = outside.iter().filter_map(|record| tell(record, from)).take(30).collect();
    assert!(outside.is_empty(), "{}", shown.join("\n"));
    assert!(!inside.is_empty(), "there was a moment without a task");
    let mut answers = inside.iter().filter_map(|record| record.outcome.as_ref().err());
    let unknown = answers.find(|why| why.starts_with("404") || why.starts_with("421"));
    assert_eq!(unknown, None, "the route is known all the time");
    stage.portolan.stop();
}

/// Until none of the tasks from before is left; how many there are now.
fn wait_until_updated(stage: &Stage, before: &BTreeSet<String>) -> usize {
    let start = std::time::Instant::now();
    loop {
        let alive: Vec<Task> =
            stage.swarm.tasks(&stage.service.name).into_iter().filter(|task| !task.is_over()).collect();
        if !alive.is_empty() && alive.iter().all(|task| !before.contains(&task.id) && task.state == "running") {
            return alive.len();
        }
        // One task after the other, each of which takes seconds to leave.
        assert!(start.elapsed() < 2 * PATIENCE, "the update does not end: {alive:?}");
        sleep(Duration::from_millis(50));
    }
}

fn tell(record: &Record, since: Duration) -> Option<String> {
    let why = record.failure()?;
    let at = record.sent.as_secs_f64() - since.as_secs_f64();
    Some(format!("{:?} at {at:+.3} s, in {:.1?}: {why}", record.protocol, record.took))
}
