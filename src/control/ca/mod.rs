//! The internal CA of one issuer: a root for people to trust, an intermediate that signs, leaves by the day.
//!
//! ```text
//! <state_dir>/issuers/<name>/ ─open─▶ InternalCa ─issue_server, issue─▶ Issued { chain: [leaf, intermediate], key, … }
//!                             ◀─store─ (first use; a new intermediate when the old one ages; a line for each issue)
//!                             ◀─revoke─ serial, fingerprint or file ─▶ revoked.json ─┐
//!                             ◀─rotate─ a new root, vouched for by the old one ──────┴─▶ a running proxy follows
//! ```
//!
//! Every write is made under the lock of the CA's own directory, which is held for that long only: commands and a running
//! proxy share a CA.
//!
//! Root: ECDSA P-256, 10 years, path length 2. Intermediate: P-256, 1 year unless the settings say otherwise, path length 0.
//! Leaf: P-256, as long as the caller says. The chain that is served never holds a root: who trusts it has it.

mod certificate;
mod constraints;
mod error;
mod issue;
mod known;
mod log;
mod name;
mod pkcs12;
mod retired;
mod revoke;
mod revoked;
mod rotate;
mod sealed;
mod store;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub(super) use self::certificate::later;
pub use self::certificate::pem_text;
pub use self::error::CaError;
pub use self::known::Known;
pub use self::name::{LeafRequest, Purposes, San};
pub use self::pkcs12::pkcs12;
pub use self::retired::{Retired, RetiredRoots};
pub use self::revoke::{Revocation, revoke};
pub use self::revoked::{DenyList, Revoked};
pub use self::rotate::{OVERLAP, Rotation, rotate};
pub use self::sealed::Passphrase;
use self::store::{Signing, Store};
use crate::model::HostPattern;
pub use crate::model::certificate::LeafName;
use crate::model::constraints::NameConstraints;

/// How long a leaf is valid after the moment of its issue, where nobody says otherwise.
pub const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long an intermediate is valid, where nobody says otherwise.
pub const INTERMEDIATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the settings say of a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaOptions {
    /// Of leaves that handshakes ask for.
    pub leaf_life: Duration,
    pub intermediate_life: Duration,
    pub constraints: NameConstraints,
    /// Its one line encrypts the keys.
    pub passphrase_file: Option<PathBuf>,
}

impl Default for CaOptions {
    fn default() -> CaOptions {
        CaOptions {
            leaf_life: LEAF_LIFE,
            intermediate_life: INTERMEDIATE_LIFE,
            constraints: NameConstraints::default(),
            passphrase_file: None,
        }
    }
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
    /// Leaf first, then the intermediate; in an overlap also what leads from the root in force to the one before it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its Debug prints no key.
    pub key: PrivateKeyDer<'static>,
    /// Before the moment of issue, for clients whose clock is behind.
    pub not_before: Timestamp,
    /// Never after the intermediate's own.
    pub not_after: Timestamp,
    /// From then on another should take its place: two thirds of its life are over, or its chain is another.
    pub renewal: Timestamp,
    /// Lower-case hex, 32 digits.
    pub serial: String,
}

/// What others read of a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFiles {
    pub root: PathBuf,
    /// The roots before it.
    pub retired: PathBuf,
    pub revoked: PathBuf,
}

/// What there is to trust of a CA, by its public files alone: nothing is written, and no key is read.
#[derive(Debug)]
pub struct Trusted {
    /// The root in force first; in an overlap the one before it as well.
    pub roots: Vec<CertificateDer<'static>>,
    /// Of the root in force.
    pub file: PathBuf,
}

pub fn trusted(dir: &Path, issuer: &str, now: Timestamp) -> Result<Trusted, CaError> {
    let store = Store::new(dir, issuer, &CaOptions::default());
    let roots = store.trusted(now)?;
    let none = || CaError::NoCa { issuer: issuer.into(), path: dir.into() };
    roots.map(|roots| Trusted { roots, file: store.root() }).ok_or_else(none)
}

