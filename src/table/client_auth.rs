//! What a handshake asks of the client: nothing, a certificate, or one that some policy of the host verifies.
//!
//! ```text
//! candidates of a host, in order ─ClientAuth::of─▶ policies, refuses? ─▶ key ─▶ ServerConfig's verifier
//! ```
//! Who may come in is decided for each request, by its route's own policy. The handshake asks for a certificate if any
//! route of the host wants one, and sees to it that the client has its key. It refuses only where every route would:
//! elsewhere it takes any chain, for it cannot know which path will be asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;

use crate::model::schema::{ClientAuthMode, HandshakeMode};

use super::content::ContentKey;
use super::policy::{Policy, Unverified, algorithms};

/// The policies of one host, as its handshakes see them.
#[derive(Debug, Clone, Default)]
pub struct ClientAuth {
    policies: Vec<Arc<Policy>>,
    refuses: bool,
}

/// What must be equal for two hosts to share handshakes: roots, lists and modes, by content.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientAuthKey {
    policies: BTreeSet<ContentKey>,
    refuses: bool,
}

/// One route that may answer for a host.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'p> {
    /// All of them must hold. A route that is denied is no candidate.
    pub policies: &'p [Arc<Policy>],
    /// By a source that has no say in the host's handshakes.
    pub stranger: bool,
}

/// The names of CAs in a request for a certificate are at most this many bytes: beyond, a client is better asked for any.
const MOST_HINTS: usize = 16 * 1024;

impl ClientAuth {
    /// Of every route that can answer for the host.
    pub fn of<'p>(candidates: impl IntoIterator<Item = Candidate<'p>>) -> ClientAuth {
        let mut policies: Vec<Arc<Policy>> = Vec::new();
        let mut refuses = true;
        for Candidate { policies: own, stranger } in candidates {
            let required = own.iter().any(|policy| policy.rules.mode == ClientAuthMode::Require);
            let asks_only = own.iter().any(|policy| policy.rules.handshake == HandshakeMode::Ask);
            refuses &= required && !asks_only && !stranger;
            for policy in own.iter().filter(|policy| policy.asks() && !stranger) {
                if !policies.iter().any(|known| known.handshake_key == policy.handshake_key) {
                    policies.push(policy.clone());
                }
            }
        }
        refuses &= !policies.is_empty();
        ClientAuth { policies, refuses }
    }

    pub fn key(&self) -> ClientAuthKey {
        let policies = self.policies.iter().map(|policy| policy.handshake_key).collect();
        ClientAuthKey { policies, refuses: self.refuses }
    }

    /// Absent where nobody is asked for a certificate.
    pub(super) fn asking(self) -> Option<Asking> {
        (!self.policies.is_empty()).then(|| Asking {
            hints: hints(&self.policies),
            policies: self.policies.into(),
            refuses: self.refuses,
        })
    }
}

impl ClientAuthKey {
    #[cfg(test)]
    pub(super) fn testing(content: ContentKey) -> ClientAuthKey {
        ClientAuthKey { policies: BTreeSet::from([content]), refuses: false }
    }

    pub fn asks(&self) -> bool {
        !self.policies.is_empty()
    }

    pub fn refuses(&self) -> bool {
        self.refuses
    }
}

/// Where any certificate will do, no CA is named: a client sends none of a CA that it was not asked for.
fn hints(policies: &[Arc<Policy>]) -> Arc<[DistinguishedName]> {
    let any = |policy: &Arc<Policy>| matches!(policy.rules.mode, ClientAuthMode::Request | ClientAuthMode::RequireAny);
    if policies.iter().any(any) {
        return Arc::from([]);
    }
    let anchors = policies.iter().flat_map(|policy| policy.trust.anchors());
    let names: BTreeSet<&[u8]> = anchors.map(|anchor| &*anchor.trust.subject).collect();
    if names.iter().map(|name| name.len() + 8).sum::<usize>() > MOST_HINTS {
        return Arc::from([]);
    }
    names.into_iter().map(DistinguishedName::in_sequence).collect()
}

/// The part of a verifier that all handshakes of a key share.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    policies: Arc<[Arc<Policy>]>,
    hints: Arc<[DistinguishedName]>,
    refuses: bool,
}

/// What a handshake has found out about the client's chain: by what it was verified, and until when that holds.
pub type Found = Arc<OnceLock<(ContentKey, Timestamp)>>;

impl Asking {
    pub fn verifier(&self, found: Found) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Verifier { asking: self.clone(), found })
    }

    pub fn refuses(&self) -> bool {
        self.refuses
    }
}

/// The verifier of one handshake.
#[derive(Debug)]
struct Verifier {
    asking: Asking,
    found: Found,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.asking.refuses
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.asking.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !self.asking.refuses {
            // Its key is checked next, and what it is worth with every request.
            EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
            return Ok(ClientCertVerified::assertion());
        }
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(leaf).chain(intermediates).map(|der| CertificateDer::from(der.as_ref())).collect();
        let now = i64::try_from(now.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let now = now.unwrap_or(Timestamp::MAX);
        // Of several reasons the one that says most: that the issuer is unknown is true of every other policy as well.
        let mut why = Unverified::UnknownIssuer;
        for policy in self.asking.policies.iter().filter(|policy| policy.rules.mode == ClientAuthMode::Require) {
            match policy.trust.verify(&chain, now) {
                Ok(until) => {
                    let _ = self.found.set((policy.trust.key, until));
                    return Ok(ClientCertVerified::assertion());
                }
                Err(unverified) => why = why.max(unverified),
            }
        }
        Err(alert(why).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// The error whose alert (RFC 8446 §6.2) says it to the client.
fn alert(why: Unverified) -> CertificateError {
    match why {
        Unverified::UnknownIssuer | Unverified::TooLong => CertificateError::UnknownIssuer,
        Unverified::Broken => CertificateError::BadEncoding,
        Unverified::Purpose => CertificateError::InvalidPurpose,
        Unverified::ListInvalid | Unverified::ListStale => CertificateError::UnknownRevocationStatus,
        Unverified::NotYetValid => CertificateError::NotValidYet,
        Unverified::Expired => CertificateError::Expired,
        Unverified::Revoked => CertificateError::Revoked,
    }
}
