//! Decides whether a request may reach its route's endpoints. The only maker of a [`Permit`].
//!
//! ```text
//! route of the table in force, the connection's peer, now ─▶ every policy's verdict ─▶ Permit | 403 | 421 | 503
//! ```
//! A verdict is remembered by the connection for as long as the policy is the same by content and nothing in the
//! verified chain has ended. So a CA that is withdrawn, or an entry that is added to a revocation list, bites with the
//! next request of a connection that has been open all along, and at once on what is under way: [`still`].

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;

use crate::table::backend::Chosen;
use crate::table::identity::Identity;
use crate::table::introduction::Introduction;
use crate::table::peer::Peer;
use crate::table::policy::{Admitted, Policy, Refusal, Unverified, Verdict};
use crate::table::upstream::Affinity;
use crate::table::{Backend, RouteAction, RouteEntry, Table, Upstream};

use super::error::{ErrorKind, ProxyError};
use super::handshake::TlsFacts;

/// Proof that the route's policy was asked and agreed.
#[derive(Debug)]
pub struct Permit<'r> {
    backend: &'r Backend,
    /// Who the client is, where a policy has verified it.
    identity: Option<Rc<Identity>>,
    /// What the endpoint is told of it.
    introduction: Option<Rc<Introduction>>,
}

/// The one upstream of a permit that the request goes to. `forward` cannot be called without one.
#[derive(Debug)]
pub struct Destination<'r> {
    chosen: Chosen<'r>,
}

impl<'r> Permit<'r> {
    pub fn identity(&self) -> Option<&Rc<Identity>> {
        self.identity.as_ref()
    }

    pub fn introduction(&self) -> Option<&Rc<Introduction>> {
        self.introduction.as_ref()
    }

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

/// A route that is closed refuses whoever asks; one with policies, whomever any of them refuses.
pub fn authorize<'r>(route: &'r RouteEntry, tls: Option<&TlsFacts>) -> Result<Permit<'r>, ProxyError> {
    let backend = backend(route)?;
    let Agreed { identified, .. } = agreed(&route.policies, tls)?;
    let identity = tls.filter(|_| identified).and_then(|tls| tls.peer.identity().clone().ok());
    let introduction = introduction(&route.policies, tls)?;
    Ok(Permit { backend, identity, introduction })
}

/// What all policies of a route have its endpoints told, where any of them says so.
fn introduction(policies: &[Arc<Policy>], tls: Option<&TlsFacts>) -> Result<Option<Rc<Introduction>>, ProxyError> {
    let mut all: Option<Rc<Introduction>> = None;
    let nobody = Peer::default();
    for policy in policies.iter().filter(|policy| !policy.rules.forward.is_empty()) {
        let peer = tls.map_or(&nobody, |tls| &tls.peer);
        let made = peer.introduction(policy, Timestamp::now()).map_err(|refusal| refused(policy, refusal))?;
        all = match (all, made) {
            (Some(before), Some(made)) => Some(before.join(made)),
            (before, made) => before.or(made),
        };
    }
    Ok(all)
}

/// Until when an exchange that is under way may go on under its route as it is now. Asked again at every swap and when
/// that moment has come; what is refused is cut at once.
pub fn still(route: &RouteEntry, tls: Option<&TlsFacts>) -> Result<Timestamp, ProxyError> {
    backend(route)?;
    agreed(&route.policies, tls).map(|agreed| agreed.until)
}

/// The same where the route is gone. What let the exchange in must still be there and still agree: a policy that nobody
/// defines any more lets nobody in.
pub fn outliving(route: &RouteEntry, table: &Table, tls: Option<&TlsFacts>) -> Result<Timestamp, ProxyError> {
    let now: Option<Vec<Arc<Policy>>> =
        route.policies.iter().map(|policy| table.policies().get(&policy.id).cloned()).collect();
    let gone = || ProxyError::new(ErrorKind::RouteWithdrawn, "its route's policy is gone");
    agreed(&now.ok_or_else(gone)?, tls).map(|agreed| agreed.until)
}

fn backend(route: &RouteEntry) -> Result<&Backend, ProxyError> {
    match &route.action {
        RouteAction::Forward(backend) => Ok(backend),
        RouteAction::Deny(denial) => Err(ProxyError::denied(denial)),
    }
}

/// What all policies of a route say together.
struct Agreed {
    /// Whether any has verified who the client is.
    identified: bool,
    until: Timestamp,
}

fn agreed(policies: &[Arc<Policy>], tls: Option<&TlsFacts>) -> Result<Agreed, ProxyError> {
    let mut agreed = Agreed { identified: false, until: Timestamp::MAX };
    if policies.is_empty() {
        return Ok(agreed);
    }
    // A route with a policy stands on no plain listener; whoever comes in the clear all the same has shown nothing.
    let nobody = Peer::default();
    let peer = tls.map_or(&nobody, |tls| &tls.peer);
    let now = Timestamp::now();
    for policy in policies {
        let Verdict { outcome, until } = peer.verdict(policy, now);
        agreed.until = agreed.until.min(until);
        match outcome {
            Ok(Admitted::Anonymous) => {}
            Ok(Admitted::Identified) => agreed.identified = true,
            Err(refusal) => return Err(refused(policy, refusal)),
        }
    }
    Ok(agreed)
}

fn refused(policy: &Policy, refusal: Refusal) -> ProxyError {
    let kind = match refusal {
        Refusal::NoCertificate => ErrorKind::CertificateRequired,
        Refusal::Unverified(Unverified::Expired | Unverified::NotYetValid) => ErrorKind::CertificateExpired,
        Refusal::Unverified(Unverified::Revoked) => ErrorKind::CertificateRevoked,
        Refusal::Unverified(_) => ErrorKind::CertificateUnverified,
        Refusal::NotAllowed => ErrorKind::CertificateNotAllowed,
    };
    ProxyError::new(kind, format!("{}: {refusal}", policy.label))
}

#[cfg(test)]
mod tests;
