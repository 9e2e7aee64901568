//! Who stands at a match: rule (a) within a namespace, rules (c) and (e) between sources.
//!
//! A loser is left out: absent from the table, never a denial in it, with a diagnostic that names both sides.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::diagnostic::{Diagnostic, Reason};
use crate::model::host::{HostPattern, parent};
use crate::model::id::{Name, ObjectId, Source};
use crate::model::route::RouteMatch;

use super::desired::Share;
use super::holders::Held;
use super::precedence::has_literal_path;
use super::resolve::{Resolved, ResolvedRoute};

/// What stands at one match of one listener for one namespace: a route, and those that are one with it.
#[derive(Debug, Clone)]
pub(super) struct United {
    pub listener: Name,
    pub matched: RouteMatch,
    /// Index into `Resolved::routes`.
    pub leader: usize,
    /// The routes that are one with the leader here.
    pub joined: BTreeSet<usize>,
    /// The leader's first: how their requests are balanced is its word.
    pub shares: Vec<Share>,
    pub owners: BTreeSet<Source>,
}

/// Rule (a): one route over the union of endpoints where policy and middlewares are the same by content.
pub(super) fn unite(resolved: &Resolved, findings: &mut Vec<Diagnostic>) -> Vec<United> {
    let mut contenders: BTreeMap<(&Name, &RouteMatch), Vec<usize>> = BTreeMap::new();
    for (index, route) in resolved.routes.iter().enumerate() {
        for listener in &route.listeners {
            for matched in &route.route.matches {
                contenders.entry((listener, matched)).or_default().push(index);
            }
        }
    }
    let mut units = Vec::with_capacity(contenders.len());
    for ((listener, matched), mut indexes) in contenders {
        indexes.sort_by_key(|index| seniority(&resolved.routes[*index]));
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for index in indexes {
            let group = resolved.routes[index].route.id.source();
            let same = groups.iter_mut().find(|g| resolved.routes[g[0]].route.id.source().group() == group.group());
            match same {
                Some(group) => group.push(index),
                None => groups.push(vec![index]),
            }
        }
        for group in groups {
            let new = |leader: usize| United {
                listener: listener.clone(),
                matched: matched.clone(),
                leader,
                joined: BTreeSet::new(),
                shares: shares(&resolved.routes[leader]),
                owners: BTreeSet::from([resolved.routes[leader].source()]),
            };
            // Oldest first, but a route with a policy stands before any without.
            let first = group.iter().find(|i| !resolved.routes[**i].route.mtls.is_empty()).unwrap_or(&group[0]);
            let mut own: Vec<United> = vec![new(*first)];
            for index in group.iter().filter(|index| *index != first) {
                let route = &resolved.routes[*index];
                let one = own.iter().position(|unit| is_one(resolved, &resolved.routes[unit.leader], route));
                match one {
                    Some(at) => {
                        own[at].joined.insert(*index);
                        join(resolved, &mut own[at], route, findings);
                        own[at].owners.insert(route.source());
                    }
                    // Containers without a project are sources of their own: rule (c) decides between them.
                    None if own.iter().all(|unit| resolved.routes[unit.leader].source() != route.source()) => {
                        own.push(new(*index));
                    }
                    None => {
                        let stands = &resolved.routes[own[0].leader];
                        findings.push(conflict(route, stands, matched, "differs in policy, middlewares, split or tls"));
                    }
                }
            }
            units.extend(own);
        }
    }
    units
}

fn shares(route: &ResolvedRoute) -> Vec<Share> {
    route.shares.iter().map(|(id, weight)| Share { services: vec![id.clone()], weight: *weight }).collect()
}

/// The endpoints of one more route. Routes that split are one only where they split alike: nothing is added then.
fn join(resolved: &Resolved, unit: &mut United, route: &ResolvedRoute, findings: &mut Vec<Diagnostic>) {
    let ([share], [(id, _)]) = (&mut unit.shares[..], &route.shares[..]) else { return };
    let Some(leading) = share.services.first() else { return };
    if share.services.contains(id) {
        return;
    }
    let traffic = |id: &ObjectId| resolved.services.get(id).map(|service| &service.traffic);
    if traffic(leading) != traffic(id) {
        let leader = &resolved.routes[unit.leader].route.id;
        let detail = format!(
            "{id} says otherwise than {leading} how requests are balanced, retried or timed out; where both answer ({}) \
             the older route's service decides",
            unit.matched
        );
        let origin = resolved.services.get(id).map_or(&route.route.origin, |service| &service.origin).clone();
        let finding = Diagnostic::warning(id.clone(), Reason::ReplicasDiffer, origin, detail);
        findings.push(finding.relating(leader.clone()));
    }
    share.services.push(id.clone());
}

fn seniority(route: &ResolvedRoute) -> (jiff::Timestamp, ObjectId) {
    (route.route.created, route.route.id.clone())
}

/// Whether two routes of one namespace differ in nothing but their endpoints.
fn is_one(resolved: &Resolved, a: &ResolvedRoute, b: &ResolvedRoute) -> bool {
    let content = |route: &ResolvedRoute| -> Vec<_> {
        route.middlewares.iter().map(|id| resolved.middlewares.get(id).map(|m| m.kind.clone())).collect()
    };
    let policies = |route: &ResolvedRoute| -> Vec<_> {
        let found = route.policies.iter().filter_map(|id| resolved.policies.get(id));
        found.map(|policy| policy.content(&resolved.bundles, &resolved.revocations)).collect()
    };
    a.route.denied.is_none()
        && b.route.denied.is_none()
        && policies(a) == policies(b)
        && a.route.tls == b.route.tls
        && a.route.priority == b.route.priority
        && content(a) == content(b)
        && (a.shares == b.shares || (a.shares.len() == 1 && b.shares.len() == 1))
}

