//! A table whose endpoints are ready or not by other verdicts than before, and that is otherwise the same.
//!
//! `Table + verdicts ─▶ the upstreams concerned ─▶ the routes that lead there ─▶ Table`. Listeners, with their hosts,
//! paths and certificates, are shared with the table before: an endpoint that fails its check costs what it concerns,
//! whatever the number of routes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::id::ObjectId;
use crate::reconcile::Desired;

use super::compile::{Build, Materials};
use super::upstream::Upstream;
use super::{RouteAction, RouteEntry, Table};

/// `previous` is of the same desired state, and of materials that differ in the verdicts on `services` alone.
pub fn patch(
    desired: &Desired,
    materials: Materials<'_>,
    previous: &Table,
    services: &BTreeSet<&ObjectId>,
) -> Arc<Table> {
    let mut build = Build::new(desired, materials, previous);
    // Of the upstreams that stay as well.
    build.client_tls = previous.client_tls.clone();
    let mut upstreams = HashMap::with_capacity(previous.upstreams.len());
    let mut replaced: HashMap<&Arc<str>, (&Arc<Upstream>, Arc<Upstream>)> = HashMap::new();
    for (of, before) in &previous.upstreams {
        let concerned = of.iter().any(|service| services.contains(service));
        let upstream = if concerned {
            let parts = build.parts(of);
            Upstream::new(parts, &mut build.endpoints, &previous.endpoints, Some(before))
        } else {
            before.members.iter().for_each(|member| build.endpoints.keep(&member.endpoint, member.phase));
            before.clone()
        };
        if !Arc::ptr_eq(&upstream, before) {
            replaced.insert(&before.label, (before, upstream.clone()));
        }
        upstreams.insert(of.clone(), upstream);
    }
    let other = |upstream: &Arc<Upstream>| {
        let (before, now) = replaced.get(&upstream.label)?;
        Arc::ptr_eq(before, upstream).then(|| now.clone())
    };
    let route = |entry: &Arc<RouteEntry>| {
        let RouteAction::Forward(backend) = &entry.action else { return entry.clone() };
        let Some(backend) = backend.with(other) else { return entry.clone() };
        let RouteEntry { id, label, action: _, middlewares, policies, place } = &**entry;
        Arc::new(RouteEntry {
            id: id.clone(),
            label: label.clone(),
            action: RouteAction::Forward(backend),
            middlewares: middlewares.clone(),
            policies: policies.clone(),
            place: *place,
        })
    };
    Arc::new(Table {
        generation: previous.generation + 1,
        listeners: previous.listeners.clone(),
        endpoints: build.endpoints,
        client_tls: build.client_tls,
        routes: previous.routes.iter().map(route).collect(),
        policies: previous.policies.clone(),
        upstreams,
        splits: previous.splits.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::model::diagnostic::Origin;
    use crate::model::health::{HealthState, Verdict, Verdicts};
    use crate::model::host::HostPattern;
    use crate::model::id::{Kind, Name, Provider, Source};
    use crate::model::path::PathMatch;
    use crate::model::route::RouteMatch;
    use crate::model::service::{Endpoint, Traffic};
    use crate::reconcile::{Action, Claim, DesiredRoute, ServiceFacts, Share};
    use crate::table::sticky::StickyKey;
    use crate::table::{Compiled, compile};

    fn id(kind: Kind, name: &str) -> ObjectId {
        ObjectId::new(&Source::new(Provider::File, None), kind, name)
    }

    /// Three services of two endpoints each; a route to one, one to a union, one that splits.
    fn desired() -> Desired {
        let service = |n: u8| {
            let endpoint = |m: u8| Endpoint::new(([10, 0, n, m], 80).into(), format!("s{n}-{m}"));
            let facts = ServiceFacts {
                origin: Origin::Default,
                endpoints: vec![endpoint(1), endpoint(2)],
                names: Vec::new(),
                trusted: Default::default(),
                shown: Default::default(),
                traffic: Traffic::default(),
                absent: None,
            };
            (id(Kind::Service, &format!("s{n}")), facts)
        };
        let share = |services: &[&str], weight| Share {
            services: services.iter().map(|name| id(Kind::Service, name)).collect(),
            weight,
        };
        let route = |name: &str, shares: Vec<Share>| {
            let claim = Claim {
                listener: Name::normalised("plain"),
                matched: RouteMatch::new(
                    name.parse::<HostPattern>().expect("a host"),
                    PathMatch::prefix("/").expect("a path"),
                ),
                shares,
            };
            let route = DesiredRoute {
                id: id(Kind::Route, name),
                origin: Origin::Default,
                source: Source::new(Provider::File, None),
                created: Timestamp::UNIX_EPOCH,
                priority: 0,
                middlewares: Vec::new(),
                policies: Default::default(),
                action: Action::Serve,
                claims: vec![claim],
                part_of: Default::default(),
            };
            (route.id.clone(), route)
        };
        Desired {
            services: (0..3).map(service).collect(),
            routes: BTreeMap::from([
                route("one", vec![share(&["s0"], 1)]),
                route("union", vec![share(&["s0", "s1"], 1)]),
                route("split", vec![share(&["s1"], 1), share(&["s2"], 3)]),
            ]),
            ..Desired::default()
        }
    }

    /// `shut` has a bit for each endpoint.
    fn verdicts(desired: &Desired, shut: u8) -> Verdicts {
        let mut verdicts = Verdicts::new();
        let all = desired.services.iter().flat_map(|(id, facts)| facts.endpoints.iter().map(move |e| (id, e)));
        for (bit, (id, endpoint)) in all.enumerate() {
            if shut & (1 << bit) != 0 {
                let why = Some(format!("{} is ill", endpoint.name).into());
                let verdict = Verdict { state: HealthState::Unhealthy, open: false, since: Timestamp::UNIX_EPOCH, why };
                let place = (endpoint.address, endpoint.name.clone());
                verdicts.entry(id.clone()).or_default().insert(place, verdict);
            }
        }
        verdicts
    }

    /// All that a worker can see of a table, but its generation.
    fn seen(table: &Table) -> Vec<String> {
        let upstream = |upstream: &Arc<Upstream>| {
            let open: Vec<&str> = upstream.candidates().map(|endpoint| &*endpoint.name).collect();
            let phases: Vec<_> = upstream
                .members
                .iter()
                .map(|member| (member.endpoint.id, member.phase, table.endpoints.phase(member.endpoint.id)))
                .collect();
            format!("{} {open:?} {phases:?} {:?} {}", upstream.label, upstream.absent, upstream.is_ready())
        };
        let routes = table.routes().iter().map(|route| match &route.action {
            RouteAction::Forward(backend) => {
                let own = backend
                    .upstreams()
                    .all(|one| table.upstream(&one.services).is_some_and(|other| Arc::ptr_eq(one, other)));
                format!("{} {own} {:?}", route.label, backend.upstreams().map(upstream).collect::<Vec<_>>())
            }
            RouteAction::Deny(denial) => format!("{} {denial:?}", route.label),
        });
        routes.collect()
    }

    proptest! {
        #[test]
        fn a_patched_table_is_what_compiling_it_would_make(steps in prop::collection::vec(0u8..64, 1..6)) {
            let desired = desired();
            let (certificates, issuers, key) = (BTreeMap::new(), BTreeMap::new(), StickyKey([7; 32]));
            let (bundles, revocations, roots) = (BTreeMap::new(), BTreeMap::new(), Err("none".to_string()));
            let with = |verdicts: &Verdicts, then: &mut dyn FnMut(Materials<'_>)| then(Materials {
                certificates: &certificates,
                issuers: &issuers,
                bundles: &bundles,
                revocations: &revocations,
                system_roots: &roots,
                default_certificate: None,
                default_issuers: &[],
                sticky_key: &key,
                verdicts,
            });
            let compiled = |verdicts: &Verdicts, previous: &Table| {
                let mut made = None;
                with(verdicts, &mut |materials| {
                    let Compiled { table, .. } = compile(&desired, materials, previous).expect("compiles");
                    made = Some(table);
                });
                made.expect("made")
            };
            let mut before = Verdicts::new();
            let mut table = compiled(&before, &Table::empty());
            for shut in steps {
                let now = verdicts(&desired, shut);
                let services: BTreeSet<&ObjectId> =
                    desired.services.keys().filter(|id| now.get(*id) != before.get(*id)).collect();
                let mut patched = None;
                with(&now, &mut |materials| patched = Some(patch(&desired, materials, &table, &services)));
                let patched = patched.expect("patched");
                prop_assert_eq!(seen(&patched), seen(&compiled(&now, &table)));
                prop_assert_eq!(patched.generation, table.generation + 1);
                (table, before) = (patched, now);
            }
        }
    }
}
