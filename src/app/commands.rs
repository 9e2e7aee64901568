//! The commands that are not the proxy itself.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use tokio_util::sync::CancellationToken;

use crate::cli::args::Output;
use crate::cli::{Listing, client, report};
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
    let ca = InternalCa::open(&StateDir::view(&settings.state_dir).issuer_dir(name), name)?;
    print!("{}", ca.root_pem());
    Ok(ExitCode::SUCCESS)
}

pub fn whoami(listen: ListenAddress, name: Option<String>) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let listener = super::listen("whoami", listen).await?;
        let stop = CancellationToken::new();
        let signals = super::Signals::listen()?;
        tokio::select! {
            () = crate::whoami::serve(listener, name, stop.clone()) => {}
            () = signals.reach(1) => stop.cancel(),
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub fn list(listing: Listing, admin: SocketAddr, output: Output) -> anyhow::Result<ExitCode> {
    let kind = listing.path();
    let found = runtime()?.block_on(client::fetch(admin, kind))?;
    match output {
        Output::Json => println!("{found:#}"),
        Output::Table => print!("{}", report::table(kind, &found)),
    }
    Ok(ExitCode::SUCCESS)
}

/// For HEALTHCHECK: 0 when the proxy is ready.
pub fn health(status: SocketAddr) -> anyhow::Result<ExitCode> {
    match runtime()?.block_on(client::health(status)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => {
            eprintln!("portolan: {why:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}
