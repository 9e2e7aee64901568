//! The composition root: which parts make up a running proxy, and in which order they start and stop.
//!
//! ```text
//! start  state dir (lock) ─▶ issuers ─▶ status, admin ─▶ settings ─▶ workers ─▶ control ─▶ providers
//! stop   not ready ─▶ delay ─▶ accept no more, finish ─▶ deadline ─▶ exit code 0
//! ```

mod commands;
mod demo;
mod open_files;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::admin::api::AdminState;
use crate::admin::status::StatusState;
use crate::config::Loaded;
use crate::config::settings::{AccessLogSettings, Settings};
use crate::control::ca::{InternalCa, LEAF_LIFE};
use crate::control::leaves::LeafStore;
use crate::control::state::{StateDir, StateView};
use crate::control::view::View;
use crate::control::{Control, ControlSetup};
use crate::model::diagnostic::Reason;
use crate::model::id::Name;
use crate::model::listener::ListenAddress;
use crate::model::{self, Provider};
use crate::provider::docker::Docker;
use crate::provider::file::File;
use crate::provider::{self, Board, SnapshotSink};
use crate::proxy::{Admission, WorkerSetup, Workers};
use crate::table::LiveTable;
use crate::telemetry::{AccessLog, Metrics, logs};

pub use commands::{ca_root, health, list, whoami};
pub use demo::demo;

/// Runs the proxy until a signal ends it.
pub fn run(loaded: Loaded) -> anyhow::Result<ExitCode> {
    let Settings { log, .. } = &loaded.settings;
    logs::init(log.level, log.format, std::io::stderr().is_terminal()).map_err(|why| anyhow!(why))?;
    let runtime = control_runtime()?;
    runtime.block_on(async {
        let signals = Signals::listen()?;
        let running = Running::start(loaded).await?;
        tokio::select! {
            ready = running.wait_until_ready() => {
                ready?;
                tracing::info!("ready");
            }
            () = signals.reach(1) => {}
        }
        signals.reach(1).await;
        running.stop(signals).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Control, admin and providers; the workers bring threads of their own.
fn control_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("control").enable_all().build().context("the control threads cannot start")
}

/// A proxy that has been started.
struct Running {
    settings: Settings,
    workers: Workers,
    view: watch::Receiver<Arc<View>>,
    /// Held, because control ends with the last who can write on it, and there may be no provider that does.
    _board: Arc<watch::Sender<Board>>,
    access_log: Option<AccessLog>,
    /// Ends what has no connections: providers, control, admin.
    stop: CancellationToken,
    /// Ends accepting; connections are finished.
    drain: CancellationToken,
    /// Cancelled when the proxy is no longer ready, though it still serves.
    leaving: CancellationToken,
}

impl Running {
    async fn start(loaded: Loaded) -> anyhow::Result<Running> {
        let settings = loaded.settings.clone();
        let state = StateDir::open(&settings.state_dir)?;
        let issuers = issuers(&settings, &state)?;
        let metrics = Metrics::new();
        let access_log = match &settings.access_log {
            AccessLogSettings { enabled: false, .. } => None,
            AccessLogSettings { enabled: true, format } => Some(AccessLog::open(*format).context("the access log")?),
        };
        if let Some(log) = &access_log {
            metrics.follow_access_log(log);
        }
        let status = listen("status", settings.status.address).await?;
        let api = listen("admin", settings.admin.address).await?;

        let (stop, drain, leaving) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let live = LiveTable::default();
        let (board, words) = watch::channel(Board::new());
        let board = Arc::new(board);
        SnapshotSink::open(Provider::Settings, board.clone()).live(provider::settings::snapshot(&loaded));
        start_providers(&settings, &board, &stop);

        let workers = match settings.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        let (bound, sockets) = mpsc::unbounded_channel();
        let setup = ControlSetup {
            board: words,
            live: live.clone(),
            state,
            issuers,
            default_issuers: settings.default_issuers.iter().map(|name| Name::normalised(name)).collect(),
            default_certificate: settings.default_certificate.as_deref().map(Name::normalised),
            metrics: metrics.clone(),
            workers,
            bound: sockets,
            leaving: leaving.clone(),
        };
        let (control, view) = Control::new(setup)?;
        let setup = WorkerSetup {
            live,
            metrics: metrics.clone(),
            access_log: access_log.clone(),
            reason_header: settings.reason_header,
            admission: Admission::new(open_files::raise()),
            stop: drain.clone(),
            bound,
        };
        let workers = Workers::start(workers, &setup).context("the worker threads cannot start")?;
        drop(setup);
        tokio::spawn(control.run(stop.clone()));
        tokio::spawn(admin::status::serve(status, StatusState { view: view.clone(), metrics }, stop.clone()));
        tokio::spawn(admin::api::serve(api, AdminState { view: view.clone() }, stop.clone()));
        Ok(Running { settings, workers, view, _board: board, access_log, stop, drain, leaving })
    }

    /// Until everything that is on has answered, or a listener cannot be opened: then there is no proxy to run.
    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let mut view = self.view.clone();
        loop {
            {
                let view = view.borrow_and_update();
                if view.ready {
                    return Ok(());
                }
                let failed = view.findings.iter().find(|finding| finding.reason == Reason::ListenerUnavailable);
                if let Some(finding) = failed {
                    bail!("{}: listener {}: {}", finding.origin, finding.subject.name, finding.detail);
                }
                if let Some(why) = &view.not_ready_because {
                    tracing::debug!(why, "not ready");
                }
            }
            tokio::select! {
                changed = view.changed() => changed.map_err(|_| anyhow!("control has ended"))?,
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn stop(mut self, signals: Signals) {
        let (delay, deadline) = (self.settings.shutdown.delay.0, self.settings.shutdown.deadline.0);
        self.leaving.cancel();
        tracing::info!(delay = ?delay, deadline = ?deadline, "stopping; a second signal ends at once");
        let orderly = async {
            tokio::time::sleep(delay).await;
            self.drain.cancel();
            if tokio::time::timeout(deadline, self.workers.finished()).await.is_err() {
                tracing::warn!("the deadline is over; what is still under way is cut off");
            }
        };
        tokio::select! {
            () = orderly => {}
            () = signals.reach(2) => tracing::warn!("second signal; what is still under way is cut off"),
        }
        self.stop.cancel();
        if let Some(log) = self.access_log.take() {
            let settled = tokio::task::spawn_blocking(move || log.settle(Duration::from_secs(1)));
            let _ = settled.await;
        }
        tracing::info!("stopped");
    }
}

fn issuers(settings: &Settings, state: &StateView) -> anyhow::Result<BTreeMap<Name, Arc<LeafStore>>> {
    settings
        .issuers
        .iter()
        .filter(|(_, issuer)| issuer.internal.is_some())
        .map(|(name, _)| {
            let ca = InternalCa::open(&state.issuer_dir(name), name)?;
            Ok((Name::normalised(name), Arc::new(LeafStore::new(Arc::new(ca), LEAF_LIFE))))
        })
        .collect()
}

async fn listen(what: &str, address: ListenAddress) -> anyhow::Result<TcpListener> {
    let bound = match address.ip {
        Some(ip) => TcpListener::bind((ip, address.port)).await,
        None => match TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, address.port)).await {
            Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, address.port)).await
            }
            bound => bound,
        },
    };
    bound.with_context(|| format!("{what}: cannot listen on {address}; free it or set {what}.address"))
}

