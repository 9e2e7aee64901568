//! The commands that are not the proxy itself.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::cli::args::Output;
use crate::cli::report::{self, Kind, Look};
use crate::cli::{client, health};
use crate::model::listener::ListenAddress;

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot start")
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
