//! Decides whether a request may reach its route's endpoints. The only maker of a [`Permit`].

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use crate::table::backend::Chosen;
use crate::table::upstream::Affinity;
use crate::table::{Backend, RouteAction, RouteEntry, Upstream};

use super::connection::Connection;
use super::error::ProxyError;

/// Proof that the route's policy was asked and agreed.
#[derive(Debug)]
pub struct Permit<'r> {
    backend: &'r Backend,
}

/// The one upstream of a permit that the request goes to. `forward` cannot be called without one.
#[derive(Debug)]
pub struct Destination<'r> {
    chosen: Chosen<'r>,
}

impl<'r> Permit<'r> {
    /// By the request's head as the client sent it.
    pub fn choose(self, headers: &HeaderMap, client: impl Fn() -> IpAddr) -> Destination<'r> {
        Destination { chosen: self.backend.choose(headers, client) }
    }
}

impl<'r> Destination<'r> {
    pub fn upstream(&self) -> &'r Arc<Upstream> {
        self.chosen.upstream
    }

    /// Index into the route's shares.
    pub fn share(&self) -> usize {
        self.chosen.share
    }

    pub fn affinity(&self) -> &Affinity {
        &self.chosen.affinity
    }
}

/// A route that is closed refuses whoever asks. Client-certificate policies will be judged here, against the current
/// table and the connection's chain; until then `table::compile` closes every route that names one.
pub fn authorize(route: &RouteEntry) -> Result<Permit<'_>, ProxyError> {
    match &route.action {
        RouteAction::Forward(backend) => Ok(Permit { backend }),
        RouteAction::Deny(denial) => Err(ProxyError::denied(denial)),
    }
}

/// Whether an exchange that is under way may go on under its route as it is now. Asked for every tunnel and every body on
/// its way whose route is another one in a new table; what is refused is cut at once. The seam for client-certificate
/// policies: `connection` has the chain that they judge.
pub fn still(route: &RouteEntry, connection: &Connection) -> Result<(), ProxyError> {
    let _ = connection;
    authorize(route).map(drop)
}
