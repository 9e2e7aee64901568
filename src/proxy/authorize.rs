//! Decides whether a request may reach its route's endpoints. The only maker of a [`Permit`].

use crate::table::{RouteAction, RouteEntry, Upstream};

use super::error::ProxyError;

/// Proof that the route's policy was asked and agreed. `forward` cannot be called without one, and it names the one
/// upstream that was agreed to.
#[derive(Debug)]
pub struct Permit<'r> {
    upstream: &'r Upstream,
}

impl<'r> Permit<'r> {
    pub fn upstream(&self) -> &'r Upstream {
        self.upstream
    }
}

/// A route that is closed refuses whoever asks. Client-certificate policies will be judged here, against the current
/// table and the connection's chain; until then `table::compile` closes every route that names one.
pub fn authorize(route: &RouteEntry) -> Result<Permit<'_>, ProxyError> {
    match &route.action {
        RouteAction::Forward(upstream) => Ok(Permit { upstream }),
        RouteAction::Deny(denial) => Err(ProxyError::denied(denial)),
    }
}
