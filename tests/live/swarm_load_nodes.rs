//! A swarm of two nodes: tasks of which the manager's engine tells no events, nodes that drain and go down, and a manager
//! that is restarted while everything else goes on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::announce;
use crate::support::contained::Contained;
use crate::support::engine::Engine;
use crate::support::http::{self, get_plain};
use crate::support::load::{Plan, Protocol, Record};
use crate::support::port::free_port;
use crate::support::portolan::write_settings;
use crate::support::swarm::{Service, Swarm};
use crate::support::wait::eventually;
use crate::support::{node, run};

/// Requests a second, of each protocol.
const RATE: u32 = 100;
/// A manager that hears nothing of a node gives it up after a few heartbeats.
const DOWN: Duration = Duration::from_secs(45);

/// The second node, which leaves the swarm when dropped.
struct Joined<'s> {
    swarm: &'s Swarm,
    engine: &'static Engine,
    id: String,
}

impl Joined<'_> {
    fn join(swarm: &Swarm) -> Joined<'_> {
        let engine = Engine::node(swarm.engine);
        let token = swarm.engine.docker(&["swarm", "join-token", "--quiet", "worker"]);
        engine.docker(&["swarm", "join", "--token", &token, "--advertise-addr", node::ADDRESS, "10.222.0.1:2377"]);
        let id = engine.docker(&["info", "--format", "{{.Swarm.NodeID}}"]);
        Joined { swarm, engine, id }
    }

    fn make(&self, availability: &str) {
        self.swarm.engine.docker(&["node", "update", "--availability", availability, &self.id]);
    }

    /// A service there, of which it says nothing to the manager's engine but to the manager.
    fn service(&self, name: &str, network: &str, replicas: u32) -> Service {
        let (host, replicas) = (format!("portolan.host={name}.test"), replicas.to_string());
        let labels = ["--label", &host, "--label", "portolan.port=8080", "--label", "portolan.listeners=https,plain"];
        let there = ["--constraint", "node.role==worker", "--network", network, "--replicas", &replicas];
        self.swarm.service(name, &[&there[..], &labels].concat())
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        run(&mut self.engine.client_command(&["swarm", "leave", "--force"]));
        run(&mut self.swarm.engine.client_command(&["node", "rm", "--force", &self.id]));
    }
}

fn plan(to: SocketAddr, host: &str, root: String) -> Plan {
    Plan { to, host: host.into(), root, rates: BTreeMap::from([(Protocol::H1, RATE), (Protocol::H2, RATE)]) }
}

fn none_failed(records: &[Record], during: &str) {
    let failed: Vec<String> =
        records.iter().filter_map(|record| Some(format!("{:?}: {}", record.protocol, record.failure()?))).collect();
    announce(&format!("{during}: {} requests, {} failed", records.len(), failed.len()));
    assert!(
        failed.is_empty(),
        "{during}: {} of {}: {:?}",
        failed.len(),
        records.len(),
        &failed[..failed.len().min(20)]
    );
}

#[test]
fn tasks_on_another_node_come_and_go_with_it() {
    let Some(swarm) = Swarm::alone() else { return };
    let net = swarm.overlay("across", &[]);
    let joined = Joined::join(&swarm);
    let portolan = Contained::start(swarm.engine, "portolan-across", &["bridge", "across"]);
    let remote = joined.service("remote", &net.name, 2);
    let url = "https://remote.test/";
    for task in swarm.wait_for(&remote.name, 2) {
        portolan.get_from_host(url, &task.hostname);
    }
    let root = || std::fs::read_to_string(portolan.root()).unwrap();

    // One of them dies by itself, of which nobody tells: requests move on, and its place is taken by another one.
    let load = plan(portolan.https(), "remote.test", root()).start();
    let victim = swarm.wait_for(&remote.name, 2).remove(0);
    joined.engine.docker(&["kill", &victim.hostname]);
    eventually("another one in its place", || {
        let tasks = swarm.tasks(&remote.name);
        let running: Vec<_> = tasks.iter().filter(|task| task.state == "running" && task.id != victim.id).collect();
        if running.len() == 2 { Ok(()) } else { Err(tasks.clone()) }
    });
    for task in swarm.wait_for(&remote.name, 2) {
        portolan.get_from_host(url, &task.hostname);
    }
    none_failed(&load.stop(), "a task on another node died");

    joined.make("drain");
    let drained = portolan.get_until(url, |answer| answer.status == 503);
    assert_eq!(drained.reason(), Some("NotReady"));
    let said = eventually("the words of the scheduler", || {
        let services = portolan.services();
        let text = services.iter().map(ToString::to_string).find(|text| text.contains("no suitable node"));
        text.ok_or(services)
    });
    announce(&said);
    joined.make("active");
    for task in swarm.wait_for(&remote.name, 2) {
        portolan.get_from_host(url, &task.hostname);
    }

    // Its engine is killed: the containers answer on, but nobody knows of what may become of them.
    joined.engine.kill();
    let killed = Instant::now();
    while portolan.get(url).is_ok_and(|answer| answer.status == 200) {
        assert!(killed.elapsed() < DOWN, "the node is not given up: {:?}", portolan.services());
        sleep(Duration::from_millis(200));
    }
    let state = swarm.engine.docker(&["node", "inspect", "--format", "{{.Status.State}}", &joined.id]);
    assert_eq!(state, "down", "it was not given up before");
    assert_eq!(portolan.get(url).unwrap().reason(), Some("NotReady"));
    announce(&format!("out {:.0?} after its node's engine was killed", killed.elapsed()));
    joined.engine.up();
    for task in swarm.wait_for(&remote.name, 2) {
        portolan.get_from_host(url, &task.hostname);
    }
    drop(remote);

    the_manager_is_restarted(&joined);
    portolan.stop();
}

