//! The bundles that services trust, and the certificates that they show, become ObjectIds, or the service is denied, and
//! with it every route that uses it: what an endpoint is to be checked against, or to be shown, is never left out.

use std::collections::BTreeMap;

use crate::model::certificate::Certificate;
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::id::{Kind, NameRef, ObjectId};
use crate::model::mtls::TrustBundle;
use crate::model::service::{ClientCertificate, Service, UpstreamTls};

use super::resolve::lookup;

/// By service, what each reference of its endpoints leads to.
pub(super) type Trusted = BTreeMap<ObjectId, BTreeMap<NameRef, ObjectId>>;

pub(super) fn bundles(
    services: &mut BTreeMap<ObjectId, Service>,
    bundles: &BTreeMap<ObjectId, TrustBundle>,
    findings: &mut Vec<Diagnostic>,
) -> Trusted {
    let of = Named { objects: bundles, kind: Kind::TrustBundle, field: "tls.trust", denied: |bundle| &bundle.denied };
    of.resolve(services, |tls| tls.trust.clone(), findings)
}

pub(super) fn certificates(
    services: &mut BTreeMap<ObjectId, Service>,
    certificates: &BTreeMap<ObjectId, Certificate>,
    findings: &mut Vec<Diagnostic>,
) -> Trusted {
    let of = Named {
        objects: certificates,
        kind: Kind::Certificate,
        field: "tls.client.certificate",
        denied: |certificate| &certificate.denied,
    };
    let shown = |tls: &UpstreamTls| match &tls.client {
        Some(ClientCertificate::Configured(name)) => vec![name.clone()],
        Some(ClientCertificate::Issued { .. }) | None => Vec::new(),
    };
    of.resolve(services, shown, findings)
}

/// Objects of one kind, and where services name them.
struct Named<'o, T> {
    objects: &'o BTreeMap<ObjectId, T>,
    kind: Kind,
    field: &'static str,
    denied: fn(&T) -> &Option<Denial>,
}

impl<T> Named<'_, T> {
    fn resolve(
        &self,
        services: &mut BTreeMap<ObjectId, Service>,
        references: impl Fn(&UpstreamTls) -> Vec<NameRef>,
        findings: &mut Vec<Diagnostic>,
    ) -> Trusted {
        let mut resolved = Trusted::new();
        for service in services.values_mut() {
            let endpoints = service.endpoints.iter().map(|endpoint| &endpoint.tls);
            let named = service.names.iter().map(|named| &named.tls);
            let mut references: Vec<NameRef> =
                endpoints.chain(named).flatten().flat_map(|tls| references(tls)).collect();
            references.sort();
            references.dedup();
            for reference in references {
                let (reason, detail) = match lookup(self.objects, self.kind, &reference, &service.id.source()) {
                    Ok((id, object)) => match (self.denied)(object) {
                        None => {
                            resolved.entry(service.id.clone()).or_default().insert(reference, id);
                            continue;
                        }
                        Some(denial) => (denial.reason, format!("{id} is unusable: {}", denial.detail)),
                    },
                    Err(detail) => (Reason::Unresolved, detail),
                };
                let origin = service.origin.clone();
                findings.push(Diagnostic::error(service.id.clone(), reason, origin, detail.as_str()).on(self.field));
                service.denied.get_or_insert_with(|| Denial::new(reason, detail));
            }
        }
        resolved
    }
}
