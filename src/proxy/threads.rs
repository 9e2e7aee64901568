//! The workers: one OS thread each, with a current-thread runtime and sockets of its own.
//!
//! ```text
//! swap ─▶ sockets: open · keep · drain
//! stop ─▶ the same for all of them ─▶ thread ends when the last connection is gone
//! ```
//! Only this file knows that the data plane is made of threads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use crate::model::id::Name;
use crate::model::listener::ListenAddress;
use crate::table::LiveTable;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;

use super::admission::Admission;
use super::manners::Manners;
use super::sockets::Sockets;
use super::trouble::Trouble;
use super::worker::Worker;

/// What all workers share.
#[derive(Clone)]
pub struct WorkerSetup {
    pub live: LiveTable,
    pub metrics: Arc<Metrics>,
    pub access_log: AccessLog,
    pub manners: Arc<Manners>,
    /// Who counts connections.
    pub admission: Arc<Admission>,
    /// Cancelled when accepting has to stop.
    pub stop: CancellationToken,
    /// What became of each listener's socket.
    pub bound: mpsc::UnboundedSender<Bound>,
    /// Which endpoints fail requests. What finds no room is told again by the next failure.
    pub troubles: mpsc::Sender<Trouble>,
}

/// Word from a worker about one of its sockets.
#[derive(Debug, Clone)]
pub struct Bound {
    pub worker: usize,
    pub listener: Name,
    pub result: Result<ListenAddress, String>,
}

/// The running threads.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Number of workers that have ended.
    ended: watch::Receiver<usize>,
}

impl Workers {
    pub fn start(count: usize, setup: &WorkerSetup) -> std::io::Result<Workers> {
        let (ends, ended) = watch::channel(0);
        let ends = Arc::new(ends);
        let threads = (0..count)
            .map(|id| {
                let (setup, ends) = (setup.clone(), ends.clone());
                std::thread::Builder::new().name(format!("worker-{id}")).spawn(move || {
                    run(id, setup);
                    ends.send_modify(|ended| *ended += 1);
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Workers { threads, ended })
    }

    /// Until every worker has let go of its last connection.
    pub async fn finished(&mut self) {
        let count = self.threads.len();
        let _ = self.ended.wait_for(|ended| *ended >= count).await;
    }
}

fn run(id: usize, setup: WorkerSetup) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(worker = id, %error, "a worker cannot start");
            return;
        }
    };
    LocalSet::new().block_on(&runtime, serve(id, setup));
}

async fn serve(id: usize, setup: WorkerSetup) {
    let WorkerSetup { live, metrics, access_log, manners, admission, stop, bound, troubles } = setup;
    let mut swaps = live.swaps();
    let worker = Worker::new(&live, metrics.lane(), access_log.lane(), manners.clone(), admission, troubles);
    let mut sockets = Sockets::new(id, worker.clone(), manners, stop.clone(), bound);
    let mut often = tokio::time::interval(Duration::from_millis(100));
    let mut seldom = tokio::time::interval(Duration::from_secs(5));
    sockets.compare();
    loop {
        tokio::select! {
            changed = swaps.changed() => match changed {
                Ok(()) => sockets.compare(),
                Err(_) => break,
            },
            () = stop.cancelled() => break,
            _ = often.tick() => worker.flush(),
            _ = seldom.tick() => {
                worker.prune();
                // A port that was taken may be free by now.
                if sockets.lacks() {
                    sockets.compare();
                }
            }
        }
    }
    while worker.has_connections() {
        tokio::select! {
            () = worker.quiet() => {}
            _ = often.tick() => worker.flush(),
        }
    }
    worker.flush();
}
