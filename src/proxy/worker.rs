//! What the connections of one worker share: the table as it uses it, its pool, its counters. Nothing of it is shared
//! with another thread.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::HeaderValue;
use tokio::sync::Notify;

use crate::table::live::TableReader;
use crate::table::{LiveTable, RouteAction, RouteEntry, RouteIndex, Table};
use crate::telemetry::access_log::Lane;
use crate::telemetry::metrics::{MetricsLane, RouteCells};

use super::admission::Admission;
use super::pool::Pool;

/// What the connections of one worker share.
pub struct Worker {
    pub pool: Rc<Pool>,
    pub metrics: MetricsLane,
    pub log: Option<Lane>,
    pub server_name: HeaderValue,
    pub reason_header: bool,
    pub admission: Arc<Admission>,
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
    pub fn new(
        live: &LiveTable,
        metrics: MetricsLane,
        log: Option<Lane>,
        reason_header: bool,
        admission: Arc<Admission>,
    ) -> Rc<Worker> {
        Rc::new(Worker {
            pool: Rc::default(),
            metrics,
            log,
            server_name: server_name(),
            reason_header,
            admission,
            reader: RefCell::new(live.reader()),
            generation: RefCell::new(Rc::new(Generation { table: live.load(), routes: RefCell::default() })),
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
            *generation = Rc::new(Generation { table: table.clone(), routes: RefCell::default() });
        }
        generation.clone()
    }

    /// Counts a connection for as long as the guard lives.
    pub fn open(self: &Rc<Self>) -> OpenConnection {
        self.open.set(self.open.get() + 1);
        OpenConnection(self.clone())
    }

    /// Drops kept connections to endpoints that nobody names any more.
    pub fn prune(&self) {
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

    /// Hands over what was counted and logged.
    pub fn flush(&self) {
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

/// What `X-Forwarded-Server` says.
fn server_name() -> HeaderValue {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    HeaderValue::try_from(name.trim()).unwrap_or_else(|_| HeaderValue::from_static("portolan"))
}
