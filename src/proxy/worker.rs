//! A worker: one OS thread, one current-thread runtime, its own sockets, pools and counters.
//!
//! ```text
//! swap ─▶ compare sockets with the table: open · keep · drain
//! stop ─▶ close sockets, end connections gracefully ─▶ thread ends when the last is gone
//! ```
//! Only this file knows that the data plane is made of threads.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use http::HeaderValue;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use crate::model::id::Name;
use crate::model::listener::ListenAddress;
use crate::table::live::TableReader;
use crate::table::{LiveTable, RouteAction, RouteEntry, RouteIndex, Table};
use crate::telemetry::access_log::{AccessLog, Lane};
use crate::telemetry::metrics::{Metrics, MetricsLane, RouteCells};

use super::accept::{self, bind};
use super::pool::Pool;

/// What all workers share.
#[derive(Clone)]
pub struct WorkerSetup {
    pub live: LiveTable,
    pub metrics: Arc<Metrics>,
    pub access_log: Option<AccessLog>,
    /// Whether Portolan's own answers name their reason to clients.
    pub reason_header: bool,
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

/// What the connections of one worker share.
pub struct Worker {
    pub pool: Rc<Pool>,
    pub metrics: MetricsLane,
    pub log: Option<Lane>,
    pub server_name: HeaderValue,
    pub reason_header: bool,
    reader: RefCell<TableReader>,
    generation: RefCell<Rc<Generation>>,
    open: Cell<usize>,
    quiet: Notify,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("open", &self.open.get()).finish_non_exhaustive()
    }
}

/// One table as this worker uses it. A request holds the same one from match to forward.
pub struct Generation {
    pub table: Arc<Table>,
    routes: RefCell<HashMap<RouteIndex, Rc<LiveRoute>, RandomState>>,
}

/// A route in use by this worker: what a stream keeps when its table is gone.
pub struct LiveRoute {
    pub entry: Arc<RouteEntry>,
    pub cells: Rc<RouteCells>,
}

impl Generation {
    pub fn route(&self, index: RouteIndex, metrics: &MetricsLane) -> Rc<LiveRoute> {
        let mut routes = self.routes.borrow_mut();
        let live = routes.entry(index).or_insert_with(|| {
            let entry = self.table.route(index).clone();
            let service = match &entry.action {
                RouteAction::Forward(upstream) => &*upstream.label,
                RouteAction::Deny(_) => "",
            };
            let cells = metrics.route(&entry.label, service);
            Rc::new(LiveRoute { entry, cells })
        });
        live.clone()
    }
}

impl Worker {
    /// The table in force: one load while nothing has changed.
    pub fn generation(&self) -> Rc<Generation> {
        let mut reader = self.reader.borrow_mut();
        let table = reader.load();
        let mut generation = self.generation.borrow_mut();
        if !Arc::ptr_eq(&generation.table, table) {
            *generation = Rc::new(Generation { table: table.clone(), routes: RefCell::default() });
        }
        generation.clone()
    }

    /// Counts a connection for as long as the guard lives.
    pub fn open(self: &Rc<Self>) -> OpenConnection {
        self.open.set(self.open.get() + 1);
        OpenConnection(self.clone())
    }

    fn prune(&self) {
        let table = self.generation().table.clone();
        let named: HashSet<_> = table
            .routes()
            .iter()
            .filter_map(|route| match &route.action {
                RouteAction::Forward(upstream) => Some(upstream.endpoints.iter().map(|endpoint| endpoint.address)),
                RouteAction::Deny(_) => None,
            })
            .flatten()
            .collect();
        self.pool.prune(&named);
    }

    fn flush(&self) {
        self.metrics.flush();
        if let Some(log) = &self.log {
            log.flush();
        }
    }
}

pub struct OpenConnection(Rc<Worker>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let left = self.0.open.get() - 1;
        self.0.open.set(left);
        if left == 0 {
            self.0.quiet.notify_waiters();
        }
    }
}

/// A socket that is being accepted from.
struct Socket {
    address: ListenAddress,
    tls: bool,
    /// Cancelled: stop accepting, end the connections gracefully.
    drain: CancellationToken,
}

async fn serve(id: usize, setup: WorkerSetup) {
    let WorkerSetup { live, metrics, access_log, reason_header, stop, bound } = setup;
    let mut swaps = live.swaps();
    let worker = Rc::new(Worker {
        pool: Rc::default(),
        metrics: metrics.lane(),
        log: access_log.map(|log| log.lane()),
        server_name: server_name(),
        reason_header,
        reader: RefCell::new(live.reader()),
        generation: RefCell::new(Rc::new(Generation { table: live.load(), routes: RefCell::default() })),
        open: Cell::new(0),
        quiet: Notify::new(),
    });
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
    while worker.open.get() > 0 {
        tokio::select! {
            () = worker.quiet.notified() => {}
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

/// What `X-Forwarded-Server` says.
fn server_name() -> HeaderValue {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    HeaderValue::try_from(name.trim()).unwrap_or_else(|_| HeaderValue::from_static("portolan"))
}
