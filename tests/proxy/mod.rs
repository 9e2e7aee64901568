//! The data plane as clients and endpoints see it, without an engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod balancing;
mod ca;
mod ca_life;
mod clients;
mod departures;
mod engine_faults;
mod expectations;
mod files;
mod forged;
mod grpc;
mod headers;
mod health;
mod life;
mod limits;
mod listeners;
mod matching;
mod middlewares;
pub mod mtls;
mod names;
mod paths;
mod raw;
mod raw_h1;
mod raw_h2;
mod reload;
mod reports;
mod requests;
mod retries;
mod revocation;
mod routing;
mod settings;
mod sidecar;
mod state;
mod swap;
mod tls;
mod tls_scan;
mod trust;
mod tunnels;
mod upgrades;
mod upstream;
mod upstream_mtls;
mod watch;

/// Renamed into place, as the file provider wants it; `routes.json` in a directory of its own.
fn put(dir: &std::path::Path, document: &serde_json::Value) {
    let staged = dir.join(".staged");
    std::fs::write(&staged, document.to_string()).unwrap();
    std::fs::rename(&staged, dir.join("routes.json")).unwrap();
}
