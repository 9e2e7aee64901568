//! The endpoints of a table, each once, however many upstreams name it: what is bound to one (connections, requests in
//! flight) is bound to its number.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::fast::RandomState;
use rustls_pki_types::ServerName;

use crate::model::schema::Scheme;
use crate::model::service::{Endpoint, Phase};

use super::balance::mix;
use super::client_tls::{ClientTls, ClientTlsKey};

/// An endpoint for as long as tables without a gap name it, whatever becomes of its phase and weights. How it is spoken to
/// is part of who it is: a connection that was made under other terms is never used for it.
#[derive(Debug)]
pub struct LiveEndpoint {
    /// A new one each time that it (re)appears: what was bound to one that went away is not bound to it.
    pub id: u64,
    pub address: SocketAddr,
    pub name: Arc<str>,
    pub scheme: Scheme,
    pub tls: Option<EndpointTls>,
    /// Of name and address, the same in every process.
    pub hash: u64,
    in_flight: AtomicU32,
    /// Requests that it failed, one after the other, of all workers.
    failures: AtomicU32,
}

/// TLS to one endpoint.
#[derive(Debug)]
pub struct EndpointTls {
    pub with: Arc<ClientTls>,
    /// What its certificate must be for.
    pub server_name: ServerName<'static>,
}

impl LiveEndpoint {
    fn new(id: u64, identity: Identity, tls: Option<&Arc<ClientTls>>) -> LiveEndpoint {
        let Identity { address, name, scheme, tls: _ } = identity;
        let tls = tls.map(|tls| EndpointTls { server_name: tls.server_name(&name, address.ip()), with: tls.clone() });
        let hash = mix(fnv(format!("{address} {name}").as_bytes()));
        let (in_flight, failures) = (AtomicU32::new(0), AtomicU32::new(0));
        LiveEndpoint { id, address, name, scheme, tls, hash, in_flight, failures }
    }

    /// Requests under way, of all workers: of those upstreams that balance by it.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Of a request: how many in a row it has failed now.
    pub fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Of a request. Costs a load as long as all goes well.
    pub fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// To be matched by one [`LiveEndpoint::leave`].
    pub fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// FNV-1a, the same in every process and version: which endpoint a key belongs to outlives a restart.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What makes two mentions of an endpoint the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    address: SocketAddr,
    name: Arc<str>,
    scheme: Scheme,
    tls: Option<ClientTlsKey>,
}

/// All endpoints that a table names.
#[derive(Debug, Default)]
pub struct Endpoints {
    by_identity: HashMap<Identity, Arc<LiveEndpoint>>,
    phases: HashMap<u64, Phase, RandomState>,
    next: u64,
}

impl Endpoints {
    /// Empty, with numbers that go on where another table's ended.
    pub(super) fn after(previous: &Endpoints) -> Endpoints {
        Endpoints { next: previous.next, ..Endpoints::default() }
    }

    /// The endpoint that another upstream has, in a table that differs from its own in phases alone.
    pub(super) fn keep(&mut self, live: &Arc<LiveEndpoint>, phase: Phase) {
        let identity = Identity {
            address: live.address,
            name: live.name.clone(),
            scheme: live.scheme,
            tls: live.tls.as_ref().map(|tls| tls.with.key.clone()),
        };
        self.by_identity.entry(identity).or_insert_with(|| live.clone());
        self.note(live.id, phase);
    }

    /// The endpoint as the previous table had it, else a new one.
    pub(super) fn adopt(
        &mut self,
        endpoint: &Endpoint,
        tls: Option<&Arc<ClientTls>>,
        previous: &Endpoints,
    ) -> Arc<LiveEndpoint> {
        let identity = Identity {
            address: endpoint.address,
            name: endpoint.name.clone(),
            scheme: endpoint.scheme,
            tls: tls.map(|tls| tls.key.clone()),
        };
        let next = &mut self.next;
        let live = self.by_identity.entry(identity).or_insert_with_key(|identity| {
            previous.by_identity.get(identity).cloned().unwrap_or_else(|| {
                *next += 1;
                Arc::new(LiveEndpoint::new(*next, identity.clone(), tls))
            })
        });
        let live = live.clone();
        self.note(live.id, endpoint.phase);
        live
    }

    /// Ready for one upstream is ready: the others' verdict is theirs.
    fn note(&mut self, id: u64, phase: Phase) {
        let known = self.phases.entry(id).or_insert(phase);
        *known = (*known).min(phase);
    }

    /// Whether it is there under any terms.
    pub fn has(&self, address: SocketAddr, name: &str) -> bool {
        self.by_identity.keys().any(|known| known.address == address && *known.name == *name)
    }

    /// `None` where the table does not name it: it has departed.
    pub fn phase(&self, id: u64) -> Option<Phase> {
        self.phases.get(&id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::client_tls::{Terms, Trust};

    fn endpoint(phase: Phase) -> Endpoint {
        Endpoint { phase, ..Endpoint::new(([127, 0, 0, 1], 80).into(), "web-1") }
    }

    #[test]
    fn an_endpoint_is_itself_until_a_table_does_without_it() {
        let none = Endpoints::default();
        let mut first = Endpoints::after(&none);
        let live = first.adopt(&endpoint(Phase::Ready), None, &none);
        assert!(Arc::ptr_eq(&live, &first.adopt(&endpoint(Phase::Draining), None, &none)), "one of two upstreams");
        assert_eq!(first.phase(live.id), Some(Phase::Ready));

        let mut second = Endpoints::after(&first);
        assert!(Arc::ptr_eq(&live, &second.adopt(&endpoint(Phase::Draining), None, &first)), "a phase is no identity");
        assert_eq!(second.phase(live.id), Some(Phase::Draining));

        let third = Endpoints::after(&second);
        assert_eq!(third.phase(live.id), None);
        let mut fourth = Endpoints::after(&third);
        let back = fourth.adopt(&endpoint(Phase::Ready), None, &third);
        assert_ne!(back.id, live.id);
        assert_eq!(back.hash, live.hash);
    }

    #[test]
    fn other_terms_are_another_endpoint() {
        let tls = |name: &str| {
            let (server_name, trust) = (Some(name.into()), Trust::Unverified);
            let terms = Terms { scheme: Scheme::Https, server_name, sans: Vec::new(), trust, shown: None };
            Arc::new(ClientTls::new(terms).expect("made"))
        };
        let (none, mut all) = (Endpoints::default(), Endpoints::default());
        let secure = Endpoint { scheme: Scheme::Https, ..endpoint(Phase::Ready) };
        let h2c = Endpoint { scheme: Scheme::H2c, ..endpoint(Phase::Ready) };
        let mut ids = vec![
            all.adopt(&endpoint(Phase::Ready), None, &none).id,
            all.adopt(&h2c, None, &none).id,
            all.adopt(&secure, Some(&tls("a.example")), &none).id,
            all.adopt(&secure, Some(&tls("b.example")), &none).id,
        ];
        assert_eq!(all.adopt(&secure, Some(&tls("a.example")), &none).id, ids[2], "equal terms, made twice");
        ids.dedup();
        assert_eq!(ids.len(), 4);
    }
}
