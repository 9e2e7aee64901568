//! What the proxy shall do: every reference an [`ObjectId`] that is there, sorted, comparable.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::certificate::Certificate;
use crate::model::diagnostic::{Denial, Origin};
use crate::model::host::HostPattern;
use crate::model::id::{Name, NameRef, ObjectId, Source};
use crate::model::listener::Listener;
use crate::model::middleware::MiddlewareKind;
use crate::model::mtls::{ClientRules, Revocation, TrustBundle};
use crate::model::route::RouteMatch;
use crate::model::schema::TlsVersion;
use crate::model::service::{Endpoint, NamedEndpoint, Service, Traffic};

use super::contend::United;
use super::holders::Held;
use super::policy::ResolvedPolicy;
use super::resolve::Resolved;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    pub listeners: BTreeMap<Name, Listener>,
    pub routes: BTreeMap<ObjectId, DesiredRoute>,
    pub services: BTreeMap<ObjectId, ServiceFacts>,
    pub middlewares: BTreeMap<ObjectId, MiddlewareKind>,
    pub certificates: BTreeMap<ObjectId, Certificate>,
    pub policies: BTreeMap<ObjectId, DesiredPolicy>,
    pub bundles: BTreeMap<ObjectId, TrustBundle>,
    pub revocations: BTreeMap<ObjectId, Revocation>,
    pub hosts: BTreeMap<HostPattern, HostFacts>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DesiredRoute {
    pub id: ObjectId,
    pub origin: Origin,
    pub source: Source,
    pub created: Timestamp,
    pub priority: i64,
    pub middlewares: Vec<ObjectId>,
    /// Client-certificate policies, all of which must hold. One that is not among [`Desired::policies`] holds for nobody.
    pub policies: BTreeSet<ObjectId>,
    pub action: Action,
    /// Where it stands. Empty = left out everywhere, unless it is part of another.
    pub claims: Vec<Claim>,
    /// Routes of its namespace that it is one with (rule (a)): its endpoints answer there.
    pub part_of: BTreeSet<ObjectId>,
}

/// A client-certificate policy with what it is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredPolicy {
    pub origin: Origin,
    pub rules: ClientRules,
    pub trust: BTreeSet<ObjectId>,
    pub revoked: BTreeSet<ObjectId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Serve,
    Deny(Denial),
}

impl Desired {
    /// Those that a route leads to.
    pub fn services_in_use(&self) -> BTreeSet<&ObjectId> {
        self.routes.values().flat_map(|route| &route.claims).flat_map(Claim::services).collect()
    }
}

/// One match on one listener, and whose endpoints answer there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub listener: Name,
    pub matched: RouteMatch,
    /// One, or several where the route splits.
    pub shares: Vec<Share>,
}

/// Some of a route's requests, and whose endpoints answer them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share {
    /// United by rule (a); how requests are balanced among them is the first one's word.
    pub services: Vec<ObjectId>,
    /// 0 = none.
    pub weight: u32,
}

impl Claim {
    pub fn services(&self) -> impl Iterator<Item = &ObjectId> {
        self.shares.iter().flat_map(|share| &share.services)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    pub origin: Origin,
    pub endpoints: Vec<Endpoint>,
    /// Whose addresses control fills in among the endpoints.
    pub names: Vec<NamedEndpoint>,
    /// What the bundles are that its endpoints' certificates are checked against.
    pub trusted: BTreeMap<NameRef, ObjectId>,
    /// What the certificates are that are shown to its endpoints.
    pub shown: BTreeMap<NameRef, ObjectId>,
    pub traffic: Traffic,
    pub absent: Option<Denial>,
}

/// What holds for a whole host: its holder's word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    pub holders: BTreeSet<Source>,
    /// The holder's alone: no other tenant's wildcard, regex or any-host route matches its requests.
    pub protected: bool,
    /// The holder has no route here for the moment and keeps the host: no other tenant's wildcard, regex or any-host
    /// route takes its requests meanwhile.
    pub away: bool,
    pub tls: HostTls,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTls {
    /// Named by a route of the holder.
    pub certificate: Option<ObjectId>,
    /// Tried in order.
    pub issuers: Vec<Name>,
    pub min_version: Option<TlsVersion>,
}

impl HostFacts {
    pub fn held_by(&self, source: &Source) -> bool {
        self.holders.contains(source) || (source.is_operator() && self.holders.iter().any(Source::is_operator))
    }

