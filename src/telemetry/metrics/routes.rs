//! Requests and their durations, by route and service.
//!
//! ```text
//! worker ─record─▶ RouteCells, one writer each ◀─read at a scrape─ RouteSeries ─▶ /metrics
//! ```
//! Nothing is handed over: a worker adds to cells that only it writes, with plain loads and stores, and a scrape adds up
//! what the workers have. So ten thousand busy routes cost a request no more than one does, whoever scrapes and when.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

const CODES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// In microseconds: from what a cache answers to what a report takes.
const BOUNDS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// What all workers have counted. A route has series from its first request until it is gone.
pub(super) struct RouteSeries {
    requests: Desc,
    durations: Desc,
    routes: Mutex<Routes>,
    /// Counts the removals: cells resolved before one may be those of series that nobody sees any more.
    removals: AtomicU64,
}

/// By route, then by service.
type Routes = BTreeMap<Box<str>, BTreeMap<Box<str>, Vec<Share>>>;

/// What one lane has of one series.
struct Share {
    lane: u64,
    cells: Arc<Cells>,
}

/// What a quick request adds to stands in the first cache line: among ten thousand routes it is a cold one.
#[derive(Default)]
#[repr(C, align(64))]
struct Cells {
    codes: [AtomicU64; CODES.len()],
    /// Seconds, as the bits of an `f64`.
    sum: AtomicU64,
    /// Not cumulative; the last is for what is longer than any bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

/// One lane's cells of one route and service. Its own thread alone writes to them.
#[derive(Clone)]
pub struct RouteCells {
    cells: Arc<Cells>,
    _own_thread: PhantomData<Rc<()>>,
}

/// The cells that one lane has asked for.
#[derive(Default)]
pub(super) struct Resolved {
    /// By route, then by service: a split route has a few.
    cells: HashMap<Box<str>, Vec<(Box<str>, RouteCells)>>,
    /// [`RouteSeries::removals`] when they were resolved.
    as_of: u64,
}

/// What several lanes have counted, added up.
#[derive(Default)]
struct Sum {
    codes: [u64; CODES.len()],
    seconds: f64,
    buckets: [u64; BOUNDS.len() + 1],
}

impl RouteCells {
    pub fn record(&self, status: u16, duration: Duration) {
        let class = usize::from(status / 100);
        add(&self.cells.codes[if class < CODES.len() { class } else { 0 }]);
        let micros = duration.as_nanos().div_ceil(1000) as u64;
        add(&self.cells.buckets[BOUNDS.iter().take_while(|bound| micros > **bound).count()]);
        let seconds = f64::from_bits(self.cells.sum.load(Ordering::Relaxed)) + duration.as_secs_f64();
        self.cells.sum.store(seconds.to_bits(), Ordering::Relaxed);
    }
}

/// No read-modify-write: nobody else writes.
fn add(cell: &AtomicU64) {
    cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

impl RouteSeries {
    pub fn new() -> prometheus::Result<RouteSeries> {
        let desc = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(ToString::to_string).collect();
            Desc::new(name.into(), help.into(), labels, HashMap::new())
        };
        Ok(RouteSeries {
            requests: desc(
                "portolan_requests_total",
                "Requests that a route matched, by class of the answer's status.",
                &["route", "service", "code"],
            )?,
            durations: desc(
                "portolan_request_duration_seconds",
                "From a request's head read to the last byte of its answer.",
                &["route", "service"],
            )?,
            routes: Mutex::default(),
            removals: AtomicU64::new(0),
        })
    }

    /// The cells of one lane, those that it has where it asked before.
    pub fn cells(&self, lane: u64, resolved: &mut Resolved, route: &str, service: &str) -> RouteCells {
        let removals = self.removals.load(Ordering::Acquire);
        if resolved.as_of != removals {
            *resolved = Resolved { cells: HashMap::new(), as_of: removals };
        }
        let known = resolved.cells.get(route).and_then(|cells| cells.iter().find(|(of, _)| **of == *service));
        if let Some((_, cells)) = known {
            return cells.clone();
        }
        let mut routes = self.routes();
        let shares = routes.entry(route.into()).or_default().entry(service.into()).or_default();
        let cells = match shares.iter().find(|share| share.lane == lane) {
            Some(share) => share.cells.clone(),
            None => {
                let cells = Arc::<Cells>::default();
                shares.push(Share { lane, cells: cells.clone() });
                cells
            }
        };
        let cells = RouteCells { cells, _own_thread: PhantomData };
        resolved.cells.entry(route.into()).or_default().push((service.into(), cells.clone()));
        cells
    }

    pub fn services(&self) -> BTreeSet<Box<str>> {
        self.routes().values().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// Whether any route has this service.
    pub fn has_service(&self, service: &str) -> bool {
        self.routes().values().any(|services| services.contains_key(service))
    }

    /// Takes away what routes that are gone have counted; says whether there were any. Who still holds their cells
    /// writes what nobody reads.
    pub fn retain(&self, stays: impl Fn(&str) -> bool) -> bool {
        let mut routes = self.routes();
        let before = routes.len();
        routes.retain(|route, _| stays(route));
        let removed = routes.len() != before;
        if removed {
            self.removals.fetch_add(1, Ordering::Release);
        }
        removed
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for RouteSeries {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.requests, &self.durations]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut requests, mut durations) = (Vec::new(), Vec::new());
        for (route, services) in &*self.routes() {
            for (service, shares) in services {
                let sum = Sum::of(shares);
                if sum.count() == 0 {
                    continue;
                }
                for (code, count) in CODES.iter().zip(sum.codes).filter(|(_, count)| *count > 0) {
                    let mut metric = labelled(&[("code", code), ("route", route), ("service", service)]);
                    let mut counter = Counter::default();
                    counter.set_value(count as f64);
                    metric.set_counter(counter);
                    requests.push(metric);
                }
                let mut metric = labelled(&[("route", route), ("service", service)]);
                metric.set_histogram(sum.histogram());
                durations.push(metric);
            }
        }
        let families =
            [(&self.requests, MetricType::COUNTER, requests), (&self.durations, MetricType::HISTOGRAM, durations)];
        let filled = families.into_iter().filter(|(_, _, metrics)| !metrics.is_empty());
        filled
            .map(|(desc, kind, metrics)| {
                let mut family = MetricFamily::default();
                family.set_name(desc.fq_name.clone());
                family.set_help(desc.help.clone());
                family.set_field_type(kind);
                family.set_metric(metrics);
                family
            })
            .collect()
    }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value((*value).into());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

impl Sum {
    fn of(shares: &[Share]) -> Sum {
        let mut sum = Sum::default();
        for Share { cells, .. } in shares {
            let fill = |into: &mut [u64], from: &[AtomicU64]| {
                into.iter_mut().zip(from).for_each(|(into, from)| *into += from.load(Ordering::Relaxed));
            };
            fill(&mut sum.codes, &cells.codes);
            fill(&mut sum.buckets, &cells.buckets);
            sum.seconds += f64::from_bits(cells.sum.load(Ordering::Relaxed));
        }
        sum
    }

    /// Of the buckets: a request that is being recorded may stand among the codes already.
    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn histogram(&self) -> Histogram {
        let mut below = 0;
        let buckets = BOUNDS.iter().zip(self.buckets).map(|(bound, count)| {
            below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound as f64 / 1e6);
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(self.count());
        histogram.set_sample_sum(self.seconds);
        histogram
    }
}
