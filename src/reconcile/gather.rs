//! One object an id: replicas become one route over all their endpoints (rule (b)), equal definitions one object, and
//! unequal ones of one name are closed (`NameTaken`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::certificate::Certificate;
use crate::model::diagnostic::{Denial, Diagnostic, Origin, Reason};
use crate::model::id::{Name, ObjectId, Provider};
use crate::model::listener::Listener;
use crate::model::middleware::Middleware;
use crate::model::mtls::{MtlsPolicy, Revocation, TrustBundle};
use crate::model::nets;
use crate::model::predicate::{Term, Test};
use crate::model::route::{Route, RouteMatch};
use crate::model::service::Service;
use crate::model::snapshot::Snapshot;

pub(super) struct Gathered {
    pub listeners: BTreeMap<Name, Listener>,
    pub routes: Vec<Route>,
    pub services: BTreeMap<ObjectId, Service>,
    pub middlewares: BTreeMap<ObjectId, Middleware>,
    pub certificates: BTreeMap<ObjectId, Certificate>,
    pub policies: BTreeMap<ObjectId, MtlsPolicy>,
    pub bundles: BTreeMap<ObjectId, TrustBundle>,
    pub revocations: BTreeMap<ObjectId, Revocation>,
}

pub(super) fn gather(snapshots: &BTreeMap<Provider, Arc<Snapshot>>, findings: &mut Vec<Diagnostic>) -> Gathered {
    let all = || snapshots.values();
    let listeners =
        all().flat_map(|s| &s.listeners).map(|listener| (listener.name.clone(), listener.clone())).collect();

    let mut by_id: BTreeMap<&ObjectId, Vec<&Route>> = BTreeMap::new();
    for route in all().flat_map(|s| &s.routes) {
        by_id.entry(&route.id).or_default().push(route);
    }
    // A replica whose labels are invalid gets no request while another of its route is valid.
    let mut benched: BTreeSet<Arc<str>> = BTreeSet::new();
    let routes = by_id.into_values().map(|routes| one_route(routes, &mut benched, findings)).collect();

    let mut services: BTreeMap<&ObjectId, Vec<&Service>> = BTreeMap::new();
    for service in all().flat_map(|s| &s.services) {
        services.entry(&service.id).or_default().push(service);
    }
    let services = services
        .into_values()
        .map(|services| one_service(services, &benched, findings))
        .map(|service| (service.id.clone(), service))
        .collect();

    let middlewares = by_name(
        all().flat_map(|s| &s.middlewares),
        |m| (&m.id, &m.origin),
        |a, b| a.kind == b.kind && a.denied == b.denied,
        |m, denial| m.denied = Some(denial),
        findings,
    );
    let certificates = by_name(
        all().flat_map(|s| &s.certificates),
        |c| (&c.id, &c.origin),
        |a, b| (&a.cert_file, &a.key_file, &a.denied) == (&b.cert_file, &b.key_file, &b.denied),
        |c, denial| c.denied = Some(denial),
        findings,
    );
    let policies = by_name(
        all().flat_map(|s| &s.policies),
        |p| (&p.id, &p.origin),
        |a, b| (&a.rules, &a.trust, &a.revoked, &a.denied) == (&b.rules, &b.trust, &b.revoked, &b.denied),
        |p, denial| p.denied = Some(denial),
        findings,
    );
    let bundles = by_name(
        all().flat_map(|s| &s.bundles),
        |b| (&b.id, &b.origin),
        |a, b| (&a.from, &a.denied) == (&b.from, &b.denied),
        |b, denial| b.denied = Some(denial),
        findings,
    );
    let revocations = by_name(
        all().flat_map(|s| &s.revocations),
        |r| (&r.id, &r.origin),
        |a, b| (&a.from, a.stale, &a.denied) == (&b.from, b.stale, &b.denied),
        |r, denial| r.denied = Some(denial),
        findings,
    );
    Gathered { listeners, routes, services, middlewares, certificates, policies, bundles, revocations }
}

