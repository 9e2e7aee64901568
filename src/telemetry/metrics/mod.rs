//! What `/metrics` shows, in Prometheus' text format.
//!
//! ```text
//! worker ─▶ RouteCells (its own) ◀──read at a scrape──┐
//!        └▶ MetricsLane (its own cells) ────flush───▶ Metrics ◀── control (setters)
//!                                                        └─▶ encode ─▶ /metrics
//! ```
//! Labels are names that the operator or a provider gave, or words of the program: never anything that a client sends,
//! so that no client can make series. A route has series from its first request until it is gone.

mod lane;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::AccessLog;
use crate::model::Diagnostic;
use crate::model::health::Verdicts;
use crate::model::snapshot::ProviderReport;

pub use prometheus::TEXT_FORMAT as CONTENT_TYPE;

pub use lane::{ConnectionGuard, InFlightGuard, MetricsLane};
pub use routes::RouteCells;

use routes::RouteSeries;

const STAGE_BUCKETS: [f64; 9] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];
const PROVIDER_STATES: [&str; 3] = ["starting", "live", "stale"];

pub struct Metrics {
    registry: Registry,
    routes: Arc<RouteSeries>,
    lanes: AtomicU64,
    in_flight: IntGauge,
    tunnels: IntGauge,
    connections: IntGaugeVec,
    refusals: IntCounterVec,
    fields_dropped: IntCounterVec,
    upstream_errors: IntCounterVec,
    upstream_retries: IntCounterVec,
    handshake_failures: IntCounterVec,
    cuts: IntCounterVec,
    generation: IntGauge,
    reconcile_duration: Histogram,
    compile_duration: Histogram,
    providers: Listing,
    problems: Listing,
    endpoints_out: Listing,
    health_checks: IntCounterVec,
    ejections: IntCounter,
    certificates: Listing,
    access_log_dropped: IntCounter,
    access_log: OnceLock<AccessLog>,
    known: Mutex<Known>,
}

/// Whose series may exist. Held while one is made or removed, so that a worker that is late cannot bring one back.
#[derive(Default)]
struct Known {
    /// The kinds of errors, and the reasons of retries, that services have series for.
    upstream_errors: BTreeMap<Box<str>, BTreeSet<&'static str>>,
    upstream_retries: BTreeMap<Box<str>, BTreeSet<&'static str>>,
}

impl Metrics {
    #[allow(clippy::expect_used, reason = "start-up: the names are constants, and the tests see them registered")]
    pub fn new() -> Arc<Metrics> {
        Arc::new(Metrics::build().expect("metric names and labels are valid and differ"))
    }

