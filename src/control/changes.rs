//! The log of findings: only what is new, and what is mended.

use std::collections::BTreeSet;

use crate::model::diagnostic::{Diagnostic, Severity};

#[derive(Debug, Default)]
pub struct Findings {
    known: BTreeSet<Diagnostic>,
}

impl Findings {
    pub fn log(&mut self, now: &[Diagnostic]) {
        let now: BTreeSet<Diagnostic> = now.iter().cloned().collect();
        for finding in now.difference(&self.known) {
            let Diagnostic { subject, reason, origin, detail, .. } = finding;
            match finding.severity {
                Severity::Error => tracing::error!(%subject, %reason, %origin, "{detail}"),
                Severity::Warning => tracing::warn!(%subject, %reason, %origin, "{detail}"),
                Severity::Info => tracing::info!(%subject, %reason, %origin, "{detail}"),
            }
        }
        for mended in self.known.difference(&now) {
            tracing::info!(subject = %mended.subject, reason = %mended.reason, "mended");
        }
        self.known = now;
    }
}
