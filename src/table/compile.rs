//! Desired becomes a table. Pure; what did not change is carried over from the previous table.

mod listener;
mod policies;
mod upstreams;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::middleware::Middleware;
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::health::Verdicts;
use crate::model::id::{Name, ObjectId};
use crate::model::service::Traffic;
use crate::reconcile::{Action, Claim, Desired, DesiredRoute, Share};

use super::certificate::LoadedCertificate;
use super::client_tls::{ClientTls, ClientTlsKey, Roots};
use super::endpoint::Endpoints;
use super::policy::Policy;
use super::revocation::LoadedLists;
use super::sticky::StickyKey;
use super::tls::Issuer;
use super::trust::LoadedBundle;
use super::upstream::Upstream;
use super::{RouteAction, RouteEntry, RouteIndex, Table};

/// What routes and hosts are made of, as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Materials<'a> {
    /// Configured certificates that could be read. One that could not is absent: who names it gets none.
    pub certificates: &'a BTreeMap<ObjectId, Arc<LoadedCertificate>>,
    /// Every bundle that policies and services refer to, or why there is none.
    pub bundles: &'a BTreeMap<ObjectId, Result<Arc<LoadedBundle>, String>>,
    pub revocations: &'a BTreeMap<ObjectId, Result<Arc<LoadedLists>, String>>,
    pub issuers: &'a BTreeMap<Name, Arc<dyn Issuer>>,
    /// For names that no route claims.
    pub default_certificate: Option<&'a ObjectId>,
    pub default_issuers: &'a [Name],
    pub sticky_key: &'a StickyKey,
    /// What checks and ejections say of endpoints.
    pub verdicts: &'a Verdicts,
    /// The system's CAs, or why they cannot be had.
    pub system_roots: &'a Result<Roots, String>,
}

#[cfg(test)]
impl Materials<'static> {
    /// Nothing that could be read.
    pub fn none() -> Materials<'static> {
        const CERTIFICATES: &BTreeMap<ObjectId, Arc<LoadedCertificate>> = &BTreeMap::new();
        const BUNDLES: &BTreeMap<ObjectId, Result<Arc<LoadedBundle>, String>> = &BTreeMap::new();
        const REVOCATIONS: &BTreeMap<ObjectId, Result<Arc<LoadedLists>, String>> = &BTreeMap::new();
        const ISSUERS: &BTreeMap<Name, Arc<dyn Issuer>> = &BTreeMap::new();
        const VERDICTS: &Verdicts = &BTreeMap::new();
        const SYSTEM_ROOTS: &Result<Roots, String> = &Err(String::new());
        Materials {
            certificates: CERTIFICATES,
            bundles: BUNDLES,
            revocations: REVOCATIONS,
            issuers: ISSUERS,
            verdicts: VERDICTS,
            system_roots: SYSTEM_ROOTS,
            default_certificate: None,
            default_issuers: &[],
            sticky_key: &StickyKey([0; 32]),
        }
    }
}

#[derive(Debug)]
pub struct Compiled {
    pub table: Arc<Table>,
    pub findings: Vec<Diagnostic>,
}

/// Fails only where the TLS library refuses its own configuration.
pub fn compile(desired: &Desired, materials: Materials<'_>, previous: &Table) -> Result<Compiled, rustls::Error> {
    let mut build = Build::new(desired, materials, previous);
    build.policies = build.policies();
    let standing = build.routes();
    let mut listeners = BTreeMap::new();
    let mut keys = build.keys_in_force();
    for (name, listener) in &desired.listeners {
        let compiled = build.listener(listener, standing.get(name).map_or(&[], Vec::as_slice), &mut keys)?;
        listeners.insert(name.clone(), Arc::new(compiled));
    }
    let Build { routes, policies, findings, endpoints, client_tls, upstreams, splits, .. } = build;
    let upstreams = upstreams.into_iter().map(|(services, upstream)| (services.to_vec(), upstream)).collect();
    let splits = splits.into_iter().map(|(shares, turn)| (shares.to_vec(), turn)).collect();
    let policies = policies.into_iter().filter_map(|(id, policy)| Some((id.clone(), policy.ok()?))).collect();
    let generation = previous.generation + 1;
    let table = Table { generation, listeners, endpoints, client_tls, routes, policies, upstreams, splits };
    Ok(Compiled { table: Arc::new(table), findings })
}

/// A claim with the entry that answers for it.
#[derive(Clone, Copy)]
struct Standing<'d> {
    route: &'d DesiredRoute,
    claim: &'d Claim,
    entry: RouteIndex,
}

