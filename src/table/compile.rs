//! Desired becomes a table. Pure; what did not change is carried over from the previous table.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::middleware::Middleware;
use crate::model::certificate::LeafName;
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::health::Verdicts;
use crate::model::host::{HostPattern, parent};
use crate::model::id::{Name, ObjectId, Source};
use crate::model::listener::{Listener, Redirect};
use crate::model::route::RouteMatch;
use crate::model::schema::Scheme;
use crate::model::service::{Endpoint, Phase, UpstreamTls};
use crate::reconcile::{
    Action, Claim, Desired, DesiredPolicy, DesiredRoute, HostFacts, ServiceFacts, Share, standing_rank,
};

use super::backend::Backend;
use super::certificate::LoadedCertificate;
use super::client_auth::{self, ClientAuth};
use super::client_tls::{ClientTls, ClientTlsKey, Roots, Trust};
use super::endpoint::Endpoints;
use super::host::HostIndex;
use super::path::{Candidate, PathIndex};
use super::policy::Policy;
use super::predicate::Checks;
use super::revocation::LoadedLists;
use super::sticky::StickyKey;
use super::tls::{CertificateSource, Issuer, TlsIndex, TlsKey, TlsKeyed, TlsScope};
use super::trust::LoadedBundle;
use super::upstream::{Parts, Upstream};
use super::{RouteAction, RouteEntry, RouteIndex, Table, TableListener};

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
                        Action::Deny(denial) => RouteAction::Deny(denial.clone()),
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

    fn backend(&mut self, shares: &'d [Share]) -> Backend {
        if shares.is_empty() {
            // A route that only redirects: who reaches the URL that it leads to finds nobody there.
            return Backend::new([(self.upstream(&[]), 1)], Arc::default());
        }
        let upstreams: Vec<_> = shares.iter().map(|share| (self.upstream(&share.services), share.weight)).collect();
        let turn = match shares {
            [_] => Arc::default(),
            _ => {
                let before = self.previous.splits.get(shares);
                self.splits.entry(shares).or_insert_with(|| before.cloned().unwrap_or_default()).clone()
            }
        };
        Backend::new(upstreams, turn)
    }

    /// How requests are spread over the union of several services is the first one's word.
    fn upstream(&mut self, services: &'d [ObjectId]) -> Arc<Upstream> {
        if let Some(upstream) = self.upstreams.get(services) {
            return upstream.clone();
        }
        let parts = self.parts(services);
        let previous = self.previous.upstreams.get(services);
        let upstream = Upstream::new(parts, &mut self.endpoints, &self.previous.endpoints, previous);
        self.upstreams.insert(services, upstream.clone());
        upstream
    }

    /// What the union of several services is made of.
    pub(super) fn parts(&mut self, services: &'d [ObjectId]) -> Parts<'d> {
        let desired = self.desired;
        let facts = || services.iter().filter_map(|id| Some((id, desired.services.get(id)?)));
        let mut endpoints: Vec<(Endpoint, Option<Arc<ClientTls>>)> = Vec::new();
        let (mut untrusted, mut shut) = (None, None);
        for (id, facts) in facts() {
            let verdicts = self.materials.verdicts.get(id);
            for endpoint in &facts.endpoints {
                let tls = match self.endpoint_tls(facts, endpoint) {
                    Ok(tls) => tls,
                    // Never spoken to in another way than was asked for.
                    Err(why) => {
                        untrusted = untrusted.or(Some(Denial::new(Reason::TrustInvalid, why)));
                        continue;
                    }
                };
                let mut endpoint = endpoint.clone();
                let verdict = verdicts.and_then(|of| of.get(&(endpoint.address, endpoint.name.clone())));
                if let Some(verdict) = verdict.filter(|verdict| !verdict.open && endpoint.phase == Phase::Ready) {
                    endpoint.phase = Phase::Unhealthy;
                    shut = shut.take().or_else(|| verdict.why.clone());
                }
                endpoints.push((endpoint, tls));
            }
        }
        // An address that is named twice is one endpoint, ready if it is so for anybody; spoken to in two ways, it is two.
        fn terms((e, tls): &(Endpoint, Option<Arc<ClientTls>>)) -> (SocketAddr, Scheme, Option<&ClientTlsKey>) {
            (e.address, e.scheme, tls.as_ref().map(|tls| &tls.key))
        }
        let rank = |(e, _): &(Endpoint, _)| (e.phase, Reverse(e.weight));
        endpoints.sort_by(|a, b| (terms(a), rank(a), &a.0.name).cmp(&(terms(b), rank(b), &b.0.name)));
        endpoints.dedup_by(|a, b| terms(a) == terms(b));
        let ready = endpoints.iter().any(|(endpoint, _)| endpoint.phase == Phase::Ready);
        let checked = || Some(Denial::new(Reason::NotReady, format!("the health checks fail: {}", shut.as_deref()?)));
        let said = || facts().find_map(|(_, facts)| facts.absent.clone());
        let absent = if ready { None } else { untrusted.or_else(said).or_else(checked) };
        let traffic = facts().next().map(|(_, facts)| facts.traffic.clone()).unwrap_or_default();
        Parts { services, traffic, endpoints, absent, sticky_key: self.materials.sticky_key }
    }

    /// The TLS of an endpoint that has any, or why it cannot be had.
    fn endpoint_tls(&mut self, facts: &ServiceFacts, endpoint: &Endpoint) -> Result<Option<Arc<ClientTls>>, String> {
        if !endpoint.scheme.is_secure() {
            return Ok(None);
        }
        let default = UpstreamTls::default();
        let tls = endpoint.tls.as_deref().unwrap_or(&default);
        let trust = self.trust(facts, tls)?;
        let key = ClientTlsKey::new(endpoint.scheme, tls.server_name.clone(), &trust);
        if let Some(known) = self.client_tls.get(&key) {
            return Ok(Some(known.clone()));
        }
        let made = match self.previous.client_tls.get(&key) {
            Some(before) => before.clone(),
            None => Arc::new(ClientTls::new(key.clone(), &trust)?),
        };
        self.client_tls.insert(key, made.clone());
        Ok(Some(made))
    }

    fn trust(&self, facts: &ServiceFacts, tls: &UpstreamTls) -> Result<Trust, String> {
        let UpstreamTls { server_name: _, trust, issuer, unverified } = tls;
        if *unverified {
            return Ok(Trust::Unverified);
        }
        if !tls.has_trust() {
            return self.materials.system_roots.clone().map(Trust::Roots);
        }
        let mut roots = Vec::new();
        if let Some(name) = issuer {
            let issuer = self.materials.issuers.get(name).ok_or_else(|| format!("there is no issuer \"{name}\""))?;
            roots.extend(issuer.roots());
        }
        for reference in trust {
            let bundle = facts.trusted.get(reference).and_then(|id| self.materials.bundles.get(id));
            match bundle {
                Some(Ok(bundle)) => roots.extend(bundle.anchors.iter().map(|anchor| anchor.der.clone())),
                Some(Err(why)) => return Err(format!("the bundle \"{reference}\" cannot be used: {why}")),
                None => return Err(format!("there is no bundle \"{reference}\"")),
            }
        }
        Ok(Trust::Roots(Roots::new(roots)))
    }

    /// The configs of the previous table, with their sessions and tickets.
    fn keys_in_force(&self) -> HashMap<TlsKey, Arc<TlsKeyed>> {
        let listeners = self.previous.listeners.values();
        listeners.flat_map(|listener| listener.tls.keys()).map(|keyed| (keyed.key.clone(), keyed.clone())).collect()
    }

    fn listener(
        &mut self,
        listener: &Listener,
        standing: &[Standing<'d>],
        keys: &mut HashMap<TlsKey, Arc<TlsKeyed>>,
    ) -> Result<TableListener, rustls::Error> {
        let mut by_host: BTreeMap<&HostPattern, Vec<Standing<'d>>> = BTreeMap::new();
        for one in standing {
            by_host.entry(&one.claim.matched.host).or_default().push(*one);
        }
        let mut hosts = HostIndex::default();
        // A host that is its holder's alone, or kept for an absent one, has a bucket on every listener: without one, the
        // wildcard or any-host bucket would answer, with the routes of others in it.
        let kept = self.desired.hosts.iter().filter(|(_, facts)| facts.away || facts.protected).map(|(host, _)| host);
        for host in by_host.keys().copied().chain(kept.filter(|host| !by_host.contains_key(host))) {
            hosts.insert(host, self.bucket(host, &by_host));
        }
        // Where nobody claims every host, a wildcard bucket or nothing answers; the any-host bucket stays empty.
        let mut keyed = |clients: ClientAuth, min_version| -> Result<Arc<TlsKeyed>, rustls::Error> {
            let key = TlsKey { clients: clients.key(), min_version };
            if let Some(keyed) = keys.get(&key) {
                return Ok(keyed.clone());
            }
            let keyed = Arc::new(TlsKeyed::new(clients, min_version)?);
            keys.insert(key, keyed.clone());
            Ok(keyed)
        };
        let default = self.materials.default_certificate.and_then(|id| self.materials.certificates.get(id));
        let other = TlsScope {
            keyed: keyed(ClientAuth::default(), None)?,
            certificate: default
                .map_or(CertificateSource::None, |default| CertificateSource::Configured(default.key.clone())),
        };
        let mut tls = TlsIndex::new(other);
        if listener.tls {
            let configured = self.configured();
            for (host, claims) in &by_host {
                let nobody = HostFacts::default();
                let facts = self.desired.hosts.get(host).unwrap_or(&nobody);
                let clients = self.client_auth(host, &by_host);
                let certificate = self.certificate(host, facts, &configured, claims);
                tls.insert(host, TlsScope { keyed: keyed(clients, facts.tls.min_version)?, certificate });
            }
        }
        let redirect_port = listener.redirect.and_then(|Redirect::Https| {
            let to = self.desired.listeners.values().find(|other| other.tls)?;
            Some(to.public_port.unwrap_or(to.address.port))
        });
        let issuers = issuers(&self.materials, self.materials.default_issuers);
        Ok(TableListener { listener: listener.clone(), redirect_port, hosts, tls, issuers })
    }

    /// Everything that may answer for one host, the winner first.
    fn candidates<'s>(
        &self,
        host: &HostPattern,
        by_host: &'s BTreeMap<&HostPattern, Vec<Standing<'d>>>,
    ) -> Vec<&'s Standing<'d>> {
        let wildcard = match host {
            HostPattern::Exact(name) => parent(name).map(|suffix| HostPattern::Wildcard(suffix.into())),
            _ => None,
        };
        let facts = self.desired.hosts.get(host);
        let cover = wildcard
            .as_ref()
            .and_then(|wildcard| self.desired.hosts.get(wildcard))
            .filter(|facts| facts.protected && facts.holders.iter().any(Source::is_operator));
        let stranger = |one: &Standing<'_>| {
            let source = &one.route.source;
            let wider = one.claim.matched.host != *host;
            facts.is_some_and(|facts| (facts.protected || (facts.away && wider)) && facts.is_stranger(source))
                || cover.is_some_and(|facts| facts.is_stranger(source))
        };
        let any = (*host != HostPattern::Any).then_some(HostPattern::Any);
        let mut candidates: Vec<_> = [Some(host.clone()), wildcard, any]
            .into_iter()
            .flatten()
            .flat_map(|pattern| by_host.get(&pattern).into_iter().flatten())
            .filter(|one| !stranger(one))
            .map(|one| (standing_rank(self.desired, one.route, one.claim, host), one))
            .collect();
        candidates.sort_by(|(a, _), (b, _)| a.cmp(b));
        candidates.into_iter().map(|(_, one)| one).collect()
    }

    fn bucket(&self, host: &HostPattern, by_host: &BTreeMap<&HostPattern, Vec<Standing<'d>>>) -> PathIndex {
        let only = match host {
            HostPattern::Exact(name) => Some(&**name),
            _ => None,
        };
        PathIndex::new(self.candidates(host, by_host).into_iter().filter_map(|one| {
            let checks = Checks::of(&one.claim.matched.terms, only)?;
            Some((&one.claim.matched.path, Candidate { route: one.entry, checks }))
        }))
    }

    /// What the host's handshakes ask of clients: what the routes want that can answer there. A stranger's route has no
    /// say in it, and a denied one wants nothing.
    fn client_auth(&self, host: &HostPattern, by_host: &BTreeMap<&HostPattern, Vec<Standing<'d>>>) -> ClientAuth {
        if self.policies.is_empty() {
            return ClientAuth::default();
        }
        let facts = self.desired.hosts.get(host);
        let mut reachable = Vec::new();
        for one in self.candidates(host, by_host) {
            let entry = &self.routes[one.entry.0 as usize];
            if let RouteAction::Forward(_) = entry.action {
                let stranger = facts.is_some_and(|facts| facts.is_stranger(&one.route.source));
                reachable.push(client_auth::Candidate { policies: &entry.policies, stranger });
            }
            let RouteMatch { host: _, path, terms, unread } = &one.claim.matched;
            if path.is_everything() && terms.is_empty() && unread.is_none() {
                // Whatever stands behind it never answers.
                break;
            }
        }
        ClientAuth::of(reachable)
    }

    /// Every policy with its material, or what is missing of it: then nobody is let in by it. One that did not change is
    /// the one before, with what connections remember of it.
    fn policies(&mut self) -> BTreeMap<&'d ObjectId, Result<Arc<Policy>, Denial>> {
        let Build { desired, materials, previous, .. } = *self;
        let mut compiled = BTreeMap::new();
        for (id, policy) in &desired.policies {
            let built = Self::policy(desired, &materials, id, policy).map(|policy| {
                let before = previous.policies.get(id).filter(|before| before.key == policy.key);
                before.cloned().unwrap_or_else(|| Arc::new(policy))
            });
            if let Err(denial) = &built {
                let diagnostic = Diagnostic::error(id.clone(), denial.reason, policy.origin.clone(), &*denial.detail);
                self.findings.push(diagnostic);
            }
            compiled.insert(id, built);
        }
        compiled
    }

    fn policy(
        desired: &Desired,
        materials: &Materials<'_>,
        id: &ObjectId,
        policy: &DesiredPolicy,
    ) -> Result<Policy, Denial> {
        let unusable = |id: &ObjectId, why: &str| Denial::new(Reason::TrustInvalid, format!("{id}: {why}"));
        let missing = |id: &ObjectId| unusable(id, "it is not there");
        let bundles = policy.trust.iter().map(|id| {
            let loaded = materials.bundles.get(id).ok_or_else(|| missing(id))?;
            loaded.clone().map_err(|why| unusable(id, &why))
        });
        let lists = policy.revoked.iter().map(|id| {
            let loaded = materials.revocations.get(id).ok_or_else(|| missing(id))?;
            let stale = desired.revocations.get(id).ok_or_else(|| missing(id))?.stale;
            Ok((loaded.clone().map_err(|why| unusable(id, &why))?, stale))
        });
        let bundles = bundles.collect::<Result<Vec<_>, _>>()?;
        let lists = lists.collect::<Result<Vec<_>, _>>()?;
        Ok(Policy::new(id.clone(), policy.rules.clone(), bundles, lists))
    }

    /// Operator certificates by name, the one that lasts longest first.
    fn configured(&self) -> BTreeMap<HostPattern, Vec<&'d Arc<LoadedCertificate>>> {
        let mut by_name: BTreeMap<HostPattern, Vec<&'d Arc<LoadedCertificate>>> = BTreeMap::new();
        for (id, certificate) in self.materials.certificates {
            if id.provider.is_operator() {
                for name in certificate.names() {
                    by_name.entry(name).or_default().push(certificate);
                }
            }
        }
        for certificates in by_name.values_mut() {
            certificates.sort_by_key(|certificate| std::cmp::Reverse(certificate.not_after));
        }
        by_name
    }

    fn certificate(
        &mut self,
        host: &HostPattern,
        facts: &HostFacts,
        configured: &BTreeMap<HostPattern, Vec<&'d Arc<LoadedCertificate>>>,
        claims: &[Standing<'d>],
    ) -> CertificateSource {
        if let Some(id) = &facts.tls.certificate {
            // The certificate that a route names is the one that is shown, or none is.
            return match self.materials.certificates.get(id) {
                Some(certificate) => CertificateSource::Configured(certificate.key.clone()),
                None => CertificateSource::None,
            };
        }
        let parent = match host {
            HostPattern::Exact(name) => parent(name).map(|suffix| HostPattern::Wildcard(suffix.into())),
            _ => None,
        };
        let found = [Some(host.clone()), parent].into_iter().flatten().find_map(|name| configured.get(&name)?.first());
        if let Some(certificate) = found {
            return CertificateSource::Configured(certificate.key.clone());
        }
        let Some(name) = LeafName::of(host) else {
            let default = self.materials.default_certificate.and_then(|id| self.materials.certificates.get(id));
            if let Some(default) = default {
                return CertificateSource::Configured(default.key.clone());
            }
            for one in claims {
                let detail = "a route for any host needs a certificate that covers the names clients ask for; \
                              set default_certificate, or name the hosts";
                let origin = one.route.origin.clone();
                self.findings.push(Diagnostic::warning(one.route.id.clone(), Reason::NoCertificate, origin, detail));
            }
            return CertificateSource::None;
        };
        let issuers = issuers(&self.materials, &facts.tls.issuers);
        if issuers.is_empty() {
            let named: Vec<&str> = facts.tls.issuers.iter().map(Name::as_str).collect();
            for one in claims {
                let detail =
                    format!("no certificate for {host}: there is no issuer {}; see issuers:", named.join(", "));
                let origin = one.route.origin.clone();
                self.findings.push(Diagnostic::error(one.route.id.clone(), Reason::NoCertificate, origin, detail));
            }
            return CertificateSource::None;
        }
        CertificateSource::Issued { name, issuers }
    }
}

fn issuers(materials: &Materials<'_>, names: &[Name]) -> Vec<Arc<dyn Issuer>> {
    names.iter().filter_map(|name| materials.issuers.get(name).cloned()).collect()
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
        (Err(denial), _) => closed(RouteAction::Deny(denial)),
        (_, None) => closed(RouteAction::Deny(Denial::new(Reason::Unresolved, "a middleware of the route cannot run"))),
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
