//! Which endpoints answer: one probe per endpoint and check, and what requests ran into.
//!
//! ```text
//! Desired ─follow─▶ probes ─outcomes─▶ Tally per endpoint and check ─┐
//! workers ─Trouble─▶ Record per service and endpoint ────────────────┴─judge─▶ Verdicts ─▶ table, View
//! ```
//! A probe belongs to what it asks and not to a route, a service or a table: it is there once, and its tally outlives
//! every swap, for as long as somebody's check names the endpoint.

mod ejected;
mod probe;
mod tally;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::model::health::{Ask, HealthCheck, HealthState, Spoken, Target, Verdict, Verdicts};
use crate::model::id::ObjectId;
use crate::model::schema::Scheme;
use crate::model::service::{Endpoint, Phase};
use crate::proxy::Trouble;
use crate::reconcile::{Desired, ServiceFacts};
use crate::telemetry::metrics::Metrics;

use ejected::{Record, may_go};
pub use probe::Dialer;
use probe::{Outcome, Probe};
use tally::Tally;

/// An endpoint is its address and its name.
type Place = (SocketAddr, Arc<str>);

/// What is asked once, however many services name it. One that is spoken to over TLS is asked for each service: the name
/// and the CAs that its certificate is checked against are the service's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    place: Place,
    scheme: Scheme,
    service: Option<ObjectId>,
    check: Arc<HealthCheck>,
}

impl Asked {
    fn new(service: &ObjectId, endpoint: &Endpoint, check: &Arc<HealthCheck>) -> Asked {
        let scheme = endpoint.scheme;
        let service = scheme.is_secure().then(|| service.clone());
        Asked { place: place(endpoint), scheme, service, check: check.clone() }
    }
}

pub struct Health {
    dialer: Arc<dyn Dialer>,
    metrics: Arc<Metrics>,
    checked: BTreeMap<Asked, Checked>,
    /// By the numbers of probes.
    numbers: BTreeMap<u64, Asked>,
    next: u64,
    ejected: BTreeMap<(ObjectId, Place), Record>,
    outcomes: UnboundedReceiver<Outcome>,
    tell: UnboundedSender<Outcome>,
}

struct Checked {
    number: u64,
    tally: Tally,
    _probe: Probe,
}

impl Health {
    pub fn new(dialer: Arc<dyn Dialer>, metrics: Arc<Metrics>) -> Health {
        let (tell, outcomes) = unbounded_channel();
        Health {
            dialer,
            metrics,
            checked: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next: 0,
            ejected: BTreeMap::new(),
            outcomes,
            tell,
        }
    }

    /// From now on these endpoints are asked and no others. Runs within a runtime.
    pub fn follow(&mut self, desired: &Desired, now: Timestamp) {
        let mut wanted: BTreeMap<Asked, &Endpoint> = BTreeMap::new();
        let in_use: OnceCell<BTreeSet<&ObjectId>> = OnceCell::new();
        for (service, facts) in &desired.services {
            let Some(check) = &facts.traffic.health else { continue };
            for endpoint in &facts.endpoints {
                // Where no route leads, nobody has settled the terms of TLS.
                if !endpoint.scheme.is_secure() || in_use.get_or_init(|| desired.services_in_use()).contains(service) {
                    wanted.insert(Asked::new(service, endpoint, check), endpoint);
                }
            }
        }
        let numbers = &mut self.numbers;
        self.checked.retain(|key, checked| {
            let stays = wanted.contains_key(key);
            if !stays {
                numbers.remove(&checked.number);
            }
            stays
        });
        for (key, endpoint) in wanted {
            if self.checked.contains_key(&key) {
                continue;
            }
            self.next += 1;
            let number = self.next;
            let probe =
                Probe::start(number, target(endpoint, &key), &key.check, self.dialer.clone(), self.tell.clone());
            self.numbers.insert(number, key.clone());
            self.checked.insert(key, Checked { number, tally: Tally::new(now), _probe: probe });
        }
        self.ejected.retain(|(service, place), _| {
            let facts = desired.services.get(service);
            facts.is_some_and(|facts| facts.endpoints.iter().any(|endpoint| self::place(endpoint) == *place))
        });
    }

