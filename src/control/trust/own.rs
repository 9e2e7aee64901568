//! The internal CAs, as those see them who trust them: a root, those before it, and what is taken back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::content;
use crate::control::ca::{DenyList, RetiredRoots, TrustFiles, pem_text};
use crate::material::file::Content;
use crate::model::certificate::unhex;
use crate::model::id::Name;
use crate::table::content::ContentKey;
use crate::table::trust::{Withdrawn, certificates};

#[derive(Debug)]
pub(super) struct OwnCa {
    root: Content,
    retired: Content,
    /// The root in force, and those before it; the words for a person name the file.
    read: Result<(Vec<CertificateDer<'static>>, RetiredRoots), String>,
    /// Every root that it has had: what it has taken back stays so whatever becomes of the files.
    roots: Vec<CertificateDer<'static>>,
    /// The words for a person name the file.
    pub withdrawn: Result<Withdrawn, String>,
    revoked: Content,
}

pub(super) fn refresh(
    own: &mut BTreeMap<Name, OwnCa>,
    issuers: &BTreeMap<Name, TrustFiles>,
    files: &BTreeMap<PathBuf, Content>,
) {
    own.retain(|name, _| issuers.contains_key(name));
    for (name, places) in issuers {
        let TrustFiles { root, retired, revoked } = places;
        let now = [root, retired, revoked].map(|path| content(path, files));
        if own.get(name).is_none_or(|own| [&own.root, &own.retired, &own.revoked] != now.each_ref()) {
            let before = own.remove(name).map(|own| own.roots).unwrap_or_default();
            own.insert(name.clone(), OwnCa::new(before, now, places));
        }
    }
}

impl OwnCa {
    fn new(mut roots: Vec<CertificateDer<'static>>, files: [Content; 3], places: &TrustFiles) -> OwnCa {
        let [root, retired, revoked] = files;
        let place = &places.revoked;
        let read = read(&root, &retired, places);
        let named = read
            .iter()
            .flat_map(|(roots, retired)| roots.iter().chain(retired.entries.iter().map(|entry| &entry.certificate)));
        for root in named {
            if !roots.contains(root) {
                roots.push(root.clone());
            }
        }
        let mend = "write it anew with any portolan ca command";
        let withdrawn = match &revoked {
            Ok(bytes) => DenyList::parse(bytes).and_then(|list| withdrawn(&list)),
            Err(why) => Err(why.clone()),
        };
        OwnCa {
            roots,
            withdrawn: withdrawn.map_err(|why| format!("{}: {why}; {mend}, after removing it", place.display())),
            read,
            root,
            retired,
            revoked,
        }
    }

    /// The roots that are trusted at this moment, as PEM, and when that is the next time otherwise.
    pub fn trusted(&self, now: Timestamp) -> Result<(Arc<[u8]>, Option<Timestamp>), String> {
        let (roots, retired) = self.read.as_ref().map_err(Clone::clone)?;
        let before = retired.trusted(now).map(|entry| &entry.certificate);
        let pem: String = roots.iter().chain(before).map(|root| pem_text("CERTIFICATE", root)).collect();
        Ok((pem.into_bytes().into(), retired.next_end(now)))
    }

    pub fn is_root(&self, certificate: &CertificateDer<'_>) -> bool {
        self.roots.contains(certificate)
    }
}

fn read(
    root: &Content,
    retired: &Content,
    places: &TrustFiles,
) -> Result<(Vec<CertificateDer<'static>>, RetiredRoots), String> {
    let bytes: &Arc<[u8]> = root.as_ref().map_err(Clone::clone)?;
    let roots = certificates(bytes).map_err(|why| format!("{}: {why}", places.root.display()))?;
    let bytes = retired.as_ref().map_err(Clone::clone)?;
    let retired = RetiredRoots::parse(bytes).map_err(|why| format!("{}: it {why}", places.retired.display()))?;
    Ok((roots, retired))
}

fn withdrawn(list: &DenyList) -> Result<Withdrawn, String> {
    let mut withdrawn = Withdrawn::default();
    for entry in &list.entries {
        let read = |text: &str| unhex(text).ok_or_else(|| format!("is damaged (\"{text}\" is no number)"));
        let serial = read(&entry.certificate.serial)?;
        let zeros = serial.iter().take_while(|byte| **byte == 0).count();
        withdrawn.serials.insert(serial[zeros..].into());
        withdrawn.fingerprints.insert(ContentKey::from(&read(&entry.certificate.fingerprint)?[..]));
    }
    Ok(withdrawn)
}
