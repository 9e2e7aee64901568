//! Trust bundles and revocation lists, from where they are found now to what a chain is checked against.
//!
//! ```text
//! Desired's bundles and lists + files ─refresh(now)─▶ each loaded, or why not
//! ```
//! Unlike a certificate, one that cannot be used leaves nothing in force: what was trusted before may be what its owner
//! has just taken away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::material::file::Content;
use crate::model::diagnostic::{Diagnostic, Origin, Reason};
use crate::model::id::ObjectId;
use crate::model::mtls::{BundleSource, ListSource, Revocation, TrustBundle};
use crate::model::schema::StaleList;
use crate::reconcile::Desired;
use crate::table::revocation::LoadedLists;
use crate::table::trust::LoadedBundle;

pub type Bundles = BTreeMap<ObjectId, Result<Arc<LoadedBundle>, String>>;
pub type Lists = BTreeMap<ObjectId, Result<Arc<LoadedLists>, String>>;

/// What policies and services are judged by, as it is now.
#[derive(Debug, Default)]
pub struct Trust {
    pub bundles: Bundles,
    pub lists: Lists,
    /// What each was read from, so that nothing is read twice.
    read: BTreeMap<ObjectId, Arc<[u8]>>,
}

/// Whether anything is another one now, and what is wrong.
#[derive(Debug, Default)]
pub struct Refreshed {
    pub changed: bool,
    pub findings: Vec<Diagnostic>,
    /// When a CA begins or ends, or a list is overdue: to be refreshed again then.
    pub next: Option<Timestamp>,
}

/// Every file that bundles and lists are read from.
pub fn files(desired: &Desired) -> impl Iterator<Item = PathBuf> {
    let bundles = desired.bundles.values().filter_map(|bundle| match &bundle.from {
        Some(BundleSource::File(path)) => Some(path.clone()),
        _ => None,
    });
    let lists = desired.revocations.values().filter_map(|list| match &list.from {
        Some(ListSource::File(path)) => Some(path.clone()),
        _ => None,
    });
    bundles.chain(lists)
}

impl Trust {
    pub fn refresh(&mut self, desired: &Desired, files: &BTreeMap<PathBuf, Content>, now: Timestamp) -> Refreshed {
        let mut refreshed = Refreshed::default();
        let known = |id: &ObjectId| desired.bundles.contains_key(id) || desired.revocations.contains_key(id);
        self.read.retain(|id, _| known(id));
        refreshed.changed |= keep(&mut self.bundles, |id| desired.bundles.contains_key(id));
        refreshed.changed |= keep(&mut self.lists, |id| desired.revocations.contains_key(id));
        for (id, bundle) in &desired.bundles {
            self.bundle(id, bundle, files, now, &mut refreshed);
        }
        for (id, list) in &desired.revocations {
            self.list(id, list, files, now, &mut refreshed);
        }
        refreshed
    }

    fn bundle(
        &mut self,
        id: &ObjectId,
        bundle: &TrustBundle,
        files: &BTreeMap<PathBuf, Content>,
        now: Timestamp,
        refreshed: &mut Refreshed,
    ) {
        let place = place(match &bundle.from {
            Some(BundleSource::File(path)) => Some(path),
            _ => None,
        });
        let content = match &bundle.from {
            Some(BundleSource::File(path)) => content(path, files),
            Some(BundleSource::Pem(pem)) => Ok(pem.as_bytes().into()),
            Some(BundleSource::Issuer(name)) => Err(format!("trusting the issuer \"{name}\" is not built yet")),
            None => Err("it says nothing".to_string()),
        };
        let loaded = content.and_then(|bytes| {
            let same = self.read.get(id).is_some_and(|read| **read == *bytes);
            let before = self.bundles.get(id).and_then(|before| before.as_ref().ok());
            let loaded = match before {
                Some(before) if same => before.clone(),
                _ => Arc::new(LoadedBundle::read(&bytes).map_err(|why| format!("{place}{why}"))?),
            };
            self.read.insert(id.clone(), bytes);
            refreshed.next = refreshed.next.into_iter().chain(loaded.next_change(now)).min();
            loaded.check(now).map_err(|why| format!("{place}{why}"))?;
            Ok(loaded)
        });
        match &loaded {
            Ok(loaded) => warn(id, &bundle.origin, &place, loaded.warnings(now), refreshed),
            Err(why) => close(id, &bundle.origin, why, refreshed),
        }
        let same = |a: &Arc<LoadedBundle>, b: &Arc<LoadedBundle>| a.key == b.key;
        refreshed.changed |= put(&mut self.bundles, id, loaded, same);
    }