/// What two spellings of one route must agree on.
fn same_route(a: &Route, b: &Route) -> bool {
    (&a.matches, a.guessed, &a.listeners, a.priority, &a.middlewares, &a.backend, &a.mtls, &a.tls, &a.denied)
        == (&b.matches, b.guessed, &b.listeners, b.priority, &b.middlewares, &b.backend, &b.mtls, &b.tls, &b.denied)
}

fn one_route(mut routes: Vec<&Route>, benched: &mut BTreeSet<Arc<str>>, findings: &mut Vec<Diagnostic>) -> Route {
    routes.sort_by(|a, b| (a.created, &a.replica, &a.origin).cmp(&(b.created, &b.replica, &b.origin)));
    let oldest = routes[0];
    if routes.iter().all(|route| same_route(route, oldest)) {
        return oldest.clone();
    }
    let service = |route: &Route| route.replica.as_ref().map(|replica| replica.service.clone());
    let replicas = service(oldest).is_some() && routes.iter().all(|route| service(route) == service(oldest));
    if replicas { newest_valid(&routes, benched, findings) } else { taken_route(&routes, findings) }
}

/// Rule (b): the newest with valid labels, except that every policy must hold and that listeners and clients are
/// intersected.
fn newest_valid(routes: &[&Route], benched: &mut BTreeSet<Arc<str>>, findings: &mut Vec<Diagnostic>) -> Route {
    let newest = routes[routes.len() - 1];
    let valid = routes.iter().rev().find(|route| route.denied.is_none()).copied();
    let mut winner = valid.unwrap_or(newest).clone();
    winner.created = routes[0].created;
    winner.listeners = shared_listeners(routes, valid.is_some());
    let until = match valid {
        Some(_) => admit_shared_clients(&mut winner, routes),
        None => "",
    };
    let policies = match routes.iter().all(|route| route.mtls == newest.mtls) {
        true => "",
        false => ", and the policy of every replica must hold",
    };
    for route in routes {
        let container = replica_name(route);
        if route.denied.is_some() && valid.is_some() {
            benched.extend(container.clone());
        }
        // A policy that one replica demands is never dropped because another replica, or a mistake in a third, would
        // have it otherwise.
        winner.mtls.extend(route.mtls.iter().cloned());
        if valid.is_some_and(|valid| same_route(route, valid)) {
            continue;
        }
        let said = container.as_deref().unwrap_or("one replica");
        let detail = match &route.denied {
            Some(denial) => format!("the labels of {said} are invalid, so it gets no request: {}", denial.detail),
            None => format!(
                "{said} says otherwise than {}; the newest with valid labels wins{until}{policies}",
                named(&winner)
            ),
        };
        findings.push(Diagnostic::warning(winner.id.clone(), Reason::ReplicasDiffer, route.origin.clone(), detail));
    }
    if winner.listeners.as_ref().is_some_and(Vec::is_empty) && winner.denied.is_none() {
        winner.denied = Some(Denial::new(Reason::NoListener, "its replicas share no listener"));
    }
    winner
}

/// The listeners that all replicas share; an invalid one has no say where another is valid.
fn shared_listeners(routes: &[&Route], valid_only: bool) -> Option<Vec<Name>> {
    let heard = routes.iter().filter(|route| !valid_only || route.denied.is_none());
    heard.fold(None, |shared, route| match (shared, &route.listeners) {
        (shared, None) => shared,
        (None, Some(names)) => Some(names.clone()),
        (Some(a), Some(b)) => Some(a.into_iter().filter(|name| b.contains(name)).collect::<Vec<Name>>()),
    })
}

