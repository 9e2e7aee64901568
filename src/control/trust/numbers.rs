//! The highest number that each issuer's revocation list has had, so that an older list is never taken for a newer one.
//!
//! ```text
//! crl-numbers.json ─at the start─▶ CrlNumbers ─check, record─▶ crl-numbers.json (when a higher one is seen)
//! ```
//! Kept for each of our objects: whose list it is says the list itself, and what one author's list says of a CA's
//! numbers must not close another's. Lists without a number are told apart by when they were made.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, ParsedExtension};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::control::durable;
use crate::control::state::{StateDir, StateError};
use crate::model::certificate::hex;
use crate::model::id::ObjectId;
use crate::table::content::ContentKey;
use crate::table::revocation::RevocationList;

const FILE: &str = "crl-numbers.json";
/// Raised when a reader of the old form would misunderstand the new one.
const VERSION: u32 = 1;

/// By object, then by issuer: its name and its key, where the list says which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlNumbers {
    numbers: BTreeMap<String, BTreeMap<String, Number>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Number {
    issuer: String,
    /// Hex, two digits a byte, without leading zeros.
    number: String,
    this_update: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct File<N> {
    version: u32,
    #[serde(flatten)]
    numbers: N,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Number {
    fn of(list: &RevocationList) -> Number {
        Number { issuer: list.issuer_text.clone(), number: hex(&list.number), this_update: list.this_update }
    }

    fn rank(&self) -> (usize, &str, Timestamp) {
        (self.number.len(), &self.number, self.this_update)
    }

    fn text(&self) -> String {
        match self.number.is_empty() {
            true => format!("of {}", self.this_update),
            false => format!("number 0x{}, of {}", self.number, self.this_update),
        }
    }
}

impl CrlNumbers {
    /// Empty where none was ever stored. A damaged file is an error: an older list must not pass for it.
    pub fn load(state: &StateDir) -> Result<CrlNumbers, StateError> {
        let Some(bytes) = state.read(FILE)? else { return Ok(CrlNumbers::default()) };
        let damaged = |why: String| StateError::NumbersDamaged { path: state.path().join(FILE), why };
        // The version first: what a later one holds need not fit the struct.
        let Version { version } = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if version > VERSION {
            return Err(damaged(format!("it has version {version}, and this Portolan reads up to {VERSION}")));
        }
        let file: File<CrlNumbers> = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        Ok(file.numbers)
    }

    pub fn store(&self, state: &StateDir) -> Result<(), StateError> {
        let path = state.path().join(FILE);
        let mut text = serde_json::to_vec_pretty(&File { version: VERSION, numbers: self })
            .map_err(|error| StateError::Unwritable { path, source: error.into() })?;
        text.push(b'\n');
        state.write_atomic(FILE, &text, durable::PRIVATE)
    }

    /// Whether it is no older than what was seen.
    pub fn check(&self, id: &ObjectId, list: &RevocationList) -> Result<(), String> {
        let seen = self.numbers.get(&id.to_string()).and_then(|issuers| issuers.get(&issuer(list)));
        let now = Number::of(list);
        match seen.filter(|seen| now.rank() < seen.rank()) {
            None => Ok(()),
            Some(seen) => Err(format!(
                "the list of \"{}\" ({}) is older than one that was seen before ({}), and somebody may have come off it; \
                 get the present one, or, where the CA began to count anew, take the record out of {FILE} in the state \
                 directory and start again",
                now.issuer,
                now.text(),
                seen.text()
            )),
        }
    }

    /// `true` where it is higher than what was seen.
    pub fn record(&mut self, id: &ObjectId, list: &RevocationList) -> bool {
        let now = Number::of(list);
        let issuers = self.numbers.entry(id.to_string()).or_default();
        let higher = issuers.get(&issuer(list)).is_none_or(|seen| seen.rank() < now.rank());
        if higher {
            issuers.insert(issuer(list), now);
        }
        higher
    }
}

/// A CA that has a new key under its old name counts anew (RFC 5280 §5.2.1, §5.2.3).
fn issuer(list: &RevocationList) -> String {
    let parsed = CertificateRevocationList::from_der(&list.der);
    let key = parsed.ok().and_then(|(_, parsed)| {
        parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        })
    });
    let key = key.unwrap_or_default();
    hex(&ContentKey::of([&*list.issuer, &key[..]]).as_ref()[..16])
}
