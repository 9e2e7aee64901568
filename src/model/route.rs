//! A route: which requests, under which policy, through which middlewares, to which service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::diagnostic::{Denial, Origin};
use super::host::HostPattern;
use super::id::{Name, NameRef, ObjectId};
use super::path::PathMatch;
use super::predicate::{Term, Test};
use super::schema::TlsVersion;

/// One route as one source spells it. Several of one id are replicas, which `reconcile` unites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub id: ObjectId,
    pub origin: Origin,
    /// The container that carries these labels, where there is one.
    pub replica: Option<Replica>,
    /// When its container or object was created: "older" in every rule.
    pub created: Timestamp,
    pub matches: Vec<RouteMatch>,
    /// The matches themselves could not be read: these are the hosts found as literals in them, and the denial stands
    /// only on those that the route's source holds.
    pub guessed: bool,
    /// Absent means every TLS listener.
    pub listeners: Option<Vec<Name>>,
    pub priority: i64,
    pub middlewares: Vec<NameRef>,
    pub backend: Backend,
    /// Client-certificate policies, all of which must hold: one, or several where replicas differ.
    pub mtls: BTreeSet<NameRef>,
    pub tls: Option<RouteTls>,
    /// Set where something about the route itself is wrong: it keeps its place and answers 503.
    pub denied: Option<Denial>,
}

/// Where a route's requests go, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    Service(NameRef),
    /// A share of the requests each, by weight; 0 = none.
    Split(BTreeMap<NameRef, u32>),
}

impl Backend {
    /// Every service with its weight.
    pub fn shares(&self) -> Vec<(&NameRef, u32)> {
        match self {
            Backend::Service(name) => vec![(name, 1)],
            Backend::Split(shares) => shares.iter().map(|(name, weight)| (name, *weight)).collect(),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backend::Service(name) => name.fmt(f),
            Backend::Split(shares) => {
                let shares: Vec<String> = shares.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
                f.write_str(&shares.join(" "))
            }
        }
    }
}

/// The container or task whose labels said so, and the service it is a replica of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Replica {
    pub created: Timestamp,
    pub container: Arc<str>,
    pub service: Arc<str>,
}

/// One conjunction of predicates: the host and the path that the table is indexed by, and everything else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteMatch {
    pub host: HostPattern,
    pub path: PathMatch,
    /// All of these hold too.
    pub terms: BTreeSet<Term>,
    /// Predicates that cannot be evaluated (yet), as they were written. Their route is denied, and stands before one
    /// without them: a request they might have chosen never falls through.
    pub unread: Option<Arc<str>>,
}

impl RouteMatch {
    pub fn new(host: HostPattern, path: PathMatch) -> RouteMatch {
        RouteMatch { host, path, terms: BTreeSet::new(), unread: None }
    }

    /// It finds its hosts by a regex and names none: it holds no host and says nothing about a handshake.
    pub fn is_by_host_regex(&self) -> bool {
        self.host == HostPattern::Any
            && self.terms.iter().any(|term| !term.negated && matches!(term.test, Test::HostRegex(_)))
    }

    /// Whether every request that `other` matches is matched by this one, as far as can be told: every term of this
    /// one is a term of the other.
    pub fn covers(&self, other: &RouteMatch) -> bool {
        self.host.covers(&other.host)
            && self.path.covers(&other.path)
            && self.terms.is_subset(&other.terms)
            && self.unread.is_none()
    }
}

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path)?;
        self.terms.iter().try_for_each(|term| write!(f, " [{term}]"))?;
        self.unread.as_ref().map_or(Ok(()), |unread| write!(f, " [{unread}]"))
    }
}

/// What a route asks of its hosts' handshakes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteTls {
    pub issuer: Option<Name>,
    pub certificate: Option<NameRef>,
    pub min_version: Option<TlsVersion>,
}
