//! A certificate, its key and its chain in one file under a password, for browsers and key stores (RFC 7292).

use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, LocalKeyId, MacAlgorithm, PrivateKey, PrivateKeyChain,
};
use rustls_pki_types::CertificateDer;

use super::Issued;
use crate::model::certificate::hex;

/// Of the password, for the key and for the seal: a tenth of a second for whoever tries one.
const ITERATIONS: u32 = 100_000;

/// `name` is what key stores list it under. PBES2 with AES-256, and HMAC-SHA-256 as seal: what openssl 3, NSS, Java and
/// the present systems of Microsoft and Apple read; the older forms are readable by anyone who tries.
pub fn pkcs12(issued: &Issued, root: &CertificateDer<'_>, name: &str, password: &str) -> Result<Vec<u8>, String> {
    let failed = |error: p12_keystore::error::Error| format!("the PKCS#12 file cannot be made ({error})");
    let chain = issued.chain.iter().map(|certificate| &**certificate).chain([&**root]);
    let chain = chain.map(Certificate::from_der).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let key = PrivateKey::from_der(issued.key.secret_der()).map_err(failed)?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &issued.chain[0]);
    let id = LocalKeyId::from(hex(digest.as_ref()).as_str());
    let mut store = KeyStore::new();
    store.add_entry(name, KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(id, key, chain)));
    let writer = store.writer(password);
    let writer = writer
        .encryption_algorithm(EncryptionAlgorithm::PbeWithHmacSha256AndAes256)
        .encryption_iterations(ITERATIONS)
        .mac_algorithm(MacAlgorithm::HmacSha256)
        .mac_iterations(ITERATIONS);
    writer.write().map_err(failed)
}
