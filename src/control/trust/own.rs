//! The internal CAs, as those see them who trust them: a root, and what is taken back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::content;
use crate::control::ca::{DenyList, TrustFiles};
use crate::material::file::Content;
use crate::model::certificate::unhex;
use crate::model::id::Name;
use crate::table::content::ContentKey;
use crate::table::trust::{Withdrawn, certificates};

#[derive(Debug)]
pub(super) struct OwnCa {
    pub root: Content,
    /// Every root that it has had: what it has taken back stays so whatever becomes of the file.
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
    for (name, TrustFiles { root, revoked }) in issuers {
        let (root, list) = (content(root, files), content(revoked, files));
        if own.get(name).is_none_or(|own| own.root != root || own.revoked != list) {
            let before = own.remove(name).map(|own| own.roots).unwrap_or_default();
            own.insert(name.clone(), OwnCa::new(before, root, list, revoked));
        }
    }
}

impl OwnCa {
    fn new(mut roots: Vec<CertificateDer<'static>>, root: Content, revoked: Content, place: &Path) -> OwnCa {
        let read = root.as_ref().ok().and_then(|bytes: &Arc<[u8]>| certificates(bytes).ok());
        for root in read.unwrap_or_default() {
            if !roots.contains(&root) {
                roots.push(root);
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
            root,
            revoked,
        }
    }

    pub fn is_root(&self, certificate: &CertificateDer<'_>) -> bool {
        self.roots.contains(certificate)
    }
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
