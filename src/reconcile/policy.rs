//! A policy's bundles and revocation lists become ObjectIds, or the policy is denied, and with it every route that names
//! it: what a policy needs is never left out of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::diagnostic::{Denial, Diagnostic, Origin, Reason};
use crate::model::id::{Kind, NameRef, ObjectId};
use crate::model::mtls::{BundleSource, ClientRules, ListSource, MtlsPolicy, Revocation, TrustBundle};
use crate::model::schema::StaleList;

use super::resolve::lookup;

pub(super) struct ResolvedPolicy {
    pub policy: MtlsPolicy,
    pub trust: BTreeSet<ObjectId>,
    pub revoked: BTreeSet<ObjectId>,
}

/// What two policies must have in common to be one, whatever they and their material are called.
#[derive(Debug, PartialEq)]
pub(super) struct PolicyContent<'p> {
    rules: &'p ClientRules,
    trust: Vec<Option<&'p BundleSource>>,
    revoked: Vec<Option<(&'p ListSource, StaleList)>>,
}

pub(super) fn resolve(
    mut policy: MtlsPolicy,
    bundles: &BTreeMap<ObjectId, TrustBundle>,
    revocations: &BTreeMap<ObjectId, Revocation>,
    findings: &mut Vec<Diagnostic>,
) -> ResolvedPolicy {
    let (trust, revoked) = (policy.trust.clone(), policy.revoked.clone());
    let trust = references(&mut policy, "trust", &trust, Kind::TrustBundle, bundles, |b| &b.denied, findings);
    let revoked = references(&mut policy, "revoked", &revoked, Kind::Revocation, revocations, |r| &r.denied, findings);
    ResolvedPolicy { policy, trust, revoked }
}

fn references<T>(
    policy: &mut MtlsPolicy,
    field: &'static str,
    names: &[NameRef],
    kind: Kind,
    objects: &BTreeMap<ObjectId, T>,
    denied: impl Fn(&T) -> &Option<Denial>,
    findings: &mut Vec<Diagnostic>,
) -> BTreeSet<ObjectId> {
    let source = policy.id.source();
    let mut found = BTreeSet::new();
    for reference in names {
        let (reason, detail) = match lookup(objects, kind, reference, &source) {
            Ok((id, object)) => match denied(object) {
                None => {
                    found.insert(id);
                    continue;
                }
                Some(denial) => (denial.reason, format!("{id} is unusable: {}", denial.detail)),
            },
            Err(detail) => (Reason::Unresolved, detail),
        };
        findings.push(Diagnostic::error(policy.id.clone(), reason, policy.origin.clone(), detail.as_str()).on(field));
        policy.denied.get_or_insert_with(|| Denial::new(reason, detail));
    }
    found
}

impl ResolvedPolicy {
    pub fn content<'p>(
        &'p self,
        bundles: &'p BTreeMap<ObjectId, TrustBundle>,
        revocations: &'p BTreeMap<ObjectId, Revocation>,
    ) -> PolicyContent<'p> {
        let list = |id| {
            let list: &Revocation = revocations.get(id)?;
            Some((list.from.as_ref()?, list.stale))
        };
        PolicyContent {
            rules: &self.policy.rules,
            trust: self.trust.iter().map(|id| bundles.get(id).and_then(|bundle| bundle.from.as_ref())).collect(),
            revoked: self.revoked.iter().map(list).collect(),
        }
    }

    pub fn origin(&self) -> &Origin {
        &self.policy.origin
    }
}
