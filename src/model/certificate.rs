//! Certificates that somebody configured, as opposed to those that an issuer makes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diagnostic::{Denial, Origin};
use super::id::ObjectId;

/// Names the files; what they hold arrives as [`KeyPair`] from `material`, so that a snapshot on disk never carries a
/// private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub id: ObjectId,
    pub origin: Origin,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub denied: Option<Denial>,
}

/// The content of a certificate's two files at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// PEM, leaf first.
    pub chain: Arc<[u8]>,
    pub key: Secret,
}

/// Bytes that never reach a log, a report or a snapshot.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair {{ chain: {} bytes, key: {:?} }}", self.chain.len(), self.key)
    }
}

/// A name that a leaf certificate is made for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeafName {
    /// Lower-case; a wildcard is spelt `*.example.com`.
    Dns(Arc<str>),
    Ip(std::net::IpAddr),
}

impl LeafName {
    /// A host is an IP address where it reads as one.
    pub fn of(host: &str) -> LeafName {
        host.parse().map_or_else(|_| LeafName::Dns(host.into()), LeafName::Ip)
    }
}

impl fmt::Display for LeafName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeafName::Dns(name) => f.write_str(name),
            LeafName::Ip(ip) => ip.fmt(f),
        }
    }
}
