//! Revocation lists: from PEM or DER to what a chain is checked against.
//!
//! ```text
//! bytes ─LoadedLists::read─▶ one list per block: issuer, number, from when to when, serials
//! ```
//! Their signatures are checked with the chain: only there is the issuer's key known to be the issuer's.

use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::{FromDer, ParsedExtension};
use x509_parser::revocation_list::CertificateRevocationList;

use super::content::ContentKey;
use super::trust::is_der;

/// What one object of ours says: the lists of one or several issuers.
#[derive(Debug, Clone)]
pub struct LoadedLists {
    pub lists: Vec<Arc<RevocationList>>,
    pub key: ContentKey,
}

/// One CRL (RFC 5280 §5).
#[derive(Debug)]
pub struct RevocationList {
    /// The issuer's name as it is encoded, which is what certificates name it by.
    pub issuer: Box<[u8]>,
    /// As text, `CN=Acme Root`.
    pub issuer_text: String,
    /// CRLNumber (§5.2.3), big-endian without leading zeros; a list without one is as number 0.
    pub number: Box<[u8]>,
    pub this_update: Timestamp,
    pub next_update: Timestamp,
    /// How many certificates stand on it.
    pub revoked: usize,
    pub der: Box<[u8]>,
    pub(super) list: CertRevocationList<'static>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("it is empty; put the revocation list there, as PEM or DER")]
    Empty,
    #[error("it holds no revocation list; put it there, as PEM or DER")]
    NoList,
    #[error("it is not readable PEM: {0}")]
    NotPem(String),
    #[error("revocation list {position} is broken or of a kind that cannot be checked: {why}")]
    Broken { position: usize, why: String },
}

impl LoadedLists {
    pub fn read(bytes: &[u8]) -> Result<LoadedLists, ListError> {
        let mut lists = Vec::new();
        for (index, der) in ders(bytes)?.into_iter().enumerate() {
            let list = list(&der).map_err(|why| ListError::Broken { position: index + 1, why })?;
            lists.push(Arc::new(list));
        }
        let mut ders: Vec<&[u8]> = lists.iter().map(|list| &*list.der).collect();
        ders.sort_unstable();
        Ok(LoadedLists { key: ContentKey::of(ders), lists })
    }

    /// What its owner should know though it is used; `closes` where a stale list denies.
    pub fn warnings(&self, now: Timestamp, closes: bool) -> Vec<String> {
        let effect = match closes {
            true => "nobody whom its issuer vouches for is let in until there is a new one",
            false => "whoever is revoked since then is let in",
        };
        let stale = self.lists.iter().filter(|list| list.next_update < now);
        stale
            .map(|list| format!("the list of \"{}\" is overdue since {}; {effect}", list.issuer_text, list.next_update))
            .collect()
    }
}

impl RevocationList {
    /// Shorter numbers are smaller.
    pub fn number(&self) -> (usize, &[u8]) {
        (self.number.len(), &self.number)
    }
}

fn ders(bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, ListError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ListError::Empty);
    }
    if is_der(bytes) {
        return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| ListError::NotPem(error.to_string()))?;
    if lists.is_empty() { Err(ListError::NoList) } else { Ok(lists) }
}

fn list(der: &[u8]) -> Result<RevocationList, String> {
    let owned = OwnedCertRevocationList::from_der(der).map_err(|error| error.to_string())?;
    let list = CertRevocationList::from(owned);
    let (rest, parsed) = CertificateRevocationList::from_der(der).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("bytes follow it".into());
    }
    let number = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLNumber(number) => Some(number.to_bytes_be()),
        _ => None,
    });
    let number = number.unwrap_or_default();
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX);
    let next_update = parsed.next_update().ok_or("it does not say when the next one comes (nextUpdate)")?;
    Ok(RevocationList {
        issuer: list.issuer().into(),
        issuer_text: parsed.issuer().to_string(),
        number: number[zeros..].into(),
        this_update: at(parsed.last_update()),
        next_update: at(next_update),
        revoked: parsed.iter_revoked_certificates().count(),
        der: der.into(),
        list,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
        KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::*;

    fn list(number: u64, serials: &[u64]) -> rcgen::CertificateRevocationList {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = Issuer::new(params, KeyPair::generate().expect("a key"));
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2025, 2, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&issuer).expect("signed")
    }

    #[test]
    fn a_list_says_whose_it_is_which_one_and_for_how_long() {
        let read = LoadedLists::read(list(258, &[7, 9]).pem().expect("PEM").as_bytes()).expect("a list");
        let [one] = &read.lists[..] else { panic!("one list: {read:?}") };
        assert_eq!((one.number(), one.revoked), ((2, &[1, 2][..]), 2));
        assert_eq!(one.next_update, "2025-02-01T00:00:00Z".parse().expect("a time"));
        assert!(one.issuer_text.starts_with("CN="), "{}", one.issuer_text);
        assert!(read.warnings(one.next_update, true).is_empty());
        let late = one.next_update + std::time::Duration::from_secs(1);
        assert!(read.warnings(late, true)[0].contains("overdue since 2025-02-01"));
    }

    #[test]
    fn pem_and_der_are_one_content() {
        let (a, b) = (list(1, &[7]), list(2, &[]));
        let pem = |list: &rcgen::CertificateRevocationList| list.pem().expect("PEM");
        let read = |bytes: &[u8]| LoadedLists::read(bytes).expect("lists");
        assert_eq!(read(a.der()).key, read(pem(&a).as_bytes()).key);
        assert_eq!(read((pem(&a) + &pem(&b)).as_bytes()).key, read((pem(&b) + &pem(&a)).as_bytes()).key);
        assert_ne!(read(a.der()).key, read(b.der()).key);
    }

    #[test]
    fn what_is_empty_or_garbage_is_an_error() {
        assert_eq!(LoadedLists::read(b"\n").expect_err("empty"), ListError::Empty);
        assert_eq!(LoadedLists::read(b"hello").expect_err("text"), ListError::NoList);
        let mut cut = list(1, &[7]).der().to_vec();
        cut.truncate(cut.len() - 4);
        assert!(matches!(LoadedLists::read(&cut), Err(ListError::Broken { position: 1, .. })));
    }
}