pub(super) struct Build<'d> {
    desired: &'d Desired,
    materials: Materials<'d>,
    previous: &'d Table,
    /// Every policy, or why it cannot be enforced.
    policies: BTreeMap<&'d ObjectId, Result<Arc<Policy>, Denial>>,
    routes: Vec<Arc<RouteEntry>>,
    pub(super) endpoints: Endpoints,
    pub(super) client_tls: HashMap<ClientTlsKey, Arc<ClientTls>>,
    upstreams: HashMap<&'d [ObjectId], Arc<Upstream>>,
    /// Of the upstreams that this build has made or seen.
    traffic: HashSet<Arc<Traffic>>,
    splits: HashMap<&'d [Share], Arc<AtomicUsize>>,
    findings: Vec<Diagnostic>,
}

impl<'d> Build<'d> {
    pub(super) fn new(desired: &'d Desired, materials: Materials<'d>, previous: &'d Table) -> Build<'d> {
        Build {
            desired,
            materials,
            previous,
            policies: BTreeMap::new(),
            routes: Vec::new(),
            endpoints: Endpoints::after(&previous.endpoints),
            client_tls: HashMap::new(),
            upstreams: HashMap::new(),
            traffic: HashSet::new(),
            splits: HashMap::new(),
            findings: Vec::new(),
        }
    }

    /// An entry for every route and what answers for it, and the claims of each listener.
    fn routes(&mut self) -> BTreeMap<Name, Vec<Standing<'d>>> {
        let mut entries_before: HashMap<&ObjectId, Vec<&Arc<RouteEntry>>> = HashMap::new();
        for entry in &self.previous.routes {
            entries_before.entry(&entry.id).or_default().push(entry);
        }
        let mut standing: BTreeMap<Name, Vec<Standing<'d>>> = BTreeMap::new();
        for route in self.desired.routes.values() {
            let mut own: Vec<(&'d [Share], RouteIndex)> = Vec::new();
            for claim in &route.claims {
                let shares: &'d [Share] = &claim.shares;
                let known = own.iter().find(|(of, _)| *of == shares).map(|(_, entry)| *entry);
                let entry = known.unwrap_or_else(|| {
                    let action = match &route.action {
                        Action::Deny(denial) => RouteAction::Deny(Box::new(denial.clone())),
                        Action::Serve => RouteAction::Forward(self.backend(shares)),
                    };
                    let entry = entry(self.desired, &self.policies, route, action);
                    let before = entries_before.get(&route.id).into_iter().flatten().find(|before| ****before == entry);
                    let index = RouteIndex(self.routes.len() as u32);
                    self.routes.push(before.map_or_else(|| Arc::new(entry), |before| Arc::clone(before)));
                    own.push((shares, index));
                    index
                });
                standing.entry(claim.listener.clone()).or_default().push(Standing { route, claim, entry });
            }
        }
        standing
    }
}

fn entry(
    desired: &Desired,
    compiled: &BTreeMap<&ObjectId, Result<Arc<Policy>, Denial>>,
    route: &DesiredRoute,
    action: RouteAction,
) -> RouteEntry {
    let whole = |action, middlewares, policies| RouteEntry {
        id: route.id.clone(),
        label: route.id.to_string().into(),
        action,
        middlewares,
        policies,
        place: place(route),
    };
    let closed = |action| whole(action, Vec::new(), Vec::new());
    if let RouteAction::Deny(_) = action {
        return closed(action);
    }
    // A policy that is named is enforced or the route is closed: this is the last place where it could be lost.
    let policies: Result<Vec<Arc<Policy>>, Denial> = route
        .policies
        .iter()
        .map(|id| match compiled.get(id) {
            Some(policy) => policy.clone(),
            None => Err(Denial::new(Reason::Unresolved, format!("there is no policy {id}"))),
        })
        .collect();
    let middlewares: Option<Vec<Middleware>> =
        route.middlewares.iter().map(|id| desired.middlewares.get(id).and_then(Middleware::compile)).collect();
    match (policies, middlewares) {
        (Err(denial), _) => closed(RouteAction::Deny(Box::new(denial))),
        (_, None) => {
            let denial = Denial::new(Reason::Unresolved, "a middleware of the route cannot run");
            closed(RouteAction::Deny(Box::new(denial)))
        }
        (Ok(policies), Some(middlewares)) => whole(action, middlewares, policies),
    }
}

fn place(route: &DesiredRoute) -> u64 {
    let mut hasher = DefaultHasher::new();
    for claim in &route.claims {
        (&claim.listener, &claim.matched).hash(&mut hasher);
    }
    hasher.finish()
}
