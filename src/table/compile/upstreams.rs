//! What answers for a service: its endpoints, under which terms they are spoken to, and who of them may be asked.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::diagnostic::{Denial, Reason};
use crate::model::id::ObjectId;
use crate::model::schema::Scheme;
use crate::model::service::{ClientCertificate, Endpoint, Phase, Traffic, UpstreamTls};
use crate::reconcile::{ServiceFacts, Share};
use crate::table::backend::Backend;
use crate::table::client_identity::Shown;
use crate::table::client_tls::{ClientTls, ClientTlsKey, Roots, Terms, Trust};
use crate::table::upstream::{Parts, Upstream};

use super::Build;

impl<'d> Build<'d> {
    pub(super) fn backend(&mut self, shares: &'d [Share]) -> Backend {
        match shares {
            // A route that only redirects: who reaches the URL that it leads to finds nobody there.
            [] => Backend::One(self.upstream(&[])),
            [one] => Backend::One(self.upstream(&one.services)),
            _ => {
                let upstreams: Vec<_> =
                    shares.iter().map(|share| (self.upstream(&share.services), share.weight)).collect();
                let before = self.previous.splits.get(shares);
                let turn = self.splits.entry(shares).or_insert_with(|| before.cloned().unwrap_or_default()).clone();
                Backend::split(upstreams, turn)
            }
        }
    }

    /// How requests are spread over the union of several services is the first one's word.
    pub(super) fn upstream(&mut self, services: &'d [ObjectId]) -> Arc<Upstream> {
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
    pub(in crate::table) fn parts(&mut self, services: &'d [ObjectId]) -> Parts<'d> {
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
        let traffic = self.traffic(facts().next().map(|(_, facts)| &facts.traffic));
        Parts { services, traffic, endpoints, absent, sticky_key: self.materials.sticky_key }
    }

    /// One for all that are alike: what most upstreams share stays in the cache.
    fn traffic(&mut self, traffic: Option<&Traffic>) -> Arc<Traffic> {
        let default = Traffic::default();
        let traffic = traffic.unwrap_or(&default);
        if let Some(known) = self.traffic.get(traffic) {
            return known.clone();
        }
        let traffic = Arc::new(traffic.clone());
        self.traffic.insert(traffic.clone());
        traffic
    }

    /// The TLS of an endpoint that has any, or why it cannot be had.
    fn endpoint_tls(&mut self, facts: &ServiceFacts, endpoint: &Endpoint) -> Result<Option<Arc<ClientTls>>, String> {
        if !endpoint.scheme.is_secure() {
            return Ok(None);
        }
        let default = UpstreamTls::default();
        let tls = endpoint.tls.as_deref().unwrap_or(&default);
        let terms = Terms {
            scheme: endpoint.scheme,
            server_name: tls.server_name.clone(),
            sans: tls.sans.clone(),
            trust: self.trust(facts, tls)?,
            shown: self.shown(facts, tls)?,
        };
        let key = terms.key();
        if let Some(known) = self.client_tls.get(&key) {
            return Ok(Some(known.clone()));
        }
        let made = match self.previous.client_tls.get(&key) {
            Some(before) => before.clone(),
            None => Arc::new(ClientTls::new(terms)?),
        };
        self.client_tls.insert(key, made.clone());
        Ok(Some(made))
    }

    /// What is shown to the endpoint, had by now: no worker has to wait for the first of an issuer's.
    fn shown(&self, facts: &ServiceFacts, tls: &UpstreamTls) -> Result<Option<Shown>, String> {
        let shown = match &tls.client {
            None => return Ok(None),
            Some(ClientCertificate::Issued { issuer: name, names }) => {
                let issuer =
                    self.materials.issuers.get(name).ok_or_else(|| format!("there is no issuer \"{name}\""))?;
                Shown::Issued { issuer: issuer.clone(), names: names.clone() }
            }
            Some(ClientCertificate::Configured(reference)) => {
                let id =
                    facts.shown.get(reference).ok_or_else(|| format!("there is no certificate \"{reference}\""))?;
                let loaded = self.materials.certificates.get(id);
                let loaded = loaded.ok_or_else(|| format!("the certificate \"{reference}\" cannot be used"))?;
                Shown::Configured(loaded.key.clone())
            }
        };
        shown.now().map_err(|why| format!("there is no certificate to show to its endpoints: {why}"))?;
        Ok(Some(shown))
    }

    fn trust(&self, facts: &ServiceFacts, tls: &UpstreamTls) -> Result<Trust, String> {
        let UpstreamTls { server_name: _, sans: _, trust, issuer, client: _, unverified } = tls;
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
}
