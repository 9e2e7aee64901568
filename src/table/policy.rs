//! A client-certificate policy as it is enforced: whose certificates are verified, by what, and who of them may come in.
//!
//! ```text
//! peer's chain ─verify─▶ to a root of its own bundles, not revoked ─allow─▶ Verdict, and until when it holds
//! ```
//! The same verification serves the handshake, where a host refuses there already, and every request. A verdict is worth
//! as long as nothing in it changes by itself: until the first certificate of the verified chain ends, its root
//! included, or until a revocation list that denies when it is stale is so.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::parse_x509_certificate;

use crate::model::id::ObjectId;
use crate::model::mtls::ClientRules;
use crate::model::schema::{ClientAuthMode, HandshakeMode, StaleList};

use super::content::ContentKey;
use super::identity::Identity;
use super::peer::Peer;
use super::revocation::{LoadedLists, RevocationList};
use super::seen::Seen;
use super::trust::{Anchor, LoadedBundle, Withdrawn};

/// How long a refusal is remembered: its reason may be over by itself, and asking again costs signatures.
const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(1);

/// Compiled from a policy of which everything could be had.
#[derive(Debug)]
pub struct Policy {
    pub id: ObjectId,
    pub label: Arc<str>,
    pub rules: ClientRules,
    pub trust: ClientTrust,
    /// Everything that decides: equal keys, equal verdicts.
    pub key: ContentKey,
    /// What the handshake has to do with: mode, roots and lists.
    pub handshake_key: ContentKey,
    pub seen: Seen,
}

/// What a chain is verified by.
#[derive(Debug)]
pub struct ClientTrust {
    /// The one that lasts longest first.
    anchors: Vec<Arc<Anchor>>,
    /// The same in the same order, as the library takes them.
    roots: Vec<TrustAnchor<'static>>,
    withdrawn: Vec<Arc<LoadedBundle>>,
    /// Of one issuer's several the highest number first, which is the one that counts.
    lists: Vec<(Arc<RevocationList>, StaleList)>,
    depth: Option<u8>,
    /// Equal keys verify the same chains.
    pub key: ContentKey,
}

/// Why a chain is not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unverified {
    /// To none of the roots.
    UnknownIssuer,
    Broken,
    TooLong,
    /// It is not for clients (extendedKeyUsage), or its issuer may not issue it.
    Purpose,
    /// The revocation list of its issuer is not signed by it, or says nothing that can be understood.
    ListInvalid,
    ListStale,
    NotYetValid,
    Expired,
    Revoked,
}

/// Why a policy refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NoCertificate,
    Unverified(Unverified),
    NotAllowed,
}

/// Whom a policy lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Whoever it is: nothing was verified that would tell.
    Anonymous,
    /// Its certificate is verified, and allowed.
    Identified,
}

/// What a policy says of a peer, and until when, that moment included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: Result<Admitted, Refusal>,
    pub until: Timestamp,
}

impl Policy {
    pub fn new(
        id: ObjectId,
        rules: ClientRules,
        bundles: Vec<Arc<LoadedBundle>>,
        lists: Vec<(Arc<LoadedLists>, StaleList)>,
    ) -> Policy {
        let trust = ClientTrust::new(bundles, lists, rules.depth);
        let rules_text = format!("{rules:?}");
        let key = ContentKey::of([rules_text.as_bytes(), trust.key.as_ref()]);
        let handshake_text = format!("{:?} {:?}", rules.mode, rules.handshake);
        let handshake_key = ContentKey::of([handshake_text.as_bytes(), trust.key.as_ref()]);
        Policy { label: id.to_string().into(), id, rules, trust, key, handshake_key, seen: Seen::default() }
    }

    /// Whether the handshake has to ask for a certificate on its account.
    pub fn asks(&self) -> bool {
        self.rules.mode != ClientAuthMode::Off
    }

    /// Whether nobody gets in without a verified certificate, so that the handshake may refuse already.
    pub fn may_refuse_in_handshake(&self) -> bool {
        self.rules.mode == ClientAuthMode::Require && self.rules.handshake == HandshakeMode::Refuse
    }

    /// The table of modes.
    pub fn judge(&self, peer: &Peer, now: Timestamp) -> Verdict {
        let always = |outcome| Verdict { outcome, until: Timestamp::MAX };
        let refused = |refusal| Verdict {
            outcome: Err(refusal),
            until: now.saturating_add(REFUSED_FOR).unwrap_or(Timestamp::MAX),
        };
        let given = !peer.chain().is_empty();
        match self.rules.mode {
            ClientAuthMode::Off | ClientAuthMode::Request => always(Ok(Admitted::Anonymous)),
            ClientAuthMode::RequireAny if given => always(Ok(Admitted::Anonymous)),
            ClientAuthMode::VerifyIfGiven if !given => always(Ok(Admitted::Anonymous)),
            ClientAuthMode::RequireAny => always(Err(Refusal::NoCertificate)),
            ClientAuthMode::Require if !given => always(Err(Refusal::NoCertificate)),
            ClientAuthMode::VerifyIfGiven | ClientAuthMode::Require => {
                let until = match peer.verified(&self.trust, now) {
                    Ok(until) => until,
                    Err(unverified) => return refused(Refusal::Unverified(unverified)),
                };
                match peer.identity() {
                    Err(_) => refused(Refusal::Unverified(Unverified::Broken)),
                    Ok(identity) if !self.allows(identity) => refused(Refusal::NotAllowed),
                    Ok(identity) => {
                        self.seen.note(identity, now);
                        Verdict { outcome: Ok(Admitted::Identified), until }
                    }
                }
            }
        }
    }

