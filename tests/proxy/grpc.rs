//! gRPC end to end, by gRPC's own library at both ends: h2 over TLS from the client, h2c to the endpoint.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::nobody;
use crate::support::peer::{Peer as Slow, Speaks};
use crate::support::portolan::{Portolan, lay_over};
use crate::support::run;

mod cut;

const HOST: &str = "grpc.test";

/// A Python that has the library: `tests/run` makes one.
fn python() -> PathBuf {
    match std::env::var_os("PORTOLAN_TEST_GRPC_PYTHON") {
        Some(python) => python.into(),
        None => panic!("PORTOLAN_TEST_GRPC_PYTHON names no Python with grpcio; tests/run sets it"),
    }
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/grpc_peer.py")
}

/// The endpoint. Ends with its input.
struct Peer {
    process: Child,
    port: String,
}

impl Peer {
    fn start() -> Peer {
        let mut process = Command::new(python())
            .arg(script())
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut port).unwrap();
        Peer { process, port: port.trim().into() }
    }

    fn url(&self) -> String {
        format!("h2c://127.0.0.1:{}", self.port)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serving(endpoint: &str, fields: Value) -> Portolan {
    let mut service = json!({ "endpoints": [endpoint] });
    lay_over(&mut service, fields);
    Portolan::serving(json!({
        "routes": { "r": { "host": HOST, "service": "s" } },
        "services": { "s": service },
    }))
}

#[track_caller]
fn play(portolan: &Portolan, scenario: &str, host: &str) {
    let mut client = Command::new(python());
    client.arg(script()).args([scenario, &portolan.https.to_string(), host]).arg(portolan.root());
    let output = run(&mut client);
    assert!(output.status.success(), "{scenario}:\n{}\n{}", String::from_utf8_lossy(&output.stderr), portolan.log());
}

/// A scenario against an endpoint of its own.
fn between(scenario: &str) {
    let peer = Peer::start();
    play(&serving(&peer.url(), json!({})), scenario, HOST);
}

#[test]
fn the_four_shapes_of_a_call() {
    between("shapes");
}

#[test]
fn both_sides_of_a_stream_take_turns() {
    between("ping_pong");
}

#[test]
fn metadata_passes_at_both_ends_of_an_answer() {
    between("metadata");
}

#[test]
fn statuses_pass_with_their_details() {
    between("status");
}

#[test]
fn a_deadline_reaches_the_endpoint() {
    between("deadline");
}

#[test]
fn what_a_client_gives_up_ends_at_the_endpoint() {
    between("cancel");
}

#[test]
fn a_side_that_does_not_read_stops_the_other() {
    between("backpressure");
}

#[test]
fn portolans_own_answers_are_grpcs() {
    let portolan = serving(&nobody().replace("http:", "h2c:"), json!({}));
    play(&portolan, "unreachable", HOST);
    // Under a wildcard that has a certificate and no route for this path, or is closed.
    portolan.edit(json!({ "routes": {
        "elsewhere": { "host": "other.test", "path": "/elsewhere", "service": "s" },
        "closed": { "host": "closed.test", "nonsense": 1 },
    } }));
    portolan.problem("", &["nonsense"]);
    play(&portolan, "no_route", "other.test");
    play(&portolan, "no_endpoint", "closed.test");
}

#[test]
fn an_endpoint_that_is_late_is_a_deadline() {
    let peer = Slow::start(Speaks { pause: Duration::from_secs(60), ..Speaks::default() });
    let portolan = serving(&peer.url("h2c"), json!({ "timeouts": { "response_header": "300ms" } }));
    play(&portolan, "late", HOST);
}
