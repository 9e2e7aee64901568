//! A worker's own cells: plain memory on the request path, shared counters once a second.
//!
//! [`RouteCells`] are resolved when a worker takes up a table. They make their series at the first flush after the first
//! request: neither the request path nor the swap of a table with ten thousand idle routes takes a shared lock for one.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus::local::{LocalHistogram, LocalIntCounter};
use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::{Known, Metrics};

pub(super) const CODES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// One worker's. Flushed when dropped.
pub struct MetricsLane {
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

/// By route, then by service: a split route has a few.
#[derive(Default)]
struct Resolved {
    cells: HashMap<Box<str>, Vec<Rc<RouteCells>>>,
    /// [`Metrics::removals`] when they were resolved.
    as_of: u64,
}

/// Of one route and service. Flushed when dropped, so that the last request of a route that is gone still counts where
/// its series are there.
pub struct RouteCells {
    metrics: Arc<Metrics>,
    route: Box<str>,
    service: Box<str>,
    codes: [Cell<u64>; CODES.len()],
    /// Durations in seconds, until there are series.
    early: RefCell<Vec<f64>>,
    series: OnceCell<Series>,
}

struct Series {
    codes: [OnceCell<IntCounter>; CODES.len()],
    durations: LocalHistogram,
}

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
    pub(super) fn new(metrics: Arc<Metrics>) -> MetricsLane {
        MetricsLane {
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
    pub fn route(&self, route: &str, service: &str) -> Rc<RouteCells> {
        let mut resolved = self.routes.borrow_mut();
        let removals = self.metrics.removals.load(Ordering::Acquire);
        if resolved.as_of != removals {
            // Some may write to series that are no longer shown. Whoever holds them still flushes at their drop.
            *resolved = Resolved { cells: HashMap::new(), as_of: removals };
        }
        if let Some(cells) = resolved.cells.get(route).and_then(|cells| cells.iter().find(|c| *c.service == *service)) {
            return cells.clone();
        }
        self.metrics.known().routes.entry(route.into()).or_default().insert(service.into());
        let cells = Rc::new(RouteCells {
            metrics: self.metrics.clone(),
            route: route.into(),
            service: service.into(),
            codes: Default::default(),
            early: RefCell::default(),
            series: OnceCell::new(),
        });
        resolved.cells.entry(route.into()).or_default().push(cells.clone());
        cells
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

    /// To be called each second.
    pub fn flush(&self) {
        self.routes.borrow().cells.values().flatten().for_each(|cells| cells.flush());
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
        let Known { routes, upstream_errors, upstream_retries } = &mut *known;
        let stands = |service: &str| routes.values().any(|services| services.contains(service));
        for (counts, series, shown) in [
            (errors, &self.metrics.upstream_errors, upstream_errors),
            (retries, &self.metrics.upstream_retries, upstream_retries),
        ] {
            for ((service, word), count) in counts.into_iter().filter(|((service, _), _)| stands(service)) {
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

impl RouteCells {
    pub fn record(&self, status: u16, duration: Duration) {
        let class = usize::from(status / 100);
        let cell = &self.codes[if class < CODES.len() { class } else { 0 }];
        cell.set(cell.get() + 1);
        let seconds = duration.as_secs_f64();
        match self.series.get() {
            Some(series) => series.durations.observe(seconds),
            None => self.early.borrow_mut().push(seconds),
        }
    }

    fn flush(&self) {
        if self.codes.iter().all(|cell| cell.get() == 0) {
            return;
        }
        // Asked only where a series has to be made: where ten thousand routes are busy, one shared lock and two look-ups
        // of each would cost more than what is counted.
        let known = OnceCell::new();
        let stands = || {
            let known = known.get_or_init(|| self.metrics.known());
            known.routes.get(&self.route).is_some_and(|services| services.contains(&self.service))
        };
        if self.series.get().is_none() {
            let early = self.early.take();
            if stands() {
                let durations = self.metrics.durations.with_label_values(&[&self.route, &self.service]).local();
                early.into_iter().for_each(|seconds| durations.observe(seconds));
                // Cannot be set: it was looked at above, and the cells are one thread's.
                let _ = self.series.set(Series { codes: Default::default(), durations });
            }
        }
        for (index, cell) in self.codes.iter().enumerate() {
            let count = cell.take();
            let Some(series) = self.series.get().filter(|_| count > 0) else { continue };
            let labels = [&*self.route, &*self.service, CODES[index]];
            match series.codes[index].get() {
                Some(counter) => counter.inc_by(count),
                None if stands() => {
                    series.codes[index].get_or_init(|| self.metrics.requests.with_label_values(&labels)).inc_by(count);
                }
                None => {}
            }
        }
        if let Some(series) = self.series.get() {
            series.durations.flush();
        }
    }
}

impl Drop for RouteCells {
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
