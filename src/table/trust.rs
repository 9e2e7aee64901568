//! CAs that somebody trusts: from PEM or DER to anchors that know when they end.
//!
//! ```text
//! bytes ─LoadedBundle::read─▶ anchors, what of it is no CA, content key ─at a moment─▶ the anchors valid then
//! ```
//! A trust anchor of the TLS library carries no validity (RFC 5280 §6.1.1 has none), so that it is read here, and an
//! expired root is trusted by nobody though it stands in the bundle. A bundle without a CA is an error: who names it is
//! denied rather than served without it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;

use crate::model::certificate::hex;

use super::content::ContentKey;

/// A bundle that holds at least one CA.
#[derive(Debug, Clone)]
pub struct LoadedBundle {
    /// The one that lasts longest first.
    pub anchors: Vec<Arc<Anchor>>,
    /// What else it holds, and why that is not trusted.
    pub passed_over: Vec<String>,
    /// What an issuer of ours has taken back below these anchors.
    pub withdrawn: Withdrawn,
    pub key: ContentKey,
}

/// One CA, and how long it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    pub der: CertificateDer<'static>,
    pub trust: TrustAnchor<'static>,
    /// As text, `CN=Acme Root, O=Acme`.
    pub subject: String,
    pub issuer: String,
    /// Lower-case hex.
    pub serial: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// Certificates that their issuer takes back without a list that is signed and sent around.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// As they stand in the certificate, without leading zeros.
    pub serials: BTreeSet<Box<[u8]>>,
    /// SHA-256 of certificates.
    pub fingerprints: BTreeSet<ContentKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("it is empty; put the certificates of the CAs there, as PEM or DER")]
    Empty,
    #[error("it holds no certificate; put the certificates of the CAs there, as PEM or DER")]
    NoCertificate,
    #[error("it is not readable PEM: {0}")]
    NotPem(String),
    #[error("certificate {position} is broken: {why}")]
    Broken { position: usize, why: String },
    #[error("it holds no CA that can be trusted: {0}")]
    NoCa(String),
    #[error("every CA in it has expired, the last one (\"{subject}\") at {not_after}; renew it")]
    Expired { subject: String, not_after: Timestamp },
    #[error("no CA in it is valid yet, the first one (\"{subject}\") from {not_before}")]
    NotYet { subject: String, not_before: Timestamp },
}

impl LoadedBundle {
    /// One certificate that cannot be read spoils all: who wrote it meant to trust it, and nobody knows what else is wrong.
    pub fn read(bytes: &[u8]) -> Result<LoadedBundle, BundleError> {
        let mut anchors: Vec<Arc<Anchor>> = Vec::new();
        let mut passed_over = Vec::new();
        for (index, der) in certificates(bytes)?.into_iter().enumerate() {
            let position = index + 1;
            match anchor(der).map_err(|why| BundleError::Broken { position, why })? {
                Ok(anchor) if anchors.iter().any(|known| known.der == anchor.der) => {}
                Ok(anchor) => anchors.push(Arc::new(anchor)),
                Err(why) => passed_over.push(format!("certificate {position} {why}")),
            }
        }
        if anchors.is_empty() {
            return Err(BundleError::NoCa(passed_over.join("; ")));
        }
        anchors.sort_by(|a, b| (b.not_after, &*a.der).cmp(&(a.not_after, &*b.der)));
        let mut bundle =
            LoadedBundle { anchors, passed_over, withdrawn: Withdrawn::default(), key: ContentKey::default() };
        bundle.key = bundle.content();
        Ok(bundle)
    }

    pub fn without(mut self, withdrawn: Withdrawn) -> LoadedBundle {
        self.withdrawn = withdrawn;
        self.key = self.content();
        self
    }

