//! Bundles of CAs: from files, from text, from the internal CA.

use std::sync::Arc;

use jiff::Timestamp;

use super::{CUT_SHORT, Found, Read, Refreshed, Trust, close, content, is_cut_short, place, put, warn};
use crate::model::id::ObjectId;
use crate::model::mtls::{BundleSource, TrustBundle};
use crate::table::trust::{LoadedBundle, Withdrawn};

impl Trust {
    pub(super) fn bundle(
        &mut self,
        id: &ObjectId,
        bundle: &TrustBundle,
        found: Found<'_>,
        now: Timestamp,
        refreshed: &mut Refreshed,
    ) {
        let file = match &bundle.from {
            Some(BundleSource::File(path)) => Some(path),
            _ => None,
        };
        let place = place(file);
        let content = match &bundle.from {
            Some(BundleSource::File(path)) => content(path, found.files),
            Some(BundleSource::Pem(pem)) => Ok(pem.as_bytes().into()),
            Some(BundleSource::Issuer(name)) => match self.own.get(name) {
                Some(own) => own.trusted(now).map(|(roots, end)| {
                    refreshed.next = refreshed.next.into_iter().chain(end).min();
                    roots
                }),
                None => Err(format!("there is no internal CA \"{name}\" under issuers:")),
            },
            None => Err("it says nothing".to_string()),
        };
        let loaded = content.and_then(|bytes| {
            let base = self.base(id, bytes, file.is_some()).map_err(|why| format!("{place}{why}"))?;
            refreshed.next = refreshed.next.into_iter().chain(base.next_change(now)).min();
            base.check(now).map_err(|why| format!("{place}{why}"))?;
            self.less_withdrawn(id, base)
        });
        match &loaded {
            Ok(loaded) => warn(id, &bundle.origin, &place, loaded.warnings(now), refreshed),
            Err(why) => close(id, &bundle.origin, why, refreshed),
        }
        let same = |a: &Arc<LoadedBundle>, b: &Arc<LoadedBundle>| a.key == b.key;
        refreshed.changed |= put(&mut self.bundles, id, loaded, same);
    }

    /// The CAs alone.
    fn base(&mut self, id: &ObjectId, bytes: Arc<[u8]>, file: bool) -> Result<Arc<LoadedBundle>, String> {
        let last = self.read_bundles.get(id);
        if let Some(last) = last.filter(|last| *last.bytes == *bytes) {
            return Ok(last.loaded.clone());
        }
        if file && is_cut_short(last, &bytes) {
            return Err(CUT_SHORT.into());
        }
        let loaded = Arc::new(LoadedBundle::read(&bytes).map_err(|why| why.to_string())?);
        self.read_bundles.insert(id.clone(), Read { bytes, loaded: loaded.clone() });
        Ok(loaded)
    }

    /// With what internal CAs have taken back, by whatever name their roots came in.
    fn less_withdrawn(&self, id: &ObjectId, base: Arc<LoadedBundle>) -> Result<Arc<LoadedBundle>, String> {
        let mut withdrawn = Withdrawn::default();
        for own in self.own.values().filter(|own| base.anchors.iter().any(|anchor| own.is_root(&anchor.der))) {
            let Withdrawn { serials, fingerprints } = own.withdrawn.clone()?;
            withdrawn.serials.extend(serials);
            withdrawn.fingerprints.extend(fingerprints);
        }
        if withdrawn == base.withdrawn {
            return Ok(base);
        }
        match self.bundles.get(id) {
            Some(Ok(before)) if before.withdrawn == withdrawn && before.anchors == base.anchors => Ok(before.clone()),
            _ => Ok(Arc::new(LoadedBundle::clone(&base).without(withdrawn))),
        }
    }
}
