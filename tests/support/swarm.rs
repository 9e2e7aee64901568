//! A swarm of one node, stacks and services in it, and what its manager says of their tasks.
//!
//! ```text
//! Swarm::alone ─▶ stack (docker stack deploy), service (docker service create), tasks (GET /tasks)
//! ```
//! One test at a time: a service that comes or goes keeps the one node busy, and some tests restart the manager.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::engine::{Engine, Network};
use super::run;
use super::wait::eventually;

pub struct Swarm {
    pub engine: &'static Engine,
    _alone: MutexGuard<'static, ()>,
}

/// Removed when dropped.
pub struct Stack {
    engine: &'static Engine,
    name: String,
}

/// Removed when dropped.
pub struct Service {
    engine: &'static Engine,
    pub name: String,
}

/// What a manager says of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub id: String,
    pub state: String,
    pub desired: String,
    /// The first 12 digits of its container's id, which is its host name.
    pub hostname: String,
    /// When its node saw it come into its state, and when the manager last heard of it or changed its mind about it; both
    /// since the Unix epoch.
    pub stated: Duration,
    pub updated: Duration,
}

impl Swarm {
    pub fn alone() -> Option<Swarm> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Swarm { engine: Engine::swarm()?, _alone: alone })
    }

    /// An overlay network that containers outside of services may be on too.
    pub fn overlay(&self, name: &str, options: &[&str]) -> Network {
        self.engine.network(name, &[&["--driver", "overlay", "--attachable"], options].concat())
    }

    /// `docker stack deploy`, of a file that the test writes.
    pub fn stack(&self, name: &str, file: &str) -> Stack {
        let mut deploy = self.engine.client_command(&["stack", "deploy", "--compose-file", "-", name]);
        let mut deploy = deploy.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        deploy.stdin.take().unwrap().write_all(file.as_bytes()).unwrap();
        let deployed = deploy.wait_with_output().unwrap();
        assert!(deployed.status.success(), "{}\n{file}", String::from_utf8_lossy(&deployed.stderr));
        Stack { engine: self.engine, name: name.to_string() }
    }

    /// A stack that somebody else deploys, or has deployed.
    pub fn adopt(&self, name: &str) -> Stack {
        Stack { engine: self.engine, name: name.to_string() }
    }

    /// A service that the test has started itself.
    pub fn started(&self, name: &str) -> Service {
        Service { engine: self.engine, name: name.to_string() }
    }

    pub fn init(&self) {
        self.engine.init_swarm();
    }

    /// The end of the swarm, of its networks and services.
    pub fn leave(&self) {
        self.engine.docker(&["swarm", "leave", "--force"]);
    }

    /// `docker service create` with these options, of `portolan whoami` on port 8080, which says its host name.
    pub fn service(&self, name: &str, options: &[&str]) -> Service {
        let create = ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", name];
        self.engine.docker(&[&create, options, &["whoami:one"]].concat());
        Service { engine: self.engine, name: name.to_string() }
    }

    /// The tasks of a service that are not over, and those that are if anybody still knows them.
    pub fn tasks(&self, service: &str) -> Vec<Task> {
        tasks(self.engine, service)
    }

    /// Until so many run, none of them meant to end, and nothing else does.
    pub fn wait_for(&self, service: &str, running: usize) -> Vec<Task> {
        eventually(&format!("{running} tasks of {service}"), || {
            let tasks = self.tasks(service);
            let alive: Vec<Task> = tasks.iter().filter(|task| !task.is_over()).cloned().collect();
            let settled = alive.iter().all(|task| task.state == "running" && task.desired == "running");
            if settled && alive.len() == running { Ok(alive) } else { Err(tasks) }
        })
    }
}

/// Whoever looks at tasks often asks the manager itself, not by way of a client process.
pub fn tasks(engine: &Engine, service: &str) -> Vec<Task> {
    let filter = format!("{{\"service\":[\"{service}\"]}}").replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
    let said = get(engine, &format!("/v1.41/tasks?filters={filter}"));
    said.as_array().unwrap().iter().map(Task::read).collect()
}

/// A call of the engine's API that must succeed.
fn get(engine: &Engine, path: &str) -> Value {
    let mut stream = UnixStream::connect(&engine.socket).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {answer}"));
    assert!(head.contains(" 200 "), "{path}: {answer}");
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{path}: {e}: {answer}"))
}

impl Task {
    fn read(said: &Value) -> Task {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let since_epoch = |value: &Value| {
            let stamp: jiff::Timestamp = value.as_str().unwrap().parse().unwrap();
            SystemTime::from(stamp).duration_since(SystemTime::UNIX_EPOCH).unwrap()
        };
        let container = text(&said["Status"]["ContainerStatus"]["ContainerID"]);
        Task {
            id: text(&said["ID"]),
            state: text(&said["Status"]["State"]),
            desired: text(&said["DesiredState"]),
            hostname: container.chars().take(12).collect(),
            stated: since_epoch(&said["Status"]["Timestamp"]),
            updated: since_epoch(&said["UpdatedAt"]),
        }
    }

    pub fn is_over(&self) -> bool {
        ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"].contains(&self.state.as_str())
    }
}

impl Service {
    pub fn scale(&self, replicas: u32) {
        self.engine.docker(&["service", "scale", "--detach", &format!("{}={replicas}", self.name)]);
    }

    pub fn update(&self, options: &[&str]) {
        let update = ["service", "update", "--detach", "--quiet", "--no-resolve-image"];
        self.engine.docker(&[&update, options, &[&self.name]].concat());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = run(&mut self.engine.client_command(&["service", "ps", "--no-trunc", &self.name]));
            eprintln!("--- {}\n{}", self.name, String::from_utf8_lossy(&told.stdout));
        }
        run(&mut self.engine.client_command(&["service", "rm", &self.name]));
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = run(&mut self.engine.client_command(&["stack", "ps", "--no-trunc", &self.name]));
            eprintln!("--- {}\n{}", self.name, String::from_utf8_lossy(&told.stdout));
        }
        run(&mut self.engine.client_command(&["stack", "rm", &self.name]));
    }
}
