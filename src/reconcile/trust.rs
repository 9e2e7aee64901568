//! The bundles that services trust become ObjectIds, or the service is denied, and with it every route that uses it: what an
//! endpoint is to be checked against is never left out.

use std::collections::BTreeMap;

use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::id::{Kind, NameRef, ObjectId};
use crate::model::mtls::TrustBundle;
use crate::model::service::Service;

use super::resolve::lookup;

/// By service, what each reference of its endpoints leads to.
pub(super) type Trusted = BTreeMap<ObjectId, BTreeMap<NameRef, ObjectId>>;

pub(super) fn resolve(
    services: &mut BTreeMap<ObjectId, Service>,
    bundles: &BTreeMap<ObjectId, TrustBundle>,
    findings: &mut Vec<Diagnostic>,
) -> Trusted {
    let mut trusted = Trusted::new();
    for service in services.values_mut() {
        let endpoints = service.endpoints.iter().filter_map(|endpoint| endpoint.tls.clone());
        let mut references: Vec<NameRef> = endpoints.flat_map(|tls| tls.trust.clone()).collect();
        references.sort();
        references.dedup();
        for reference in references {
            let (reason, detail) = match lookup(bundles, Kind::TrustBundle, &reference, &service.id.source()) {
                Ok((id, bundle)) => match &bundle.denied {
                    None => {
                        trusted.entry(service.id.clone()).or_default().insert(reference, id);
                        continue;
                    }
                    Some(denial) => (denial.reason, format!("{id} is unusable: {}", denial.detail)),
                },
                Err(detail) => (Reason::Unresolved, detail),
            };
            let origin = service.origin.clone();
            findings.push(Diagnostic::error(service.id.clone(), reason, origin, detail.as_str()).on("tls.trust"));
            service.denied.get_or_insert_with(|| Denial::new(reason, detail));
        }
    }
    trusted
}
