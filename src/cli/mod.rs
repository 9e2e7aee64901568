//! The commands: words in, an exit code out.
//!
//! ```text
//! words ──args──▶ Command ──one match──▶ app ──▶ ExitCode      0 done · 1 failed · 2 not understood, or not built yet
//! ```

pub mod args;
pub mod client;
pub mod flags;
pub mod health;
pub mod report;
mod screen;
mod table;
pub mod watch;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{CommandFactory, Parser};

use crate::app;
use crate::config::{self, schema};
use args::{AdminArgs, CaArgs, CaCommand, Cli, Command, Described, HealthArgs, ListArgs, RunArgs, WhoamiArgs};
use flags::Flags;
use report::Kind;

const NOT_UNDERSTOOD: u8 = 2;

pub fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("portolan: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run(args),
        Command::Demo => app::demo(),
        Command::Whoami(WhoamiArgs { listen, name }) => app::whoami(listen, name),
        Command::Check(_) => Ok(not_built("portolan check")),
        Command::Explain(_) => Ok(not_built("portolan explain")),
        Command::Routes(args) => list(Kind::Routes, args),
        Command::Services(args) => list(Kind::Services, args),
        Command::Certificates(args) => list(Kind::Certificates, args),
        Command::Problems(args) => list(Kind::Problems, args),
        Command::Ca(args) => ca(args),
        Command::Crds => Ok(not_built("portolan crds")),
        Command::Schema(args) => schema(args.of),
        Command::Health(HealthArgs { status, config }) => {
            app::health(address(status, config.as_deref(), "status", |settings| settings.status.address)?)
        }
    }
}

fn run(RunArgs { config, settings }: RunArgs) -> anyhow::Result<ExitCode> {
    let flags = match Flags::parse(settings) {
        Ok(flags) => flags,
        Err(why) => {
            eprintln!("portolan: {why}");
            return Ok(ExitCode::from(NOT_UNDERSTOOD));
        }
    };
    if flags.help {
        let mut cli = Cli::command();
        cli.build();
        if let Some(run) = cli.find_subcommand_mut("run") {
            return print(&run.render_long_help().to_string());
        }
    }
    let config = flags.config.or(config);
    app::run(config::load(config.as_deref(), environment(), &flags.settings)?)
}

fn list(listing: Kind, ListArgs { output, watch, admin }: ListArgs) -> anyhow::Result<ExitCode> {
    let AdminArgs { admin, config } = admin;
    let admin = address(admin, config.as_deref(), "admin", |settings| settings.admin.address)?;
    if watch { app::watch(listing, admin, output) } else { app::list(listing, admin, output) }
}

fn ca(CaArgs { issuer, config, command }: CaArgs) -> anyhow::Result<ExitCode> {
    let place = || {
        let needed = ["state_dir", "issuers", "default_issuers", "user"];
        let settings = config::partial(config.as_deref(), environment(), &needed)?;
        // Where the proxy goes on as another user, what root writes here would be lost to it. To trust it, nothing is
        // written here, and what is written elsewhere is root's.
        if !matches!(command, CaCommand::Trust { .. }) {
            app::user::take_on_for_files(&settings)?;
        }
        app::ca::Place::find(&settings, issuer.as_deref())
    };
    match &command {
        CaCommand::Root => app::ca::root(&place()?),
        CaCommand::Trust { uninstall: false } => app::trust::install(&place()?),
        CaCommand::Trust { uninstall: true } => app::trust::uninstall(&place()?),
        CaCommand::Issue(args) => app::ca::issue(&place()?, args),
        CaCommand::Revoke { certificate } => app::ca::revoke(&place()?, certificate),
        CaCommand::Rotate { overlap } => app::ca::rotate(&place()?, overlap.0),
    }
}

fn schema(of: Described) -> anyhow::Result<ExitCode> {
    let schema = match of {
        Described::Settings => schema::portolan_yaml(),
        Described::Dynamic => schema::dynamic(),
    };
    print(&format!("{schema:#}\n"))
}

/// The address given, else what the settings of this place say: the same file and variables that `run` reads here. A
/// file that cannot be used is no reason to leave the proxy unasked: it runs on, and knows what is wrong.
fn address(
    given: Option<SocketAddr>,
    config: Option<&Path>,
    section: &str,
    of: impl Fn(&config::Settings) -> crate::model::listener::ListenAddress,
) -> anyhow::Result<SocketAddr> {
    match given {
        Some(address) => Ok(address),
        None => {
            let settings = config::partial(config, environment(), &[section]).unwrap_or_else(|error| {
                eprintln!("portolan: {error}\nportolan: going by the environment and the defaults alone");
                config::without_file(environment())
            });
            Ok(of(&settings).from_here())
        }
    }
}

/// A variable that is no text cannot be a setting.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn not_built(what: &str) -> ExitCode {
    eprintln!("{what} is not built yet (NotSupportedYet)");
    ExitCode::from(NOT_UNDERSTOOD)
}

/// A reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> anyhow::Result<ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(anyhow!(error).context("standard output")),
        _ => Ok(ExitCode::SUCCESS),
    }
}
