//! Who holds each host, and until when: the ledger, moved on by what is there now.
//!
//! A holder stays one while something of it runs on the host and 60 s beyond, so that a recreated container does not
//! lose its host; under a policy it stays one while any object of it exists.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::model::host::HostPattern;
use crate::model::id::{ObjectId, Provider, Source};
use crate::model::ledger::{Hold, Ledger};
use crate::model::route::RouteMatch;

use super::contend::United;
use super::resolve::{Resolved, ResolvedRoute};

/// How long a host waits for a holder without a running endpoint.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Who holds a host now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The holder, and whoever rule (a) united with it here.
    pub holders: BTreeSet<Source>,
    /// A route of the holder names a policy: the host is the holder's alone.
    pub protected: bool,
    /// The holder has no route here, and keeps the host.
    pub away: bool,
    /// What an absent holder last claimed here, kept free for it.
    pub reserved: BTreeSet<String>,
}

impl Held {
    /// By a holder without a route here: what it had stays free for it.
    fn kept(hold: &Hold) -> Held {
        Held {
            holders: BTreeSet::from([hold.holder.clone()]),
            protected: hold.protected,
            away: true,
            reserved: hold.matches.clone(),
        }
    }

    /// Whether an absent holder stood at this host and path, with whatever further terms.
    pub fn reserves(&self, matched: &RouteMatch) -> bool {
        let place = format!("{}{}", matched.host, matched.path);
        let within =
            |reserved: &String| reserved.strip_prefix(&place).is_some_and(|r| r.is_empty() || r.starts_with(" ["));
        self.reserved.iter().any(within)
    }

    pub fn by(&self, source: &Source) -> bool {
        self.holders.contains(source) || (source.is_operator() && self.holders.iter().any(Source::is_operator))
    }
}

#[derive(Default)]
struct Claimant {
    first: Option<(Timestamp, ObjectId)>,
    running: bool,
    protected: bool,
    matches: BTreeSet<String>,
}

pub(super) fn settle(
    resolved: &Resolved,
    united: &[United],
    ledger: &Ledger,
    heard: &dyn Fn(Provider) -> bool,
    now: Timestamp,
) -> (BTreeMap<HostPattern, Held>, Ledger, Option<Timestamp>) {
    let mut claimants: BTreeMap<HostPattern, BTreeMap<Source, Claimant>> = BTreeMap::new();
    for resolved_route in &resolved.routes {
        let route = &resolved_route.route;
        let running = running(resolved, resolved_route);
        for matched in route.matches.iter().filter(|matched| !matched.is_by_host_regex()) {
            let claimant = claimants.entry(matched.host.clone()).or_default().entry(route.id.source()).or_default();
            let named = (route.created, route.id.clone());
            claimant.first = Some(claimant.first.take().map_or(named.clone(), |first| first.min(named)));
            claimant.running |= running;
            claimant.protected |= !route.mtls.is_empty();
            claimant.matches.insert(matched.to_string());
        }
    }
    let mut together: BTreeMap<&HostPattern, Vec<&BTreeSet<Source>>> = BTreeMap::new();
    for unit in united.iter().filter(|unit| unit.owners.len() > 1) {
        together.entry(&unit.matched.host).or_default().push(&unit.owners);
    }

    let mut held: BTreeMap<HostPattern, Held> = BTreeMap::new();
    let mut next = Ledger::default();
    let mut lapse: Option<Timestamp> = None;
    for (host, by_source) in &claimants {
        let operator: Option<&Source> = by_source.keys().find(|source| source.is_operator());
        let mut holding = Held::default();
        if let Some(operator) = operator {
            holding.holders.insert(operator.clone());
        } else if *host != HostPattern::Any {
            let key = host.to_string();
            let before = ledger.holds.get(&key);
            let (hold, until) = match before.filter(|before| !heard(before.holder.provider)) {
                // Its provider has not spoken yet: what it will say is unknown, and an unknown holder loses nothing.
                Some(before) => (before.clone(), None),
                None => tenant(by_source, before, now),
            };
            lapse = lapse.into_iter().chain(until).min();
            holding.holders.insert(hold.holder.clone());
            if !by_source.contains_key(&hold.holder) {
                holding = Held::kept(&hold);
            }
            next.holds.insert(key, hold);
        }
        for owners in together.get(host).into_iter().flatten() {
            if !owners.is_disjoint(&holding.holders) {
                holding.holders.extend(owners.iter().cloned());
            }
        }
        holding.protected |= by_source.iter().any(|(source, claimant)| claimant.protected && holding.by(source));
        held.insert(host.clone(), holding);
    }
    // A holder that is gone altogether keeps its host for the grace, whether or not somebody else wants it now.
    for (key, hold) in &ledger.holds {
        let Ok(host) = key.parse::<HostPattern>() else { continue };
        if claimants.contains_key(&host) {
            continue;
        }
        if !heard(hold.holder.provider) {
            held.insert(host, Held::kept(hold));
            next.holds.insert(key.clone(), hold.clone());
            continue;
        }
        let idle = hold.idle_since.unwrap_or(now);
        if now < idle + GRACE {
            lapse = lapse.into_iter().chain([idle + GRACE]).min();
            held.insert(host, Held::kept(hold));
            next.holds.insert(key.clone(), Hold { idle_since: Some(idle), ..hold.clone() });
        }
    }
    (held, next, lapse)
}