    fn list(
        &mut self,
        id: &ObjectId,
        list: &Revocation,
        files: &BTreeMap<PathBuf, Content>,
        now: Timestamp,
        refreshed: &mut Refreshed,
    ) {
        let place = place(match &list.from {
            Some(ListSource::File(path)) => Some(path),
            _ => None,
        });
        let content = match &list.from {
            Some(ListSource::File(path)) => content(path, files),
            Some(ListSource::Pem(pem)) => Ok(pem.as_bytes().into()),
            Some(ListSource::Url { url, .. }) => Err(format!("fetching {url} is not built yet")),
            None => Err("it says nothing".to_string()),
        };
        let loaded = content.and_then(|bytes| {
            let same = self.read.get(id).is_some_and(|read| **read == *bytes);
            let before = self.lists.get(id).and_then(|before| before.as_ref().ok());
            let loaded = match before {
                Some(before) if same => before.clone(),
                _ => Arc::new(LoadedLists::read(&bytes).map_err(|why| format!("{place}{why}"))?),
            };
            self.read.insert(id.clone(), bytes);
            Ok(loaded)
        });
        match &loaded {
            Ok(loaded) => {
                let ends = loaded.lists.iter().map(|list| list.next_update).filter(|end| *end >= now);
                refreshed.next = refreshed.next.into_iter().chain(ends).min();
                let warnings = loaded.warnings(now, list.stale == StaleList::Deny);
                warn(id, &list.origin, &place, warnings, refreshed);
            }
            Err(why) => close(id, &list.origin, why, refreshed),
        }
        let same = |a: &Arc<LoadedLists>, b: &Arc<LoadedLists>| a.key == b.key;
        refreshed.changed |= put(&mut self.lists, id, loaded, same);
    }
}

fn place(path: Option<&PathBuf>) -> String {
    path.map_or(String::new(), |path| format!("{}: ", path.display()))
}

fn content(path: &PathBuf, files: &BTreeMap<PathBuf, Content>) -> Result<Arc<[u8]>, String> {
    match files.get(path) {
        Some(Ok(bytes)) => Ok(bytes.clone()),
        Some(Err(why)) => Err(why.clone()),
        None => Err(format!("{} has not been read yet", path.display())),
    }
}

fn keep<T>(map: &mut BTreeMap<ObjectId, T>, wanted: impl Fn(&ObjectId) -> bool) -> bool {
    let before = map.len();
    map.retain(|id, _| wanted(id));
    map.len() != before
}

fn put<T>(
    map: &mut BTreeMap<ObjectId, Result<T, String>>,
    id: &ObjectId,
    now: Result<T, String>,
    same: impl Fn(&T, &T) -> bool,
) -> bool {
    let unchanged = match (map.get(id), &now) {
        (Some(Ok(before)), Ok(now)) => same(before, now),
        (Some(Err(before)), Err(now)) => before == now,
        _ => false,
    };
    map.insert(id.clone(), now);
    !unchanged
}

fn warn(id: &ObjectId, origin: &Origin, place: &str, warnings: Vec<String>, refreshed: &mut Refreshed) {
    refreshed.findings.extend(warnings.into_iter().map(|warning| {
        Diagnostic::warning(id.clone(), Reason::TrustInvalid, origin.clone(), format!("{place}{warning}"))
    }));
}

fn close(id: &ObjectId, origin: &Origin, why: &str, refreshed: &mut Refreshed) {
    let detail = format!("{why}; every policy that needs it is closed until it is mended");
    refreshed.findings.push(Diagnostic::error(id.clone(), Reason::TrustInvalid, origin.clone(), detail));
}
