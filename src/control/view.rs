//! What there is to see: the one thing that everything reporting reads.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::diagnostic::Diagnostic;
use crate::model::id::{Name, ObjectId};
use crate::model::snapshot::ProviderReport;
use crate::reconcile::Desired;
use crate::table::certificate::LoadedCertificate;

use super::leaves::LeafReport;

/// One moment of the proxy. Replaced whole, never changed.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub generation: u64,
    pub desired: Arc<Desired>,
    pub findings: Arc<Vec<Diagnostic>>,
    pub providers: Vec<ProviderReport>,
    pub certificates: Vec<CertificateReport>,
    pub ready: bool,
    pub not_ready_because: Option<String>,
}

/// A certificate that clients may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateReport {
    pub name: String,
    /// `issued` by an issuer of Portolan's, or `configured`.
    pub kind: &'static str,
    pub issuer: String,
    pub hosts: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Lower-case hex.
    pub serial: String,
    /// Where a configured one was named.
    pub origin: Option<String>,
}

pub(super) fn issued(issuer: &Name, leaf: LeafReport) -> CertificateReport {
    let LeafReport { name, issuer: _, not_before, not_after, serial } = leaf;
    CertificateReport {
        hosts: vec![name.clone()],
        name,
        kind: "issued",
        issuer: issuer.to_string(),
        not_before,
        not_after,
        serial,
        origin: None,
    }
}

pub(super) fn configured(id: &ObjectId, loaded: &LoadedCertificate, desired: &Desired) -> CertificateReport {
    CertificateReport {
        name: id.to_string(),
        kind: "configured",
        issuer: String::new(),
        hosts: loaded.names().iter().map(ToString::to_string).collect(),
        not_before: loaded.not_before,
        not_after: loaded.not_after,
        serial: loaded.serial.clone(),
        origin: desired.certificates.get(id).map(|certificate| certificate.origin.to_string()),
    }
}