    fn allows(&self, identity: &Identity) -> bool {
        self.rules.allow.as_ref().is_none_or(|entries| entries.iter().any(|entry| identity.satisfies(entry)))
    }
}

/// By content: what a route entry is carried over by.
impl PartialEq for Policy {
    fn eq(&self, other: &Policy) -> bool {
        (&self.id, self.key) == (&other.id, other.key)
    }
}

impl ClientTrust {
    pub fn new(
        bundles: Vec<Arc<LoadedBundle>>,
        lists: Vec<(Arc<LoadedLists>, StaleList)>,
        depth: Option<u8>,
    ) -> ClientTrust {
        let mut anchors: Vec<Arc<Anchor>> = Vec::new();
        for anchor in bundles.iter().flat_map(|bundle| &bundle.anchors) {
            if !anchors.iter().any(|known| known.der == anchor.der) {
                anchors.push(anchor.clone());
            }
        }
        anchors.sort_by(|a, b| (b.not_after, &*a.der).cmp(&(a.not_after, &*b.der)));
        let mut flat: Vec<(Arc<RevocationList>, StaleList)> =
            lists.iter().flat_map(|(loaded, stale)| loaded.lists.iter().map(|list| (list.clone(), *stale))).collect();
        flat.sort_by(|(a, _), (b, _)| {
            (&a.issuer, b.number(), b.this_update, &a.der).cmp(&(&b.issuer, a.number(), a.this_update, &b.der))
        });
        let depth_text = format!("depth {depth:?}");
        let bundle_keys = bundles.iter().map(|bundle| bundle.key.as_ref().to_vec());
        let list_keys =
            lists.iter().map(|(loaded, stale)| [loaded.key.as_ref(), format!("{stale:?}").as_bytes()].concat());
        let mut parts: Vec<Vec<u8>> = bundle_keys.collect();
        parts.sort_unstable();
        parts.dedup();
        let mut list_keys: Vec<Vec<u8>> = list_keys.collect();
        list_keys.sort_unstable();
        list_keys.dedup();
        parts.push(b"lists".to_vec());
        parts.extend(list_keys);
        parts.push(depth_text.into_bytes());
        let withdrawn = bundles.into_iter().filter(|bundle| bundle.withdrawn != Withdrawn::default()).collect();
        ClientTrust {
            roots: anchors.iter().map(|anchor| anchor.trust.clone()).collect(),
            anchors,
            withdrawn,
            lists: flat,
            depth,
            key: ContentKey::of(parts),
        }
    }

    pub fn anchors(&self) -> &[Arc<Anchor>] {
        &self.anchors
    }

    /// Names of CAs of which a certificate may be without a list that would say that it is revoked.
    pub fn without_list(&self) -> Vec<&str> {
        let listed = |anchor: &Anchor| self.lists.iter().any(|(list, _)| *list.issuer == *anchor.trust.subject);
        self.anchors.iter().filter(|anchor| !listed(anchor)).map(|anchor| &*anchor.subject).collect()
    }

