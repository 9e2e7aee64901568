//! Revocation lists: from files and text, which close when they are broken, and from URLs, whose last word stays.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::numbers::CrlNumbers;
use super::{CUT_SHORT, Found, Read, Refreshed, Trust, close, content, is_cut_short, place, put, warn};
use crate::material::url::Fetched;
use crate::model::diagnostic::{Diagnostic, Reason, Severity};
use crate::model::id::ObjectId;
use crate::model::mtls::{ListSource, Revocation};
use crate::model::schema::{ClientAuthMode, StaleList};
use crate::reconcile::Desired;
use crate::table::revocation::{LoadedLists, RevocationList};
use crate::table::trust::Anchor;

impl Trust {
    /// The CAs that policies with this list trust. Of another CA's list it is not known here who signs it.
    pub(super) fn signers(&self, list: &ObjectId, desired: &Desired) -> Vec<Arc<Anchor>> {
        let policies = desired.policies.values().filter(|policy| policy.revoked.contains(list));
        let bundles: BTreeSet<&ObjectId> = policies.flat_map(|policy| &policy.trust).collect();
        let bundles = bundles.into_iter().filter_map(|id| self.bundles.get(id)?.as_ref().ok());
        bundles.flat_map(|bundle| bundle.anchors.iter().cloned()).collect()
    }

