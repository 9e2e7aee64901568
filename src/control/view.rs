//! What is in force now: the one value that the admin API, the metrics, object status and the CLI read.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::health::Verdicts;
use crate::model::snapshot::ProviderReport;
use crate::model::{Diagnostic, ObjectId};
use crate::reconcile::Desired;
use crate::table::certificate::LoadedCertificate;
use crate::table::policy::Policy;
use crate::table::seen::Client;
use crate::table::trust::Anchor;

use super::leaves::{LeafReport, LeafStore};

/// Published after each turn, when the table that it describes is in force.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Of the table.
    pub generation: u64,
    /// When anything of what follows became as it is.
    pub changed: Timestamp,
    pub desired: Arc<Desired>,
    /// What is known of its endpoints.
    pub verdicts: Arc<Verdicts>,
    /// Of every stage, sorted.
    pub findings: Arc<Vec<Diagnostic>>,
    pub providers: Vec<ProviderReport>,
    /// Certificates that somebody brought.
    pub configured: Vec<CertificateReport>,
    /// What they have issued is asked of them when somebody looks: a handshake is no turn.
    pub issuers: Vec<Arc<LeafStore>>,
    /// Client-certificate policies in force, and whom they have let in.
    pub policies: Vec<Arc<Policy>>,
    pub ready: bool,
    /// What `/readyz` says while it is not.
    pub not_ready_because: Option<String>,
}

impl View {
    /// A view that says what the one before it said is not newer.
    pub(super) fn keep_time_of(&mut self, before: &View) {
        if self.generation == before.generation
            && self.findings == before.findings
            && self.verdicts == before.verdicts
            && self.providers == before.providers
            && self.configured == before.configured
        {
            self.changed = before.changed;
        }
    }

    /// Everything that clients may be shown, as of now.
    pub fn shown(&self) -> Vec<CertificateReport> {
        let issued = self.issuers.iter().flat_map(|issuer| issuer.report());
        issued.map(CertificateReport::issued).chain(self.configured.iter().cloned()).collect()
    }

    /// The same, and the certificates of policies: the CAs that they trust, and the clients that they have let in.
    pub fn certificates(&self) -> Vec<CertificateReport> {
        let trusted = self
            .policies
            .iter()
            .flat_map(|policy| policy.trust.anchors().iter().map(|anchor| CertificateReport::trusted(policy, anchor)));
        let clients = self.policies.iter().flat_map(|policy| {
            policy.seen.clients().into_iter().map(|client| CertificateReport::client(policy, client))
        });
        self.shown().into_iter().chain(trusted).chain(clients).collect()
    }
}

/// A certificate that handshakes are answered with, or that policies have to do with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateReport {
    /// The host pattern that an issuer made it for, or the configured name.
    pub name: String,
    pub kind: CertificateKind,
    /// The name of the issuer in the settings, or the issuer's distinguished name where it was configured.
    pub issuer: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Lower-case hex.
    pub serial: String,
    /// Its SANs.
    pub hosts: Vec<String>,
    pub origin: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateKind {
    Issued,
    Configured,
    /// A CA by which a policy verifies clients.
    Trusted,
    /// A client's, which a policy has let in.
    Client,
}

impl CertificateReport {
    fn issued(leaf: LeafReport) -> CertificateReport {
        let LeafReport { name, issuer, not_before, not_after, serial } = leaf;
        CertificateReport {
            hosts: vec![name.clone()],
            name,
            kind: CertificateKind::Issued,
            issuer,
            not_before,
            not_after,
            serial,
            origin: "issued on demand".into(),
        }
    }

    fn trusted(policy: &Policy, anchor: &Anchor) -> CertificateReport {
        let Anchor { subject, issuer, serial, not_before, not_after, .. } = anchor;
        CertificateReport {
            name: subject.clone(),
            kind: CertificateKind::Trusted,
            issuer: issuer.clone(),
            not_before: *not_before,
            not_after: *not_after,
            serial: serial.clone(),
            hosts: Vec::new(),
            origin: format!("trusted by {}", policy.label),
        }
    }

    fn client(policy: &Policy, client: Client) -> CertificateReport {
        let Client { subject, issuer, serial, names, not_before, not_after, last } = client;
        CertificateReport {
            name: subject,
            kind: CertificateKind::Client,
            issuer,
            not_before,
            not_after,
            serial,
            hosts: names,
            origin: format!("let in by {} at {last:.0}", policy.label),
        }
    }

    pub(super) fn configured(id: &ObjectId, loaded: &LoadedCertificate, desired: &Desired) -> CertificateReport {
        CertificateReport {
            name: id.to_string(),
            kind: CertificateKind::Configured,
            issuer: loaded.issuer.clone(),
            hosts: loaded.names().iter().map(ToString::to_string).collect(),
            not_before: loaded.not_before,
            not_after: loaded.not_after,
            serial: loaded.serial.clone(),
            origin: desired.certificates.get(id).map(|c| c.origin.to_string()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, Origin, Provider, Reason, Source};

    #[test]
    fn what_says_the_same_is_not_newer() {
        let at = |second: i64| View { changed: Timestamp::from_second(second).expect("a time"), ..View::default() };
        let time_of = |mut view: View| {
            view.keep_time_of(&at(1));
            view.changed.as_second()
        };
        assert_eq!(time_of(at(2)), 1);
        assert_eq!(time_of(View { generation: 1, ..at(2) }), 2);
        let id = ObjectId::new(&Source::new(Provider::File, None), Kind::Route, "r");
        let findings = Arc::new(vec![Diagnostic::error(id, Reason::Invalid, Origin::Default, "misspelt")]);
        assert_eq!(time_of(View { findings, ..at(2) }), 2);
    }
}
