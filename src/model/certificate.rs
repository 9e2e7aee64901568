//! Certificates that somebody configured, as opposed to those that an issuer makes.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::diagnostic::{Denial, Origin};
use super::host::HostPattern;
use super::id::ObjectId;

/// Names the files; what they hold is `material`'s, so that a snapshot on disk never carries a private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub id: ObjectId,
    pub origin: Origin,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub denied: Option<Denial>,
}

/// Lower-case hex, as serial numbers and fingerprints are written.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What [`hex`] wrote; `None` where it is none.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// A name as a server certificate carries it (subjectAltName, RFC 5280 §4.2.1.6).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeafName {
    /// Lower-case; `*.example.com` stands for one label.
    Dns(String),
    Ip(IpAddr),
}

impl LeafName {
    /// `None` for any host: that has no name to put into a certificate.
    pub fn of(host: &HostPattern) -> Option<LeafName> {
        host.certificate_name().map(|name| match name.parse() {
            Ok(address) => LeafName::Ip(address),
            Err(_) => LeafName::Dns(name),
        })
    }
}

impl fmt::Display for LeafName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeafName::Dns(name) => f.write_str(name),
            LeafName::Ip(address) => address.fmt(f),
        }
    }
}
