//! What the integration tests stand on: an engine, a proxy, a client.
//!
//! `tests/run` ─▶ `enclose` (namespaces) ─▶ `engine`, `container` ◀── `portolan` (the binary under test as a process)
//! or `contained` (in a container of its own) ◀── `http` (curl, and a poller on bare sockets), `tls` (rustls, where a
//! handshake is looked at), `h2` (frames), `websocket` (over h1 and h2, and an endpoint that echoes) and `load` (so many requests a second, each on record). What needs no engine has
//! `backend` behind the proxy; `fake_engine` fails as real ones cannot be made to, and `socket_proxy` stands before a
//! real one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod backend;
pub mod clients;
pub mod contained;
pub mod container;
pub mod dns;
pub mod engine;
pub mod fake_engine;
pub mod frames;
pub mod h2;
pub mod hpack;
pub mod http;
pub mod load;
pub mod node;
pub mod peer;
pub mod pki;
pub mod port;
pub mod portolan;
pub mod recorder;
pub mod socket_proxy;
pub mod swarm;
pub mod system;
pub mod tls;
pub mod wait;
pub mod websocket;
pub mod wire;

use std::path::Path;
use std::process::{Command, Output};

/// Runs `command` and returns its standard output. What it printed is in the panic if it fails.
pub fn output_of(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_string()
}

pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"))
}

/// Says something past libtest's capture, which hides what a passing test prints.
pub fn announce(text: &str) {
    use std::io::Write;
    let test = std::thread::current();
    // One write, so that concurrent tests do not cut each other's lines. A closed stderr is no reason to fail.
    let _ = std::io::stderr().write_all(format!("{}: {text}\n", test.name().unwrap_or("?")).as_bytes());
}

/// The last lines of a log, for a panic that should tell why.
pub fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| format!("{} cannot be read: {e}", file.display()));
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