/// One issuer's CA, loaded. Shared by those who issue; intermediate and root change underneath.
#[derive(Debug)]
pub struct InternalCa {
    store: Store,
    signing: RwLock<Arc<Signing>>,
    roots: AtomicU64,
}

impl InternalCa {
    /// `dir` is the CA's own (`<state_dir>/issuers/<name>`); it is made, and filled, on first use. `name` stands in the
    /// subjects of root and intermediate.
    pub fn open(dir: &Path, name: &str) -> Result<InternalCa, CaError> {
        InternalCa::open_at(dir, name, Timestamp::now())
    }

    pub fn open_at(dir: &Path, name: &str, now: Timestamp) -> Result<InternalCa, CaError> {
        InternalCa::open_with(dir, name, &CaOptions::default(), now)
    }

    pub fn open_with(dir: &Path, name: &str, options: &CaOptions, now: Timestamp) -> Result<InternalCa, CaError> {
        let store = Store::new(dir, name, options);
        let signing = RwLock::new(Arc::new(store.load_or_create(now)?));
        let ca = InternalCa { store, signing, roots: AtomicU64::new(0) };
        ca.renew(now)?;
        Ok(ca)
    }

    pub fn name(&self) -> &str {
        self.store.issuer()
    }

    pub fn options(&self) -> &CaOptions {
        self.store.options()
    }

    /// For clients to trust: the root in force, and in an overlap the one before it.
    pub fn trusted_pem(&self, now: Timestamp) -> String {
        self.trusted(now).iter().map(|root| pem_text("CERTIFICATE", root)).collect()
    }

