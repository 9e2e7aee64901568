//! Private keys in PEM, in the clear or under a passphrase.
//!
//! ```text
//! key ─write─▶ PRIVATE KEY, or ENCRYPTED PRIVATE KEY (PKCS#8; PBES2 of scrypt and AES-256-CBC, as openssl 3 reads it)
//!     ◀─read──
//! ```

use std::fs;
use std::path::Path;

use pkcs8::der::Decode;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::certificate::pem_text;

const CLEAR: &str = "PRIVATE KEY";
const SEALED: &str = "ENCRYPTED PRIVATE KEY";
/// scrypt's cost: 16 MiB, five times over. openssl gives it no more than 32 MiB.
const LOG_N: u8 = 14;
const R: u32 = 8;
const P: u32 = 5;

/// Its Debug prints none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase([redacted])")
    }
}

impl Passphrase {
    /// The one line of a file. The error follows its name.
    pub fn read(file: &Path) -> Result<Passphrase, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("cannot be read ({error})"))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return Err("is empty; a key under no password is anybody's".into());
        }
        if line.chars().any(char::is_control) {
            return Err("holds more than one line of text".into());
        }
        Ok(Passphrase(line.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why there is no key. Both say what is wrong, to follow the name of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    Damaged(String),
    /// The passphrase is wanting, or another.
    Locked(String),
}

/// A key as it was found.
pub(super) struct Found {
    pub key: PrivatePkcs8KeyDer<'static>,
    pub sealed: bool,
}

/// The first key in a file.
pub(super) fn read(pem: &[u8], passphrase: Option<&Passphrase>) -> Result<Found, Unusable> {
    let damaged = |why: String| Unusable::Damaged(format!("holds no readable key ({why})"));
    let blocks = pem::parse_many(pem).map_err(|error| damaged(error.to_string()))?;
    let block = blocks.into_iter().find(|block| matches!(block.tag(), CLEAR | SEALED));
    let block = block.ok_or_else(|| damaged(format!("there is no {CLEAR} in it")))?;
    if block.tag() == CLEAR {
        return Ok(Found { key: block.into_contents().into(), sealed: false });
    }
    let Some(Passphrase(passphrase)) = passphrase else {
        return Err(Unusable::Locked("is encrypted, and passphrase_file names no passphrase".into()));
    };
    let sealed = EncryptedPrivateKeyInfoRef::from_der(block.contents()).map_err(|error| damaged(error.to_string()))?;
    let key = sealed.decrypt(passphrase);
    let key = key.map_err(|_| Unusable::Locked("is encrypted under another passphrase".into()))?;
    Ok(Found { key: key.as_bytes().to_vec().into(), sealed: true })
}

/// `key` is PKCS#8.
pub(super) fn write(key: &[u8], passphrase: Option<&Passphrase>) -> Result<String, String> {
    let Some(Passphrase(passphrase)) = passphrase else { return Ok(pem_text(CLEAR, key)) };
    let failed = |what: String| format!("the key cannot be encrypted ({what})");
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    let random = aws_lc_rs::default_provider().secure_random;
    random
        .fill(&mut salt)
        .and_then(|()| random.fill(&mut iv))
        .map_err(|_| failed("the system gives no random numbers".into()))?;
    let cost = scrypt::Params::new(LOG_N, R, P).map_err(|error| failed(error.to_string()))?;
    let terms = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv);
    let terms = terms.map_err(|error| failed(error.to_string()))?;
    let info = PrivateKeyInfoRef::from_der(key).map_err(|error| failed(error.to_string()))?;
    let sealed = info.encrypt_with_params(terms, passphrase).map_err(|error| failed(error.to_string()))?;
    Ok(pem_text(SEALED, sealed.as_bytes()))
}