/// Portolan and the service on the second node go on while the manager's engine is away: no request and no route is lost.
fn the_manager_is_restarted(joined: &Joined<'_>) {
    let swarm = joined.swarm;
    let _net = swarm.overlay("beyond", &[]);
    let web = joined.service("beyond-web", "beyond", 2);
    swarm.wait_for(&web.name, 2);
    let dir = tempfile::Builder::new().prefix("portolan-").tempdir().unwrap();
    let settings = json!({
        "listeners": { "plain": { "address": ":8000", "redirect": "off" } },
        "providers": { "docker": "off", "swarm": { "endpoints": ["unix:///manager/docker.sock"] } },
        "access_log": { "enabled": false },
        "state_dir": "/home/state",
    });
    write_settings(dir.path(), &settings);
    let [https, plain, status] = std::array::from_fn(|_| free_port());
    // The directory of the socket, not the socket: it is another one after the restart.
    let mount = |from: &std::path::Path, to: &str| format!("type=bind,source={},target={to}", from.display());
    let publish = |port: u16, target: u16| format!("mode=host,published={port},target={target}");
    let create = ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", "beyond-portolan"];
    let home = [&mount(dir.path(), "/home"), &mount(&swarm.engine.dir, "/manager")];
    let ports = [publish(https, 443), publish(plain, 8000), publish(status, 9181)];
    let options = [
        ["--constraint", "node.role==worker"],
        ["--network", "beyond"],
        ["--mount", home[0]],
        ["--mount", home[1]],
        ["--publish", &ports[0]],
        ["--publish", &ports[1]],
        ["--publish", &ports[2]],
        ["--workdir", "/home"],
    ]
    .concat();
    let run_it = ["portolan:test", "run", "--config", "/home/portolan.yaml"];
    swarm.engine.docker(&[&create, &options[..], &run_it].concat());
    let _portolan = swarm.started("beyond-portolan");
    let at = |port: u16| SocketAddr::new(node::ADDRESS.parse().unwrap(), port);
    let host = "beyond-web.test";
    let named = |path: &str| get_plain(at(plain), host, path).map(|answer| answer.status);
    eventually("the service beyond", || match named("/") {
        Ok(200) => Ok(()),
        other => Err(other),
    });
    let container = joined.engine.docker(&["ps", "--quiet", "--filter", "name=beyond-portolan"]);
    let root = joined.engine.docker(&["exec", &container, "/portolan", "ca", "root"]) + "\n";
    let file = dir.path().join("root.pem");
    std::fs::write(&file, &root).unwrap();
    let url = format!("https://{host}/");
    eventually("and over TLS", || match http::curl(&url, at(https), Some(&file), &[]) {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(other),
    });

    let load = plan(at(https), host, root).start();
    let stale = || http::get_plain(at(status), "localhost", "/metrics").map(|answer| answer.body);
    let provider = |state: &str| {
        eventually(&format!("the provider is {state}"), || match stale() {
            Ok(text)
                if text.lines().any(|line| {
                    line.contains("provider=\"swarm\"") && line.contains(state) && line.ends_with(" 1")
                }) =>
            {
                Ok(())
            }
            other => Err(other),
        });
    };
    swarm.engine.down();
    provider("stale");
    sleep(Duration::from_secs(2));
    swarm.engine.up();
    provider("live");
    swarm.wait_for(&web.name, 2);
    sleep(Duration::from_millis(500));
    none_failed(&load.stop(), "the manager's engine was restarted");
}
