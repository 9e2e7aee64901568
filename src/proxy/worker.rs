//! What the connections of one worker share: the table as it uses it, its pool, its counters. Nothing of it is shared
//! with another thread.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use smallvec::{SmallVec, smallvec};
use tokio::sync::{Notify, mpsc};

use crate::table::live::TableReader;
use crate::table::{LiveEndpoint, LiveTable, RouteAction, RouteEntry, RouteIndex, Table};
use crate::telemetry::access_log::Lane;
use crate::telemetry::metrics::{MetricsLane, RouteCells};

use super::admission::Admission;
use super::held::Held;
use super::manners::Manners;
use super::pool::{Pool, Slot};
use super::trouble::Trouble;

/// The content of a TLS record (RFC 8446 §5.1): more at once would only be cut again.
const SCRATCH: usize = 16 << 10;

/// What the connections of one worker share.
pub struct Worker {
    pool: Pool,
    /// What is under way for longer.
    pub held: Held,
    /// Where bytes of tunnels pass, so that none needs a buffer of its own while it is idle.
    pub scratch: RefCell<Box<[u8]>>,
    pub metrics: MetricsLane,
    pub log: Lane,
    pub server_name: HeaderValue,
    pub manners: Arc<Manners>,
    pub admission: Arc<Admission>,
    troubles: mpsc::Sender<Trouble>,
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
    /// By index: one line of memory a route, where a hash would take several to find it.
    routes: Box<[OnceCell<Rc<LiveRoute>>]>,
}

/// A route in use by this worker: what a stream keeps when its table is gone.
pub struct LiveRoute {
    pub entry: Arc<RouteEntry>,
    /// Of each share, or of the denial.
    cells: SmallVec<[RouteCells; 1]>,
}

impl std::fmt::Debug for LiveRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveRoute").field("entry", &self.entry.label).finish_non_exhaustive()
    }
}

impl LiveRoute {
    pub fn cells(&self, share: usize) -> &RouteCells {
        &self.cells[share.min(self.cells.len() - 1)]
    }
}

impl Generation {
    fn of(table: Arc<Table>) -> Rc<Generation> {
        let routes = table.routes().iter().map(|_| OnceCell::new()).collect();
        Rc::new(Generation { table, routes })
    }

    pub fn route(&self, index: RouteIndex, metrics: &MetricsLane) -> Rc<LiveRoute> {
        let live = self.routes[index.position()].get_or_init(|| {
            let entry = self.table.route(index).clone();
            let cells = match &entry.action {
                RouteAction::Forward(backend) => {
                    backend.upstreams().map(|upstream| metrics.route(&entry.label, &upstream.label)).collect()
                }
                RouteAction::Deny(_) => smallvec![metrics.route(&entry.label, "")],
            };
            Rc::new(LiveRoute { entry, cells })
        });
        live.clone()
    }
}

impl Worker {
    pub fn new(
        live: &LiveTable,
        metrics: MetricsLane,
        log: Lane,
        manners: Arc<Manners>,
        admission: Arc<Admission>,
        troubles: mpsc::Sender<Trouble>,
    ) -> Rc<Worker> {
        Rc::new(Worker {
            pool: Pool::default(),
            held: Held::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into()),
            metrics,
            log,
            server_name: server_name(),
            manners,
            admission,
            troubles,
            reader: RefCell::new(live.reader()),
            generation: RefCell::new(Generation::of(live.load())),
            open: Cell::new(0),
            quiet: Notify::new(),
        })
    }

    pub fn has_connections(&self) -> bool {
        self.open.get() > 0
    }

    /// Until the last connection may be gone.
    pub async fn quiet(&self) {
        self.quiet.notified().await;
    }

    /// The table in force: one load while nothing has changed.
    pub fn generation(&self) -> Rc<Generation> {
        let mut reader = self.reader.borrow_mut();
        let table = reader.load();
        let mut generation = self.generation.borrow_mut();
        if !Arc::ptr_eq(&generation.table, table) {
            self.pool.compare(table);
            *generation = Generation::of(table.clone());
            // Reads nothing of what is borrowed here.
            self.held.review(table);
        }
        generation.clone()
    }

    /// An endpoint as this worker uses it, and as the table in force has it.
    pub fn slot(&self, endpoint: &Arc<LiveEndpoint>) -> Rc<Slot> {
        self.pool.slot(endpoint, &self.generation().table)
    }

    /// Tells control of an endpoint that failed a request. Nothing that succeeds comes by.
    pub fn tell(&self, trouble: Option<Trouble>) {
        if let Some(trouble) = trouble {
            // Full: control hears of nothing else than endpoints that fail, and of this one again at its next failure.
            let _ = self.troubles.try_send(trouble);
        }
    }

    /// Counts a connection for as long as the guard lives.
    pub fn open(self: &Rc<Self>) -> OpenConnection {
        self.open.set(self.open.get() + 1);
        OpenConnection(self.clone())
    }

    /// Drops kept connections that are old.
    pub fn prune(&self) {
        self.pool.prune();
    }

    /// Hands over what was counted and logged.
    pub fn flush(&self) {
        self.metrics.flush();
        self.log.flush();
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

/// What `X-Forwarded-Server` says.
fn server_name() -> HeaderValue {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    HeaderValue::try_from(name.trim()).unwrap_or_else(|_| HeaderValue::from_static("portolan"))
}
