//! The one immutable thing that a request is answered from, from match to log.
//!
//! ```text
//! Desired + material + previous Table ──compile──▶ Table ──LiveTable──▶ workers (one load per request)
//!
//! listener ─▶ HostIndex ─▶ bucket of the host ─▶ PathIndex ─▶ first candidate whose checks hold ─▶ RouteEntry ─▶ Backend
//!         └─▶ TlsIndex  ─▶ TlsScope (key, certificate)
//! ```
//! References are indexes: a value of this type cannot hold a dangling one. What a long stream has to keep is behind
//! an `Arc` of its own ([`RouteEntry`], [`Upstream`]), so that it never keeps a whole table.

pub mod backend;
mod balance;
mod budget;
pub mod certificate;
pub mod client_auth;
pub mod client_identity;
pub mod client_tls;
mod compile;
pub mod content;
mod dn;
pub mod endpoint;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod host;
pub mod identity;
pub mod introduction;
pub mod live;
mod patch;
mod path;
pub mod peer;
pub mod policy;
mod predicate;
mod query;
pub mod revocation;
mod row;
pub mod seen;
pub mod sticky;
#[cfg(any(test, feature = "fuzzing"))]
#[allow(clippy::expect_used, reason = "tests and fuzz targets alone call it")]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod trust;
pub mod upstream;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::middleware::Middleware;
use crate::model::diagnostic::Denial;
use crate::model::id::{Name, ObjectId};
use crate::model::listener::Listener;
use crate::reconcile::Share;

pub use backend::Backend;
pub use compile::{Compiled, Materials, compile};
pub use endpoint::LiveEndpoint;
pub use live::LiveTable;
pub use patch::patch;
pub use predicate::RequestView;
pub use sticky::StickyKey;
pub use upstream::Upstream;

use client_tls::{ClientTls, ClientTlsKey};
use endpoint::Endpoints;
use host::HostIndex;
use policy::Policy;
use tls::{Issuer, TlsIndex, TlsScope};

/// An index into a table's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteIndex(u32);

impl RouteIndex {
    /// Among [`Table::routes`].
    pub fn position(self) -> usize {
        self.0 as usize
    }
}

/// What requests are answered from.
#[derive(Debug)]
pub struct Table {
    pub generation: u64,
    pub listeners: BTreeMap<Name, Arc<TableListener>>,
    pub endpoints: Endpoints,
    client_tls: HashMap<ClientTlsKey, Arc<ClientTls>>,
    routes: Vec<Arc<RouteEntry>>,
    policies: BTreeMap<ObjectId, Arc<Policy>>,
    upstreams: HashMap<Vec<ObjectId>, Arc<Upstream>>,
    /// The turns of splits, by what is split.
    splits: HashMap<Vec<Share>, Arc<AtomicUsize>>,
}

/// One listener with everything that is served on it.
#[derive(Debug)]
pub struct TableListener {
    pub listener: Listener,
    /// Where a redirecting listener sends clients: the port of the TLS listener as clients see it.
    pub redirect_port: Option<u16>,
    hosts: HostIndex,
    tls: TlsIndex,
    /// For the local address, where a client sends no server name.
    pub issuers: Vec<Arc<dyn Issuer>>,
}

/// A route with the upstream that answers for it. Kept by streams that outlive their table.
///
/// What every request reads stands together at the beginning, in one cache line.
#[derive(Debug, PartialEq)]
#[repr(C, align(64))]
pub struct RouteEntry {
    pub action: RouteAction,
    pub middlewares: Vec<Middleware>,
    /// Client-certificate policies, all of which must hold. Empty = the route names none.
    pub policies: Vec<Arc<Policy>>,
    /// The id as reports and logs show it.
    pub label: Arc<str>,
    pub id: ObjectId,
    /// Of the matches and listeners that it stands at. Two routes with one id and one place are the same to whoever was
    /// let in there.
    pub place: u64,
}

const _: () = assert!(std::mem::offset_of!(RouteEntry, label) == 64);

