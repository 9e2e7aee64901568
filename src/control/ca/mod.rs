//! The internal CA of one issuer: a root for people to trust, an intermediate that signs, leaves by the day.
//!
//! ```text
//! <state_dir>/issuers/<name>/ ─open─▶ InternalCa ─issue_server, issue─▶ Issued { chain: [leaf, intermediate], key, … }
//!                             ◀─store─ (first use; a new intermediate when the old one ages; a line for each issue)
//!                             ◀─revoke─ serial, fingerprint or file ─▶ revoked.json, which a running proxy follows
//! ```
//!
//! Every write is made under the lock of the CA's own directory, which is held for that long only: commands and a running
//! proxy share a CA.
//!
//! Root: ECDSA P-256, 10 years. Intermediate: P-256, 1 year, path length 0. Leaf: P-256, as long as the caller says.
//! The chain that is served never holds the root: who trusts it has it.

mod certificate;
mod issue;
mod known;
mod log;
mod name;
mod pkcs12;
mod revoked;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::parse_x509_certificate;

use self::certificate::Authority;
pub use self::certificate::pem_text;
pub(super) use self::certificate::{later, two_thirds};
pub use self::known::Known;
pub use self::name::{LeafRequest, Purposes, San};
pub use self::pkcs12::pkcs12;
pub use self::revoked::{DenyList, Revoked};
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
    #[error("a certificate needs at least one name; give it a --dns, --ip, --uri or --email name, or a client a --cn")]
    NoName,
    #[error(
        "clients look for a server by its host; give the certificate a --dns or --ip name, or make it one for clients"
    )]
    NoHost,
    #[error("a certificate that ends when it begins is none; give it a life with --ttl, such as 24h")]
    NoLife,
    #[error(
        "there is no internal CA \"{issuer}\" in {}; name another with --issuer, or the state directory of the proxy \
         with --config or PORTOLAN_STATE_DIR", path.display()
    )]
    NoCa { issuer: String, path: PathBuf },
    #[error(
        "the internal CA \"{issuer}\" has no certificate {certificate} in its log, {}; look it up there, or give the \
         file of the certificate instead", path.display()
    )]
    NotIssued { issuer: String, certificate: String, path: PathBuf },
    #[error("{certificate} {why}; write a serial number, a SHA-256 fingerprint or the file of a certificate")]
    NotACertificate { certificate: String, why: String },
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

/// What others read of a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFiles {
    pub root: PathBuf,
    pub revoked: PathBuf,
}

/// What became of a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub certificate: Known,
    /// `false`: it was revoked before.
    pub new: bool,
}

/// Takes back the certificate that `wanted` means: the serial number or SHA-256 fingerprint of one that the log knows, or
/// the file of any that this CA has signed. Needs no key of the CA.
pub fn revoke(dir: &Path, issuer: &str, wanted: &str, now: Timestamp) -> Result<Revocation, CaError> {
    let store = Store::new(dir, issuer);
    if !dir.is_dir() {
        return Err(CaError::NoCa { issuer: issuer.into(), path: dir.into() });
    }
    let certificate = match number(wanted) {
        Some(number) => store.issued(&number)?.ok_or_else(|| CaError::NotIssued {
            issuer: issuer.into(),
            certificate: wanted.into(),
            path: store.log(),
        })?,
        None => of_file(&store, wanted)?,
    };
    let new = store.revoke(&certificate, now)?;
    Ok(Revocation { certificate, new })
}

/// Lower-case hex, of what openssl, browsers and Portolan show.
fn number(raw: &str) -> Option<String> {
    let digits: String = raw.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    let digits = digits.strip_prefix("0x").unwrap_or(&digits).to_ascii_lowercase();
    let hex = !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.then_some(digits)
}

fn of_file(store: &Store, file: &str) -> Result<Known, CaError> {
    let wrong = |why: String| CaError::NotACertificate { certificate: file.into(), why };
    let pem = std::fs::read(file).map_err(|error| wrong(format!("cannot be read ({error})")))?;
    let der = CertificateDer::from_pem_slice(&pem).map_err(|error| wrong(format!("holds no certificate ({error})")))?;
    let certificate = Known::of(&der).map_err(wrong)?;
    if store.issued(&certificate.fingerprint)?.is_some() {
        return Ok(certificate);
    }
    let signed = store.intermediate_certificate().is_some_and(|intermediate| {
        let (leaf, signer) = (parse_x509_certificate(&der), parse_x509_certificate(&intermediate));
        matches!((leaf, signer), (Ok((_, leaf)), Ok((_, signer)))
            if leaf.verify_signature(Some(signer.public_key())).is_ok())
    });
    match signed {
        true => Ok(certificate),
        false => Err(wrong(format!("was not issued by the internal CA \"{}\"", store.issuer()))),
    }
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

    /// The certificate of the root, for clients; and what is taken back. A running proxy follows both files.
    pub fn trust_files(&self) -> TrustFiles {
        TrustFiles { root: self.store.root(), revoked: self.store.revoked() }
    }

    /// Any certificate, valid for `ttl` from now on, or until the intermediate ends, and on record in the CA's log.
    pub fn issue(&self, request: &LeafRequest, ttl: Duration, now: Timestamp) -> Result<Issued, CaError> {
        request.check()?;
        if ttl.as_secs() == 0 {
            return Err(CaError::NoLife);
        }
        let issued = issue::leaf(self.name(), &*self.intermediate_for(ttl, now)?, request, ttl, now)?;
        let known = Known::of(&issued.chain[0]);
        let known = known.map_err(|why| CaError::Crypto { issuer: self.name().into(), why })?;
        self.store.record_issued(known, now)?;
        Ok(issued)
    }

    /// A server certificate for all of `names`, valid for `ttl` from now on. The proxy asks for it in a handshake, which
    /// waits for no disk: it is on no record, and of no use to a client.
    pub fn issue_server(&self, names: &[LeafName], ttl: Duration) -> Result<Issued, CaError> {
        self.issue_server_at(names, ttl, Timestamp::now())
    }

    pub fn issue_server_at(&self, names: &[LeafName], ttl: Duration, now: Timestamp) -> Result<Issued, CaError> {
        let names = names.iter().map(|name| name.to_string().parse()).collect::<Result<Vec<LeafName>, CaError>>()?;
        let request = LeafRequest::server(&names);
        request.check()?;
        issue::leaf(self.name(), &*self.intermediate_for(ttl, now)?, &request, ttl, now)
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
