//! What is in force now: the one value that the admin API, the metrics, object status and the CLI read.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::Diagnostic;
use crate::model::snapshot::ProviderReport;
use crate::reconcile::Desired;

/// Published after each turn, when the table that it describes is in force.
#[derive(Debug, Clone)]
pub struct View {
    /// Of the table.
    pub generation: u64,
    pub desired: Arc<Desired>,
    /// Of every stage, sorted.
    pub findings: Arc<Vec<Diagnostic>>,
    pub providers: Vec<ProviderReport>,
    pub certificates: Vec<CertificateReport>,
    pub ready: bool,
    /// What `/readyz` says while it is not.
    pub not_ready_because: Option<String>,
}

/// A certificate that handshakes are answered with.
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
}