/// Narrows every match to the clients that all valid replicas admit there, and says so. Where that is nobody the route is
/// denied, for all whom any of them would have admitted: none of their requests is another route's.
fn admit_shared_clients(winner: &mut Route, routes: &[&Route]) -> &'static str {
    let mut said = "";
    for matched in &mut winner.matches {
        let heard = routes.iter().filter(|route| route.denied.is_none());
        let mut admitted = heard.filter_map(|route| clients_admitted(route, matched));
        let Some(first) = admitted.next() else { continue };
        let (mut all, mut any) = (first.clone(), first);
        for other in admitted {
            all = nets::intersection(&all, &other);
            any = nets::union(&any, &other);
        }
        if all.is_empty() {
            said = ", but no client is admitted by all of them, so the route is closed; give them the same clients";
            let detail = "no client is admitted by all of its replicas; give them the same clients";
            winner.denied.get_or_insert_with(|| Denial::new(Reason::ReplicasDiffer, detail));
        }
        let shared = Term::is(Test::Clients(if all.is_empty() { any } else { all }));
        if !matched.terms.contains(&shared) {
            matched.terms.retain(|term| !admits_clients(term));
            matched.terms.insert(shared);
            said = if said.is_empty() { ", for the clients that all of them admit" } else { said };
        }
    }
    winner.matches.sort();
    winner.matches.dedup();
    said
}

/// Whom a replica admits where another one's match stands; nothing where it admits everybody. What it says at the same
/// match counts, and where it has no such match, what it says at all of its own.
fn clients_admitted(route: &Route, at: &RouteMatch) -> Option<BTreeSet<IpNet>> {
    let beside = |matched: &RouteMatch| {
        let terms = matched.terms.iter().filter(|term| !admits_clients(term)).cloned().collect();
        RouteMatch { terms, ..matched.clone() }
    };
    let same: Vec<&RouteMatch> = route.matches.iter().filter(|other| beside(other) == beside(at)).collect();
    let said = if same.is_empty() { route.matches.iter().collect() } else { same };
    said.into_iter().try_fold(BTreeSet::new(), |admitted, matched| {
        matched.terms.iter().find_map(|term| match &term.test {
            Test::Clients(clients) if !term.negated => Some(nets::union(&admitted, clients)),
            _ => None,
        })
    })
}

fn admits_clients(term: &Term) -> bool {
    !term.negated && matches!(term.test, Test::Clients(_))
}

fn replica_name(route: &Route) -> Option<Arc<str>> {
    route.replica.as_ref().map(|replica| replica.container.clone())
}

fn named(route: &Route) -> String {
    replica_name(route).map_or_else(|| route.origin.to_string(), |name| name.to_string())
}

/// Two definitions of one name that are no replicas of each other: both close, at every match that either claims.
fn taken_route(routes: &[&Route], findings: &mut Vec<Diagnostic>) -> Route {
    let mut route = routes[0].clone();
    let places: Vec<String> = routes.iter().map(|route| route.origin.to_string()).collect();
    let detail = format!("the name is given to different routes ({}); rename one", places.join("; "));
    for other in routes {
        route.matches.extend(other.matches.iter().cloned());
        route.mtls.extend(other.mtls.iter().cloned());
        let diagnostic = Diagnostic::error(other.id.clone(), Reason::NameTaken, other.origin.clone(), detail.as_str());
        findings.push(diagnostic);
    }
    route.matches.sort();
    route.matches.dedup();
    // All TLS listeners at least, and whatever plain one either names.
    if routes.iter().any(|other| other.listeners.is_none()) {
        route.listeners = None;
    } else {
        let names: BTreeSet<Name> =
            routes.iter().flat_map(|other| other.listeners.clone().unwrap_or_default()).collect();
        route.listeners = Some(names.into_iter().collect());
    }
    route.denied = Some(Denial::new(Reason::NameTaken, detail));
    route
}

