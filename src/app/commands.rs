//! The commands that are not the proxy itself.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use tokio_util::sync::CancellationToken;

use crate::cli::args::Output;
use crate::cli::report::{self, Kind, Look};
use crate::cli::{client, health};
use crate::config::Settings;
use crate::control::ca::InternalCa;
use crate::control::state::StateDir;
use crate::model::listener::ListenAddress;

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot start")
}

/// Prints the root of an internal CA, making the CA where there is none yet. `None` is the first default issuer.
pub fn ca_root(settings: &Settings, issuer: Option<&str>) -> anyhow::Result<ExitCode> {
    let internal = |name: &&str| settings.issuers.get(*name).is_some_and(|issuer| issuer.internal.is_some());
    let known: Vec<&str> = settings.issuers.keys().map(String::as_str).filter(internal).collect();
    let name =
        match issuer {
            Some(name) => known.iter().find(|known| **known == name).copied().ok_or_else(|| {
                anyhow!("there is no internal issuer \"{name}\"; issuers: names {}", known.join(", "))
            })?,
            None => {
                let default = settings.default_issuers.iter().map(String::as_str).find(internal);
                default.or(known.first().copied()).ok_or_else(|| anyhow!("issuers: names no internal CA"))?
            }
        };
    let dir = StateDir::view(&settings.state_dir).issuer_dir(name);
    let known = dir.exists();
    let ca = InternalCa::open(&dir, name)?;
    if !known {
        // With another state_dir than the proxy's this is a root that no proxy uses.
        eprintln!("portolan: there was no CA in {}; made one", dir.display());
    }
    crate::cli::print(&ca.root_pem())
}

pub fn whoami(listen: ListenAddress, name: Option<String>) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let listener = super::listen("whoami", listen)?;
        let stop = CancellationToken::new();
        let signals = super::Signals::listen()?;
        tokio::select! {
            () = crate::whoami::serve(listener, name, stop.clone()) => {}
            () = signals.reach(1) => stop.cancel(),
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub fn list(kind: Kind, admin: SocketAddr, output: Output) -> anyhow::Result<ExitCode> {
    let found = runtime()?.block_on(client::fetch(&admin.to_string(), kind.as_str()))?;
    let text = match output {
        Output::Json => report::json(&found),
        Output::Table => report::table(kind, &found, Look::of_stdout()),
    };
    crate::cli::print(&text)
}

/// Until a signal ends it.
pub fn watch(kind: Kind, admin: SocketAddr, output: Output) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(crate::cli::watch::watch(kind, admin, output))?;
    Ok(ExitCode::SUCCESS)
}

/// For HEALTHCHECK: 0 when the proxy is ready.
pub fn health(status: SocketAddr) -> anyhow::Result<ExitCode> {
    match runtime()?.block_on(health::check(&status.to_string())) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => {
            eprintln!("portolan: {why:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}
