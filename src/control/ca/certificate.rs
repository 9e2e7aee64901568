//! A certificate with its key, and what must be true of the pair before the CA signs with it.
//!
//! ```text
//! rcgen ─▶ Authority ◀─parse, check─ PEM
//! ```

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::parse_x509_certificate;

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

    /// When two thirds of it are over.
    pub fn renewal(self) -> Timestamp {
        two_thirds(self.not_before, self.not_after)
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
        let validity = {
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
            if parsed.issuer().as_raw() != signed_by.subject().as_raw()
                || parsed.verify_signature(Some(signed_by.public_key())).is_err()
            {
                return Err(match signer {
                    None => "holds a certificate that its own key did not sign".into(),
                    Some(_) => "holds a certificate that the root of this CA did not sign".into(),
                });
            }
            // Only a date at the very end of the year 9999 does not fit.
            let at =
                |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX);
            Validity { not_before: at(parsed.validity().not_before), not_after: at(parsed.validity().not_after) }
        };
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| format!("cannot be used ({error})"))?;
        Ok(Authority { certificate, validity, issuer })
    }

    /// Reads a key and the certificate after it.
    pub fn from_pem(pem: &[u8], signer: Option<&Authority>) -> Result<Authority, String> {
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|error| format!("holds no readable key ({error})"))?;
        let key = KeyPair::try_from(&key).map_err(|error| format!("holds a broken key ({error})"))?;
        let certificate =
            CertificateDer::from_pem_slice(pem).map_err(|error| format!("holds no readable certificate ({error})"))?;
        Authority::new(certificate, key, signer)
    }

    /// What [`Authority::from_pem`] reads.
    pub fn to_pem(&self) -> String {
        pem_text("PRIVATE KEY", self.issuer.key().serialized_der()) + &self.certificate_pem()
    }

    pub fn certificate_pem(&self) -> String {
        pem_text("CERTIFICATE", &self.certificate)
    }
}

/// RFC 7468 text.
pub fn pem_text(label: &str, der: &[u8]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), lines)
}
