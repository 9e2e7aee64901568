//! Certificates that somebody brings: from two PEM files to what a handshake can use, or to what is wrong with them.
//!
//! ```text
//! chain PEM, key PEM ─load_certified_key─▶ LoadedCertificate { key, names, … } | KeyPairError
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::model::certificate::hex;
use crate::model::host::HostPattern;

/// What is wrong with a pair of files, and what to do. The caller knows what they are called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyPairError {
    #[error("the certificate file holds no certificate; put the PEM chain there, the server's own certificate first")]
    NoCertificate,
    #[error("the certificate file holds a private key and no certificate; are cert_file and key_file swapped?")]
    Swapped,
    #[error("the certificate file is not readable PEM: {0}")]
    ChainNotPem(String),
    #[error("certificate {position} in the certificate file is broken: {why}")]
    BrokenCertificate { position: usize, why: String },
    #[error("the key file holds no private key; put the PEM key there (PKCS#8, PKCS#1 or SEC1)")]
    NoKey,
    #[error(
        "the private key is encrypted, and nobody is there to type its passphrase; decrypt it with: openssl pkey -in KEY -out KEY.plain"
    )]
    EncryptedKey,
    #[error("the key file is not readable PEM: {0}")]
    KeyNotPem(String),
    #[error("the private key cannot be used: {0}; RSA from 2048 bits, ECDSA on P-256, P-384 or P-521, and Ed25519 can")]
    UnusableKey(String),
    #[error("the private key does not belong to the certificate of \"{subject}\"; give the key that it was issued for")]
    Mismatch { subject: String },
    #[error(
        "the private key belongs to certificate {position} of the chain (\"{subject}\"), which must stand first; put it \
         before the others"
    )]
    WrongOrder { position: usize, subject: String },
}

/// A pair of files that belongs together.
#[derive(Debug, Clone)]
pub struct LoadedCertificate {
    pub key: Arc<CertifiedKey>,
    /// The DNS names of subjectAltName, lower-case, wildcards as written.
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Lower-case hex.
    pub serial: String,
    /// As text, `CN=shop.example.com, O=Acme`.
    pub subject: String,
    pub issuer: String,
}

/// Reads a chain, the server's certificate first, and its key. An expired certificate is loaded: its owner may have no
/// other, and [`LoadedCertificate::warnings`] says so.
pub fn load_certified_key(chain_pem: &[u8], key_pem: &[u8]) -> Result<LoadedCertificate, KeyPairError> {
    let chain = read_chain(chain_pem)?;
    let key = read_key(key_pem)?;
    let key = any_supported_type(&key).map_err(|error| KeyPairError::UnusableKey(told(error)))?;
    let parsed = parse_chain(&chain)?;
    let Some(leaf) = parsed.first() else {
        return Err(KeyPairError::NoCertificate);
    };
    let pair = CertifiedKey::new(chain.clone(), key);
    match pair.keys_match() {
        Ok(()) => {}
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => return Err(mismatch(&pair, &parsed)),
        Err(error) => return Err(KeyPairError::BrokenCertificate { position: 1, why: told(error) }),
    }
    // 99991231235959Z says that there is no end (RFC 5280 §4.1.2.5), and is just beyond what a timestamp holds.
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX);
    let (dns, ips) = names(leaf).map_err(|why| KeyPairError::BrokenCertificate { position: 1, why })?;
    Ok(LoadedCertificate {
        dns,
        ips,
        not_before: at(leaf.validity().not_before),
        not_after: at(leaf.validity().not_after),
        serial: hex(leaf.raw_serial()),
        subject: leaf.subject().to_string(),
        issuer: leaf.issuer().to_string(),
        key: Arc::new(pair),
    })
}

impl LoadedCertificate {
    /// The subject alternative names as hosts; names that no host can have are left out.
    pub fn names(&self) -> Vec<HostPattern> {
        let dns = self.dns.iter().filter_map(|name| name.parse().ok());
        dns.chain(self.ips.iter().map(|ip| HostPattern::Exact(ip.to_string().into()))).collect()
    }