/// What a table says of a route that an exchange under way began on.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing<'t> {
    /// The very same entry is in it.
    Same,
    /// There is another entry for it.
    Other(&'t Arc<RouteEntry>),
    Gone,
}

#[derive(Debug, PartialEq)]
pub enum RouteAction {
    Forward(Backend),
    Deny(Box<Denial>),
}

impl Table {
    /// Before the first compile: nothing is served anywhere.
    pub fn empty() -> Table {
        Table {
            generation: 0,
            listeners: BTreeMap::new(),
            endpoints: Endpoints::default(),
            client_tls: HashMap::new(),
            routes: Vec::new(),
            policies: BTreeMap::new(),
            upstreams: HashMap::new(),
            splits: HashMap::new(),
        }
    }

    /// The upstream of these services as it is now.
    pub fn upstream(&self, services: &[ObjectId]) -> Option<&Arc<Upstream>> {
        self.upstreams.get(services)
    }

    /// An endpoint as this service speaks to it. `None` where no route leads to the service, or the terms cannot be had.
    pub fn endpoint(&self, service: &ObjectId, address: SocketAddr, name: &str) -> Option<&Arc<LiveEndpoint>> {
        let alone = self.upstreams.get(std::slice::from_ref(service));
        let united = || self.upstreams.iter().find(|(of, _)| of.contains(service)).map(|(_, upstream)| upstream);
        let endpoints = alone.or_else(united)?.members.iter().map(|member| &member.endpoint);
        endpoints.into_iter().find(|endpoint| endpoint.address == address && *endpoint.name == *name)
    }

    pub fn route(&self, index: RouteIndex) -> &Arc<RouteEntry> {
        &self.routes[index.position()]
    }

    pub fn routes(&self) -> &[Arc<RouteEntry>] {
        &self.routes
    }

    /// The policies that are enforced.
    pub fn policies(&self) -> &BTreeMap<ObjectId, Arc<Policy>> {
        &self.policies
    }

    /// What has become of an entry of this table or an earlier one.
    pub fn standing(&self, entry: &Arc<RouteEntry>) -> Standing<'_> {
        // `compile` goes through the routes in the order of their ids.
        let start = self.routes.partition_point(|other| other.id < entry.id);
        let ours = || self.routes[start..].iter().take_while(|other| other.id == entry.id);
        if ours().any(|other| Arc::ptr_eq(other, entry)) {
            return Standing::Same;
        }
        let alike = ours().find(|other| other.serves_as(entry));
        alike.or_else(|| ours().next()).map_or(Standing::Gone, Standing::Other)
    }
}

impl RouteEntry {
    /// Whether a request that `other` let in would have gone the same way here: the same place, middlewares and services.
    /// Which endpoints these have, and whether the route's policy agrees, is another question.
    pub fn serves_as(&self, other: &RouteEntry) -> bool {
        let (RouteAction::Forward(here), RouteAction::Forward(there)) = (&self.action, &other.action) else {
            return false;
        };
        let leads_to = |services: &[ObjectId]| here.upstreams().any(|upstream| upstream.services == services);
        self.place == other.place
            && self.middlewares == other.middlewares
            && there.upstreams().all(|upstream| leads_to(&upstream.services))
    }
}

impl TableListener {
    /// The route for a request. One hash of its host and one walk along its path, whatever the number of routes; what
    /// further terms cost, those pay that share a path with them.
    pub fn lookup(&self, request: &RequestView<'_>) -> Option<RouteIndex> {
        self.hosts.lookup(request)
    }

    /// What the handshake for a server name, or a request for a host, is bound to.
    pub fn scope(&self, name: Option<&str>) -> &TlsScope {
        self.tls.scope(name)
    }

    /// Whether a request for `host` may come over a connection whose handshake was for `name` (RFC 9110 §15.5.20).
    /// Both are resolved here and now: what the connection was bound to when it began may be another table's.
    pub fn agree(&self, name: Option<&str>, host: &str) -> bool {
        self.tls.agree(name, host)
    }
}