    fn build() -> prometheus::Result<Metrics> {
        let all = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            in_registry(&all, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            in_registry(&all, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        let stage = |name: &str, help: &str| {
            in_registry(&all, Histogram::with_opts(HistogramOpts::new(name, help).buckets(STAGE_BUCKETS.to_vec()))?)
        };
        let listing = |name: &str, help: &str, labels: [&str; 2]| {
            Ok::<_, prometheus::Error>(Listing { series: gauges(name, help, &labels)?, shown: Mutex::default() })
        };
        let routes = Arc::new(RouteSeries::new()?);
        all.register(Box::new(Shared(routes.clone())))?;
        let metrics = Metrics {
            routes,
            lanes: AtomicU64::new(0),
            in_flight: in_registry(
                &all,
                IntGauge::new("portolan_requests_in_flight", "Requests whose answer is not complete yet.")?,
            )?,
            tunnels: in_registry(
                &all,
                IntGauge::new("portolan_tunnels", "Open WebSockets and other upgraded connections.")?,
            )?,
            connections: gauges("portolan_connections", "Open client connections.", &["listener"])?,
            refusals: counters("portolan_refusals_total", "Answers that Portolan itself composed.", &["reason"])?,
            fields_dropped: counters(
                "portolan_fields_dropped_total",
                "Header fields with underscores and trailer fields that were not passed on.",
                &["reason"],
            )?,
            upstream_errors: counters(
                "portolan_upstream_errors_total",
                "Attempts that an endpoint failed, retried ones included.",
                &["service", "kind"],
            )?,
            upstream_retries: counters(
                "portolan_upstream_retries_total",
                "Attempts made again: of requests that came back unsent, broke unanswered, or whose endpoint is gone.",
                &["service", "reason"],
            )?,
            handshake_failures: counters(
                "portolan_tls_handshake_failures_total",
                "TLS handshakes with clients that came to nothing.",
                &["reason"],
            )?,
            cuts: counters(
                "portolan_connections_cut_total",
                "Client connections that were refused, or ended by a limit or an error of the client's.",
                &["reason"],
            )?,
            generation: in_registry(
                &all,
                IntGauge::new("portolan_table_generation", "Of the routing table in force; counts up at each swap.")?,
            )?,
            reconcile_duration: stage("portolan_reconcile_duration_seconds", "From snapshots to the desired state.")?,
            compile_duration: stage("portolan_compile_duration_seconds", "From the desired state to a table.")?,
            providers: listing(
                "portolan_provider_state",
                "1 for the state that a provider is in.",
                ["provider", "state"],
            )?,
            endpoints_out: listing(
                "portolan_endpoints_out",
                "Endpoints that get no request because of a check or an ejection.",
                ["service", "state"],
            )?,
            health_checks: counters("portolan_health_checks_total", "Health checks of endpoints.", &["result"])?,
            ejections: in_registry(
                &all,
                IntCounter::new("portolan_ejections_total", "Endpoints left out because they failed requests.")?,
            )?,
            problems: listing("portolan_object_problems", "Findings in force.", ["provider", "reason"])?,
            certificates: listing(
                "portolan_certificate_expiry_timestamp_seconds",
                "When a certificate in use ends, in Unix time.",
                ["name", "issuer"],
            )?,
            access_log_dropped: in_registry(
                &all,
                IntCounter::new("portolan_access_log_dropped_total", "Lines lost because nobody read them in time.")?,
            )?,
            access_log: OnceLock::new(),
            known: Mutex::default(),
            registry: all.clone(),
        };
        gauges("portolan_build_info", "1, with the version as a label.", &["version"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        Ok(metrics)
    }

    /// For one worker thread.
    pub fn lane(self: &Arc<Metrics>) -> MetricsLane {
        MetricsLane::new(self.lanes.fetch_add(1, Ordering::Relaxed), self.clone())
    }

    pub fn set_table_generation(&self, generation: u64) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    pub fn observe_reconcile(&self, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    pub fn observe_compile(&self, took: Duration) {
        self.compile_duration.observe(took.as_secs_f64());
    }

    /// All that are on.
    pub fn set_providers(&self, providers: &[ProviderReport]) {
        let states = providers.iter().flat_map(|provider| {
            PROVIDER_STATES.map(|state| ([provider.name.to_string(), state.into()], i64::from(provider.state == state)))
        });
        self.providers.show(states.collect());
    }

    /// All that are in force.
    pub fn set_problems(&self, findings: &[Diagnostic]) {
        let mut counts = BTreeMap::new();
        for finding in findings {
            *counts.entry([finding.subject.provider.to_string(), finding.reason.to_string()]).or_insert(0) += 1;
        }
        self.problems.show(counts);
    }

    /// All that is known.
    pub fn set_endpoints_out(&self, verdicts: &Verdicts) {
        let mut counts = BTreeMap::new();
        for (service, of) in verdicts {
            for verdict in of.values().filter(|verdict| !verdict.open) {
                *counts.entry([service.to_string(), verdict.state.as_str().into()]).or_insert(0) += 1;
            }
        }
        self.endpoints_out.show(counts);
    }

    pub fn health_check(&self, passed: bool) {
        self.health_checks.with_label_values(&[if passed { "passed" } else { "failed" }]).inc();
    }

    pub fn ejection(&self) {
        self.ejections.inc();
    }

    /// All that are in use: name, issuer, end.
    pub fn set_certificates<'a>(&self, certificates: impl IntoIterator<Item = (&'a str, &'a str, Timestamp)>) {
        let ends = certificates.into_iter().map(|(name, issuer, end)| ([name.into(), issuer.into()], end.as_second()));
        self.certificates.show(ends.collect());
    }

    /// Shows from now on what this log loses.
    pub fn follow_access_log(&self, log: &AccessLog) {
        // A process has one access log; a second call changes nothing.
        let _ = self.access_log.set(log.clone());
    }

    /// Takes away the series of the routes that are gone, and of the services that only they used.
    pub fn retain_routes(&self, stays: impl Fn(&str) -> bool) {
        let mut known = self.known();
        if !self.routes.retain(stays) {
            return;
        }
        let used = self.routes.services();
        let Known { upstream_errors, upstream_retries } = &mut *known;
        for (shown, series) in [(upstream_errors, &self.upstream_errors), (upstream_retries, &self.upstream_retries)] {
            shown.retain(|service, words| {
                if used.contains(service) {
                    return true;
                }
                for word in words.iter() {
                    let _ = series.remove_label_values(&[&**service, word]);
                }
                false
            });
        }
    }

    pub fn encode(&self) -> String {
        if let Some(log) = self.access_log.get() {
            let new = log.dropped().saturating_sub(self.access_log_dropped.get());
            self.access_log_dropped.inc_by(new);
        }
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics are incomplete");
        }
        text
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_registry<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// A collector that is also asked otherwise.
struct Shared(Arc<RouteSeries>);

impl Collector for Shared {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

/// Gauges that are told all at once.
struct Listing {
    series: IntGaugeVec,
    shown: Mutex<BTreeSet<[String; 2]>>,
}

impl Listing {
    /// Sets first and removes then: a scrape in between sees no gap.
    fn show(&self, now: BTreeMap<[String; 2], i64>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for (labels, value) in &now {
            self.series.with_label_values(labels).set(*value);
        }
        for gone in shown.iter().filter(|labels| !now.contains_key(*labels)) {
            let _ = self.series.remove_label_values(gone);
        }
        *shown = now.into_keys().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, ObjectId, Origin, Provider, Reason, Source};

    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.encode();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn requests_are_seen_at_once_and_added_up_over_lanes() {
        let metrics = Metrics::new();
        let lane = metrics.lane();
        let cells = lane.route("r", "s");
        for (status, millis) in [(200, 3), (204, 30), (404, 1), (101, 1), (999, 1)] {
            cells.record(status, Duration::from_millis(millis));
        }
        let served = "portolan_requests_total{code=\"2xx\",route=\"r\",service=\"s\"}";
        assert_eq!(value(&metrics, served), Some(2.0));
        for code in ["1xx", "4xx", "other"] {
            let series = format!("portolan_requests_total{{code=\"{code}\",route=\"r\",service=\"s\"}}");
            assert_eq!(value(&metrics, &series), Some(1.0), "{code}");
        }
        let bucket = "portolan_request_duration_seconds_bucket{route=\"r\",service=\"s\",le=\"0.005\"}";
        assert_eq!(value(&metrics, bucket), Some(4.0));

        metrics.lane().route("r", "s").record(200, Duration::from_millis(1));
        assert_eq!(value(&metrics, served), Some(3.0));
        assert_eq!(value(&metrics, bucket), Some(5.0));
        assert_eq!(value(&metrics, "portolan_request_duration_seconds_count{route=\"r\",service=\"s\"}"), Some(6.0));
    }

    #[test]
    fn an_idle_route_has_no_series() {
        let metrics = Metrics::new();
        let lane = metrics.lane();
        let _cells = lane.route("r", "s");
        lane.flush();
        assert!(!metrics.encode().contains("route=\"r\""));
    }

    #[test]
    fn a_generation_later_a_route_has_the_same_cells() {
        let metrics = Metrics::new();
        let lane = metrics.lane();
        lane.route("r", "s").record(200, Duration::ZERO);
        lane.route("r", "s").record(200, Duration::ZERO);
        lane.route("r", "s2").record(200, Duration::ZERO);
        metrics.retain_routes(|route| route == "r");
        lane.route("r", "s").record(200, Duration::ZERO);
        let of = |service: &str| {
            value(&metrics, &format!("portolan_requests_total{{code=\"2xx\",route=\"r\",service=\"{service}\"}}"))
        };
        assert_eq!((of("s"), of("s2")), (Some(3.0), Some(1.0)));
    }

    #[test]
    fn series_of_routes_that_are_gone_are_removed_and_a_late_worker_does_not_bring_them_back() {
        let metrics = Metrics::new();
        let lane = metrics.lane();
        let (gone, late) = (lane.route("gone", "s"), lane.route("late", "s"));
        let stays = lane.route("stays", "t");
        gone.record(200, Duration::ZERO);
        stays.record(200, Duration::ZERO);
        lane.upstream_error("s", "connect");
        lane.upstream_error("t", "connect");
        lane.flush();
        assert!(metrics.encode().contains("route=\"gone\""));

        metrics.retain_routes(|route| route == "stays");
        gone.record(200, Duration::ZERO);
        late.record(200, Duration::ZERO);
        lane.upstream_error("s", "reset");
        lane.flush();
        drop((gone, late));
        let text = metrics.encode();
        assert!(!text.contains("gone") && !text.contains("late") && !text.contains("service=\"s\""), "{text}");
        assert!(text.contains("route=\"stays\""));
        assert_eq!(value(&metrics, "portolan_upstream_errors_total{kind=\"connect\",service=\"t\"}"), Some(1.0));
    }

    #[test]
    fn a_route_that_returns_is_counted_again() {
        let metrics = Metrics::new();
        let lane = metrics.lane();
        lane.route("r", "s").record(200, Duration::ZERO);
        lane.flush();
        metrics.retain_routes(|_| false);
        lane.route("r", "s").record(200, Duration::ZERO);
        lane.flush();
        assert_eq!(value(&metrics, "portolan_requests_total{code=\"2xx\",route=\"r\",service=\"s\"}"), Some(1.0));
    }

    #[test]
    fn guards_count_up_and_down_over_several_lanes() {
        let metrics = Metrics::new();
        let (one, two) = (metrics.lane(), metrics.lane());
        let guards = (one.in_flight(), two.in_flight(), one.connection("https"), two.connection("https"));
        let look = |expected: f64| {
            one.flush();
            two.flush();
            assert_eq!(value(&metrics, "portolan_requests_in_flight"), Some(expected));
            assert_eq!(value(&metrics, "portolan_connections{listener=\"https\"}"), Some(expected));
        };
        look(2.0);
        let (a, _b, c, _d) = guards;
        drop((a, c));
        look(1.0);
        let (third, connection) = (one.in_flight(), one.connection("https"));
        look(2.0);
        // A guard outlives its lane: a connection that is drained.
        drop(one);
        drop((third, connection));
        two.flush();
        assert_eq!(value(&metrics, "portolan_requests_in_flight"), Some(1.0));
    }

    #[test]
    fn own_answers_and_failed_handshakes_are_counted_by_reason() {
        let metrics = Metrics::new();
        let lane = metrics.lane();
        lane.refusal("NoRoute");
        lane.refusal("NoRoute");
        lane.handshake_failure("UnrecognizedName");
        lane.flush();
        assert_eq!(value(&metrics, "portolan_refusals_total{reason=\"NoRoute\"}"), Some(2.0));
        assert_eq!(value(&metrics, "portolan_tls_handshake_failures_total{reason=\"UnrecognizedName\"}"), Some(1.0));
    }

    #[test]
    fn a_lane_that_ends_loses_nothing() {
        let metrics = Metrics::new();
        let lane = metrics.lane();
        lane.route("r", "s").record(200, Duration::ZERO);
        lane.refusal("NoRoute");
        lane.upstream_error("s", "connect");
        drop(lane);
        let text = metrics.encode();
        assert!(text.contains("route=\"r\""), "{text}");
        assert!(text.contains("portolan_refusals_total{reason=\"NoRoute\"} 1"), "{text}");
        assert!(text.contains("portolan_upstream_errors_total{kind=\"connect\",service=\"s\"} 1"), "{text}");
    }

    #[test]
    fn what_control_says_replaces_what_it_said() {
        let metrics = Metrics::new();
        let report = |name, state| ProviderReport { name, state, since: None, why: None, routes: 0 };
        metrics.set_providers(&[report(Provider::Docker, "starting"), report(Provider::File, "live")]);
        metrics.set_providers(&[report(Provider::Docker, "live")]);
        assert_eq!(value(&metrics, "portolan_provider_state{provider=\"docker\",state=\"live\"}"), Some(1.0));
        assert_eq!(value(&metrics, "portolan_provider_state{provider=\"docker\",state=\"starting\"}"), Some(0.0));
        assert!(!metrics.encode().contains("provider=\"file\""));

        let source = Source::new(Provider::Docker, Some("shop".into()));
        let finding = |name: &str| {
            Diagnostic::error(ObjectId::new(&source, Kind::Route, name), Reason::Conflict, Origin::Default, "taken")
        };
        metrics.set_problems(&[finding("a"), finding("b")]);
        assert_eq!(value(&metrics, "portolan_object_problems{provider=\"docker\",reason=\"Conflict\"}"), Some(2.0));
        metrics.set_problems(&[]);
        assert!(!metrics.encode().contains("Conflict"));

        metrics.set_certificates([("shop.example.com", "corp", "2026-03-01T00:00:00Z".parse().unwrap())]);
        let series = "portolan_certificate_expiry_timestamp_seconds{issuer=\"corp\",name=\"shop.example.com\"}";
        assert_eq!(value(&metrics, series), Some(1_772_323_200.0));

        metrics.set_table_generation(7);
        metrics.observe_reconcile(Duration::from_millis(2));
        metrics.observe_compile(Duration::from_millis(2));
        assert_eq!(value(&metrics, "portolan_table_generation"), Some(7.0));
        assert_eq!(value(&metrics, "portolan_reconcile_duration_seconds_count"), Some(1.0));
        assert_eq!(value(&metrics, "portolan_compile_duration_seconds_count"), Some(1.0));
        let version = format!("portolan_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        assert_eq!(value(&metrics, &version), Some(1.0));
        assert_eq!(value(&metrics, "portolan_access_log_dropped_total"), Some(0.0));
    }
}
