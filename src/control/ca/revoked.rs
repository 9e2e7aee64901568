//! The certificates that an internal CA has taken back: `revoked.json` beside its keys.
//!
//! ```text
//! revoke ─under the CA's lock─▶ revoked.json ─watched─▶ every policy that trusts this CA
//!                                    ▲
//!                                    └─ missing? made anew from the lines of the log
//! ```
//!
//! It is there from the CA's first day: an absent or broken one is no empty one. An entry is kept until its certificate
//! has ended. It needs no key: what must be taken back can be, even if the CA cannot sign any more.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::known::Known;
use super::log::{Event, Line};

/// Raised when a reader of the old form would misunderstand the new one.
const VERSION: u32 = 1;
/// After the end of a certificate, for clocks that do not agree about it.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    pub revoked_at: Timestamp,
    #[serde(flatten)]
    pub certificate: Known,
}

/// In order of revocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenyList {
    pub entries: Vec<Revoked>,
}

#[derive(Serialize, Deserialize)]
struct File<E> {
    version: u32,
    revoked: E,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl DenyList {
    /// The error follows the name of the file.
    pub fn parse(bytes: &[u8]) -> Result<DenyList, String> {
        let damaged = |error: serde_json::Error| format!("is damaged ({error})");
        // The version first: what a later one holds need not fit the struct.
        let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if version > VERSION {
            return Err(format!("has version {version} and this Portolan reads up to {VERSION}"));
        }
        let File { revoked, .. }: File<Vec<Revoked>> = serde_json::from_slice(bytes).map_err(damaged)?;
        Ok(DenyList { entries: revoked })
    }

    pub(super) fn print(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(&File { version: VERSION, revoked: &self.entries })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(super) fn from_log(lines: impl Iterator<Item = Line>, now: Timestamp) -> DenyList {
        let mut list = DenyList::default();
        for line in lines.filter(|line| line.event == Event::Revoked) {
            list.add(line.certificate, line.at);
        }
        list.forget(now);
        list
    }

    /// `false` where it stands there already.
    pub(super) fn add(&mut self, certificate: Known, now: Timestamp) -> bool {
        let new = !self.entries.iter().any(|entry| entry.certificate.fingerprint == certificate.fingerprint);
        if new {
            self.entries.push(Revoked { revoked_at: now, certificate });
        }
        new
    }

    /// Whatever ended a while ago.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.entries.retain(|entry| now.duration_since(entry.certificate.not_after) < GRACE);
    }
}