    /// Which CAs each policy trusts without a list that could take their word back. One of ours needs none.
    pub(super) fn unchecked(&self, desired: &Desired) -> Vec<Diagnostic> {
        let verifies = |mode| matches!(mode, ClientAuthMode::VerifyIfGiven | ClientAuthMode::Require);
        let mut findings = Vec::new();
        for (id, policy) in desired.policies.iter().filter(|(_, policy)| verifies(policy.rules.mode)) {
            let lists = policy.revoked.iter().filter_map(|list| self.lists.get(list)?.as_ref().ok());
            let issuers: BTreeSet<&[u8]> =
                lists.flat_map(|loaded| loaded.lists.iter().map(|list| &*list.issuer)).collect();
            let bundles = policy.trust.iter().filter_map(|bundle| self.bundles.get(bundle)?.as_ref().ok());
            let anchors = bundles.flat_map(|bundle| &bundle.anchors);
            let unchecked: BTreeSet<&str> = anchors
                .filter(|anchor| !issuers.contains(&*anchor.trust.subject))
                .filter(|anchor| !self.own.values().any(|own| own.is_root(&anchor.der)))
                .map(|anchor| &*anchor.subject)
                .collect();
            if unchecked.is_empty() {
                continue;
            }
            let names: Vec<&str> = unchecked.into_iter().collect();
            let detail = format!(
                "whether a certificate of \"{}\" was revoked is not checked, because no list under revoked: is of that CA",
                names.join("\", \"")
            );
            // With lists for some, one for the rest is missing rather than not wanted.
            let severity = if policy.revoked.is_empty() { Severity::Info } else { Severity::Warning };
            let finding = Diagnostic::warning(id.clone(), Reason::NoRevocationList, policy.origin.clone(), detail);
            findings.push(Diagnostic { severity, ..finding }.on("revoked"));
        }
        findings
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn list(
        &mut self,
        id: &ObjectId,
        list: &Revocation,
        signers: &[Arc<Anchor>],
        found: Found<'_>,
        numbers: &mut CrlNumbers,
        now: Timestamp,
        refreshed: &mut Refreshed,
    ) {
        let mut judge = |trust: &mut Trust, bytes: Arc<[u8]>, file: bool, refreshed: &mut Refreshed| {
            trust.judged(id, bytes, file, signers, numbers, refreshed)
        };
        let mut warnings = Vec::new();
        let file = match &list.from {
            Some(ListSource::File(path)) => Some(path),
            _ => None,
        };
        let place = place(file);
        let loaded = match &list.from {
            Some(ListSource::File(path)) => content(path, found.files).and_then(|bytes| {
                let (loaded, _) = judge(self, bytes, true, refreshed).map_err(|why| format!("{place}{why}"))?;
                Ok(loaded)
            }),
            Some(ListSource::Pem(pem)) => {
                judge(self, pem.as_bytes().into(), false, refreshed).map(|(loaded, _)| loaded)
            }
            Some(ListSource::Url { url, .. }) => {
                let Fetched { content, trouble } = found.urls.get(url).cloned().unwrap_or_default();
                let judged = match content {
                    Some(bytes) => judge(self, bytes.clone(), false, refreshed).map(|(loaded, new)| {
                        if new {
                            refreshed.fetched.push((url.clone(), bytes));
                        }
                        loaded
                    }),
                    None => Err(trouble.clone().unwrap_or_else(|| "it has not been fetched yet".into())),
                };
                let trouble = judged.as_ref().err().cloned().or(trouble);
                let last = self.read_lists.get(id).map(|read| read.loaded.clone());
                match (judged.ok().or(last), trouble) {
                    (Some(loaded), None) => Ok(loaded),
                    (Some(loaded), Some(why)) => {
                        warnings.push(format!("{url}: {why}; the last list that it had stays in force"));
                        Ok(loaded)
                    }
                    (None, why) => Err(format!("{url}: {}", why.unwrap_or_default())),
                }
            }
            None => Err("it says nothing".to_string()),
        };
        match &loaded {
            Ok(loaded) => {
                let ends = loaded.lists.iter().map(|list| list.next_update).filter(|end| *end >= now);
                refreshed.next = refreshed.next.into_iter().chain(ends).min();
                warn(id, &list.origin, "", warnings, refreshed);
                let warnings = loaded.warnings(now, list.stale == StaleList::Deny);
                warn(id, &list.origin, &place, warnings, refreshed);
            }
            Err(why) => close(id, &list.origin, why, refreshed),
        }
        let same = |a: &Arc<LoadedLists>, b: &Arc<LoadedLists>| a.key == b.key;
        refreshed.changed |= put(&mut self.lists, id, loaded, same);
    }

    /// And whether it is another one than before.
    fn judged(
        &mut self,
        id: &ObjectId,
        bytes: Arc<[u8]>,
        file: bool,
        signers: &[Arc<Anchor>],
        numbers: &mut CrlNumbers,
        refreshed: &mut Refreshed,
    ) -> Result<(Arc<LoadedLists>, bool), String> {
        let last = self.read_lists.get(id);
        if let Some(last) = last.filter(|last| *last.bytes == *bytes) {
            return Ok((last.loaded.clone(), false));
        }
        if file && is_cut_short(last, &bytes) {
            return Err(CUT_SHORT.into());
        }
        let loaded = Arc::new(LoadedLists::read(&bytes).map_err(|why| why.to_string())?);
        for list in &loaded.lists {
            signed(list, signers)?;
            numbers.check(id, list)?;
        }
        for list in &loaded.lists {
            refreshed.numbers |= numbers.record(id, list);
        }
        self.read_lists.insert(id.clone(), Read { bytes, loaded: loaded.clone() });
        Ok((loaded, true))
    }
}

/// Where the CA of that name is among those who are trusted. Its number would otherwise be anybody's to set.
fn signed(list: &RevocationList, signers: &[Arc<Anchor>]) -> Result<(), String> {
    let mut named = signers.iter().filter(|anchor| *anchor.trust.subject == *list.issuer).peekable();
    if named.peek().is_none() {
        return Ok(());
    }
    let by = |anchor: &Arc<Anchor>| {
        let (list, ca) = (CertificateRevocationList::from_der(&list.der), parse_x509_certificate(&anchor.der));
        matches!((list, ca), (Ok((_, list)), Ok((_, ca))) if list.verify_signature(ca.public_key()).is_ok())
    };
    match named.any(by) {
        true => Ok(()),
        false => {
            Err(format!("the list of \"{}\" is not signed by the CA of that name that is trusted", list.issuer_text))
        }
    }
}
