//! Services of a swarm: what a manager knows, at the addresses of their tasks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::contained::Contained;
use crate::support::engine::Engine;
use crate::support::http::{self, Answer, get_plain};
use crate::support::pki::Authority;
use crate::support::port::free_port;
use crate::support::portolan::Portolan;
use crate::support::swarm::{Stack, Swarm};
use crate::support::wait::{eventually, throughout};
use crate::support::{announce, run};

const REQUESTS: usize = 10_000;

/// On its network, and on the bridge, where the test asks it.
fn portolan_on(swarm: &Swarm, network: &str) -> Contained {
    Contained::start(swarm.engine, &format!("portolan-on-{network}"), &["bridge", network])
}

#[test]
fn a_service_is_served_by_its_tasks_as_long_as_it_is_there() {
    let Some(swarm) = Swarm::alone() else { return };
    let net = swarm.overlay("life", &[]);
    let portolan = portolan_on(&swarm, &net.name);
    // Labels on its containers are nothing to the Docker provider, which says so and serves nothing twice.
    let labels = ["--label", "portolan.host=life.test", "--label", "portolan.port=8080"];
    let container = ["--container-label", "portolan.host=life.test", "--container-label", "portolan.port=8080"];
    let life = swarm.service("life", &[&["--network", "life"], &labels[..], &container].concat());
    let [task] = &swarm.wait_for("life", 1)[..] else { unreachable!() };
    portolan.get_from_host("https://life.test/", &task.hostname);
    eventually("one route, and a word about the labels of the container", || {
        let routes: Vec<Value> = portolan.routes();
        let problems = portolan.problems();
        let told = problems.iter().any(|problem| problem["reason"] == "SwarmTask");
        let once = routes.len() == 1 && routes[0].to_string().contains("swarm/route/_/life/life");
        if told && once { Ok(()) } else { Err((routes, problems)) }
    });

    life.scale(0);
    let down = portolan.get_until("https://life.test/", |answer| answer.status == 503);
    assert_eq!(down.reason(), Some("NotReady"), "{down:?}");
    assert!(down.header("retry-after").is_some(), "{down:?}");
    life.scale(2);
    let tasks = swarm.wait_for("life", 2);
    for task in &tasks {
        portolan.get_from_host("https://life.test/", &task.hostname);
    }
    drop(life);
    eventually("nobody holds that name any more", || match portolan.get("https://life.test/") {
        Err(failure) if failure.code == 35 => Ok(()),
        other => Err(other),
    });
    portolan.stop();
}

#[test]
fn a_service_on_no_network_of_portolans_says_so() {
    let Some(swarm) = Swarm::alone() else { return };
    let (front, back) = (swarm.overlay("front", &[]), swarm.overlay("back", &[]));
    let portolan = portolan_on(&swarm, &front.name);
    let labels = ["--label", "portolan.host=back.test", "--label", "portolan.port=8080"];
    let _back = swarm.service("backend", &[&["--network", &back.name], &labels[..]].concat());
    swarm.wait_for("backend", 1);
    let said = eventually("the problem", || {
        let problems = portolan.problems();
        problems.iter().find(|problem| problem["reason"] == "NoNetwork").cloned().ok_or(problems)
    });
    let detail = said["detail"].as_str().unwrap();
    assert!(detail.contains("its networks: back; Portolan's: bridge, front"), "{detail}");
    assert_eq!(said["subject"], "swarm/service/_/backend/backend");
    let answer = portolan.get_until("https://back.test/", |answer| answer.status == 503);
    assert_eq!(answer.reason(), Some("NoNetwork"));
    // Put there under way, it serves.
    portolan.container.connect(&back.name);
    portolan.get_until("https://back.test/", |answer| answer.status == 200);
    portolan.stop();
}