/// Rules (c) and (e): what is left stands in the table.
pub(super) fn contend(
    resolved: &Resolved,
    units: Vec<United>,
    held: &BTreeMap<HostPattern, Held>,
    findings: &mut Vec<Diagnostic>,
) -> Vec<United> {
    // A wildcard that the operator puts under a policy covers every name under it.
    let covered: BTreeMap<&str, &Held> = held
        .iter()
        .filter(|(_, held)| held.protected && held.holders.iter().any(Source::is_operator))
        .filter_map(|(host, held)| match host {
            HostPattern::Wildcard(suffix) => Some((&**suffix, held)),
            _ => None,
        })
        .collect();
    let cover = |host: &HostPattern| match host {
        HostPattern::Exact(name) => parent(name).and_then(|suffix| covered.get(suffix).copied()),
        _ => None,
    };
    let mut standing: Vec<United> = Vec::with_capacity(units.len());
    for unit in units {
        let route = &resolved.routes[unit.leader];
        let host = &unit.matched.host;
        let nobody = Held::default();
        let holding = held.get(host).unwrap_or(&nobody);
        let holds = unit.owners.iter().any(|owner| holding.by(owner));
        let operator = route.source().is_operator();
        let holder = || holder_route(resolved, holding, host);
        if route.route.guessed && !holds {
            let detail = format!("its matches cannot be read, and {host} is held by another source: left out there");
            findings.push(left_out(route, Reason::HostHeld, detail, holder()));
            continue;
        }
        let cover = cover(host);
        if !operator && (cover.is_some() || (holding.protected && !holds)) {
            let by = names(cover.map_or(&holding.holders, |cover| &cover.holders));
            let detail =
                format!("{host} is under a policy of {by} and that source's alone; use another host, or ask its owner");
            findings.push(left_out(route, Reason::HostProtected, detail, holder()));
            continue;
        }
        let brings = !route.route.mtls.is_empty() || route.route.tls.is_some();
        if *host != HostPattern::Any && !holds && !operator && brings {
            let by = names(&holding.holders);
            let detail =
                format!("{host} is held by {by}: mtls and tls hold for a whole host and come from its holder alone");
            findings.push(left_out(route, Reason::HostHeld, detail, holder()));
            continue;
        }
        if unit.matched.is_by_host_regex() && route.route.tls.is_some() {
            let detail =
                "tls holds for whole hosts, and a host regex names none: it is not applied there; name the hosts";
            let origin = route.route.origin.clone();
            findings.push(Diagnostic::warning(route.route.id.clone(), Reason::Ignored, origin, detail).on("tls"));
        }
        // An absent holder's routes cannot outrank anybody: what would rank behind them stays out until they are back.
        let behind = holding.reserves(&unit.matched) || !has_literal_path(&unit.matched);
        if !holds && !operator && holding.away && behind {
            let by = names(&holding.holders);
            let detail = format!("{} is kept for {by}, whose container is away for less than a minute", unit.matched);
            findings.push(left_out(route, Reason::Conflict, detail, holder()));
            continue;
        }
        // Units come sorted by listener and match: rivals are neighbours.
        let rival =
            standing.last_mut().filter(|rival| rival.listener == unit.listener && rival.matched == unit.matched);
        match rival {
            None => standing.push(unit),
            Some(rival) => {
                let other = &resolved.routes[rival.leader];
                let claim = |unit: &United, route: &ResolvedRoute| {
                    let holds = unit.owners.iter().any(|owner| holding.by(owner));
                    (!holds, !route.source().is_operator(), seniority(route))
                };
                let (winner, loser) =
                    if claim(&unit, route) < claim(rival, other) { (route, other) } else { (other, route) };
                findings.push(conflict(loser, winner, &unit.matched, "comes from another source"));
                if std::ptr::eq(winner, route) {
                    *rival = unit;
                }
            }
        }
    }
    standing
}

fn names(sources: &BTreeSet<Source>) -> String {
    sources.iter().map(Source::to_string).collect::<Vec<_>>().join(" and ")
}

fn holder_route(resolved: &Resolved, held: &Held, host: &HostPattern) -> Option<ObjectId> {
    // Asked only where a claim is left out: the walk over all routes is not on the usual way.
    let find = || {
        resolved
            .routes
            .iter()
            .find(|route| held.by(&route.source()) && route.route.matches.iter().any(|m| m.host == *host))
            .map(|route| route.route.id.clone())
    };
    if held.holders.is_empty() { None } else { find() }
}

fn conflict(loser: &ResolvedRoute, winner: &ResolvedRoute, matched: &RouteMatch, how: &str) -> Diagnostic {
    let detail = format!(
        "{matched} is taken by {} ({}), which {how}; left out there. Give it another host or path",
        winner.route.id, winner.route.origin
    );
    Diagnostic::error(loser.route.id.clone(), Reason::Conflict, loser.route.origin.clone(), detail)
        .relating(winner.route.id.clone())
}

fn left_out(route: &ResolvedRoute, reason: Reason, detail: String, other: Option<ObjectId>) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(route.route.id.clone(), reason, route.route.origin.clone(), detail);
    diagnostic.related.extend(other);
    diagnostic
}