/// Replicas, and containers that define one service together, are one over all their endpoints. In how requests are
/// spread, the newest valid definition wins; weights are each endpoint's own, and no difference.
fn one_service(mut services: Vec<&Service>, benched: &BTreeSet<Arc<str>>, findings: &mut Vec<Diagnostic>) -> Service {
    services.sort_by(|a, b| (a.created, &a.replica, &a.origin).cmp(&(b.created, &b.replica, &b.origin)));
    let mut union = services[0].clone();
    union.running = services.iter().any(|service| service.running);
    if services.len() > 1 && !services.iter().all(|service| service.replica.is_some()) {
        let said = |s: &Service| (s.endpoints.clone(), s.names.clone(), s.traffic.clone(), s.denied.clone());
        let differs = |s: &&Service| said(s) != said(&union);
        if services.iter().any(differs) {
            let places: Vec<String> = services.iter().map(|service| service.origin.to_string()).collect();
            let detail = format!("the name is given to different services ({}); rename one", places.join("; "));
            for service in &services {
                let origin = service.origin.clone();
                findings.push(Diagnostic::error(service.id.clone(), Reason::NameTaken, origin, detail.as_str()));
            }
            union.denied = Some(Denial::new(Reason::NameTaken, detail));
        }
        return union;
    }
    let container = |service: &Service| service.replica.as_ref().map(|replica| replica.container.clone());
    let heard = |service: &&&Service| {
        service.denied.is_none() && !container(service).is_some_and(|container| benched.contains(&container))
    };
    union.running = services.iter().any(|service| service.running);
    if services.iter().any(|service| service.denied.is_none()) {
        union.denied = None;
        union.endpoints.clear();
        union.absent = None;
        for service in services.iter().filter(heard) {
            union.endpoints.extend(service.endpoints.iter().cloned());
            union.absent = union.absent.or_else(|| service.absent.clone());
        }
    }
    if let Some(newest) = services.iter().rev().find(heard) {
        union.traffic = newest.traffic.clone();
        for other in services.iter().filter(heard).filter(|other| other.traffic != newest.traffic) {
            let said = container(other).map_or_else(|| other.origin.to_string(), |name| name.to_string());
            let by = container(newest).map_or_else(|| newest.origin.to_string(), |name| name.to_string());
            let detail = format!(
                "{said} says otherwise than {by} how requests are balanced, retried or timed out; the newest with valid \
                 labels wins"
            );
            let origin = other.origin.clone();
            findings.push(Diagnostic::warning(union.id.clone(), Reason::ReplicasDiffer, origin, detail));
        }
    }
    union.endpoints.sort();
    union.endpoints.dedup();
    union
}

/// Objects that are one where they are equal and closed where they are not.
fn by_name<'a, T: Clone + 'a>(
    objects: impl Iterator<Item = &'a T>,
    identity: impl Fn(&T) -> (&ObjectId, &Origin),
    equal: impl Fn(&T, &T) -> bool,
    close: impl Fn(&mut T, Denial),
    findings: &mut Vec<Diagnostic>,
) -> BTreeMap<ObjectId, T> {
    let mut groups: BTreeMap<ObjectId, Vec<&T>> = BTreeMap::new();
    for object in objects {
        groups.entry(identity(object).0.clone()).or_default().push(object);
    }
    groups
        .into_iter()
        .map(|(id, mut group)| {
            group.sort_by(|a, b| identity(a).1.cmp(identity(b).1));
            let mut one = group[0].clone();
            if group.iter().any(|other| !equal(other, &one)) {
                let places: Vec<String> = group.iter().map(|object| identity(object).1.to_string()).collect();
                let detail = format!("the name is given to different objects ({}); rename one", places.join("; "));
                for object in &group {
                    let (id, origin) = identity(object);
                    findings.push(Diagnostic::error(id.clone(), Reason::NameTaken, origin.clone(), detail.as_str()));
                }
                close(&mut one, Denial::new(Reason::NameTaken, detail));
            }
            (id, one)
        })
        .collect()
}
