//! Names become ObjectIds, or the route that uses them is denied.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::certificate::Certificate;
use crate::model::diagnostic::{Denial, Diagnostic, Origin, Reason};
use crate::model::id::{Kind, Name, NameRef, ObjectId, Provider, RefScope, Source};
use crate::model::listener::Listener;
use crate::model::middleware::{Middleware, MiddlewareKind};
use crate::model::mtls::{Revocation, TrustBundle};
use crate::model::route::{Backend, Route};
use crate::model::service::Service;

use super::gather::Gathered;
use super::policy::{self, ResolvedPolicy};
use super::trust::{self, Trusted};

/// Everything by id, and routes whose references are ids.
pub(super) struct Resolved {
    pub listeners: BTreeMap<Name, Listener>,
    pub routes: Vec<ResolvedRoute>,
    pub services: BTreeMap<ObjectId, Service>,
    pub middlewares: BTreeMap<ObjectId, Middleware>,
    pub certificates: BTreeMap<ObjectId, Certificate>,
    pub policies: BTreeMap<ObjectId, ResolvedPolicy>,
    pub bundles: BTreeMap<ObjectId, TrustBundle>,
    pub trusted: Trusted,
    pub shown: Trusted,
    pub revocations: BTreeMap<ObjectId, Revocation>,
}

pub(super) struct ResolvedRoute {
    pub route: Route,
    pub listeners: BTreeSet<Name>,
    pub middlewares: Vec<ObjectId>,
    /// Each service once, with its weight. None where the route is denied, or only redirects.
    pub shares: Vec<(ObjectId, u32)>,
    pub certificate: Option<ObjectId>,
    /// All of them must hold. Where the route is denied, those that could be found.
    pub policies: BTreeSet<ObjectId>,
}

impl ResolvedRoute {
    pub fn source(&self) -> Source {
        self.route.id.source()
    }
}

pub(super) fn resolve(gathered: Gathered, findings: &mut Vec<Diagnostic>) -> Resolved {
    let Gathered { listeners, routes, mut services, middlewares, certificates, policies, bundles, revocations } =
        gathered;
    let trusted = trust::bundles(&mut services, &bundles, findings);
    let shown = trust::certificates(&mut services, &certificates, findings);
    let policies: BTreeMap<ObjectId, ResolvedPolicy> = policies
        .into_iter()
        .map(|(id, policy)| (id, policy::resolve(policy, &bundles, &revocations, findings)))
        .collect();
    let mut resolved = Resolved {
        listeners,
        routes: Vec::with_capacity(routes.len()),
        services,
        middlewares,
        certificates,
        policies,
        bundles,
        trusted,
        shown,
        revocations,
    };
    outnamed(&resolved.middlewares, |m| &m.origin, findings);
    outnamed(&resolved.certificates, |c| &c.origin, findings);
    outnamed(&resolved.policies, ResolvedPolicy::origin, findings);
    outnamed(&resolved.bundles, |b| &b.origin, findings);
    outnamed(&resolved.revocations, |r| &r.origin, findings);
    for route in routes {
        let route = resolved.one(route, findings);
        resolved.routes.push(route);
    }
    resolved
}

impl Resolved {
    fn one(&self, mut route: Route, findings: &mut Vec<Diagnostic>) -> ResolvedRoute {
        let mut deny = |route: &mut Route, field: &str, reason: Reason, detail: String| {
            let id = route.id.clone();
            findings.push(Diagnostic::error(id, reason, route.origin.clone(), detail.as_str()).on(field));
            route.denied.get_or_insert_with(|| Denial::new(reason, detail));
        };
        let source = route.id.source();

        let listeners = match &route.listeners {
            None => self.listeners.values().filter(|l| l.tls).map(|l| l.name.clone()).collect(),
            Some(names) => names.iter().filter(|name| self.listeners.contains_key(*name)).cloned().collect(),
        };
        let mut listeners: BTreeSet<Name> = listeners;
        for name in route.listeners.clone().unwrap_or_default() {
            if !self.listeners.contains_key(&name) {
                let known: Vec<&str> = self.listeners.keys().map(Name::as_str).collect();
                let detail = format!("there is no listener \"{name}\"; there are {}", known.join(", "));
                deny(&mut route, "listeners", Reason::Unresolved, detail);
            }
        }
        if route.denied.is_some() && listeners.is_empty() {
            // A denial stands wherever the route might have been meant to stand.
            listeners = self.listeners.values().filter(|l| l.tls).map(|l| l.name.clone()).collect();
        }
        if !route.mtls.is_empty() {
            let plain = std::mem::take(&mut listeners);
            listeners = plain.iter().filter(|name| self.listeners.get(*name).is_some_and(|l| l.tls)).cloned().collect();
            if listeners.is_empty() && !plain.is_empty() {
                // Closed where it asked to stand: nothing else answers for it there.
                listeners = plain;
                let detail = "a route with a client-certificate policy is never served on a plain listener";
                deny(&mut route, "listeners", Reason::NoListener, detail.into());
            }
        }
        if listeners.is_empty() {
            let detail = "no listener serves it: it needs a TLS listener, or names a plain one that may serve it";
            deny(&mut route, "listeners", Reason::NoListener, detail.into());
        }

        let mut middlewares = Vec::with_capacity(route.middlewares.len());
        for reference in route.middlewares.clone() {
            match lookup(&self.middlewares, Kind::Middleware, &reference, &source) {
                Ok((id, middleware)) => match &middleware.denied {
                    None => middlewares.push(id),
                    Some(denial) => {
                        let detail = format!("middleware {id} is unusable: {}", denial.detail);
                        deny(&mut route, "use", denial.reason, detail);
                    }
                },
                Err(detail) => deny(&mut route, "use", Reason::Unresolved, detail),
            }
        }

        let mut shares: BTreeMap<ObjectId, u32> = BTreeMap::new();
        let field = if matches!(route.backend, Backend::Split(_)) { "split" } else { "service" };
        // A route that is closed already says why; that it names no service adds nothing.
        let closed = route.denied.is_some();
        // Whoever writes a route to send clients elsewhere has no service in mind. At the URL that it leads to, it has no
        // endpoint.
        let only_redirects = matches!(&route.backend, Backend::Service(name) if *name == NameRef::new(&route.id.name))
            && self.redirects(&middlewares);
        for (reference, weight) in route.backend.clone().shares() {
            match lookup(&self.services, Kind::Service, reference, &source) {
                Ok((id, found)) => match &found.denied {
                    None => {
                        let share = shares.entry(id).or_default();
                        *share = share.saturating_add(weight);
                    }
                    Some(denial) => {
                        let detail = format!("service {id} is unusable: {}", denial.detail);
                        deny(&mut route, field, denial.reason, detail);
                    }
                },
                Err(_) if closed || only_redirects => {}
                Err(detail) => deny(&mut route, field, Reason::Unresolved, detail),
            }
        }

        let mut certificate = None;
        if let Some(reference) = route.tls.as_ref().and_then(|tls| tls.certificate.clone()) {
            match lookup(&self.certificates, Kind::Certificate, &reference, &source) {
                Ok((id, found)) => match &found.denied {
                    None => certificate = Some(id),
                    Some(denial) => {
                        let detail = format!("certificate {id} is unusable: {}", denial.detail);
                        deny(&mut route, "tls.certificate", denial.reason, detail);
                    }
                },
                Err(detail) => deny(&mut route, "tls.certificate", Reason::Unresolved, detail),
            }
        }
        let mut policies = BTreeSet::new();
        for reference in route.mtls.clone() {
            match lookup(&self.policies, Kind::MtlsPolicy, &reference, &source) {
                Ok((id, found)) => {
                    if let Some(denial) = &found.policy.denied {
                        let detail = format!("policy {id} is unusable: {}", denial.detail);
                        deny(&mut route, "mtls", denial.reason, detail);
                    }
                    policies.insert(id);
                }
                // That it cannot be read says more than that there is none of such a name.
                Err(_) if closed => {}
                Err(detail) => deny(&mut route, "mtls", Reason::Unresolved, detail),
            }
        }
        if route.denied.is_some() {
            shares.clear();
        }
        ResolvedRoute { route, listeners, middlewares, shares: shares.into_iter().collect(), certificate, policies }
    }

