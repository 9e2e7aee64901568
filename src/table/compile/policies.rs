//! Client-certificate policies, from what could be had of them. Nothing missing is left out: it is a denial.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::id::ObjectId;
use crate::reconcile::{Desired, DesiredPolicy};
use crate::table::policy::Policy;

use super::{Build, Materials};

impl<'d> Build<'d> {
    /// Every policy with its material, or what is missing of it: then nobody is let in by it. One that did not change is
    /// the one before, with what connections remember of it.
    pub(super) fn policies(&mut self) -> BTreeMap<&'d ObjectId, Result<Arc<Policy>, Denial>> {
        let Build { desired, materials, previous, .. } = *self;
        let mut compiled = BTreeMap::new();
        for (id, policy) in &desired.policies {
            let built = Self::policy(desired, &materials, id, policy).map(|policy| {
                let before = previous.policies.get(id).filter(|before| before.key == policy.key);
                before.cloned().unwrap_or_else(|| Arc::new(policy))
            });
            if let Err(denial) = &built {
                let diagnostic = Diagnostic::error(id.clone(), denial.reason, policy.origin.clone(), &*denial.detail);
                self.findings.push(diagnostic);
            }
            compiled.insert(id, built);
        }
        compiled
    }

    pub(super) fn policy(
        desired: &Desired,
        materials: &Materials<'_>,
        id: &ObjectId,
        policy: &DesiredPolicy,
    ) -> Result<Policy, Denial> {
        let unusable = |id: &ObjectId, why: &str| Denial::new(Reason::TrustInvalid, format!("{id}: {why}"));
        let missing = |id: &ObjectId| unusable(id, "it is not there");
        let bundles = policy.trust.iter().map(|id| {
            let loaded = materials.bundles.get(id).ok_or_else(|| missing(id))?;
            loaded.clone().map_err(|why| unusable(id, &why))
        });
        let lists = policy.revoked.iter().map(|id| {
            let loaded = materials.revocations.get(id).ok_or_else(|| missing(id))?;
            let stale = desired.revocations.get(id).ok_or_else(|| missing(id))?.stale;
            Ok((loaded.clone().map_err(|why| unusable(id, &why))?, stale))
        });
        let bundles = bundles.collect::<Result<Vec<_>, _>>()?;
        let lists = lists.collect::<Result<Vec<_>, _>>()?;
        Ok(Policy::new(id.clone(), policy.rules.clone(), bundles, lists))
    }
}
