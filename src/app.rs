//! The composition root: which parts make up a running proxy, and in which order they start and stop.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::cli::Listing;
use crate::cli::args::Output;
use crate::config::{Loaded, Settings};
use crate::model::listener::ListenAddress;

pub fn run(_loaded: Loaded) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the proxy is not wired up yet")
}

pub fn demo() -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demo is not wired up yet")
}

/// `None` is the first internal issuer.
pub fn ca_root(_settings: &Settings, _issuer: Option<&str>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the internal CA is not wired up yet")
}

pub fn whoami(_listen: ListenAddress, _name: Option<String>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("whoami is not wired up yet")
}

pub fn list(_listing: Listing, _admin: SocketAddr, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the admin API's client is not wired up yet")
}

pub fn health(_status: SocketAddr) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the health check is not wired up yet")
}
