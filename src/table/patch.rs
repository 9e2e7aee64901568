//! A table whose endpoints are ready or not by other verdicts than before, and that is otherwise the same.
//!
//! `Table + verdicts ─▶ the upstreams concerned ─▶ the routes that lead there ─▶ Table`. Listeners, with their hosts,
//! paths and certificates, are shared with the table before: an endpoint that fails its check costs what it concerns,
//! whatever the number of routes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::id::ObjectId;
use crate::reconcile::Desired;

use super::compile::{Materials, parts};
use super::endpoint::Endpoints;
use super::upstream::Upstream;
use super::{RouteAction, RouteEntry, Table};

/// `previous` is of the same desired state, and of materials that differ in the verdicts on `services` alone.
pub fn patch(
    desired: &Desired,
    materials: Materials<'_>,
    previous: &Table,
    services: &BTreeSet<&ObjectId>,
) -> Arc<Table> {
    let mut endpoints = Endpoints::after(&previous.endpoints);
    let mut upstreams = HashMap::with_capacity(previous.upstreams.len());
    let mut replaced: HashMap<&Arc<str>, (&Arc<Upstream>, Arc<Upstream>)> = HashMap::new();
    for (of, before) in &previous.upstreams {
        let concerned = of.iter().any(|service| services.contains(service));
        let upstream = if concerned {
            Upstream::new(parts(desired, &materials, of), &mut endpoints, &previous.endpoints, Some(before))
        } else {
            before.members.iter().for_each(|member| endpoints.keep(&member.endpoint, member.phase));
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
        let RouteEntry { id, label, action: _, middlewares } = &**entry;
        Arc::new(RouteEntry {
            id: id.clone(),
            label: label.clone(),
            action: RouteAction::Forward(backend),
            middlewares: middlewares.clone(),
        })
    };
    Arc::new(Table {
        generation: previous.generation + 1,
        listeners: previous.listeners.clone(),
        endpoints,
        routes: previous.routes.iter().map(route).collect(),
        upstreams,
        splits: previous.splits.clone(),
    })
}
