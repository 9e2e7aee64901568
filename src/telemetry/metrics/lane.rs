//! A worker's own cells: plain memory on the request path, read or handed over elsewhere.
//!
//! What is counted by route is read where it stands ([`RouteCells`]); the rest, a few cells, is handed over at each flush.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use prometheus::local::LocalIntCounter;
use prometheus::{IntCounterVec, IntGauge};

use super::routes::{Resolved, RouteCells};
use super::{Known, Metrics};

/// One worker's. Flushed when dropped.
pub struct MetricsLane {
    id: u64,
    metrics: Arc<Metrics>,
    routes: RefCell<Resolved>,
    in_flight: Rc<Level>,
    tunnels: Rc<Level>,
    connections: RefCell<BTreeMap<Box<str>, Rc<Level>>>,
    refusals: Tally,
    fields_dropped: Tally,
    handshake_failures: Tally,
    cuts: Tally,
    upstream_errors: RefCell<Failures>,
    upstream_retries: RefCell<Failures>,
}

/// By service and a word of the program. Nothing that succeeds comes by.
type Failures = HashMap<(Box<str>, &'static str), u64>;

/// Counters by a word of the program.
struct Tally {
    series: IntCounterVec,
    cells: RefCell<HashMap<&'static str, LocalIntCounter>>,
}

/// A gauge's share of one lane.
struct Level {
    gauge: IntGauge,
    now: Cell<i64>,
    told: Cell<i64>,
}

/// A request whose answer is not complete yet, or a tunnel.
pub struct InFlightGuard(Rc<Level>);

/// An open client connection.
pub struct ConnectionGuard(Rc<Level>);

impl MetricsLane {
    pub(super) fn new(id: u64, metrics: Arc<Metrics>) -> MetricsLane {
        MetricsLane {
            id,
            routes: RefCell::default(),
            in_flight: Rc::new(Level::of(metrics.in_flight.clone())),
            tunnels: Rc::new(Level::of(metrics.tunnels.clone())),
            connections: RefCell::default(),
            refusals: Tally::of(metrics.refusals.clone()),
            fields_dropped: Tally::of(metrics.fields_dropped.clone()),
            handshake_failures: Tally::of(metrics.handshake_failures.clone()),
            cuts: Tally::of(metrics.cuts.clone()),
            upstream_errors: RefCell::default(),
            upstream_retries: RefCell::default(),
            metrics,
        }
    }

    /// Once per table generation, never on the request path. Both are names of the table.
    pub fn route(&self, route: &str, service: &str) -> RouteCells {
        self.metrics.routes.cells(self.id, &mut self.routes.borrow_mut(), route, service)
    }

    pub fn in_flight(&self) -> InFlightGuard {
        InFlightGuard(Level::up(&self.in_flight))
    }

    /// A WebSocket or another upgraded connection.
    pub fn tunnel(&self) -> InFlightGuard {
        InFlightGuard(Level::up(&self.tunnels))
    }

    pub fn connection(&self, listener: &str) -> ConnectionGuard {
        let mut connections = self.connections.borrow_mut();
        if let Some(level) = connections.get(listener) {
            return ConnectionGuard(Level::up(level));
        }
        let level = Rc::new(Level::of(self.metrics.connections.with_label_values(&[listener])));
        connections.insert(listener.into(), level.clone());
        ConnectionGuard(Level::up(&level))
    }

    /// An answer of Portolan's own.
    pub fn refusal(&self, reason: &'static str) {
        self.refusals.count(reason);
    }

    /// A field of a message that goes on without it.
    pub fn dropped_field(&self, reason: &'static str) {
        self.fields_dropped.count(reason);
    }

    pub fn handshake_failure(&self, reason: &'static str) {
        self.handshake_failures.count(reason);
    }

    /// A connection that was refused, or ended before its client ended it.
    pub fn cut(&self, reason: &'static str) {
        self.cuts.count(reason);
    }

    /// `service` is one that [`MetricsLane::route`] was told.
    pub fn upstream_error(&self, service: &str, kind: &'static str) {
        *self.upstream_errors.borrow_mut().entry((service.into(), kind)).or_insert(0) += 1;
    }

    /// The same, for an attempt that is made again.
    pub fn upstream_retry(&self, service: &str, reason: &'static str) {
        *self.upstream_retries.borrow_mut().entry((service.into(), reason)).or_insert(0) += 1;
    }

    /// Hands over what is not read where it stands.
    pub fn flush(&self) {
        self.in_flight.flush();
        self.tunnels.flush();
        self.connections.borrow().values().for_each(|level| level.flush());
        self.refusals.flush();
        self.fields_dropped.flush();
        self.handshake_failures.flush();
        self.cuts.flush();
        let errors = std::mem::take(&mut *self.upstream_errors.borrow_mut());
        let retries = std::mem::take(&mut *self.upstream_retries.borrow_mut());
        if errors.is_empty() && retries.is_empty() {
            return;
        }
        let mut known = self.metrics.known();
        let Known { upstream_errors, upstream_retries } = &mut *known;
        for (counts, series, shown) in [
            (errors, &self.metrics.upstream_errors, upstream_errors),
            (retries, &self.metrics.upstream_retries, upstream_retries),
        ] {
            for ((service, word), count) in
                counts.into_iter().filter(|((service, _), _)| self.metrics.routes.has_service(service))
            {
                series.with_label_values(&[&*service, word]).inc_by(count);
                shown.entry(service).or_default().insert(word);
            }
        }
    }
}

impl Drop for MetricsLane {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Tally {
    fn of(series: IntCounterVec) -> Tally {
        Tally { series, cells: RefCell::default() }
    }

    fn count(&self, word: &'static str) {
        let mut cells = self.cells.borrow_mut();
        cells.entry(word).or_insert_with(|| self.series.with_label_values(&[word]).local()).inc();
    }

    fn flush(&self) {
        self.cells.borrow().values().for_each(LocalIntCounter::flush);
    }
}

impl Level {
    fn of(gauge: IntGauge) -> Level {
        Level { gauge, now: Cell::new(0), told: Cell::new(0) }
    }

    fn up(level: &Rc<Level>) -> Rc<Level> {
        level.now.set(level.now.get() + 1);
        level.clone()
    }

    fn down(&self) {
        self.now.set(self.now.get() - 1);
    }

    fn flush(&self) {
        let change = self.now.get() - self.told.replace(self.now.get());
        if change != 0 {
            self.gauge.add(change);
        }
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.down();
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.down();
    }
}
