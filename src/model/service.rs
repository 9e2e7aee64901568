//! A service: the endpoints that requests are balanced over.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::diagnostic::{Denial, Origin};
use super::id::ObjectId;
use super::route::Replica;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: ObjectId,
    pub origin: Origin,
    pub replica: Option<Replica>,
    pub created: Timestamp,
    pub endpoints: Vec<Endpoint>,
    /// Something about the service's definition is wrong: every route that uses it is denied.
    pub denied: Option<Denial>,
    /// Why there is no endpoint although the service is there, for the answer of its routes.
    pub absent: Option<Denial>,
}

/// One address that answers requests in cleartext HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// Who stands behind the address, as people know it: a container's name, or the URL that was written.
    pub name: Arc<str>,
}