    /// The client's own certificate first. Returns until when it is verified.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Timestamp, Unverified> {
        self.walk(chain, now, |_| {})
    }

    /// What of a chain is verified: the client's own certificate, and those by which it leads to a root.
    pub fn path(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, Unverified> {
        let mut path = Vec::new();
        self.walk(chain, now, |der| path.push(der.clone().into_owned()))?;
        Ok(path)
    }

    fn walk(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
        mut on_path: impl FnMut(&CertificateDer<'_>),
    ) -> Result<Timestamp, Unverified> {
        let Some((leaf, intermediates)) = chain.split_first() else { return Err(Unverified::Broken) };
        let leaf = EndEntityCert::try_from(leaf).map_err(|_| Unverified::Broken)?;
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));

        // Sorted by their end. One that is not valid yet is rare enough to be sorted out at a cost.
        let lasting = self.anchors.partition_point(|anchor| now <= anchor.not_after);
        let (mut anchors, mut roots) = (&self.anchors[..lasting], &self.roots[..lasting]);
        let begun: (Vec<Arc<Anchor>>, Vec<TrustAnchor<'static>>);
        if anchors.iter().any(|anchor| !anchor.is_valid(now)) {
            let both = anchors.iter().cloned().zip(roots.iter().cloned());
            begun = both.filter(|(anchor, _)| anchor.is_valid(now)).unzip();
            (anchors, roots) = (&begun.0, &begun.1);
        }

        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().map(|(list, _)| &list.list).collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                // Of which CA there is no list is told to the policy's owner; it is not known here who should have one.
                .with_status_policy(UnknownStatusPolicy::Allow)
                // Whether a stale one denies is said for each, below.
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let short = |path: &VerifiedPath<'_>| match self.depth {
            Some(depth) if path.intermediate_certificates().count() > usize::from(depth) => {
                Err(Error::MaximumPathDepthExceeded)
            }
            _ => Ok(()),
        };
        let path = leaf
            .verify_for_usage(
                algorithms().all,
                roots,
                intermediates,
                time,
                KeyUsage::client_auth(),
                revocation,
                Some(&short),
            )
            .map_err(unverified)?;
        let root = roots.iter().position(|root| std::ptr::eq(root, path.anchor())).and_then(|at| anchors.get(at));
        let root = root.ok_or(Unverified::UnknownIssuer)?;
        let mut until = root.not_after;
        let certificates = std::iter::once(&**path.end_entity()).chain(path.intermediate_certificates());
        for certificate in certificates {
            let der = certificate.der();
            on_path(&der);
            until = until.min(not_after(&der)?);
            // The library counts whole seconds.
            if until < now {
                return Err(Unverified::Expired);
            }
            for (list, stale) in self.lists.iter().filter(|(list, _)| *list.issuer == *certificate.issuer()) {
                match stale {
                    StaleList::Accept => {}
                    StaleList::Deny if list.next_update < now => return Err(Unverified::ListStale),
                    StaleList::Deny => until = until.min(list.next_update),
                }
            }
            let serial = certificate.serial();
            let serial = &serial[serial.iter().take_while(|byte| **byte == 0).count()..];
            let fingerprint = (!self.withdrawn.is_empty()).then(|| ContentKey::sha256(&der));
            for bundle in &self.withdrawn {
                let below = bundle.anchors.iter().any(|anchor| anchor.der == root.der);
                let Withdrawn { serials, fingerprints } = &bundle.withdrawn;
                let named = serials.contains(serial) || fingerprint.is_some_and(|print| fingerprints.contains(&print));
                if below && named {
                    return Err(Unverified::Revoked);
                }
            }
        }
        Ok(until)
    }
}

pub(super) fn algorithms() -> WebPkiSupportedAlgorithms {
    static ALGORITHMS: std::sync::LazyLock<WebPkiSupportedAlgorithms> =
        std::sync::LazyLock::new(|| aws_lc_rs::default_provider().signature_verification_algorithms);
    *ALGORITHMS
}

fn not_after(der: &CertificateDer<'_>) -> Result<Timestamp, Unverified> {
    let (_, parsed) = parse_x509_certificate(der).map_err(|_| Unverified::Broken)?;
    Ok(Timestamp::from_second(parsed.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX))
}

fn unverified(error: Error) -> Unverified {
    use Error as E;
    match error {
        E::CertExpired { .. } => Unverified::Expired,
        E::CertNotValidYet { .. } => Unverified::NotYetValid,
        E::CertRevoked => Unverified::Revoked,
        E::UnknownIssuer => Unverified::UnknownIssuer,
        E::MaximumPathDepthExceeded | E::PathLenConstraintViolated => Unverified::TooLong,
        E::RequiredEkuNotFoundContext(_)
        | E::EmptyEkuExtension
        | E::CaUsedAsEndEntity
        | E::EndEntityUsedAsCa
        | E::NameConstraintViolation => Unverified::Purpose,
        E::CrlExpired { .. }
        | E::InvalidCrlNumber
        | E::InvalidCrlSignatureForPublicKey
        | E::IssuerNotCrlSigner
        | E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => Unverified::ListInvalid,
        E::InvalidSignatureForPublicKey => Unverified::UnknownIssuer,
        _ => Unverified::Broken,
    }
}

impl Unverified {
    pub fn as_str(self) -> &'static str {
        match self {
            Unverified::UnknownIssuer => "unknown issuer",
            Unverified::Broken => "broken",
            Unverified::TooLong => "chain too long",
            Unverified::Purpose => "not for this purpose",
            Unverified::ListInvalid => "revocation list invalid",
            Unverified::ListStale => "revocation list overdue",
            Unverified::NotYetValid => "not valid yet",
            Unverified::Expired => "expired",
            Unverified::Revoked => "revoked",
        }
    }
}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoCertificate => f.write_str("no client certificate"),
            Refusal::Unverified(why) => write!(f, "the client's certificate is not verified: {why}"),
            Refusal::NotAllowed => f.write_str("the policy's allow names nobody with this certificate"),
        }
    }
}

#[cfg(test)]
mod tests;
