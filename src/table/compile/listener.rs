//! One listener: which candidates answer for each host, and what its handshakes are bound to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::certificate::LeafName;
use crate::model::diagnostic::{Diagnostic, Reason};
use crate::model::host::{HostPattern, parent};
use crate::model::id::{Name, Source};
use crate::model::listener::{Listener, Redirect};
use crate::model::route::RouteMatch;
use crate::reconcile::{HostFacts, standing_rank};
use crate::table::certificate::LoadedCertificate;
use crate::table::client_auth::{self, ClientAuth};
use crate::table::host::HostIndex;
use crate::table::path::{Candidate, PathIndex};
use crate::table::predicate::Checks;
use crate::table::tls::{CertificateSource, Issuer, TlsIndex, TlsKey, TlsKeyed, TlsScope};
use crate::table::{RouteAction, TableListener};

use super::{Build, Materials, Standing};

impl<'d> Build<'d> {
    /// The configs of the previous table, with their sessions and tickets.
    pub(super) fn keys_in_force(&self) -> HashMap<TlsKey, Arc<TlsKeyed>> {
        let listeners = self.previous.listeners.values();
        listeners.flat_map(|listener| listener.tls.keys()).map(|keyed| (keyed.key.clone(), keyed.clone())).collect()
    }

    pub(super) fn listener(
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
        let mut issuers = issuers(&self.materials, &facts.tls.issuers);
        let refusals: Vec<String> = issuers.iter().filter_map(|issuer| issuer.refuses(&name)).collect();
        issuers.retain(|issuer| issuer.refuses(&name).is_none());
        if issuers.is_empty() {
            let named: Vec<&str> = facts.tls.issuers.iter().map(Name::as_str).collect();
            let why = match refusals.is_empty() {
                true => format!("there is no issuer {}; see issuers:", named.join(", ")),
                false => refusals.join("; "),
            };
            for one in claims {
                let detail = format!("no certificate for {host}: {why}");
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