    /// Until an endpoint's state is another one. May be dropped and called again without losing anything.
    pub async fn changed(&mut self) {
        loop {
            // Never `None`: a sender is here.
            let Some(outcome) = self.outcomes.recv().await else { return };
            let mut changed = self.hear(outcome);
            while let Ok(outcome) = self.outcomes.try_recv() {
                changed |= self.hear(outcome);
            }
            if changed {
                return;
            }
        }
    }

    fn hear(&mut self, (number, outcome): Outcome) -> bool {
        // One that is asked no more may have had an answer under way.
        let Some(key) = self.numbers.get(&number) else { return false };
        let Some(checked) = self.checked.get_mut(key) else { return false };
        self.metrics.health_check(outcome.is_ok());
        let Asked { place: (address, name), check, .. } = key;
        let changed = checked.tally.hear(check, outcome, Timestamp::now());
        if changed {
            let Tally { state, why, .. } = &checked.tally;
            let (state, why) = (state.as_str(), why.as_deref());
            tracing::info!(%address, %name, check = %check.ask, state, why, "an endpoint's health");
        }
        changed
    }

    /// Takes out an endpoint that fails one request after the other, if the others can do without it. Whether anybody is.
    pub fn trouble(&mut self, desired: &Desired, trouble: &Trouble) -> bool {
        let place = (trouble.endpoint.address, trouble.endpoint.name.clone());
        let now = (Instant::now(), Timestamp::now());
        let mut any = false;
        for service in &trouble.upstream.services {
            let Some(facts) = desired.services.get(service) else { continue };
            let ejection = &facts.traffic.ejection;
            if ejection.failures == 0 || trouble.failures < ejection.failures {
                continue;
            }
            let is_out = |endpoint: &Endpoint| self.is_out(service, &self::place(endpoint), now.0);
            let Some(endpoint) = facts.endpoints.iter().find(|endpoint| self::place(endpoint) == place) else {
                continue;
            };
            if is_out(endpoint) {
                continue;
            }
            let out = facts.endpoints.iter().filter(|endpoint| is_out(endpoint)).count();
            let others = facts.endpoints.iter().filter(|other| self::place(other) != place && !is_out(other));
            let open = others.filter(|other| is_ready(other) && self.is_good(service, facts, other)).count();
            if !may_go(ejection, facts.endpoints.len(), out, open) {
                continue;
            }
            let key = (service.clone(), place.clone());
            let why = format!("{} requests failed in a row, the last one: {}", trouble.failures, trouble.why);
            let record = Record::new(self.ejected.get(&key), ejection, why, now);
            let (address, name) = &place;
            let time = record.until.saturating_duration_since(now.0);
            tracing::warn!(%service, %address, %name, ?time, why = &*record.why, "an endpoint is ejected");
            self.ejected.insert(key, record);
            self.metrics.ejection();
            any = true;
        }
        any
    }

    /// When the next endpoint that is out may come back.
    pub fn next_release(&self) -> Option<Instant> {
        let now = Instant::now();
        self.ejected.values().map(|record| record.until).filter(|until| *until > now).min()
    }

    /// What is known of the endpoints now.
    pub fn judge(&self, desired: &Desired) -> Verdicts {
        let now = Instant::now();
        let mut verdicts = Verdicts::new();
        for (service, facts) in &desired.services {
            let of = self.judge_service(service, facts, now);
            if !of.is_empty() {
                verdicts.insert(service.clone(), of);
            }
        }
        verdicts
    }