    fn content(&self) -> ContentKey {
        let Withdrawn { serials, fingerprints } = &self.withdrawn;
        let anchors: BTreeSet<&[u8]> = self.anchors.iter().map(|anchor| &*anchor.der).collect();
        let parts: Vec<&[u8]> = anchors
            .into_iter()
            .chain([&b"serials"[..]])
            .chain(serials.iter().map(|serial| &**serial))
            .chain([&b"fingerprints"[..]])
            .chain(fingerprints.iter().map(AsRef::as_ref))
            .collect();
        ContentKey::of(parts)
    }

    /// Whether anything in it is trusted at this moment.
    pub fn check(&self, now: Timestamp) -> Result<(), BundleError> {
        if self.anchors.iter().any(|anchor| anchor.is_valid(now)) {
            return Ok(());
        }
        let future =
            self.anchors.iter().filter(|anchor| now < anchor.not_before).min_by_key(|anchor| anchor.not_before);
        match (future, self.anchors.first()) {
            (Some(first), _) => {
                Err(BundleError::NotYet { subject: first.subject.clone(), not_before: first.not_before })
            }
            (None, Some(last)) => {
                Err(BundleError::Expired { subject: last.subject.clone(), not_after: last.not_after })
            }
            (None, None) => Err(BundleError::NoCertificate),
        }
    }

    /// What its owner should know though it is used.
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let mut warnings = self.passed_over.clone();
        for Anchor { subject, not_before, not_after, .. } in self.anchors.iter().map(|anchor| &**anchor) {
            if *not_after < now {
                warnings.push(format!("\"{subject}\" expired at {not_after} and is not trusted; renew or remove it"));
            } else if now < *not_before {
                warnings.push(format!("\"{subject}\" is not valid before {not_before} and is not trusted until then"));
            }
        }
        warnings
    }

    /// When one of its CAs begins or ends next: what [`LoadedBundle::check`] says may be otherwise then.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let moments = self.anchors.iter().flat_map(|anchor| [anchor.not_before, anchor.not_after]);
        moments.filter(|moment| *moment >= now).min()
    }
}

impl Anchor {
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// PEM with any number of certificates, or one as DER.
pub fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(BundleError::Empty);
    }
    if is_der(bytes) {
        return Ok(vec![CertificateDer::from(bytes.to_vec())]);
    }
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| BundleError::NotPem(error.to_string()))?;
    if certificates.is_empty() { Err(BundleError::NoCertificate) } else { Ok(certificates) }
}

/// A SEQUENCE that is longer than 127 bytes, as every certificate and revocation list is.
pub(super) fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x81..=0x84, ..])
}

/// `Err` where it cannot be read, `Ok(Err)` where it is no CA.
fn anchor(der: CertificateDer<'static>) -> Result<Result<Anchor, String>, String> {
    let (rest, parsed) = parse_x509_certificate(&der).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("bytes follow it".into());
    }
    let subject = parsed.subject().to_string();
    if let Err(why) = is_ca(&parsed)? {
        return Ok(Err(format!("(\"{subject}\") is not trusted: {why}")));
    }
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX);
    let (not_before, not_after) = (at(parsed.validity().not_before), at(parsed.validity().not_after));
    let (issuer, serial) = (parsed.issuer().to_string(), hex(parsed.raw_serial()));
    let trust = webpki::anchor_from_trusted_cert(&der).map_err(|error| error.to_string())?.to_owned();
    Ok(Ok(Anchor { trust, subject, issuer, serial, not_before, not_after, der }))
}

