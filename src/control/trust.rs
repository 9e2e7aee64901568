//! Trust bundles and revocation lists, from where they are found now to what a chain is checked against.
//!
//! ```text
//! Desired's bundles and lists + files, URLs, internal CAs ─refresh(now)─▶ each loaded, or why not
//!                                                CrlNumbers ◀──┘ the highest of each issuer: never again a lower one
//! ```
//! Unlike a certificate, one that cannot be used leaves nothing in force: what was trusted before may be what its owner
//! has just taken away. Only what a URL said last stays, until it says itself that it is overdue.

mod bundles;
mod lists;
pub mod numbers;
mod own;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::control::ca::TrustFiles;
use crate::material::file::Content;
use crate::material::url::Fetched;
use crate::model::diagnostic::{Diagnostic, Origin, Reason};
use crate::model::id::{Name, ObjectId};
use crate::model::mtls::{BundleSource, ListSource};
use crate::model::units::Span;
use crate::reconcile::Desired;
use crate::table::revocation::LoadedLists;
use crate::table::trust::LoadedBundle;

use numbers::CrlNumbers;
use own::OwnCa;

pub type Bundles = BTreeMap<ObjectId, Result<Arc<LoadedBundle>, String>>;
pub type Lists = BTreeMap<ObjectId, Result<Arc<LoadedLists>, String>>;

/// What policies and services are judged by, as it is now.
#[derive(Debug, Default)]
pub struct Trust {
    pub bundles: Bundles,
    pub lists: Lists,
    /// The last good content of each, so that nothing is read twice.
    read_bundles: BTreeMap<ObjectId, Read<LoadedBundle>>,
    read_lists: BTreeMap<ObjectId, Read<LoadedLists>>,
    own: BTreeMap<Name, OwnCa>,
}

#[derive(Debug)]
struct Read<T> {
    bytes: Arc<[u8]>,
    loaded: Arc<T>,
}

/// What is there where bundles and lists are said to be.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    pub files: &'a BTreeMap<PathBuf, Content>,
    pub urls: &'a BTreeMap<Arc<str>, Fetched>,
    /// The internal CAs.
    pub issuers: &'a BTreeMap<Name, TrustFiles>,
}

/// Whether anything is another one now, and what is wrong.
#[derive(Debug, Default)]
pub struct Refreshed {
    pub changed: bool,
    pub findings: Vec<Diagnostic>,
    /// When a CA begins or ends, or a list is overdue: to be refreshed again then.
    pub next: Option<Timestamp>,
    /// Whether a higher number was seen.
    pub numbers: bool,
    /// What was fetched and is good, to be kept for a start while its URL is away.
    pub fetched: Vec<(Arc<str>, Arc<[u8]>)>,
}

/// Every file that bundles and lists are read from. A bundle may hold the root of an internal CA by any name, and its leaves
/// lead to whatever its root is, so that all of these are followed.
pub fn files(desired: &Desired, issuers: &BTreeMap<Name, TrustFiles>) -> Vec<PathBuf> {
    let bundles = desired.bundles.values().filter_map(|bundle| match &bundle.from {
        Some(BundleSource::File(path)) => Some(path.clone()),
        _ => None,
    });
    let lists = desired.revocations.values().filter_map(|list| match &list.from {
        Some(ListSource::File(path)) => Some(path.clone()),
        _ => None,
    });
    let own = issuers.values().flat_map(|TrustFiles { root, retired, revoked }| [root, retired, revoked]).cloned();
    bundles.chain(lists).chain(own).collect()
}

/// Every URL that lists are fetched from, and how often.
pub fn urls(desired: &Desired) -> BTreeMap<Arc<str>, Option<Span>> {
    let mut urls: BTreeMap<Arc<str>, Option<Span>> = BTreeMap::new();
    for list in desired.revocations.values() {
        let Some(ListSource::Url { url, refresh }) = &list.from else { continue };
        let wanted = urls.entry(url.clone()).or_insert(*refresh);
        *wanted = [*wanted, *refresh].into_iter().flatten().min_by_key(|span| span.0);
    }
    urls
}

impl Trust {
    pub fn refresh(
        &mut self,
        desired: &Desired,
        found: Found<'_>,
        numbers: &mut CrlNumbers,
        now: Timestamp,
    ) -> Refreshed {
        let mut refreshed = Refreshed::default();
        self.read_bundles.retain(|id, _| desired.bundles.contains_key(id));
        self.read_lists.retain(|id, _| desired.revocations.contains_key(id));
        refreshed.changed |= keep(&mut self.bundles, |id| desired.bundles.contains_key(id));
        refreshed.changed |= keep(&mut self.lists, |id| desired.revocations.contains_key(id));
        if !desired.bundles.is_empty() {
            own::refresh(&mut self.own, found.issuers, found.files);
        }
        for (id, bundle) in &desired.bundles {
            self.bundle(id, bundle, found, now, &mut refreshed);
        }
        for (id, list) in &desired.revocations {
            let signers = self.signers(id, desired);
            self.list(id, list, &signers, found, numbers, now, &mut refreshed);
        }
        refreshed.findings.extend(self.unchecked(desired));
        refreshed
    }
}

fn place(path: Option<&PathBuf>) -> String {
    path.map_or(String::new(), |path| format!("{}: ", path.display()))
}

fn content(path: &PathBuf, files: &BTreeMap<PathBuf, Content>) -> Content {
    match files.get(path) {
        Some(content) => content.clone(),
        None => Err(format!("{} has not been read yet", path.display())),
    }
}

/// Half a file can be whole blocks, and what is missing a list of those who may not come in any more.
fn is_cut_short<T>(last: Option<&Read<T>>, bytes: &[u8]) -> bool {
    !bytes.is_empty() && last.is_some_and(|last| bytes.len() < last.bytes.len() && last.bytes.starts_with(bytes))
}

const CUT_SHORT: &str =
    "it is a mere beginning of what it held; write the rest, or begin it with a comment if that is all";

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
