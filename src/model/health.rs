//! How it is found out whether an endpoint answers: a check that asks it, and what its failures of requests say.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::ObjectId;
use super::schema::Scheme;
use super::units::Span;

/// An endpoint is asked at an interval, whether anybody wants anything of it or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HealthCheck {
    pub ask: Ask,
    /// Absent = the endpoint's own.
    pub port: Option<u16>,
    pub interval: Span,
    /// For the whole of one check.
    pub timeout: Span,
    /// So many passed in a row bring an endpoint back that had failed.
    pub healthy: u32,
    /// So many failed in a row take it out.
    pub unhealthy: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A connection is answer enough.
    Connect,
    /// A GET over HTTP.
    Get {
        /// With its query.
        path: Arc<str>,
        /// The `Host` field; absent = the name or address of the endpoint.
        host: Option<Arc<str>>,
        /// Sorted. Empty = any from 200 to 399.
        status: Vec<u16>,
    },
}

impl HealthCheck {
    pub const INTERVAL: Span = Span::seconds(10);
    pub const TIMEOUT: Span = Span::seconds(5);
    pub const HEALTHY: u32 = 2;
    pub const UNHEALTHY: u32 = 3;
}

impl Ask {
    pub fn accepts(&self, code: u16) -> bool {
        match self {
            Ask::Connect => true,
            Ask::Get { status, .. } if status.is_empty() => (200..400).contains(&code),
            Ask::Get { status, .. } => status.contains(&code),
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Connect => f.write_str("connect"),
            Ask::Get { path, .. } => write!(f, "GET {path}"),
        }
    }
}

/// An endpoint that fails one request after the other is left out for a while.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ejection {
    /// So many in a row. 0 = never.
    pub failures: u32,
    /// Sorted. Answers that count as failures; connections that fail or break off always do.
    pub status: Vec<u16>,
    /// For the first time; each one more in a row takes as long again, up to [`Ejection::LONGEST`].
    pub time: Span,
    /// Of a service's endpoints, at most so many per cent at once; one is always allowed where there are two.
    pub most_percent: u32,
}

impl Ejection {
    pub const LONGEST: Span = Span::seconds(300);
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection { failures: 5, status: Vec::new(), time: Span::seconds(10), most_percent: 50 }
    }
}

/// What a check asks, of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    /// The `Host` field.
    pub host: Arc<str>,
    pub ask: Ask,
    pub scheme: Scheme,
    /// Whose endpoint it is, where it is spoken to over TLS.
    pub secure: Option<Spoken>,
}

/// An endpoint as one service speaks to it: what TLS with it takes is in the table in force at each check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    pub service: ObjectId,
    /// Requests go there; a check may ask another port.
    pub address: SocketAddr,
    pub name: Arc<str>,
}

/// What is known of endpoints beside what their provider says, by service and by address and name. A service without a
/// check and without an ejection has none.
pub type Verdicts = BTreeMap<ObjectId, BTreeMap<(SocketAddr, Arc<str>), Verdict>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub state: HealthState,
    /// Whether requests go there, if its provider says that it is ready.
    pub open: bool,
    pub since: Timestamp,
    pub why: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Its check passes.
    Healthy,
    /// Its check has not come to an end yet.
    Unchecked,
    Unhealthy,
    Ejected,
}

impl HealthState {
    pub fn as_str(self) -> &'static str {
        match self {
            HealthState::Healthy => "healthy",
            HealthState::Unchecked => "unchecked",
            HealthState::Unhealthy => "unhealthy",
            HealthState::Ejected => "ejected",
        }
    }
}
