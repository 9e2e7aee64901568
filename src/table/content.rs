//! What something is made of, as a key: equal content, equal key, whoever wrote it and whatever it is called.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};

use crate::model::certificate::hex;

/// SHA-256 over content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ContentKey([u8; 32]);

impl ContentKey {
    /// Of these bytes and nothing else.
    pub fn sha256(bytes: &[u8]) -> ContentKey {
        ContentKey::from(digest(&SHA256, bytes).as_ref())
    }

    /// Over the parts in their order, each with its length, so that no two lists of parts run together.
    pub fn of<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> ContentKey {
        let mut context = Context::new(&SHA256);
        for part in parts {
            let part = part.as_ref();
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        ContentKey::from(context.finish().as_ref())
    }
}

impl From<&[u8]> for ContentKey {
    fn from(digest: &[u8]) -> ContentKey {
        let mut key = [0; 32];
        let length = digest.len().min(key.len());
        key[..length].copy_from_slice(&digest[..length]);
        ContentKey(key)
    }
}

impl AsRef<[u8]> for ContentKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..8]))
    }
}

/// SHA-256 as it is written in policies: lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(ContentKey::of(["ab", "c"]), ContentKey::of(["a", "bc"]));
        assert_ne!(ContentKey::of(["a"]), ContentKey::of(["a", ""]));
        assert_eq!(ContentKey::of(["a"]), ContentKey::of(["a"]));
    }
}