#[test]
fn global_and_dnsrr_services_and_ports_of_nodes_are_reached_too() {
    let Some(swarm) = Swarm::alone() else { return };
    let net = swarm.overlay("kinds", &[]);
    let portolan = portolan_on(&swarm, &net.name);
    let labelled = |name: &str| {
        let host = format!("portolan.host={name}.kinds.test");
        ["--label".to_string(), host, "--label".to_string(), "portolan.port=8080".to_string()]
    };
    let start = |name: &str, options: &[&str]| {
        let labels = labelled(name);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        swarm.service(name, &[options, &labels].concat())
    };
    let published = free_port();
    let publish = format!("mode=host,published={published},target=8080");
    let services = [
        start("every", &["--network", &net.name, "--mode", "global"]),
        start("rr", &["--network", &net.name, "--endpoint-mode", "dnsrr"]),
        start("on-node", &["--publish", &publish]),
        start("vip", &["--network", &net.name, "--label", "portolan.address=vip"]),
    ];
    for service in &services[..3] {
        let [task] = &swarm.wait_for(&service.name, 1)[..] else { unreachable!() };
        portolan.get_from_host(&format!("https://{}.kinds.test/", service.name), &task.hostname);
    }
    swarm.wait_for("vip", 1);
    // Whether a virtual address carries anything is the kernel's business (IPVS).
    let vip = eventually("the virtual address", || {
        let said = portolan.services();
        let vip = said.iter().find(|service| service["id"] == "swarm/service/_/vip/vip");
        let endpoints = vip.and_then(|vip| vip["endpoints"].as_array()).cloned().unwrap_or_default();
        if endpoints.len() == 1 { Ok(endpoints[0]["address"].as_str().unwrap().to_string()) } else { Err(said) }
    });
    let spec = swarm.engine.docker(&["service", "inspect", "--format", "{{json .Endpoint.VirtualIPs}}", "vip"]);
    assert!(spec.contains(&format!("\"{}/", vip.trim_end_matches(":8080"))), "{vip} of {spec}");
    portolan.stop();
}

#[test]
fn a_config_of_the_stack_is_a_trust_bundle() {
    let Some(swarm) = Swarm::alone() else { return };
    let net = swarm.overlay("secure", &[]);
    let portolan = portolan_on(&swarm, &net.name);
    let dir = tempfile::tempdir().unwrap();
    let partners = Authority::create(dir.path(), "partners");
    let client = partners.issue("client", "DNS:a.partners.example");
    let file = format!(
        r#"
version: "3.8"
services:
  web:
    image: whoami:one
    networks: [secure]
    deploy:
      labels:
        portolan.host: secure.test
        portolan.port: "8080"
        portolan.mtls: partners
        portolan.mtls_policies.partners.mode: require
        portolan.mtls_policies.partners.trust: partners-ca
        portolan.trust_bundles.partners-ca.config: partners-ca
configs:
  partners-ca: {{ file: {} }}
networks:
  secure: {{ external: true }}
"#,
        partners.ca_file.display()
    );
    let _stack = swarm.stack("bank", &file);
    swarm.wait_for("bank_web", 1);
    let path = |file: &std::path::Path| file.display().to_string();
    let (cert, key) = (path(&client.cert_file), path(&client.key_file));
    let with = |options: &[&str]| http::curl("https://secure.test/", portolan.https(), Some(&portolan.root()), options);
    eventually("the client with a certificate", || match with(&["--cert", &cert, "--key", &key]) {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?} {:?}", portolan.problems())),
    });
    let without = with(&[]).unwrap_err();
    assert!([35, 56].contains(&without.code), "refused in the handshake: {without:?}");
    portolan.stop();
}

/// The stack file of the docs, and what they tell people to type; but for the ports, and the socket's place.
struct WalkThrough {
    dir: TempDir,
    https: SocketAddr,
    docker_host: String,
    config: String,
    _stack: Stack,
}

impl WalkThrough {
    fn begin(swarm: &Swarm) -> WalkThrough {
        swarm.engine.product();
        let dir = tempfile::tempdir().unwrap();
        let [http, https] = std::array::from_fn(|_| free_port());
        let socket = format!("- {}:/var/run/docker.sock", swarm.engine.socket.display());
        let file = include_str!("../../docs/examples/stack.yml")
            .replace("published: 80,", &format!("published: {http},"))
            .replace("published: 443,", &format!("published: {https},"))
            .replace("- /var/run/docker.sock:/var/run/docker.sock", &socket);
        std::fs::create_dir_all(dir.path().join("docs/examples")).unwrap();
        std::fs::write(dir.path().join("docs/examples/stack.yml"), file).unwrap();
        let client = swarm.engine.client_command(&[]);
        let variable = |wanted: &str| {
            let found = client.get_envs().find(|(name, _)| *name == wanted).and_then(|(_, value)| value).unwrap();
            found.to_string_lossy().into_owned()
        };
        WalkThrough {
            dir,
            https: SocketAddr::from(([127, 0, 0, 1], https)),
            docker_host: variable("DOCKER_HOST"),
            config: variable("DOCKER_CONFIG"),
            _stack: swarm.adopt("seed"),
        }
    }