fn start_providers(settings: &Settings, board: &Arc<watch::Sender<Board>>, stop: &CancellationToken) {
    let providers = &settings.providers;
    match &providers.docker {
        Some(docker) => {
            tracing::info!(endpoint = docker.endpoint, "provider docker: on by the settings");
            provider::supervise(Docker::new(docker.clone(), false), board, stop.clone());
        }
        None if providers.off.contains(&model::Provider::Docker) => tracing::info!("provider docker: off"),
        None => {
            tracing::info!("provider docker: on while its socket is there");
            provider::supervise(Docker::new(Default::default(), true), board, stop.clone());
        }
    }
    match &providers.file {
        Some(file) => {
            tracing::info!(path = %file.path.display(), "provider file: on by the settings");
            provider::supervise(File::new(file.clone()), board, stop.clone());
        }
        None => tracing::info!("provider file: off; set providers.file.path"),
    }
}

/// The two signals that end the proxy.
struct Signals {
    count: watch::Receiver<u32>,
}

impl Signals {
    fn listen() -> anyhow::Result<Signals> {
        let mut term = signal(SignalKind::terminate()).context("SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        let (seen, count) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = interrupt.recv() => {}
                }
                seen.send_modify(|seen| *seen += 1);
            }
        });
        Ok(Signals { count })
    }

    /// Until so many signals have come since the start.
    async fn reach(&self, signals: u32) {
        let mut count = self.count.clone();
        let _ = count.wait_for(|seen| *seen >= signals).await;
    }
}
