//! Configured certificates, from what the files hold now to what a handshake can show.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::material::file::Content;
use crate::model::certificate::Certificate;
use crate::model::diagnostic::{Diagnostic, Reason};
use crate::model::id::ObjectId;
use crate::table::certificate::{LoadedCertificate, load_certified_key};

/// The certificates in force. A pair that cannot be used leaves the one before it in force.
#[derive(Debug, Default)]
pub struct Certificates {
    loaded: BTreeMap<ObjectId, Loaded>,
}

#[derive(Debug)]
struct Loaded {
    chain: Arc<[u8]>,
    key: Arc<[u8]>,
    certificate: Arc<LoadedCertificate>,
}

impl Certificates {
    /// Reads what changed. Returns whether any certificate is another one now, and what is wrong with the rest.
    pub fn refresh(
        &mut self,
        named: &BTreeMap<ObjectId, Certificate>,
        files: &BTreeMap<PathBuf, Content>,
    ) -> (bool, Vec<Diagnostic>) {
        let before = self.loaded.len();
        self.loaded.retain(|id, _| named.contains_key(id));
        let mut changed = self.loaded.len() != before;
        let mut findings = Vec::new();
        for (id, certificate) in named {
            match self.one(id, certificate, files) {
                Ok(another) => changed |= another,
                Err(why) => {
                    let kept = match self.loaded.contains_key(id) {
                        true => "the one before it stays in force",
                        false => "hosts that need it show no certificate",
                    };
                    let detail = format!("{why}; {kept}");
                    let origin = certificate.origin.clone();
                    findings.push(Diagnostic::error(id.clone(), Reason::CertificateInvalid, origin, detail));
                }
            }
        }
        (changed, findings)
    }

    pub fn loaded(&self) -> BTreeMap<ObjectId, Arc<LoadedCertificate>> {
        self.loaded.iter().map(|(id, loaded)| (id.clone(), loaded.certificate.clone())).collect()
    }

    fn one(
        &mut self,
        id: &ObjectId,
        certificate: &Certificate,
        files: &BTreeMap<PathBuf, Content>,
    ) -> Result<bool, String> {
        let content = |path: &PathBuf| match files.get(path) {
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("{} has not been read yet", path.display())),
        };
        let (chain, key) = (content(&certificate.cert_file)?, content(&certificate.key_file)?);
        if self.loaded.get(id).is_some_and(|loaded| *loaded.chain == *chain && *loaded.key == *key) {
            return Ok(false);
        }
        let (chain_file, key_file) = (certificate.cert_file.display(), certificate.key_file.display());
        let loaded = load_certified_key(&chain, &key).map_err(|why| format!("{chain_file}, {key_file}: {why}"))?;
        self.loaded.insert(id.clone(), Loaded { chain, key, certificate: Arc::new(loaded) });
        Ok(true)
    }
}