    /// Whether a client that asks for `host` takes this certificate: RFC 9525 §6.3, by which a wildcard is one whole
    /// first label and the subject's common name counts for nothing. `*.example.com` asks for that wildcard itself.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return self.ips.contains(&address);
        }
        self.dns.iter().any(|name| match name.strip_prefix("*.") {
            None => *name == host,
            Some(suffix) => host
                .split_once('.')
                .is_some_and(|(label, parent)| !label.is_empty() && !suffix.is_empty() && parent == suffix),
        })
    }

    /// What the owner should know though the certificate is used.
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.not_after < now {
            warnings.push(format!("the certificate expired at {}; clients refuse it; renew it", self.not_after));
        }
        if now < self.not_before {
            warnings
                .push(format!("the certificate is not valid before {}; clients refuse it until then", self.not_before));
        }
        if self.dns.is_empty() && self.ips.is_empty() {
            warnings.push(
                "the certificate names no host in subjectAltName, so it covers none; its common name counts for nothing"
                    .into(),
            );
        }
        warnings
    }
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, KeyPairError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| KeyPairError::ChainNotPem(error.to_string()))?;
    match chain.is_empty() {
        false => Ok(chain),
        true if says(pem, "PRIVATE KEY-----") => Err(KeyPairError::Swapped),
        true => Err(KeyPairError::NoCertificate),
    }
}

fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, KeyPairError> {
    // PKCS#8, and the older header that OpenSSL writes into PKCS#1 and SEC1. Looked for first: the latter is no PEM that
    // the reader knows.
    if says(pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || says(pem, "Proc-Type: 4,ENCRYPTED") {
        return Err(KeyPairError::EncryptedKey);
    }
    match PrivateKeyDer::pem_slice_iter(pem).next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(error)) => Err(KeyPairError::KeyNotPem(error.to_string())),
        None => Err(KeyPairError::NoKey),
    }
}

