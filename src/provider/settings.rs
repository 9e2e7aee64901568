//! The settings as a provider of objects like any other: the listeners, and what stands beside the settings in the file.
//!
//! ```text
//! Loaded { listeners, objects } ──lower::document──▶ Snapshot
//! ```

use jiff::Timestamp;

use super::lower::{self, Author};
use crate::config::Loaded;
use crate::model::{Provider, Snapshot, Source};

pub fn snapshot(loaded: &Loaded) -> Snapshot {
    // Older than whatever a tenant has, and the same each time the file is read.
    let created = Timestamp::UNIX_EPOCH;
    let author = Author { source: Source::new(Provider::Settings, None), created, replica: None };
    let mut snapshot = lower::document(&loaded.objects, &author);
    snapshot.listeners.extend(loaded.listeners.iter().cloned());
    snapshot.findings.extend(loaded.findings.iter().cloned());
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::Reason;

    #[test]
    fn listeners_objects_and_findings_are_one_snapshot() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("portolan.yaml");
        let text = "providers: { api: {} }\nroutes: { shop: { host: a.example, mlts: x } }\ntcpRoutes: {}\n";
        std::fs::write(&file, text).expect("written");
        let loaded = config::load(Some(&file), std::iter::empty(), &[]).expect("valid");
        let snapshot = snapshot(&loaded);
        assert_eq!(snapshot.listeners.len(), 2);
        assert_eq!(snapshot.routes[0].id.to_string(), "settings/route/shop");
        let reasons: Vec<Reason> = snapshot.findings.iter().map(|finding| finding.reason).collect();
        assert_eq!(reasons, [Reason::UnknownField, Reason::NotSupportedYet]);
    }
}
