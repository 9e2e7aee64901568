//! The workers: one OS thread each, with a current-thread runtime and sockets of its own.
//!
//! ```text
//! swap ─▶ compare sockets with the table: open · keep · drain
//! stop ─▶ close sockets, end connections gracefully ─▶ thread ends when the last is gone
//! ```
//! Only this file knows that the data plane is made of threads.

use std::collections::BTreeMap;
use std::rc::Rc;
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

use super::accept::{self, bind};
use super::admission::Admission;
use super::worker::Worker;

/// What all workers share.
#[derive(Clone)]
pub struct WorkerSetup {
    pub live: LiveTable,
    pub metrics: Arc<Metrics>,
    pub access_log: Option<AccessLog>,
    /// Whether Portolan's own answers name their reason to clients.
    pub reason_header: bool,
    /// Who counts connections.
    pub admission: Arc<Admission>,
    /// Cancelled when accepting has to stop.
    pub stop: CancellationToken,
    /// What became of each listener's socket.
    pub bound: mpsc::UnboundedSender<Bound>,
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

/// A socket that is being accepted from.
struct Socket {
    address: ListenAddress,
    tls: bool,
    /// Cancelled: stop accepting, end the connections gracefully.
    drain: CancellationToken,
}

async fn serve(id: usize, setup: WorkerSetup) {
    let WorkerSetup { live, metrics, access_log, reason_header, admission, stop, bound } = setup;
    let mut swaps = live.swaps();
    let worker = Worker::new(&live, metrics.lane(), access_log.map(|log| log.lane()), reason_header, admission);
    let mut sockets: BTreeMap<Name, Socket> = BTreeMap::new();
    let mut often = tokio::time::interval(Duration::from_millis(100));
    let mut seldom = tokio::time::interval(Duration::from_secs(5));
    loop {
        compare(id, &worker, &mut sockets, &stop, &bound);
        tokio::select! {
            changed = swaps.changed() => if changed.is_err() { break },
            () = stop.cancelled() => break,
            _ = often.tick() => worker.flush(),
            _ = seldom.tick() => worker.prune(),
        }
    }
    sockets.clear();
    while worker.has_connections() {
        tokio::select! {
            () = worker.quiet() => {}
            _ = often.tick() => worker.flush(),
        }
    }
    worker.flush();
}

/// Opens what the table names and this worker has not, drains what it names no more.
fn compare(
    id: usize,
    worker: &Rc<Worker>,
    sockets: &mut BTreeMap<Name, Socket>,
    stop: &CancellationToken,
    bound: &mpsc::UnboundedSender<Bound>,
) {
    let generation = worker.generation();
    sockets.retain(|name, socket| {
        let named = generation.table.listeners.get(name).map(|compiled| &compiled.listener);
        let keep = named.is_some_and(|named| (named.address, named.tls) == (socket.address, socket.tls));
        if !keep {
            socket.drain.cancel();
        }
        keep
    });
    for (name, compiled) in &generation.table.listeners {
        if sockets.contains_key(name) {
            continue;
        }
        let address = compiled.listener.address;
        let result = match bind(address) {
            Ok(listener) => {
                let drain = stop.child_token();
                let socket = Socket { address, tls: compiled.listener.tls, drain: drain.clone() };
                tokio::task::spawn_local(accept::run(worker.clone(), name.clone(), listener, drain));
                sockets.insert(name.clone(), socket);
                Ok(address)
            }
            Err(why) => Err(why),
        };
        let _ = bound.send(Bound { worker: id, listener: name.clone(), result });
    }
}