fn parse_chain<'c>(chain: &'c [CertificateDer<'static>]) -> Result<Vec<X509Certificate<'c>>, KeyPairError> {
    let parse = |(index, der): (usize, &'c CertificateDer<'static>)| match parse_x509_certificate(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(KeyPairError::BrokenCertificate { position: index + 1, why: error.to_string() }),
    };
    chain.iter().enumerate().map(parse).collect()
}

/// Chains that stand upside down are the usual mistake.
fn mismatch(pair: &CertifiedKey, chain: &[X509Certificate<'_>]) -> KeyPairError {
    let subject = |certificate: &X509Certificate<'_>| certificate.subject().to_string();
    let spki = pair.key.public_key();
    let own = chain
        .iter()
        .position(|certificate| spki.as_ref().is_some_and(|spki| spki.as_ref() == certificate.public_key().raw));
    match own.and_then(|index| chain.get(index).map(|certificate| (index + 1, certificate))) {
        Some((position, certificate)) => KeyPairError::WrongOrder { position, subject: subject(certificate) },
        None => KeyPairError::Mismatch { subject: chain.first().map(subject).unwrap_or_default() },
    }
}

fn names(leaf: &X509Certificate<'_>) -> Result<(Vec<String>, Vec<IpAddr>), String> {
    let (mut dns, mut ips) = (Vec::new(), Vec::new());
    let extension = leaf.subject_alternative_name().map_err(|error| error.to_string())?;
    for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => dns.push(name.to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => ips.extend(address(octets)),
            _ => {}
        }
    }
    Ok((dns, ips))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn says(pem: &[u8], words: &str) -> bool {
    pem.windows(words.len()).any(|window| window == words.as_bytes())
}

/// rustls opens some of its errors with the kind alone.
fn told(error: Error) -> String {
    match error {
        Error::General(why) => why,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::control::ca::{InternalCa, Issued, LEAF_LIFE, LeafName, pem_text};

    const NAMES: [&str; 4] = ["Shop.Example.com", "*.wild.example", "10.0.0.7", "::1"];

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().expect("a time")
    }

    fn issued(names: &[&str]) -> Issued {
        let dir = tempfile::tempdir().expect("tempdir");
        let ca = InternalCa::open_at(dir.path(), "corp", now()).expect("opened");
        let names: Vec<LeafName> = names.iter().map(|name| name.parse().expect(name)).collect();
        ca.issue_server_at(&names, LEAF_LIFE, now()).expect("issued")
    }

    fn chain(issued: &Issued) -> String {
        issued.chain.iter().map(|der| pem_text("CERTIFICATE", der)).collect()
    }

    fn key(issued: &Issued) -> String {
        pem_text("PRIVATE KEY", issued.key.secret_der())
    }

    fn load(chain: &str, key: &str) -> Result<LoadedCertificate, KeyPairError> {
        load_certified_key(chain.as_bytes(), key.as_bytes())
    }

    fn openssl(args: &[&str]) {
        let output = Command::new("openssl").args(args).output().expect("openssl is installed");
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn a_pair_is_loaded_with_what_reports_show() {
        let issued = issued(&NAMES);
        let loaded = load(&chain(&issued), &key(&issued)).expect("a pair");
        assert_eq!(loaded.key.cert, issued.chain);
        assert_eq!(loaded.dns, ["shop.example.com", "*.wild.example"]);
        assert_eq!(loaded.ips, ["10.0.0.7".parse::<IpAddr>().expect("one"), "::1".parse().expect("one")]);
        assert_eq!((loaded.not_after, &loaded.serial), (issued.not_after, &issued.serial));
        assert_eq!(loaded.subject, "CN=shop.example.com");
        assert_eq!(loaded.warnings(now()), Vec::<String>::new());
    }

    #[test]
    fn one_file_may_hold_both() {
        let issued = issued(&NAMES);
        let both = key(&issued) + &chain(&issued);
        assert!(load(&both, &both).is_ok());
    }

    #[test]
    fn it_covers_what_a_client_would_take() {
        let issued = issued(&NAMES);
        let loaded = load(&chain(&issued), &key(&issued)).expect("a pair");
        for host in
            ["shop.example.com", "SHOP.example.com.", "a.wild.example", "*.wild.example", "10.0.0.7", "::1", "[::1]"]
        {
            assert!(loaded.covers(host), "{host}");
        }
        for host in [
            "example.com",
            "a.shop.example.com",
            "wild.example",
            ".wild.example",
            "a.b.wild.example",
            "10.0.0.8",
            "*",
            "",
        ] {
            assert!(!loaded.covers(host), "{host}");
        }
    }

    #[test]
    fn a_common_name_covers_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let new_key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        openssl(&[&new_key[..], &["-subj", "/CN=a.example", "-keyout", &at("key"), "-out", &at("cert")]].concat());
        let read = |name: &str| std::fs::read_to_string(at(name)).expect("read");
        let loaded = load(&read("cert"), &read("key")).expect("a pair");
        assert!(!loaded.covers("a.example"));
        assert!(loaded.warnings(loaded.not_before)[0].contains("subjectAltName"));
    }

    #[test]
    fn an_expired_certificate_is_loaded_with_a_warning() {
        let issued = issued(&NAMES);
        let loaded = load(&chain(&issued), &key(&issued)).expect("a pair");
        let day_after = issued.not_after + Duration::from_secs(1);
        assert!(loaded.warnings(day_after)[0].contains("expired"));
        let day_before = issued.not_before - Duration::from_secs(1);
        assert!(loaded.warnings(day_before)[0].contains("not valid before"));
    }

    #[test]
    fn a_certificate_without_an_end_is_valid() {
        use rcgen::{CertificateParams, KeyPair, date_time_ymd};
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["a.example".to_string()]).expect("a name");
        params.not_after = date_time_ymd(9999, 12, 31) + Duration::from_secs(24 * 3600 - 1);
        let certificate = params.self_signed(&key).expect("signed");
        let loaded = load(&certificate.pem(), &key.serialize_pem()).expect("a pair");
        assert_eq!((loaded.not_after, loaded.warnings(now())), (Timestamp::MAX, Vec::new()));
    }

    #[test]
    fn a_key_that_does_not_belong_names_the_certificate() {
        let (one, other) = (issued(&["a.example"]), issued(&["b.example"]));
        let error = load(&chain(&one), &key(&other)).expect_err("no pair");
        assert_eq!(error, KeyPairError::Mismatch { subject: "CN=a.example".into() });
        assert!(error.to_string().contains("a.example"));
    }

    #[test]
    fn a_chain_that_stands_upside_down_is_told_so() {
        let issued = issued(&["a.example"]);
        let upside_down: String = issued.chain.iter().rev().map(|der| pem_text("CERTIFICATE", der)).collect();
        let error = load(&upside_down, &key(&issued)).expect_err("the leaf must stand first");
        assert_eq!(error, KeyPairError::WrongOrder { position: 2, subject: "CN=a.example".into() });
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let issued = issued(&["a.example"]);
        let (chain, key) = (chain(&issued), key(&issued));
        assert_eq!(load("", &key).expect_err("empty"), KeyPairError::NoCertificate);
        assert_eq!(load("no PEM at all", &key).expect_err("text"), KeyPairError::NoCertificate);
        assert_eq!(load(&key, &chain).expect_err("swapped"), KeyPairError::Swapped);
        assert_eq!(load(&chain, &chain).expect_err("no key"), KeyPairError::NoKey);
        let half = &chain[..chain.len() / 4];
        assert!(matches!(load(half, &key), Err(KeyPairError::ChainNotPem(_))));
        assert!(matches!(load(&chain, &key[..key.len() / 2]), Err(KeyPairError::KeyNotPem(_))));
        let nonsense = pem_text("CERTIFICATE", b"nonsense");
        assert!(matches!(
            load(&(chain.clone() + &nonsense), &key),
            Err(KeyPairError::BrokenCertificate { position: 3, .. })
        ));
        assert!(matches!(load(&chain, &pem_text("PRIVATE KEY", b"nonsense")), Err(KeyPairError::UnusableKey(_))));
    }

    #[test]
    fn encrypted_keys_of_both_kinds_are_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let issued = issued(&["a.example"]);
        std::fs::write(at("plain"), key(&issued)).expect("written");
        let pass = ["-aes256", "-passout", "pass:secret"];
        openssl(
            &[&["pkcs8", "-topk8", "-in", &at("plain"), "-passout", "pass:secret", "-out", &at("pkcs8")][..]].concat(),
        );
        openssl(&[&["ec", "-in", &at("plain"), "-out", &at("sec1")][..], &pass].concat());
        for file in ["pkcs8", "sec1"] {
            let text = std::fs::read_to_string(at(file)).expect("read");
            assert_eq!(load(&chain(&issued), &text).expect_err(file), KeyPairError::EncryptedKey, "{text}");
        }
    }

    #[test]
    fn rsa_in_its_old_form_is_read() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let san = ["-addext", "subjectAltName=DNS:rsa.example"];
        let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x"];
        openssl(&[&new[..], &san, &["-keyout", &at("key"), "-out", &at("cert")]].concat());
        openssl(&["rsa", "-traditional", "-in", &at("key"), "-out", &at("pkcs1")]);
        let read = |name: &str| std::fs::read_to_string(at(name)).expect("read");
        assert!(read("pkcs1").contains("BEGIN RSA PRIVATE KEY"));
        assert!(load(&read("cert"), &read("pkcs1")).expect("a pair").covers("rsa.example"));
    }
}
