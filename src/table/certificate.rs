//! A certificate that somebody configured, read and ready to be shown.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::sign::CertifiedKey;

use crate::model::host::HostPattern;

#[derive(Debug, Clone)]
pub struct LoadedCertificate {
    pub key: Arc<CertifiedKey>,
    /// The subject alternative names; addresses as exact hosts.
    pub names: Vec<HostPattern>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Lower-case hex.
    pub serial: String,
}

impl LoadedCertificate {
    /// RFC 9525 §6.3: a wildcard stands for one whole first label.
    pub fn covers(&self, host: &HostPattern) -> bool {
        *host != HostPattern::Any && self.names.iter().any(|name| name.covers(host))
    }
}