    /// A line of the docs, once it succeeds: people look whether a service is there before they go on.
    fn typed(&self, line: &str) -> String {
        let line = line.replace("https://hn.localhost/", &format!("https://hn.localhost:{}/", self.https.port()));
        eventually(&line, || {
            let mut shell = Command::new("sh");
            shell.args(["-ec", &line]).current_dir(self.dir.path());
            shell.env("DOCKER_HOST", &self.docker_host).env("DOCKER_CONFIG", &self.config);
            let said = run(&mut shell);
            match said.status.success() {
                true => Ok(String::from_utf8_lossy(&said.stdout).into_owned()),
                false => Err(String::from_utf8_lossy(&said.stderr).into_owned()),
            }
        })
    }

    fn get(&self) -> Option<Answer> {
        http::curl("https://hn.localhost/", self.https, Some(&self.dir.path().join("root.pem")), &[]).ok()
    }
}

#[test]
fn the_walk_through_of_the_docs_serves_a_stack_evenly_and_follows_its_scale() {
    let Some(swarm) = Swarm::alone() else { return };
    let docs = include_str!("../../docs/swarm.md");
    let session = docs.split("```sh\n").nth(1).and_then(|rest| rest.split("\n```").next()).expect("a session");
    let lines: Vec<&str> = session.lines().collect();
    let [init, deploy, root, get, scale, gets @ ..] = &lines[..] else { panic!("{session}") };
    assert_eq!(*init, "docker swarm init", "which was done");
    let walk = WalkThrough::begin(&swarm);
    walk.typed(deploy);
    swarm.wait_for("seed_hn", 3);
    walk.typed(root);
    walk.typed(get);

    // Every task its share.
    let three = swarm.wait_for("seed_hn", 3);
    let shares = walk.shares();
    assert_eq!(shares.keys().cloned().collect::<Vec<_>>(), sorted(three.iter().map(|task| task.hostname.clone())));
    announce(&format!("{REQUESTS} requests: {shares:?}"));
    for (name, share) in &shares {
        let off = (*share as f64 / REQUESTS as f64 - 1.0 / 3.0).abs();
        assert!(off <= 0.02, "{name} got {share} of {shares:?}");
    }

    walk.typed(scale);
    let five = swarm.wait_for("seed_hn", 5);
    for task in &five {
        eventually("every one of five answers", || match walk.get() {
            Some(answer) if answer.whoami("Hostname") == Some(&task.hostname) => Ok(()),
            other => Err(other),
        });
    }
    let seen = sorted(walk.typed(&gets.join("\n")).lines().map(str::to_string));
    assert_eq!(seen.len(), 5, "five requests, five host names: {seen:?}");
}

impl WalkThrough {
    /// How many of so many requests each task answered.
    fn shares(&self) -> BTreeMap<String, usize> {
        let plan = crate::support::load::Plan {
            to: self.https,
            host: "hn.localhost".into(),
            root: std::fs::read_to_string(self.dir.path().join("root.pem")).unwrap(),
            rates: [(crate::support::load::Protocol::H1, 700), (crate::support::load::Protocol::H2, 700)].into(),
        };
        let begun = Instant::now();
        let load = plan.start();
        while begun.elapsed() < Duration::from_millis(7400) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let records = load.stop();
        assert!(records.len() >= REQUESTS, "{} requests", records.len());
        let mut shares = BTreeMap::new();
        for record in &records[..REQUESTS] {
            let served = record.outcome.as_ref().unwrap_or_else(|why| panic!("{why}"));
            *shares.entry(served.by.clone()).or_default() += 1;
        }
        shares
    }
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let names: std::collections::BTreeSet<String> = names.collect();
    names.into_iter().collect()
}

