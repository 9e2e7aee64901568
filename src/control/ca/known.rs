//! What the CA remembers of a certificate: enough to revoke it, and to say what it was.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::model::certificate::hex;

/// Serial and fingerprint are lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub serial: String,
    /// SHA-256 of the whole certificate.
    pub fingerprint: String,
    /// Who signed it, as text.
    pub issuer: String,
    pub subject: String,
    /// As openssl writes them.
    pub names: Vec<String>,
    pub not_after: Timestamp,
}

impl Known {
    /// The error follows the name of the certificate.
    pub fn of(der: &[u8]) -> Result<Known, String> {
        let (_, certificate) =
            parse_x509_certificate(der).map_err(|error| format!("holds a broken certificate ({error})"))?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        Ok(Known {
            serial: serial_text(certificate.raw_serial()),
            fingerprint: hex(digest.as_ref()),
            issuer: certificate.issuer().to_string(),
            subject: certificate.subject().to_string(),
            names: names(&certificate),
            not_after: Timestamp::from_second(certificate.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX),
        })
    }

    /// `wanted` is lower-case hex, of a serial or of a fingerprint.
    pub fn is(&self, wanted: &str) -> bool {
        self.fingerprint == wanted || self.serial.trim_start_matches('0') == wanted.trim_start_matches('0')
    }
}

/// DER puts a zero before a first bit that is set; tools leave it out.
fn serial_text(raw: &[u8]) -> String {
    match raw {
        [0, rest @ ..] if !rest.is_empty() => hex(rest),
        raw => hex(raw),
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let shown = extension.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::URI(name) => format!("URI:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(v4), _) => format!("IP:{}", IpAddr::from(v4)),
            (_, Ok(v6)) => format!("IP:{}", IpAddr::from(v6)),
            _ => format!("IP:{}", hex(bytes)),
        },
        other => format!("{other}"),
    });
    shown.collect()
}
