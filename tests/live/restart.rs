//! An engine that crashes under load, with live-restore: its containers run on, and so does everything that is served.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::contained::Contained;
use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::http::get_plain;
use crate::support::load::{Plan, Protocol};
use crate::support::portolan::Portolan;
use crate::support::wait::{eventually, throughout};
use crate::support::{announce, run};

const HOST: &str = "web.crash.test";

#[test]
fn no_request_and_no_route_is_lost_when_the_engine_is_killed_and_started() {
    let Some(engine) = Engine::alone("crash", "portolan2", "10.215.0.1/24") else { return };
    let portolan =
        Portolan::beside_with(engine, json!({ "access_log": { "enabled": false }, "log": { "level": "info" } }));
    let replica = |n: u32| Container::compose(engine, "crash", "web", n).label("portolan.host", HOST);
    let replicas: Vec<_> = (1..=3).map(|n| replica(n).start()).collect();
    for replica in &replicas {
        portolan.get_from(&format!("https://{HOST}/"), &replica.name);
    }
    let plan = Plan {
        to: portolan.https,
        host: HOST.to_string(),
        root: std::fs::read_to_string(portolan.root()).unwrap(),
        rates: BTreeMap::from([(Protocol::H1, 150), (Protocol::H2, 150)]),
    };
    // As people mount it who have not read about it.
    let mounted = Contained::start(engine, "crash-mounted", &["bridge"]);
    // As docs/docker.md tells them to.
    let directory = format!("{}:/host/run:ro", engine.socket.parent().unwrap().display());
    let by_directory = Container::named(engine, "crash-directory")
        .image("portolan:test")
        .option("--volume", &directory)
        .option("--env", "PORTOLAN_PROVIDERS__DOCKER__ENDPOINT=unix:///host/run/docker.sock")
        .command(&["run"])
        .start();
    let follows = |name: &str| {
        eventually(&format!("{name}, by a directory that is mounted"), || {
            let services = run(&mut engine.client_command(&["exec", &by_directory.id, "/portolan", "services"]));
            let services = String::from_utf8_lossy(&services.stdout).into_owned();
            if services.contains(name) { Ok(()) } else { Err(format!("{services}{}", by_directory.logs())) }
        });
    };
    follows(&replicas[2].name);
    let load = plan.start();
    let inode = || std::fs::metadata(&engine.socket).map(|metadata| metadata.ino()).ok();
    let before = inode();

    engine.kill();
    let killed = Instant::now();
    let problem = portolan.problem("ProviderUnavailable", &["docker", "out of reach since", "last good state stays"]);
    let told = killed.elapsed();
    throughout("ready and routed without the engine", Duration::from_secs(2), || {
        portolan.ready()?;
        if portolan.routes_of(HOST).is_empty() { Err("the route is gone".to_string()) } else { Ok(()) }
    });
    engine.up();
    assert_ne!(inode(), before, "the engine has made another socket");
    let up = Instant::now();
    let four = replica(4).start();
    portolan.get_from(&format!("https://{HOST}/"), &four.name);
    let followed = up.elapsed();
    portolan.without_problems();

    follows(&four.name);
    // The file that was mounted is the socket of the engine that was killed, for ever.
    eventually("a socket that is mounted as a file is told of", || {
        let problems = mounted.problems();
        let told = problems.iter().any(|problem| problem.to_string().contains("mounted as a file"));
        if told { Ok(()) } else { Err(problems) }
    });
    drop(mounted);

    let records = load.stop();
    let failures: Vec<String> = records
        .iter()
        .filter_map(|record| Some(format!("{:?} {:.1?}: {}", record.protocol, record.took, record.failure()?)))
        .collect();
    announce(&format!(
        "{} requests, {} failed; stale {told:.1?} after the kill, another container served {followed:.1?} after the \
         start; {}",
        records.len(),
        failures.len(),
        problem["detail"],
    ));
    assert!(failures.is_empty(), "{} of {}: {:?}", failures.len(), records.len(), &failures[..failures.len().min(20)]);
    let names: std::collections::BTreeSet<&str> =
        records.iter().filter_map(|record| record.outcome.as_ref().ok()).map(|served| served.by.as_str()).collect();
    assert_eq!(names.len(), 4, "{names:?}");

    // It has come back to an engine that tells of what leaves, too.
    drop(replicas);
    drop(four);
    eventually("all are gone", || match get_plain(portolan.http, HOST, "/") {
        Ok(_) if portolan.routes_of(HOST).is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    portolan.stop();
}