    /// A tenant on a host that another source holds.
    pub fn is_stranger(&self, source: &Source) -> bool {
        !self.holders.is_empty() && !source.is_operator() && !self.held_by(source)
    }
}

pub(super) fn assemble(
    resolved: Resolved,
    units: Vec<United>,
    held: BTreeMap<HostPattern, Held>,
    default_issuers: &[Name],
) -> Desired {
    let Resolved {
        listeners,
        routes,
        services,
        middlewares,
        certificates,
        policies,
        bundles,
        mut trusted,
        mut shown,
        revocations,
    } = resolved;
    let mut claims: BTreeMap<usize, Vec<Claim>> = BTreeMap::new();
    let mut part_of: BTreeMap<usize, BTreeSet<ObjectId>> = BTreeMap::new();
    for United { listener, matched, leader, joined, shares, owners: _ } in units {
        for index in joined {
            part_of.entry(index).or_default().insert(routes[leader].route.id.clone());
        }
        claims.entry(leader).or_default().push(Claim { listener, matched, shares });
    }
    let mut hosts: BTreeMap<HostPattern, HostFacts> = held
        .into_iter()
        .map(|(host, held)| {
            let Held { holders, protected, away, reserved: _ } = held;
            (host, HostFacts { holders, protected, away, tls: HostTls::default() })
        })
        .collect();

    let mut desired = Desired {
        listeners,
        services: services
            .into_iter()
            .map(|(id, service)| {
                let Service { origin, endpoints, names, traffic, absent, .. } = service;
                let trusted = trusted.remove(&id).unwrap_or_default();
                let shown = shown.remove(&id).unwrap_or_default();
                (id, ServiceFacts { origin, endpoints, names, trusted, shown, traffic, absent })
            })
            .collect(),
        middlewares: middlewares
            .into_iter()
            .filter(|(_, middleware)| middleware.denied.is_none())
            .map(|(id, middleware)| (id, middleware.kind))
            .collect(),
        certificates: certificates.into_iter().filter(|(_, certificate)| certificate.denied.is_none()).collect(),
        policies: policies
            .into_iter()
            .filter(|(_, resolved)| resolved.policy.denied.is_none())
            .map(|(id, ResolvedPolicy { policy, trust, revoked })| {
                (id, DesiredPolicy { origin: policy.origin, rules: policy.rules, trust, revoked })
            })
            .collect(),
        bundles: bundles.into_iter().filter(|(_, bundle)| bundle.denied.is_none()).collect(),
        revocations: revocations.into_iter().filter(|(_, list)| list.denied.is_none()).collect(),
        ..Desired::default()
    };
    for (index, resolved) in routes.into_iter().enumerate() {
        let source = resolved.source();
        let claims = claims.remove(&index).unwrap_or_default();
        for claim in claims.iter().filter(|claim| !claim.matched.is_by_host_regex()) {
            let facts = hosts.entry(claim.matched.host.clone()).or_default();
            if !facts.held_by(&source) {
                continue;
            }
            let HostTls { certificate, issuers, min_version } = &mut facts.tls;
            if let Some(tls) = &resolved.route.tls {
                *min_version = (*min_version).max(tls.min_version);
                if certificate.is_none() {
                    *certificate = resolved.certificate.clone();
                }
                if issuers.is_empty() {
                    issuers.extend(tls.issuer.clone());
                }
            }
        }
        let route = resolved.route;
        desired.routes.insert(
            route.id.clone(),
            DesiredRoute {
                id: route.id,
                origin: route.origin,
                source,
                created: route.created,
                priority: route.priority,
                middlewares: resolved.middlewares,
                policies: resolved.policies,
                action: route.denied.map_or(Action::Serve, Action::Deny),
                claims,
                part_of: part_of.remove(&index).unwrap_or_default(),
            },
        );
    }
    for facts in hosts.values_mut() {
        if facts.tls.issuers.is_empty() {
            facts.tls.issuers = default_issuers.to_vec();
        }
    }
    desired.hosts = hosts;
    desired
}