    fn redirects(&self, middlewares: &[ObjectId]) -> bool {
        let kinds = middlewares.iter().filter_map(|id| self.middlewares.get(id)).map(|middleware| &middleware.kind);
        kinds.into_iter().any(|kind| matches!(kind, MiddlewareKind::Redirect(_)))
    }
}

/// Says of every tenant's object that has the name of one of the operator's that it is not used.
fn outnamed<T>(objects: &BTreeMap<ObjectId, T>, origin: impl Fn(&T) -> &Origin, findings: &mut Vec<Diagnostic>) {
    for (own, object) in objects.iter().filter(|(id, _)| !id.provider.is_operator()) {
        if let Some((id, _)) = operators(objects, own.kind, &own.name) {
            let detail = format!("the operator's {id} has that name and is used instead; rename this one");
            let diagnostic = Diagnostic::warning(own.clone(), Reason::NameTaken, origin(object).clone(), detail);
            findings.push(diagnostic.relating(id));
        }
    }
}

/// The operator's object of a name: the settings' own, else a file's.
fn operators<'o, T>(objects: &'o BTreeMap<ObjectId, T>, kind: Kind, name: &str) -> Option<(ObjectId, &'o T)> {
    [Provider::Settings, Provider::File].into_iter().find_map(|provider| {
        let id = ObjectId::new(&Source::new(provider, None), kind, name);
        objects.get(&id).map(|object| (id, object))
    })
}

/// Finds what a reference means for `source`, or says why it means nothing.
pub(super) fn lookup<'o, T>(
    objects: &'o BTreeMap<ObjectId, T>,
    kind: Kind,
    reference: &NameRef,
    source: &Source,
) -> Result<(ObjectId, &'o T), String> {
    let (scope, name) = reference.parts();
    let find = |source: &Source| {
        let id = ObjectId::new(source, kind, name.shared());
        objects.get(&id).map(|object| (id, object))
    };
    let operator = || operators(objects, kind, name.as_str());
    let what = kind.as_str();
    let found = match scope {
        // Services are named after containers, so a tenant's own comes first; what is chosen by name as a rule
        // (middlewares, certificates, policies) is the operator's where the operator has one of that name.
        RefScope::Own if kind == Kind::Service => find(source).or_else(operator),
        RefScope::Own => operator().or_else(|| find(source)),
        RefScope::Provider(provider) => {
            let Some(provider) = Provider::ALL.into_iter().find(|known| known.as_str() == provider) else {
                return Err(format!("\"{reference}\": there is no provider \"{provider}\""));
            };
            if provider.is_operator() {
                find(&Source::new(provider, None))
            } else if provider == source.provider {
                find(source)
            } else {
                return Err(format!(
                    "\"{reference}\" belongs to another tenant, which needs a grant of the operator's"
                ));
            }
        }
        RefScope::Namespace(namespace) if source.namespace.as_deref() == Some(namespace) => find(source),
        RefScope::Namespace(_) => {
            return Err(format!("\"{reference}\" belongs to another tenant, which needs a grant of the operator's"));
        }
    };
    found.ok_or_else(|| {
        format!(
            "there is no {what} \"{reference}\" in {source}, nor among the operator's; define it or correct the name"
        )
    })
}
