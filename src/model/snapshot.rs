//! What a provider says: its FULL desired state, or that it has not spoken yet, or that it is out of reach.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::diagnostic::Diagnostic;
use super::id::{ObjectId, Provider};
use super::listener::Listener;
use super::middleware::Middleware;
use super::mtls::{MtlsPolicy, Revocation, TrustBundle};
use super::route::Route;
use super::service::Service;

/// Everything that one provider wants, in the neutral vocabulary. Order carries no meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub provider: Provider,
    /// The provider's own settings when it said this, filled in by the sink: under others it might say something else.
    pub under: Arc<str>,
    pub listeners: Vec<Listener>,
    pub routes: Vec<Route>,
    pub services: Vec<Service>,
    pub middlewares: Vec<Middleware>,
    pub certificates: Vec<Certificate>,
    pub policies: Vec<MtlsPolicy>,
    pub bundles: Vec<TrustBundle>,
    pub revocations: Vec<Revocation>,
    /// Objects that exist but cannot be used yet: TCP routes.
    pub unbuilt: Vec<ObjectId>,
    pub findings: Vec<Diagnostic>,
}

impl Snapshot {
    pub fn empty(provider: Provider) -> Snapshot {
        Snapshot {
            provider,
            under: "".into(),
            listeners: Vec::new(),
            routes: Vec::new(),
            services: Vec::new(),
            middlewares: Vec::new(),
            certificates: Vec::new(),
            policies: Vec::new(),
            bundles: Vec::new(),
            revocations: Vec::new(),
            unbuilt: Vec::new(),
            findings: Vec::new(),
        }
    }

    pub fn absorb(&mut self, other: Snapshot) {
        let Snapshot {
            provider: _,
            under: _,
            listeners,
            routes,
            services,
            middlewares,
            certificates,
            policies,
            bundles,
            revocations,
            unbuilt,
            findings,
        } = other;
        self.listeners.extend(listeners);
        self.routes.extend(routes);
        self.services.extend(services);
        self.middlewares.extend(middlewares);
        self.certificates.extend(certificates);
        self.policies.extend(policies);
        self.bundles.extend(bundles);
        self.revocations.extend(revocations);
        self.unbuilt.extend(unbuilt);
        self.findings.extend(findings);
    }
}

/// "Nothing yet" differs from "empty", and an error is never an empty answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderState {
    Starting,
    Live(Arc<Snapshot>),
    /// `last` is what stays in force; `None` where the provider never answered.
    Stale {
        last: Option<Arc<Snapshot>>,
        since: Timestamp,
        why: Arc<str>,
        /// When `last` was said, where that was before this process started.
        restored: Option<Timestamp>,
    },
}

impl ProviderState {
    /// What is in force now.
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        match self {
            ProviderState::Starting => None,
            ProviderState::Live(snapshot) => Some(snapshot),
            ProviderState::Stale { last, .. } => last.as_ref(),
        }
    }

    /// Whether what is in force was said to this process, and not to one before it.
    pub fn is_heard(&self) -> bool {
        match self {
            ProviderState::Starting => false,
            ProviderState::Live(_) => true,
            ProviderState::Stale { last, restored, .. } => last.is_some() && restored.is_none(),
        }
    }

    pub fn as_str(&self) -> &'static str {
        match self {
            ProviderState::Starting => "starting",
            ProviderState::Live(_) => "live",
            ProviderState::Stale { .. } => "stale",
        }
    }
}

/// A provider's state as reports show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderReport {
    pub name: Provider,
    pub state: &'static str,
    pub since: Option<Timestamp>,
    pub why: Option<Arc<str>>,
    pub routes: usize,
}

impl ProviderReport {
    pub fn of(name: Provider, state: &ProviderState) -> ProviderReport {
        let (since, why) = match state {
            ProviderState::Stale { since, why, .. } => (Some(*since), Some(why.clone())),
            ProviderState::Starting | ProviderState::Live(_) => (None, None),
        };
        let routes = state.snapshot().map_or(0, |snapshot| snapshot.routes.len());
        ProviderReport { name, state: state.as_str(), since, why, routes }
    }
}
