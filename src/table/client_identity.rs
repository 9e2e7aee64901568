//! Who Portolan is to endpoints that ask for a certificate.
//!
//! ```text
//! client of a service's tls ─▶ Shown: a pair of files, or an internal CA's certificate as it is at each handshake
//!                                └─▶ ShownKey: part of the terms under which connections are made and used
//! ```
//! A certificate of an internal CA is another one every day and the same identity all along: connections that are open
//! stay in use, and new ones show the new certificate. Files may hold anybody's, so another content is another identity.

use std::fmt;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use crate::model::service::ClientNames;

use super::content::ContentKey;
use super::tls::Issuer;

/// What is shown to an endpoint that asks.
#[derive(Clone)]
pub enum Shown {
    Configured(Arc<CertifiedKey>),
    Issued { issuer: Arc<dyn Issuer>, names: ClientNames },
}

/// Equal keys are one identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShownKey {
    Configured(ContentKey),
    /// The issuer by where it is in memory: whoever has the key in a table has the issuer as well, so that no other can
    /// be there meanwhile.
    Issued {
        issuer: usize,
        names: ClientNames,
    },
}

impl Shown {
    pub fn key(&self) -> ShownKey {
        match self {
            Shown::Configured(pair) => ShownKey::Configured(ContentKey::of(&pair.cert)),
            Shown::Issued { issuer, names } => {
                ShownKey::Issued { issuer: Arc::as_ptr(issuer).cast::<()>() as usize, names: names.clone() }
            }
        }
    }

    /// Whether it changes by itself.
    pub fn is_renewed(&self) -> bool {
        matches!(self, Shown::Issued { .. })
    }

    /// The certificate of this moment, or why there is none: then no connection is made, for an endpoint may take those
    /// who show nothing for somebody else.
    pub fn now(&self) -> Result<Arc<CertifiedKey>, String> {
        match self {
            Shown::Configured(pair) => Ok(pair.clone()),
            Shown::Issued { issuer, names } => issuer.client(names),
        }
    }
}

impl ResolvesClientCert for Shown {
    /// Whatever CAs the endpoint names: it may take more than it says, and says best itself what it does not take.
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.now().ok().filter(|pair| pair.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.key())
    }
}
