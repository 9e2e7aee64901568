//! A service: the endpoints that requests are balanced over.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::diagnostic::{Denial, Origin};
use super::health::{Ejection, HealthCheck};
use super::id::{Name, NameRef, ObjectId};
use super::route::Replica;
use super::schema::Scheme;
use super::units::Span;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: ObjectId,
    pub origin: Origin,
    pub replica: Option<Replica>,
    pub created: Timestamp,
    pub endpoints: Vec<Endpoint>,
    /// Endpoints whose addresses DNS knows.
    pub names: Vec<NamedEndpoint>,
    pub traffic: Traffic,
    /// Whether anything of it runs, reachable and ready or not: its source keeps the hosts it holds.
    pub running: bool,
    /// Something about the service's definition is wrong: every route that uses it is denied.
    pub denied: Option<Denial>,
    /// Why there is no endpoint that is ready although the service is there, for the answer of its routes.
    pub absent: Option<Denial>,
}

/// One address that answers requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// Its share where the service is balanced by weight, and of the hash ring; 1 where nothing is said.
    pub weight: u32,
    pub phase: Phase,
    /// Who stands behind the address, as people know it: a container's name, or the URL that was written.
    pub name: Arc<str>,
    pub scheme: Scheme,
    /// Where it is spoken to over TLS.
    pub tls: Option<Arc<UpstreamTls>>,
}

/// What an endpoint's certificate must be. The default: for the endpoint's own name or address, by a CA of the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UpstreamTls {
    pub server_name: Option<Arc<str>>,
    /// The certificate must be for one of these. Empty: for the server name.
    pub sans: Vec<PeerName>,
    /// Bundles; with `issuer`, instead of the system's CAs.
    pub trust: Vec<NameRef>,
    /// An internal CA.
    pub issuer: Option<Name>,
    /// What is shown to an endpoint that asks.
    pub client: Option<ClientCertificate>,
    /// Nothing is checked: the operator's word alone.
    pub unverified: bool,
}

/// A name that an endpoint's certificate may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerName {
    /// A DNS name, or an address.
    Host(Arc<str>),
    /// Byte by byte.
    Uri(Arc<str>),
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerName::Host(name) | PeerName::Uri(name) => f.write_str(name),
        }
    }
}

/// Where a certificate of Portolan's own comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    /// An internal CA.
    Issued {
        issuer: Name,
        names: ClientNames,
    },
    Configured(NameRef),
}

/// What a certificate for clients is issued for. One of them at least.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientNames {
    pub uri: Option<Arc<str>>,
    pub dns: Option<Arc<str>>,
}

impl UpstreamTls {
    /// Whether it names anybody to trust instead of the system's CAs.
    pub fn has_trust(&self) -> bool {
        !self.trust.is_empty() || self.issuer.is_some()
    }
}

impl Endpoint {
    /// Ready, with a weight of one, in cleartext HTTP/1.1.
    pub fn new(address: SocketAddr, name: impl Into<Arc<str>>) -> Endpoint {
        Endpoint { address, weight: 1, phase: Phase::Ready, name: name.into(), scheme: Scheme::Http, tls: None }
    }
}

/// An endpoint that was written with a name: every address of the name is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedEndpoint {
    /// In lower case.
    pub host: Arc<str>,
    pub port: u16,
    pub weight: u32,
    /// As it was written.
    pub url: Arc<str>,
    pub scheme: Scheme,
    /// Where it is spoken to over TLS.
    pub tls: Option<Arc<UpstreamTls>>,
}

/// An endpoint leaves in two ways: draining, or by not being there any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Ready,
    /// Soft: told to stop. No new request but those that stick to it; what is under way is finished.
    Draining,
    /// Soft: a health check of it fails, or it is ejected. No new request, whoever sticks to it; what is under way is
    /// finished.
    Unhealthy,
}

/// How requests are spread over the endpoints, and what happens to those that fail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Traffic {
    pub balance: Balance,
    pub sticky: Option<Sticky>,
    pub retry: Retry,
    pub timeouts: Timeouts,
    pub health: Option<Arc<HealthCheck>>,
    pub ejection: Ejection,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    #[default]
    RoundRobin,
    Random,
    /// By the endpoints' weights, evenly spread.
    Weighted,
    /// The less busy of two that are drawn at random.
    LeastRequest,
    ConsistentHash(HashKey),
}

/// What requests are told apart by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    /// The address that forwarding headers name where they are believed, else the peer's.
    #[default]
    ClientIp,
    /// The header's name in lower case. A request without it goes by client IP.
    Header(Arc<str>),
    /// A request without it goes by client IP.
    Cookie(Arc<str>),
}

/// Clients come back to the endpoint that answered them first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sticky {
    pub cookie: Arc<str>,
    /// The cookie cannot be made up: it carries a MAC. Otherwise it is a mere hash of the endpoint.
    pub signed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retry {
    /// How often one request is tried in all, the first time included. 1 = never again.
    pub attempts: u32,
    /// Retries of requests that may have arrived, in per cent of the requests of late; a few are always allowed.
    pub budget_percent: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 3, budget_percent: 20 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timeouts {
    pub connect: Span,
    /// From the request's last byte to the head of the answer.
    pub response_header: Span,
    /// From the request's head to the answer's last byte; `None` is without end.
    pub request: Option<Span>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: Span::seconds(5), response_header: Span::seconds(60), request: None }
    }
}