    /// The root in force first.
    pub fn trusted(&self, now: Timestamp) -> Vec<CertificateDer<'static>> {
        let signing = self.current();
        let before = signing.retired.trusted(now).map(|retired| retired.certificate.clone());
        [signing.root.certificate.clone()].into_iter().chain(before).collect()
    }

    /// When [`InternalCa::trusted`] is the next time another by itself.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.current().retired.next_end(now)
    }

    /// The root in force.
    pub fn root_pem(&self) -> String {
        self.current().root.certificate_pem()
    }

    pub fn root_der(&self) -> CertificateDer<'static> {
        self.current().root.certificate.clone()
    }

    pub fn root_not_after(&self) -> Timestamp {
        self.current().root.validity.not_after
    }

    pub fn intermediate_not_after(&self) -> Timestamp {
        self.current().intermediate.validity.not_after
    }

    /// Counts the roots that this process has seen in force here: what an earlier one led to should be issued anew.
    pub fn roots(&self) -> u64 {
        self.roots.load(Ordering::Acquire)
    }

    /// The certificate of the root, for clients; those before it; and what is taken back. A running proxy follows the files.
    pub fn trust_files(&self) -> TrustFiles {
        TrustFiles { root: self.store.root(), retired: self.store.retired(), revoked: self.store.revoked() }
    }

    /// Any certificate, valid for `ttl` from now on, or until the intermediate ends, and on record in the CA's log.
    pub fn issue(&self, request: &LeafRequest, ttl: Duration, now: Timestamp) -> Result<Issued, CaError> {
        request.check()?;
        if ttl.as_secs() == 0 {
            return Err(CaError::NoLife);
        }
        let signing = self.signing_for(ttl, now)?;
        self.check(&signing, request)?;
        let issued = issue::leaf(self.name(), &signing, request, ttl, now)?;
        let known = Known::of(&issued.chain[0]);
        let known = known.map_err(|why| CaError::Crypto { issuer: self.name().into(), why })?;
        self.store.record_issued(known, now)?;
        Ok(issued)
    }

    /// A server certificate for all of `names`, valid for `ttl` from now on. The proxy asks for it in a handshake, which
    /// waits for no disk: it is on no record yet ([`InternalCa::record_on_demand`]), and of no use to a client.
    pub fn issue_server(&self, names: &[LeafName], ttl: Duration) -> Result<Issued, CaError> {
        self.issue_server_at(names, ttl, Timestamp::now())
    }

    pub fn issue_server_at(&self, names: &[LeafName], ttl: Duration, now: Timestamp) -> Result<Issued, CaError> {
        let names = names.iter().map(|name| name.to_string().parse()).collect::<Result<Vec<LeafName>, CaError>>()?;
        let request = LeafRequest::server(&names);
        request.check()?;
        let signing = self.signing_for(ttl, now)?;
        self.check(&signing, &request)?;
        issue::leaf(self.name(), &signing, &request, ttl, now)
    }

    /// Puts certificates that handshakes asked for on record, after the fact.
    pub fn record_on_demand(&self, issued: Vec<(Timestamp, Known)>) -> Result<(), CaError> {
        self.store.record_on_demand(issued)
    }

    /// Whether a certificate for this host keeps to the name constraints.
    pub fn permits(&self, name: &LeafName) -> Result<(), CaError> {
        self.check(&self.current(), &LeafRequest::server(std::slice::from_ref(name)))
    }

    /// Makes a new intermediate where the present one ages, so that no handshake has to wait for the disk.
    pub fn renew(&self, now: Timestamp) -> Result<(), CaError> {
        self.signing_for(self.options().leaf_life, now).map(drop)
    }

    /// Whether these files, of the root and of those before it, say what is in force here.
    pub fn agrees_with(&self, root: &[u8], retired: &[u8]) -> bool {
        let signing = self.current();
        root == signing.root.certificate_pem().as_bytes()
            && RetiredRoots::parse(retired).is_ok_and(|retired| retired == signing.retired)
    }

    /// Takes over what another process has made of the files.
    pub fn follow(&self, now: Timestamp) -> Result<(), CaError> {
        // Read before the lock is taken: handshakes wait for it.
        let fresh = self.store.load_or_create(now)?;
        self.put(&mut self.signing.write().unwrap_or_else(PoisonError::into_inner), fresh);
        Ok(())
    }

    fn check(&self, signing: &Signing, request: &LeafRequest) -> Result<(), CaError> {
        constraints::check(self.name(), &self.options().constraints, false, request)?;
        constraints::check(self.name(), &signing.root.constraints, true, request)
    }

    fn current(&self) -> Arc<Signing> {
        self.signing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, held: &mut Arc<Signing>, fresh: Signing) {
        if held.root.certificate != fresh.root.certificate || held.retired != fresh.retired {
            self.roots.fetch_add(1, Ordering::Release);
        }
        *held = Arc::new(fresh);
    }

    /// What to sign with. While an aging intermediate cannot be replaced (a full disk, say) it goes on signing until it
    /// expires: a certificate that ends early is better than none.
    fn signing_for(&self, ttl: Duration, now: Timestamp) -> Result<Arc<Signing>, CaError> {
        let wanted =
            |held: &Signing| issue::intermediate_is_due(&held.intermediate, &held.root, self.options(), ttl, now);
        let current = self.current();
        if !wanted(&current) {
            return self.unexpired(current, now);
        }
        let mut held = self.signing.write().unwrap_or_else(PoisonError::into_inner);
        if !wanted(&held) {
            return self.unexpired(held.clone(), now);
        }
        match self.store.replace_intermediate(wanted, now) {
            Ok(fresh) => self.put(&mut held, fresh),
            Err(error) if held.intermediate.validity.holds(now) => {
                tracing::warn!(issuer = self.name(), %error, "the intermediate of the internal CA is not renewed");
            }
            Err(error) => return Err(error),
        }
        self.unexpired(held.clone(), now)
    }

    fn unexpired(&self, signing: Arc<Signing>, now: Timestamp) -> Result<Arc<Signing>, CaError> {
        match signing.root.validity.not_after {
            at if at <= now => Err(CaError::RootExpired { issuer: self.name().into(), path: self.store.root(), at }),
            _ => Ok(signing),
        }
    }
}

#[cfg(test)]
mod tests;
