//! A new root in place of the old one.
//!
//! ```text
//! under the lock:  log ─▶ retired.json ─▶ root-key.pem ─▶ intermediate-key.pem ─▶ root.pem
//!                                        from here on the new root is in force
//! ```
//! The old root signs the new one (`Retired::cross`), and its key is gone with that. Who knows the old root alone verifies
//! what the new one signs over that cross until the overlap ends, and so does the cross itself. Whatever moment a crash
//! comes at, the files say either root, and the next who opens the CA makes the rest anew.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::certificate::later;
use super::known::Known;
use super::log::{Event, Line};
use super::retired::Retired;
use super::store::Store;
use super::{CaError, CaOptions, issue, log};

/// How long the old root is trusted beside the new one, where nobody says otherwise.
pub const OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);

/// What became of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    pub old: Known,
    pub new: Known,
    /// Until when the old root is trusted.
    pub until: Timestamp,
    /// Certificates on record that would live longer than that.
    pub cut_short: Vec<Known>,
}

/// Without an overlap every root before the new one is refused from now on, also one whose overlap is not over.
pub fn rotate(
    dir: &Path,
    issuer: &str,
    options: &CaOptions,
    overlap: Duration,
    now: Timestamp,
) -> Result<Rotation, CaError> {
    let store = Store::new(dir, issuer, options);
    if !dir.is_dir() {
        return Err(CaError::NoCa { issuer: issuer.into(), path: dir.into() });
    }
    store.rotate(overlap, now)
}

impl Store {
    fn rotate(&self, overlap: Duration, now: Timestamp) -> Result<Rotation, CaError> {
        let broken = |why: String| CaError::Crypto { issuer: self.issuer().into(), why };
        self.locked(|| {
            let mut before = self.mend(now)?;
            if let Some(until) = before.retired.trusted(now).map(|entry| entry.until).max()
                && !overlap.is_zero()
            {
                return Err(CaError::Overlapping { issuer: self.issuer().into(), until });
            }
            let root = issue::root(self.issuer(), self.options(), now)?;
            let old = &before.root;
            // One that has ended vouches for nobody.
            let overlap = if old.validity.not_after <= now { Duration::ZERO } else { overlap };
            let until = later(now, overlap).min(old.validity.not_after);
            let cross = match overlap.is_zero() {
                true => None,
                false => Some(issue::cross(self.issuer(), old, &root, until, now)?),
            };
            for entry in &mut before.retired.entries {
                entry.until = entry.until.min(now);
            }
            before.retired.forget(now);
            before.retired.entries.push(Retired {
                certificate: old.certificate.clone(),
                cross,
                until,
                not_after: old.validity.not_after,
            });
            let (old, new) = (Known::of(&old.certificate), Known::of(&root.certificate));
            let (old, new) = (old.map_err(broken)?, new.map_err(broken)?);
            self.append(Line {
                replaces: Some(old.serial.clone()),
                until: Some(until),
                ..Line::new(now, Event::RootRotated, new.clone())
            })?;
            self.store_retired(&before.retired)?;
            self.store_root(&root)?;
            self.create_intermediate(&root, now)?;
            self.store_public_root(&root)?;
            let cut_short = self.outliving(until, now)?;
            Ok(Rotation { old, new, until, cut_short })
        })
    }

    /// What the log has of certificates that are valid, not taken back, and end after `until`.
    fn outliving(&self, until: Timestamp, now: Timestamp) -> Result<Vec<Known>, CaError> {
        let bytes = self.log_bytes()?;
        let revoked = self.load_revoked(now)?;
        let taken_back =
            |known: &Known| revoked.entries.iter().any(|entry| entry.certificate.fingerprint == known.fingerprint);
        let issued = log::lines(&bytes).filter(|line| line.event == Event::Issued).map(|line| line.certificate);
        Ok(issued.filter(|known| known.not_after > until && !taken_back(known)).collect())
    }
}
