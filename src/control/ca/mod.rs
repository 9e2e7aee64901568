//! The internal CA of one issuer: a root for people to trust, an intermediate that signs, leaves by the day.
//!
//! ```text
//! <state_dir>/issuers/<name>/ ─open─▶ InternalCa ─issue_server─▶ Issued { chain: [leaf, intermediate], key, … }
//!                             ◀─store─ (first use; a new intermediate when the old one ages)
//! ```
//!
//! Root: ECDSA P-256, 10 years. Intermediate: P-256, 1 year, path length 0. Leaf: P-256, as long as the caller says.
//! The chain that is served never holds the root: who trusts it has it.

mod certificate;
mod issue;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use self::certificate::Authority;
pub use self::certificate::pem_text;
pub(super) use self::certificate::{later, two_thirds};
use self::store::Store;
use crate::model::HostPattern;
pub use crate::model::certificate::LeafName;

/// How long a leaf is valid after the moment of its issue, where nobody says otherwise.
pub const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(
        "the files of the internal CA \"{issuer}\" cannot be used: {}: {source}; see to space and permissions there",
        path.display()
    )]
    Io { issuer: String, path: PathBuf, source: io::Error },
    #[error("{} of the internal CA \"{issuer}\" {why}; restore it from a backup, or {otherwise}", path.display())]
    Damaged { issuer: String, path: PathBuf, why: String, otherwise: String },
    #[error(
        "the root of the internal CA \"{issuer}\", {}, expired at {at}; remove the directory {} to start a new CA, \
         whose root every client must then be given", path.display(), path.parent().unwrap_or(path).display()
    )]
    RootExpired { issuer: String, path: PathBuf, at: Timestamp },
    #[error("no certificate can carry the name \"{name}\": {why}")]
    Name { name: String, why: String },
    #[error("a certificate needs at least one name")]
    NoName,
    #[error("the internal CA \"{issuer}\" could not make a certificate: {why}")]
    Crypto { issuer: String, why: String },
}

impl FromStr for LeafName {
    type Err = CaError;

    fn from_str(raw: &str) -> Result<LeafName, CaError> {
        let refused = |why: String| CaError::Name { name: raw.into(), why };
        let host: HostPattern = raw.parse().map_err(refused)?;
        match LeafName::of(&host) {
            None => Err(refused("it stands for every name".into())),
            // The pattern checks what follows the wildcard; with it the name may be too long (RFC 1035 §2.3.4).
            Some(LeafName::Dns(name)) if name.len() > 253 => Err(refused("it is longer than 253 characters".into())),
            Some(name) => Ok(name),
        }
    }
}

/// A certificate fresh from the CA.
#[derive(Debug)]
pub struct Issued {
    /// Leaf first, then the intermediate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its Debug prints no key.
    pub key: PrivateKeyDer<'static>,
    /// Before the moment of issue, for clients whose clock is behind.
    pub not_before: Timestamp,
    /// Never after the intermediate's own.
    pub not_after: Timestamp,
    /// Lower-case hex, 32 digits.
    pub serial: String,
}

/// One issuer's CA, loaded. Shared by those who issue; the intermediate changes underneath.
#[derive(Debug)]
pub struct InternalCa {
    store: Store,
    root: Authority,
    intermediate: RwLock<Arc<Authority>>,
}

impl InternalCa {
    /// `dir` is the CA's own (`<state_dir>/issuers/<name>`); it is made, and filled, on first use. `name` stands in the
    /// subjects of root and intermediate.
    pub fn open(dir: &Path, name: &str) -> Result<InternalCa, CaError> {
        InternalCa::open_at(dir, name, Timestamp::now())
    }

    pub fn open_at(dir: &Path, name: &str, now: Timestamp) -> Result<InternalCa, CaError> {
        let store = Store::new(dir, name);
        let (root, intermediate) = store.load_or_create(now)?;
        let ca = InternalCa { store, root, intermediate: RwLock::new(Arc::new(intermediate)) };
        ca.renew(now)?;
        Ok(ca)
    }

    pub fn name(&self) -> &str {
        self.store.issuer()
    }

    /// The certificate for clients to trust.
    pub fn root_pem(&self) -> String {
        self.root.certificate_pem()
    }

    pub fn root_der(&self) -> &CertificateDer<'static> {
        &self.root.certificate
    }

    pub fn root_not_after(&self) -> Timestamp {
        self.root.validity.not_after
    }

    pub fn intermediate_not_after(&self) -> Timestamp {
        self.current().validity.not_after
    }

    /// A server certificate for all of `names`, valid for `ttl` from now on.
    pub fn issue_server(&self, names: &[LeafName], ttl: Duration) -> Result<Issued, CaError> {
        self.issue_server_at(names, ttl, Timestamp::now())
    }

    pub fn issue_server_at(&self, names: &[LeafName], ttl: Duration, now: Timestamp) -> Result<Issued, CaError> {
        let names = names.iter().map(|name| name.to_string().parse()).collect::<Result<Vec<LeafName>, CaError>>()?;
        if names.is_empty() {
            return Err(CaError::NoName);
        }
        let intermediate = self.intermediate_for(ttl, now)?;
        issue::server(self.name(), &intermediate, &names, ttl, now)
    }

    /// Makes a new intermediate where the present one ages, so that no handshake has to wait for the disk.
    pub fn renew(&self, now: Timestamp) -> Result<(), CaError> {
        self.intermediate_for(LEAF_LIFE, now).map(drop)
    }

    fn current(&self) -> Arc<Authority> {
        self.intermediate.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The intermediate to sign with. While an aging one cannot be replaced (a full disk, say) it goes on signing until
    /// it expires: a certificate that ends early is better than none.
    fn intermediate_for(&self, ttl: Duration, now: Timestamp) -> Result<Arc<Authority>, CaError> {
        let root = self.root.validity;
        if root.not_after <= now {
            return Err(CaError::RootExpired {
                issuer: self.name().into(),
                path: self.store.root(),
                at: root.not_after,
            });
        }
        let wanted = |held: &Authority| issue::intermediate_is_due(held, &self.root, ttl, now);
        if !wanted(&self.current()) {
            return Ok(self.current());
        }
        let mut held = self.intermediate.write().unwrap_or_else(PoisonError::into_inner);
        if !wanted(&held) {
            return Ok(held.clone());
        }
        match self.store.replace_intermediate(&self.root, wanted, now) {
            Ok(fresh) => *held = Arc::new(fresh),
            Err(error) if held.validity.holds(now) => {
                tracing::warn!(issuer = self.name(), %error, "the intermediate of the internal CA is not renewed");
            }
            Err(error) => return Err(error),
        }
        Ok(held.clone())
    }
}

#[cfg(test)]
mod tests;