/// RFC 5280 §4.2.1.9 and §4.2.1.3. A certificate of version 1 says nothing of the kind.
fn is_ca(parsed: &X509Certificate<'_>) -> Result<Result<(), &'static str>, String> {
    let constraints = parsed.basic_constraints().map_err(|error| error.to_string())?;
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return Ok(Err("it is no CA (basicConstraints)"));
    }
    let usage = parsed.key_usage().map_err(|error| error.to_string())?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Ok(Err("its key may not sign certificates (keyUsage)"));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(name: &str, ca: bool, years: (i32, i32)) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signed")
    }

    fn at(year: i32) -> Timestamp {
        format!("{year}-06-01T00:00:00Z").parse().expect("a time")
    }

    #[test]
    fn what_is_no_ca_is_named_and_not_trusted() {
        let (good, leaf) = (certificate("good", true, (2020, 2030)), certificate("leaf", false, (2020, 2030)));
        let bundle = LoadedBundle::read((good.pem() + &leaf.pem()).as_bytes()).expect("one CA");
        assert_eq!(bundle.anchors.len(), 1);
        assert_eq!(bundle.anchors[0].subject, "CN=good");
        assert!(bundle.warnings(at(2025))[0].contains("CN=leaf"), "{:?}", bundle.warnings(at(2025)));
        let error = LoadedBundle::read(leaf.pem().as_bytes()).expect_err("no CA");
        assert!(matches!(&error, BundleError::NoCa(why) if why.contains("CN=leaf")), "{error}");
    }

    #[test]
    fn an_expired_root_is_named_and_ends_nobody_else() {
        let (old, good) = (certificate("old", true, (2010, 2020)), certificate("good", true, (2020, 2030)));
        let bundle = LoadedBundle::read((old.pem() + &good.pem()).as_bytes()).expect("CAs");
        assert_eq!(bundle.anchors.iter().map(|a| &*a.subject).collect::<Vec<_>>(), ["CN=good", "CN=old"]);
        assert_eq!(bundle.check(at(2025)), Ok(()));
        assert!(bundle.warnings(at(2025))[0].starts_with("\"CN=old\" expired at 2020-01-01"));
        assert!(matches!(bundle.check(at(2031)), Err(BundleError::Expired { subject, .. }) if subject == "CN=good"));
        assert!(matches!(bundle.check(at(2009)), Err(BundleError::NotYet { subject, .. }) if subject == "CN=old"));
        assert_eq!(bundle.next_change(at(2025)), Some("2030-01-01T00:00:00Z".parse().expect("a time")));
        let end = bundle.anchors[0].not_after;
        assert!(bundle.check(end).is_ok() && bundle.check(end + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn what_is_empty_or_garbage_is_an_error() {
        let good = certificate("good", true, (2020, 2030));
        assert_eq!(LoadedBundle::read(b"").expect_err("empty"), BundleError::Empty);
        assert_eq!(LoadedBundle::read(b" \n").expect_err("empty"), BundleError::Empty);
        assert_eq!(LoadedBundle::read(b"hello").expect_err("text"), BundleError::NoCertificate);
        let cut = &good.pem().as_bytes()[..200].to_vec();
        assert!(matches!(LoadedBundle::read(cut), Err(BundleError::NotPem(_))));
        let garbage = crate::control::ca::pem_text("CERTIFICATE", b"garbage");
        let spoilt = good.pem() + &garbage;
        assert!(matches!(LoadedBundle::read(spoilt.as_bytes()), Err(BundleError::Broken { position: 2, .. })));
        let mut longer = good.der().to_vec();
        longer.push(0);
        assert!(matches!(LoadedBundle::read(&longer), Err(BundleError::Broken { position: 1, .. })));
    }

    #[test]
    fn content_is_the_key_and_not_its_spelling() {
        let (a, b) = (certificate("a", true, (2020, 2030)), certificate("b", true, (2020, 2030)));
        let read = |text: String| LoadedBundle::read(text.as_bytes()).expect("CAs");
        let key = read(a.pem() + &b.pem()).key;
        assert_eq!(read(b.pem() + "\n# a comment\n" + &a.pem() + &a.pem()).key, key);
        assert_ne!(read(a.pem()).key, key);
        assert_eq!(LoadedBundle::read(a.der()).expect("DER").key, read(a.pem()).key);
        let withdrawn = Withdrawn { serials: BTreeSet::from([Box::from(&[7][..])]), ..Withdrawn::default() };
        assert_ne!(read(a.pem()).without(withdrawn).key, read(a.pem()).key);
    }
}