/// The tenant that holds a host now, and when that is to be looked at again.
fn tenant(by_source: &BTreeMap<Source, Claimant>, before: Option<&Hold>, now: Timestamp) -> (Hold, Option<Timestamp>) {
    let oldest = |running_only: bool| {
        by_source
            .iter()
            .filter(|(source, claimant)| !source.is_operator() && (claimant.running || !running_only))
            .min_by(|(_, a), (_, b)| a.first.cmp(&b.first))
            .map(|(source, _)| source.clone())
    };
    let hold = |holder: Source, since: Timestamp, idle: Option<Timestamp>| {
        let claimant = by_source.get(&holder);
        Hold {
            since,
            idle_since: if claimant.is_some_and(|claimant| claimant.running) { None } else { idle.or(Some(now)) },
            matches: claimant.map(|claimant| claimant.matches.clone()).unwrap_or_default(),
            protected: claimant.is_some_and(|claimant| claimant.protected),
            holder,
        }
    };
    let anyone = || oldest(false).unwrap_or(Source { provider: Provider::Docker, namespace: None });
    let Some(before) = before else { return (hold(anyone(), now, None), None) };
    let claimant = by_source.get(&before.holder);
    let idle = before.idle_since.unwrap_or(now);
    let mut same = match claimant {
        Some(_) => hold(before.holder.clone(), before.since, Some(idle)),
        None => Hold { idle_since: Some(idle), ..before.clone() },
    };
    if claimant.is_some_and(|claimant| claimant.running || claimant.protected) {
        return (same, None);
    }
    if now < idle + GRACE {
        let contested = by_source.keys().any(|source| *source != before.holder);
        return (same, (contested || claimant.is_none()).then(|| idle + GRACE));
    }
    match oldest(true).or_else(|| claimant.is_none().then(anyone)) {
        Some(next) if next != before.holder => (hold(next, now, None), None),
        _ => {
            same.idle_since = Some(idle);
            (same, None)
        }
    }
}

fn running(resolved: &Resolved, route: &ResolvedRoute) -> bool {
    let runs = |id: &ObjectId| resolved.services.get(id).is_some_and(|service| service.running);
    if route.shares.is_empty() {
        // A denied route resolves to no service; its container runs all the same, and keeps its host.
        let named = route.route.backend.shares().into_iter().map(|(name, _)| name.parts().1.shared());
        return named.map(|name| route.route.id.sibling(crate::model::Kind::Service, name)).any(|id| runs(&id));
    }
    route.shares.iter().any(|(id, _)| runs(id))
}