#[test]
fn a_managers_daemon_is_restarted_and_no_route_is_lost() {
    let Some(swarm) = Swarm::alone() else { return };
    let engine = swarm.engine;
    let endpoint = format!("unix://{}", engine.socket.display());
    // The first of two managers that answers.
    let endpoints = ["unix:///nonexistent/docker.sock", &endpoint];
    let mut portolan =
        Portolan::start(json!({ "providers": { "docker": "off", "swarm": { "endpoints": endpoints } } }));
    let publish = format!("mode=host,published={},target=8080", free_port());
    let labels = ["--label", "portolan.host=restart.test", "--label", "portolan.listeners=plain,https"];
    let _service = swarm.service("restarted", &[&["--publish", &publish], &labels[..]].concat());
    let [task] = &swarm.wait_for("restarted", 1)[..] else { unreachable!() };
    portolan.get_until("https://restart.test/", |answer| {
        answer.status == 200 && answer.whoami("Hostname") == Some(&task.hostname)
    });
    let kept = portolan.dir().join("state/snapshots/swarm.json");
    eventually("the snapshot is on disk", || match std::fs::read_to_string(&kept) {
        Ok(text) if text.contains("127.0.0.1") => Ok(()),
        other => Err(format!("{other:?}")),
    });

    // Its containers end with it: swarm and live-restore exclude each other.
    engine.down();
    portolan.problem("ProviderUnavailable", &["swarm", "its last good state stays in force"]);
    let known = |portolan: &Portolan| match get_plain(portolan.plain, "restart.test", "/") {
        Ok(answer) if [502, 503, 504].contains(&answer.status) => Ok(()),
        other => Err(format!("{other:?}\n{}", portolan.log())),
    };
    throughout("the route is known without its manager", Duration::from_secs(1), || known(&portolan));
    assert_eq!(portolan.routes_of("restart.test").len(), 1);
    portolan.kill();
    portolan.again();
    portolan.wait_until_ready();
    throughout("and after a start as well", Duration::from_millis(500), || known(&portolan));

    engine.up();
    let status = |portolan: &Portolan| get_plain(portolan.plain, "restart.test", "/").map(|answer| answer.status).ok();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) && status(&portolan) != Some(200) {
        assert_ne!(status(&portolan), Some(404), "{}", portolan.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let [task] = &swarm.wait_for("restarted", 1)[..] else { unreachable!() };
    portolan.get_until("https://restart.test/", |answer| {
        answer.status == 200 && answer.whoami("Hostname") == Some(&task.hostname)
    });
    portolan.without_problems();
    portolan.stop();
}

#[test]
fn the_provider_is_on_while_the_engine_is_a_manager() {
    let Some(plain) = Engine::shared() else { return };
    let providers = |portolan: &Portolan| {
        let said = get_plain(portolan.admin, "localhost", "/api/providers").unwrap().body;
        serde_json::from_str::<Vec<Value>>(&said).unwrap()
    };
    let state = |portolan: &Portolan| {
        let all = providers(portolan);
        all.iter().find(|one| one["name"] == "swarm").map(|one| one["state"].as_str().unwrap().to_string())
    };
    // An engine that manages nothing: not on by itself, and a problem where somebody asked for it, but ready.
    let beside = Portolan::beside(plain);
    assert_eq!(state(&beside), None, "{:?}", providers(&beside));
    beside.without_problems();
    let endpoint = format!("unix://{}", plain.socket.display());
    let asked = json!({ "providers": { "docker": "off", "swarm": { "endpoints": [endpoint] } } });
    let asked = Portolan::start(asked);
    asked.problem("ProviderUnavailable", &["manages no swarm", "docker swarm init"]);
    asked.stop();

    let Some(swarm) = Swarm::alone() else { return };
    let portolan = Portolan::beside(swarm.engine);
    eventually("on by itself", || match state(&portolan) {
        Some(state) if state == "live" => Ok(()),
        other => Err(other),
    });
    let publish = format!("mode=host,published={},target=8080", free_port());
    let service = swarm.service("leaving", &["--publish", &publish, "--label", "portolan.host=leaving.test"]);
    portolan.get_until("https://leaving.test/", |answer| answer.status == 200);
    swarm.leave();
    drop(service);
    eventually("off", || match state(&portolan) {
        None => Ok(()),
        other => Err(other),
    });
    assert!(portolan.routes_of("leaving.test").is_empty());
    swarm.init();
    eventually("on again", || match state(&portolan) {
        Some(state) if state == "live" => Ok(()),
        other => Err(other),
    });
    portolan.without_problems();
    portolan.stop();
    beside.stop();
}
