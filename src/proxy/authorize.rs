//! Decides whether a request may reach its route's endpoints. The only maker of a [`Permit`].
//!
//! ```text
//! route of the table in force, the connection's peer, now ─▶ every policy's verdict ─▶ Permit | 403 | 421 | 503
//! ```
//! A verdict is remembered by the connection for as long as the policy is the same by content and nothing in the
//! verified chain has ended; so a CA that is withdrawn or an entry that is added to a revocation list bites with the next
//! request of a connection that has been open all along.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;

use crate::table::backend::Chosen;
use crate::table::identity::Identity;
use crate::table::peer::Peer;
use crate::table::policy::{Admitted, Policy, Refusal, Unverified};
use crate::table::upstream::Affinity;
use crate::table::{Backend, RouteAction, RouteEntry, Upstream};

use super::connection::Connection;
use super::error::{ErrorKind, ProxyError};
use super::handshake::TlsFacts;

/// Proof that the route's policy was asked and agreed.
#[derive(Debug)]
pub struct Permit<'r> {
    backend: &'r Backend,
    /// Who the client is, where a policy has verified it.
    identity: Option<Rc<Identity>>,
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
pub fn authorize<'r>(
    route: &'r RouteEntry,
    tls: Option<&TlsFacts>,
    now: impl Fn() -> Timestamp,
) -> Result<Permit<'r>, ProxyError> {
    let backend = match &route.action {
        RouteAction::Forward(backend) => backend,
        RouteAction::Deny(denial) => return Err(ProxyError::denied(denial)),
    };
    let mut identified = false;
    if !route.policies.is_empty() {
        // A route with a policy stands on no plain listener; whoever comes in the clear has shown nothing.
        let nobody = Peer::default();
        let peer = tls.map_or(&nobody, |tls| &tls.peer);
        let now = now();
        for policy in &route.policies {
            match peer.verdict(policy, now).outcome {
                Ok(Admitted::Anonymous) => {}
                Ok(Admitted::Identified) => identified = true,
                Err(refusal) => return Err(refused(policy, refusal)),
            }
        }
    }
    let identity = tls.filter(|_| identified).and_then(|tls| tls.peer.identity().clone().ok());
    Ok(Permit { backend, identity })
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

/// Whether an exchange that is under way may go on under its route as it is now. Asked for every tunnel and every body on
/// its way whose route is another one in a new table; what is refused is cut at once. The seam for client-certificate
/// policies: `connection` has the chain that they judge.
pub fn still(route: &RouteEntry, connection: &Connection) -> Result<(), ProxyError> {
    let _ = connection;
    authorize(route).map(drop)
}
