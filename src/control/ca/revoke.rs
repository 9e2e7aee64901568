//! Taking a certificate back.

use std::path::Path;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::certificate::signed_by;
use super::store::Store;
use super::{CaError, CaOptions, Known};

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
    // It needs no key, and so nothing that the settings say of keys.
    let store = Store::new(dir, issuer, &CaOptions::default());
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

/// Who brings a whole chain proves by it what an intermediate signed that is not in use any more.
fn of_file(store: &Store, file: &str) -> Result<Known, CaError> {
    let wrong = |why: String| CaError::NotACertificate { certificate: file.into(), why };
    let pem = std::fs::read(file).map_err(|error| wrong(format!("cannot be read ({error})")))?;
    let der = CertificateDer::from_pem_slice(&pem).map_err(|error| wrong(format!("holds no certificate ({error})")))?;
    let certificate = Known::of(&der).map_err(wrong)?;
    if store.issued(&certificate.fingerprint)?.is_some() {
        return Ok(certificate);
    }
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&pem).skip(1).filter_map(Result::ok).collect();
    match store.signers(&chain).iter().any(|signer| signed_by(&der, signer)) {
        true => Ok(certificate),
        false => Err(wrong(format!("was not issued by the internal CA \"{}\"", store.issuer()))),
    }
}
