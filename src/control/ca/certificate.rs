//! A certificate with its key, and what must be true of the pair before the CA signs with it.
//!
//! ```text
//! rcgen ─▶ Authority ◀─parse, check─ PEM
//! ```

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;

use super::constraints;
use super::sealed::{self, Passphrase, Unusable};
use crate::model::constraints::NameConstraints;

/// RFC 5280 §4.1.2.5: both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Validity {
    pub fn holds(self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// The moment at which two thirds of the time from `start` to `end` are over.
pub(in crate::control) fn two_thirds(start: Timestamp, end: Timestamp) -> Timestamp {
    let life = end.duration_since(start);
    start.checked_add(life / 3 * 2).unwrap_or(end)
}

/// `from + by`, or the end of time.
pub(in crate::control) fn later(from: Timestamp, by: std::time::Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| from.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

/// A CA certificate that may sign, and the key to do it with.
pub(super) struct Authority {
    pub certificate: CertificateDer<'static>,
    pub validity: Validity,
    /// What it may sign; of hosts alone.
    pub constraints: NameConstraints,
    pub issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority {{ {:?}, key: [redacted] }}", self.validity)
    }
}

impl Authority {
    /// `signer` is the certificate that must have signed this one; `None` where it is a root. The error says what is
    /// wrong, to follow the name of the file.
    pub fn new(
        certificate: CertificateDer<'static>,
        key: KeyPair,
        signer: Option<&Authority>,
    ) -> Result<Authority, String> {
        let (validity, constraints) = {
            let (_, parsed) = parse_x509_certificate(&certificate)
                .map_err(|error| format!("holds a broken certificate ({error})"))?;
            if parsed.public_key().raw != key.subject_public_key_info() {
                return Err("holds a certificate and a key that do not belong together".into());
            }
            if !parsed.is_ca() {
                return Err("holds a certificate that is not one of a CA".into());
            }
            let signer_der = signer.map_or(&certificate, |signer| &signer.certificate);
            let (_, signed_by) =
                parse_x509_certificate(signer_der).map_err(|error| format!("holds a broken certificate ({error})"))?;
            if !is_signed(&parsed, &signed_by) {
                return Err(match signer {
                    None => "holds a certificate that its own key did not sign".into(),
                    Some(_) => "holds a certificate that the root of this CA did not sign".into(),
                });
            }
            // Only a date at the very end of the year 9999 does not fit.
            let at =
                |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX);
            let validity =
                Validity { not_before: at(parsed.validity().not_before), not_after: at(parsed.validity().not_after) };
            (validity, constraints::read(&parsed)?)
        };
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| format!("cannot be used ({error})"))?;
        Ok(Authority { certificate, validity, constraints, issuer })
    }

    /// Reads a key and the certificate after it. And whether the key is encrypted.
    pub fn from_pem(
        pem: &[u8],
        signer: Option<&Authority>,
        passphrase: Option<&Passphrase>,
    ) -> Result<(Authority, bool), Unusable> {
        let sealed::Found { key, sealed } = sealed::read(pem, passphrase)?;
        let key =
            KeyPair::try_from(&key).map_err(|error| Unusable::Damaged(format!("holds a broken key ({error})")))?;
        let certificate = first_certificate(pem).map_err(Unusable::Damaged)?;
        Ok((Authority::new(certificate, key, signer).map_err(Unusable::Damaged)?, sealed))
    }

    /// What [`Authority::from_pem`] reads.
    pub fn to_pem(&self, passphrase: Option<&Passphrase>) -> Result<String, String> {
        Ok(sealed::write(self.issuer.key().serialized_der(), passphrase)? + &self.certificate_pem())
    }

    pub fn certificate_pem(&self) -> String {
        pem_text("CERTIFICATE", &self.certificate)
    }
}

/// Of a file with a key before it.
pub(super) fn first_certificate(pem: &[u8]) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem).map_err(|error| format!("holds no readable certificate ({error})"))
}

/// Whether `signer` signed it, by its name and its key.
pub(super) fn is_signed(certificate: &X509Certificate<'_>, signer: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == signer.subject().as_raw()
        && certificate.verify_signature(Some(signer.public_key())).is_ok()
}

/// [`is_signed`] of certificates that have not been read yet.
pub(super) fn signed_by(certificate: &[u8], signer: &[u8]) -> bool {
    matches!(
        (parse_x509_certificate(certificate), parse_x509_certificate(signer)),
        (Ok((_, certificate)), Ok((_, signer))) if is_signed(&certificate, &signer)
    )
}

/// RFC 7468 text.
pub fn pem_text(label: &str, der: &[u8]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), lines)
}