    /// Endpoints whose check passes get the requests; where there is none, those that are not checked yet. An ejection
    /// is overruled where nobody else is left.
    fn judge_service(&self, service: &ObjectId, facts: &ServiceFacts, now: Instant) -> BTreeMap<Place, Verdict> {
        let ready = || facts.endpoints.iter().filter(|endpoint| is_ready(endpoint));
        let healthy = ready().any(|endpoint| self.state(service, facts, endpoint) == Some(HealthState::Healthy));
        let open = |endpoint: &Endpoint| match self.state(service, facts, endpoint) {
            None | Some(HealthState::Healthy) => true,
            Some(HealthState::Unchecked) => !healthy,
            Some(HealthState::Unhealthy | HealthState::Ejected) => false,
        };
        let out = |endpoint: &Endpoint| self.is_out(service, &place(endpoint), now);
        let left = ready().any(|endpoint| open(endpoint) && !out(endpoint));
        let mut verdicts = BTreeMap::new();
        for endpoint in &facts.endpoints {
            let key = place(endpoint);
            let tally = self.tally(service, facts, endpoint);
            let record = self.ejected.get(&(service.clone(), key.clone())).filter(|record| record.is_out(now));
            let verdict = match (tally, record) {
                (Some(tally), _) if tally.state == HealthState::Unhealthy => {
                    Verdict { state: tally.state, open: false, since: tally.since, why: tally.why.clone() }
                }
                (_, Some(record)) => Verdict {
                    state: HealthState::Ejected,
                    open: !left && open(endpoint),
                    since: record.since,
                    why: Some(record.why.clone()),
                },
                (Some(tally), None) => Verdict {
                    state: tally.state,
                    open: open(endpoint),
                    since: tally.since,
                    why: (tally.state == HealthState::Unchecked).then(|| "its first check is under way".into()),
                },
                (None, None) => continue,
            };
            verdicts.insert(key, verdict);
        }
        verdicts
    }

    fn tally(&self, service: &ObjectId, facts: &ServiceFacts, endpoint: &Endpoint) -> Option<&Tally> {
        let check = facts.traffic.health.as_ref()?;
        self.checked.get(&Asked::new(service, endpoint, check)).map(|checked| &checked.tally)
    }

    fn state(&self, service: &ObjectId, facts: &ServiceFacts, endpoint: &Endpoint) -> Option<HealthState> {
        self.tally(service, facts, endpoint).map(|tally| tally.state)
    }

    fn is_good(&self, service: &ObjectId, facts: &ServiceFacts, endpoint: &Endpoint) -> bool {
        matches!(self.state(service, facts, endpoint), None | Some(HealthState::Healthy))
    }

    fn is_out(&self, service: &ObjectId, place: &Place, now: Instant) -> bool {
        self.ejected.get(&(service.clone(), place.clone())).is_some_and(|record| record.is_out(now))
    }
}

fn place(endpoint: &Endpoint) -> Place {
    (endpoint.address, endpoint.name.clone())
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.phase == Phase::Ready && endpoint.weight > 0
}

fn target(endpoint: &Endpoint, Asked { place, scheme, service, check }: &Asked) -> Target {
    let mut address = endpoint.address;
    address.set_port(check.port.unwrap_or(address.port()));
    // An endpoint that was written is named by its URL; a container is asked by its address.
    let written = endpoint.name.parse::<http::Uri>().ok().filter(|uri| uri.scheme().is_some());
    let host = match (&check.ask, written.as_ref().and_then(http::Uri::host)) {
        (Ask::Get { host: Some(host), .. }, _) => host.clone(),
        (_, Some(name)) => format!("{name}:{}", address.port()).into(),
        (_, None) => address.to_string().into(),
    };
    let (at, name) = place;
    let secure = service.as_ref().map(|of| Spoken { service: of.clone(), address: *at, name: name.clone() });
    Target { address, host, ask: check.ask.clone(), scheme: *scheme, secure }
}

#[cfg(test)]
mod tests;
