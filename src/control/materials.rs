//! Configured certificates, from what the files hold now to what a handshake can show.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

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
    /// Reads what changed. Returns whether any certificate is another one now, what is wrong with the rest, and what the
    /// owners of those in force should know `now`.
    pub fn refresh(
        &mut self,
        named: &BTreeMap<ObjectId, Certificate>,
        files: &BTreeMap<PathBuf, Content>,
        now: Timestamp,
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
            let warnings = self.loaded.get(id).map(|loaded| loaded.certificate.warnings(now));
            findings.extend(warnings.into_iter().flatten().map(|warning| {
                let detail = format!("{}: {warning}", certificate.cert_file.display());
                let origin = certificate.origin.clone();
                Diagnostic::warning(id.clone(), Reason::CertificateInvalid, origin, detail)
            }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, Origin, Provider, Source};

    #[test]
    fn what_is_wrong_with_a_certificate_that_is_in_force_is_a_finding() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let chain = params.self_signed(&key).expect("signed").pem();
        let id = ObjectId::new(&Source::new(Provider::Settings, None), Kind::Certificate, "shop");
        let certificate = Certificate {
            id: id.clone(),
            origin: Origin::File { path: "portolan.yaml".into(), line: 7, column: 3 },
            cert_file: "/c.pem".into(),
            key_file: "/k.pem".into(),
            denied: None,
        };
        let named = BTreeMap::from([(id.clone(), certificate)]);
        let files = BTreeMap::from([
            ("/c.pem".into(), Ok(chain.into_bytes().into())),
            ("/k.pem".into(), Ok(key.serialize_pem().into_bytes().into())),
        ]);
        let mut certificates = Certificates::default();
        let at = |time: &str| time.parse::<Timestamp>().expect("a time");
        let mut warned = |now: &str| -> Vec<String> {
            let (_, findings) = certificates.refresh(&named, &files, at(now));
            assert!(findings.iter().all(|finding| finding.severity == crate::model::Severity::Warning));
            findings.iter().map(ToString::to_string).collect()
        };
        // Its end comes while nothing else changes.
        let valid = warned("2020-06-01T00:00:00Z");
        assert!(valid.len() == 1 && valid[0].contains("subjectAltName"), "{valid:?}");
        let expired = warned("2022-01-01T00:00:00Z");
        assert!(expired.len() == 2 && expired.iter().any(|w| w.contains("expired at 2021-01-01")), "{expired:?}");
        assert!(expired.iter().all(|w| w.contains("portolan.yaml:7:3") && w.contains("/c.pem")), "{expired:?}");
        assert!(warned("2019-01-01T00:00:00Z").iter().any(|w| w.contains("not valid before")));
        assert!(certificates.loaded().contains_key(&id), "it is used all the same");
    }
}
