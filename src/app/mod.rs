//! The composition root: which parts make up a running proxy, and in which order they start and stop.
//!
//! ```text
//! start  user ─▶ state dir (lock) ─▶ issuers ─▶ status, admin ─▶ settings ─▶ providers ─▶ workers ─▶ control ─▶ reload
//! stop   not ready ─▶ delay ─▶ accept no more, finish ─▶ deadline ─▶ last good snapshots, log ─▶ exit code 0
//! ```

pub mod ca;
mod commands;
mod demo;
mod dialer;
mod open_files;
mod providers;
mod reload;
pub mod trust;
pub mod user;

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
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::admin::api::AdminState;
use crate::admin::status::StatusState;
use crate::config::Loaded;
use crate::config::settings::{AccessLogFormat, AccessLogSettings, Settings, ShutdownSettings};
use crate::control::last_good::LastGood;
use crate::control::state::StateDir;
use crate::control::view::View;
use crate::control::{Control, ControlSetup};
use crate::model::Provider;
use crate::model::diagnostic::Reason;
use crate::model::listener::ListenAddress;
use crate::provider::{self, Board, SnapshotSink};
use crate::proxy::{Admission, Manners, WorkerSetup, Workers, bind_alone};
use crate::table::LiveTable;
use crate::telemetry::{AccessLog, Metrics, logs};

pub use commands::{health, list, watch, whoami};
pub use demo::demo;
use dialer::ProxyDialer;
use providers::Providers;
use reload::Reload;

/// For the last good snapshots at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Endpoints that failed requests, until control has heard of them.
const TROUBLES: usize = 256;

/// Runs the proxy until a signal ends it.
pub fn run(loaded: Loaded) -> anyhow::Result<ExitCode> {
    // Before anything else: what is opened or started earlier would be root's.
    user::take_on(&loaded)?;
    let Settings { log, .. } = &loaded.settings;
    let verbosity = logs::init(log.level, log.format, std::io::stderr().is_terminal()).map_err(|why| anyhow!(why))?;
    let runtime = control_runtime()?;
    runtime.block_on(async {
        let signals = Signals::listen()?;
        let hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
        let (running, reload) = Running::start(loaded).await?;
        tokio::spawn(reload.follow(hangup, verbosity, running.stop.clone()));
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
    shutdown: watch::Receiver<ShutdownSettings>,
    workers: Workers,
    view: watch::Receiver<Arc<View>>,
    /// Held, because control ends with the last who can write on it, and there may be no provider that does.
    _board: Arc<watch::Sender<Board>>,
    access_log: AccessLog,
    /// Writes the last good snapshots.
    last_words: JoinHandle<()>,
    /// Ends what has no connections: providers, control, admin.
    stop: CancellationToken,
    /// Ends accepting; connections are finished.
    drain: CancellationToken,
    /// Cancelled when the proxy is no longer ready, though it still serves.
    leaving: CancellationToken,
}

impl Running {
    /// What follows the settings is left to the caller to spawn.
    async fn start(loaded: Loaded) -> anyhow::Result<(Running, Reload)> {
        let settings = loaded.settings.clone();
        let state = Arc::new(StateDir::open(&settings.state_dir).map_err(user::advise)?);
        let tuning = reload::tuning(&settings, &state, &BTreeMap::new()).map_err(|(_, error)| error)?;
        let (tuning, tuned) = watch::channel(tuning);
        let metrics = Metrics::new();
        let access_log = AccessLog::open(format(&settings.access_log)).context("the access log")?;
        metrics.follow_access_log(&access_log);
        let status = listen("status", settings.status.address)?;
        let api = listen("admin", settings.admin.address)?;

        let (stop, drain, leaving) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let live = LiveTable::default();
        let (board, words) = watch::channel(Board::new());
        let board = Arc::new(board);
        let sink = SnapshotSink::open(Provider::Settings, board.clone());
        sink.live(provider::settings::snapshot(&loaded));
        let last_good = LastGood::new(state.clone());
        let kept = last_good.faults();
        let mut providers = Providers::new(board.clone(), last_good.clone(), stop.clone());
        providers.apply(&settings.providers).await;
        let last_words = tokio::spawn(last_good.follow(board.subscribe(), stop.clone()));

        let workers = match settings.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        let (bound, sockets) = mpsc::unbounded_channel();
        let (troubles, told) = mpsc::channel(TROUBLES);
        let setup = ControlSetup {
            board: words,
            live: live.clone(),
            state: state.clone(),
            kept,
            tuning: tuned,
            metrics: metrics.clone(),
            workers,
            bound: sockets,
            troubles: told,
            dialer: Arc::new(ProxyDialer { live: live.clone() }),
            leaving: leaving.clone(),
        };
        let (control, view) = Control::new(setup)?;
        let manners = Arc::new(Manners::new(settings.reason_header, settings.shutdown.deadline.0));
        let setup = WorkerSetup {
            live,
            metrics: metrics.clone(),
            access_log: access_log.clone(),
            manners: manners.clone(),
            admission: Admission::new(open_files::raise()),
            stop: drain.clone(),
            bound,
            troubles,
        };
        let workers = Workers::start(workers, &setup).context("the worker threads cannot start")?;
        drop(setup);
        tokio::spawn(control.run(stop.clone()));
        tokio::spawn(admin::status::serve(status, StatusState { view: view.clone(), metrics }, stop.clone()));
        tokio::spawn(admin::api::serve(api, AdminState::new(view.clone()), stop.clone()));
        let (shutdown, current) = watch::channel(settings.shutdown.clone());
        let reload = Reload {
            loaded,
            started: settings,
            state,
            sink,
            tuning,
            providers,
            manners,
            access_log: access_log.clone(),
            shutdown,
            faults: Vec::new(),
        };
        let running =
            Running { shutdown: current, workers, view, _board: board, access_log, last_words, stop, drain, leaving };
        Ok((running, reload))
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
        let ShutdownSettings { delay, deadline } = self.shutdown.borrow().clone();
        let (delay, deadline) = (delay.0, deadline.0);
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
        // A disk that takes nothing must not keep the process.
        if tokio::time::timeout(LAST_WORDS, &mut self.last_words).await.is_err() {
            tracing::warn!("the last good snapshots are not written: the disk is too slow");
        }
        let log = self.access_log;
        // A reader that is gone has nothing more to read.
        let _ = tokio::task::spawn_blocking(move || log.settle(Duration::from_secs(1))).await;
        tracing::info!("stopped");
    }
}

/// `None` is off.
fn format(settings: &AccessLogSettings) -> Option<AccessLogFormat> {
    let AccessLogSettings { enabled, format } = settings;
    enabled.then_some(*format)
}

fn listen(what: &str, address: ListenAddress) -> anyhow::Result<TcpListener> {
    bind_alone(address).map_err(|why| anyhow!("{what}: {why}; free it or set {what}.address"))
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
