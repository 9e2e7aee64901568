//! Roots that were in force before: `retired.json` beside the keys.
//!
//! ```text
//! rotate ─under the CA's lock─▶ retired.json ─watched─▶ policies trust a retired root until its overlap ends
//!                                    └─ crosses ─▶ chains that lead from the new root to the old one
//! ```
//! Entries stay until the root itself ends: what was revoked under it stays so in any bundle that holds it. An entry for
//! the root that is in force is of a rotation that was cut short before its key was written, and means nothing.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::certificate::pem_text;

/// Raised when a reader of the old form would misunderstand the new one.
const VERSION: u32 = 1;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    pub certificate: CertificateDer<'static>,
    /// The root after it, signed by this one. `None` where there was no overlap.
    pub cross: Option<CertificateDer<'static>>,
    /// The end of the overlap, from which on nobody is trusted on its account.
    pub until: Timestamp,
    /// The root's own end.
    pub not_after: Timestamp,
}

/// Oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetiredRoots {
    pub entries: Vec<Retired>,
}

#[derive(Serialize, Deserialize)]
struct File<E> {
    version: u32,
    retired: E,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    until: Timestamp,
    not_after: Timestamp,
    certificate: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cross: Option<String>,
}

impl Retired {
    pub fn is_trusted(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

impl RetiredRoots {
    /// The error follows the name of the file.
    pub fn parse(bytes: &[u8]) -> Result<RetiredRoots, String> {
        let damaged = |error: serde_json::Error| format!("is damaged ({error})");
        // The version first: what a later one holds need not fit the struct.
        let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if version > VERSION {
            return Err(format!("has version {version} and this Portolan reads up to {VERSION}"));
        }
        let File { retired, .. }: File<Vec<Entry>> = serde_json::from_slice(bytes).map_err(damaged)?;
        let read = |text: &str| {
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| format!("is damaged ({error})"))
        };
        let entry = |Entry { until, not_after, certificate, cross }: Entry| {
            let cross = cross.as_deref().map(read).transpose()?;
            Ok(Retired { certificate: read(&certificate)?, cross, until, not_after })
        };
        Ok(RetiredRoots { entries: retired.into_iter().map(entry).collect::<Result<_, String>>()? })
    }

    pub(super) fn print(&self) -> Result<Vec<u8>, serde_json::Error> {
        let pem = |der: &CertificateDer<'_>| pem_text("CERTIFICATE", der);
        let entry = |Retired { certificate, cross, until, not_after }: &Retired| Entry {
            until: *until,
            not_after: *not_after,
            certificate: pem(certificate),
            cross: cross.as_ref().map(pem),
        };
        let entries: Vec<Entry> = self.entries.iter().map(entry).collect();
        let mut bytes = serde_json::to_vec_pretty(&File { version: VERSION, retired: entries })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub fn holds(&self, certificate: &CertificateDer<'_>) -> bool {
        self.entries.iter().any(|entry| entry.certificate == *certificate)
    }

    /// Those that are trusted still.
    pub fn trusted(&self, now: Timestamp) -> impl Iterator<Item = &Retired> {
        self.entries.iter().filter(move |entry| entry.is_trusted(now))
    }

    /// The next end of an overlap.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.trusted(now).map(|entry| entry.until).min()
    }

    /// What takes a chain from the root in force to the oldest one that is trusted still, from the newest on.
    pub(super) fn crosses(&self, now: Timestamp) -> Vec<CertificateDer<'static>> {
        let Some(oldest) = self.entries.iter().position(|entry| entry.is_trusted(now)) else { return Vec::new() };
        let path: Option<Vec<_>> = self.entries[oldest..].iter().rev().map(|entry| entry.cross.clone()).collect();
        path.unwrap_or_default()
    }

    /// Whatever ended by itself.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.entries.retain(|entry| now <= entry.not_after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(name: &str) -> CertificateDer<'static> {
        name.as_bytes().to_vec().into()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn retired(name: &str, until: i64) -> Retired {
        Retired { certificate: der(name), cross: Some(der(&format!("{name}'"))), until: at(until), not_after: at(100) }
    }

    #[test]
    fn a_root_is_trusted_until_its_overlap_ends_and_remembered_until_it_ends_itself() {
        let mut roots = RetiredRoots { entries: vec![retired("a", 30), retired("b", 20)] };
        let trusted = |now: i64| -> Vec<CertificateDer<'_>> {
            roots.trusted(at(now)).map(|entry| entry.certificate.clone()).collect()
        };
        assert_eq!([trusted(19), trusted(20), trusted(30)], [vec![der("a"), der("b")], vec![der("a")], vec![]]);
        assert_eq!([19, 20, 30].map(|now| roots.next_end(at(now))), [Some(at(20)), Some(at(30)), None]);
        // The way to the older one leads over the newer one, trusted or not.
        assert_eq!(roots.crosses(at(25)), [der("b'"), der("a'")]);
        assert_eq!(roots.crosses(at(30)), [] as [CertificateDer<'_>; 0]);
        roots.entries[1].cross = None;
        assert_eq!(roots.crosses(at(25)), [] as [CertificateDer<'_>; 0], "there is no way");
        roots.forget(at(100));
        assert_eq!(roots.entries.len(), 2);
        roots.forget(at(101));
        assert_eq!(roots.entries.len(), 0);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut roots = RetiredRoots { entries: vec![retired("a", 30), retired("b", 20)] };
        roots.entries[1].cross = None;
        assert_eq!(RetiredRoots::parse(&roots.print().expect("written")).expect("read"), roots);
        for (text, why) in [
            ("", "damaged"),
            ("{\"version\":1}", "damaged"),
            ("{\"version\":2}", "version 2"),
            (
                r#"{"version":1,"retired":[{"until":"2026-01-01T00:00:00Z","not_after":"2026-01-01T00:00:00Z","certificate":"x"}]}"#,
                "damaged",
            ),
        ] {
            assert!(RetiredRoots::parse(text.as_bytes()).expect_err(text).contains(why), "{text}");
        }
    }
}
