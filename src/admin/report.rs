//! What is live, as people and programs read it: pure, from the [`View`]'s parts.
//!
//! `Desired + findings ─▶ [RouteReport], [ServiceReport]`. The field names are the API's promise.
//!
//! [`View`]: crate::control::view::View

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::health::{HealthState, Verdict, Verdicts};
use crate::model::schema::Scheme;
use crate::model::{Denial, Diagnostic, Endpoint, Kind, ObjectId, Phase, Reason, Severity};
use crate::reconcile::{Action, Claim, Desired, DesiredRoute, ServiceFacts};

pub use crate::control::view::{CertificateKind, CertificateReport};
pub use crate::model::snapshot::ProviderReport;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteReport {
    pub id: String,
    /// Where it stands: empty for a route that is left out everywhere, or that is one with another of its namespace
    /// (rule (a) of "Who wins": the other one's report has the endpoints of both).
    pub hosts: Vec<String>,
    pub paths: Vec<String>,
    /// Host, path and every further term of each conjunction.
    pub matches: Vec<String>,
    pub listeners: Vec<String>,
    pub state: RouteState,
    /// Why it is denied, left out, in part left out, or has no endpoint.
    pub reason: Option<Reason>,
    pub detail: Option<String>,
    pub policy: Option<String>,
    pub middlewares: Vec<String>,
    pub services: Vec<String>,
    /// Of all its services.
    pub endpoints: usize,
    /// Routes of its namespace that it is one with.
    pub part_of: Vec<String>,
    pub origin: String,
    pub priority: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    Live,
    /// Stands in the table and answers 503.
    Denied,
    /// Lost all that it claims to others: absent from the table.
    LeftOut,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceReport {
    pub id: String,
    pub endpoints: Vec<EndpointReport>,
    /// Those that send requests to it.
    pub routes: Vec<String>,
    /// Why there is no endpoint although the service is there.
    pub absent: Option<Denial>,
    pub origin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointReport {
    pub address: String,
    pub name: Arc<str>,
    pub scheme: Scheme,
    pub state: EndpointState,
    pub weight: u32,
    /// Whether new requests go there.
    pub open: bool,
    /// Since when, where its service has a check or it is ejected.
    pub since: Option<Timestamp>,
    /// Why it is not ready, where a check or an ejection says so.
    pub why: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    Ready,
    /// Gets no new request but those that stick to it.
    Draining,
    /// Gets no new request at all.
    Unhealthy,
    /// Its check has not come to an end yet: it gets requests as long as no other one's has passed.
    Unchecked,
    /// Failed one request after the other, and is left out for a while if the others can do without it.
    Ejected,
}

impl EndpointReport {
    /// The provider's word goes first: of an endpoint that leaves, nobody asks how it is.
    fn of(endpoint: &Endpoint, verdict: Option<&Verdict>) -> EndpointReport {
        let verdict = verdict.filter(|_| endpoint.phase == Phase::Ready);
        let state = match (endpoint.phase, verdict.map(|verdict| verdict.state)) {
            (Phase::Draining, _) => EndpointState::Draining,
            (Phase::Unhealthy, _) | (_, Some(HealthState::Unhealthy)) => EndpointState::Unhealthy,
            (Phase::Ready, Some(HealthState::Unchecked)) => EndpointState::Unchecked,
            (Phase::Ready, Some(HealthState::Ejected)) => EndpointState::Ejected,
            (Phase::Ready, None | Some(HealthState::Healthy)) => EndpointState::Ready,
        };
        EndpointReport {
            address: endpoint.address.to_string(),
            scheme: endpoint.scheme,
            name: endpoint.name.clone(),
            state,
            weight: endpoint.weight,
            open: endpoint.phase == Phase::Ready && endpoint.weight > 0 && verdict.is_none_or(|verdict| verdict.open),
            since: verdict.map(|verdict| verdict.since),
            why: verdict.and_then(|verdict| verdict.why.clone()),
        }
    }
}

/// A finding with its ids and places as people write them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemReport {
    pub severity: Severity,
    pub subject: String,
    pub reason: Reason,
    pub field: Option<Arc<str>>,
    pub origin: String,
    pub detail: String,
    pub related: Vec<String>,
}

impl From<&Diagnostic> for ProblemReport {
    fn from(finding: &Diagnostic) -> ProblemReport {
        let Diagnostic { severity, subject, reason, field, origin, detail, related } = finding;
        ProblemReport {
            severity: *severity,
            subject: subject.to_string(),
            reason: *reason,
            field: field.clone(),
            origin: origin.to_string(),
            detail: detail.clone(),
            related: related.iter().map(ObjectId::to_string).collect(),
        }
    }
}

pub fn routes(desired: &Desired, findings: &[Diagnostic]) -> Vec<RouteReport> {
    let mut losses: BTreeMap<&ObjectId, &Diagnostic> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| is_loss(finding.reason)) {
        losses.entry(&finding.subject).or_insert(finding);
    }
    // What a policy is made of is known only when the table is: nobody is let in by one whose material cannot be had.
    let closed: BTreeMap<&ObjectId, &Diagnostic> = findings
        .iter()
        .filter(|finding| finding.subject.kind == Kind::MtlsPolicy && finding.severity == Severity::Error)
        .map(|finding| (&finding.subject, finding))
        .collect();
    let report = |route: &DesiredRoute| {
        let closed = route.policies.iter().find_map(|id| closed.get(id)).filter(|_| !route.claims.is_empty());
        let report = route_report(desired, route, losses.get(&route.id).copied());
        match (closed, &route.action) {
            (Some(closed), Action::Serve) => RouteReport {
                state: RouteState::Denied,
                reason: Some(closed.reason),
                detail: Some(closed.detail.clone()),
                ..report
            },
            _ => report,
        }
    };
    desired.routes.values().map(report).collect()
}

pub fn services(desired: &Desired, verdicts: &Verdicts) -> Vec<ServiceReport> {
    let mut users: BTreeMap<&ObjectId, BTreeSet<&ObjectId>> = BTreeMap::new();
    for route in desired.routes.values() {
        for service in route.claims.iter().flat_map(Claim::services) {
            users.entry(service).or_default().insert(&route.id);
        }
    }
    let report = |(id, facts): (&ObjectId, &ServiceFacts)| ServiceReport {
        id: id.to_string(),
        endpoints: facts
            .endpoints
            .iter()
            .map(|endpoint| {
                let of = verdicts.get(id);
                EndpointReport::of(endpoint, of.and_then(|of| of.get(&(endpoint.address, endpoint.name.clone()))))
            })
            .collect(),
        routes: users.get(id).into_iter().flatten().map(ToString::to_string).collect(),
        absent: facts.absent.clone(),
        origin: facts.origin.to_string(),
    };
    desired.services.iter().map(report).collect()
}

/// What takes a claim away, as opposed to what denies the route.
fn is_loss(reason: Reason) -> bool {
    matches!(reason, Reason::Conflict | Reason::HostHeld | Reason::HostProtected)
}

fn route_report(desired: &Desired, route: &DesiredRoute, loss: Option<&Diagnostic>) -> RouteReport {
    let claims = &route.claims;
    let services: BTreeSet<&ObjectId> = claims.iter().flat_map(Claim::services).collect();
    let facts = || services.iter().filter_map(|id| desired.services.get(*id));
    let endpoints = facts().map(|service| service.endpoints.len()).sum();
    let lost = || loss.map(|loss| (loss.reason, loss.detail.clone()));
    let denied = |denial: &Denial| (denial.reason, denial.detail.to_string());
    let (state, why) = match &route.action {
        Action::Deny(denial) if !claims.is_empty() => (RouteState::Denied, Some(denied(denial))),
        Action::Deny(denial) => (RouteState::LeftOut, Some(lost().unwrap_or_else(|| denied(denial)))),
        Action::Serve if claims.is_empty() && loss.is_some() => (RouteState::LeftOut, lost()),
        Action::Serve if !route.part_of.is_empty() => (RouteState::Live, None),
        Action::Serve if endpoints == 0 => {
            (RouteState::Live, facts().find_map(|service| service.absent.as_ref()).map(denied).or_else(lost))
        }
        Action::Serve => (RouteState::Live, lost()),
    };
    let (reason, detail) = why.unzip();
    RouteReport {
        id: route.id.to_string(),
        hosts: sorted(claims.iter().map(|claim| claim.matched.host.to_string())),
        paths: sorted(claims.iter().map(|claim| claim.matched.path.to_string())),
        matches: sorted(claims.iter().map(|claim| claim.matched.to_string())),
        listeners: sorted(claims.iter().map(|claim| claim.listener.to_string())),
        state,
        reason,
        detail,
        policy: policies(route),
        middlewares: route.middlewares.iter().map(ToString::to_string).collect(),
        services: services.iter().map(ToString::to_string).collect(),
        endpoints,
        origin: route.origin.to_string(),
        part_of: route.part_of.iter().map(ToString::to_string).collect(),
        priority: route.priority,
    }
}

/// More than one where the replicas of a route differ, and all of them must hold.
fn policies(route: &DesiredRoute) -> Option<String> {
    let names: Vec<&str> = route.policies.iter().map(|id| &*id.name).collect();
    (!names.is_empty()).then(|| names.join(" and "))
}

fn sorted(values: impl Iterator<Item = String>) -> Vec<String> {
    values.collect::<BTreeSet<String>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HostPattern, Kind, Name, Origin, PathMatch, Provider, RouteMatch, Source, Term, Test};
    use crate::reconcile::Share;

    fn source() -> Source {
        Source::new(Provider::Docker, Some("shop".into()))
    }

    fn id(kind: Kind, name: &str) -> ObjectId {
        ObjectId::new(&source(), kind, name)
    }

    fn claim(host: &str, path: &str, listener: &str) -> Claim {
        Claim {
            listener: Name::normalised(listener),
            matched: RouteMatch::new(host.parse::<HostPattern>().unwrap(), PathMatch::prefix(path).unwrap()),
            shares: vec![Share { services: vec![id(Kind::Service, "web")], weight: 1 }],
        }
    }

    fn route(name: &str, action: Action, claims: Vec<Claim>) -> DesiredRoute {
        DesiredRoute {
            id: id(Kind::Route, name),
            origin: Origin::Container { name: "shop-web-1".into() },
            source: source(),
            created: Timestamp::UNIX_EPOCH,
            priority: 3,
            middlewares: vec![id(Kind::Middleware, "strip")],
            policies: [id(Kind::MtlsPolicy, "partners")].into(),
            action,
            claims,
            part_of: Default::default(),
        }
    }

    fn desired(routes: Vec<DesiredRoute>, endpoints: &[&str]) -> Desired {
        let service = ServiceFacts {
            origin: Origin::Default,
            endpoints: endpoints.iter().map(|address| Endpoint::new(address.parse().unwrap(), "shop-web-1")).collect(),
            names: Vec::new(),
            trusted: Default::default(),
            shown: Default::default(),
            traffic: Default::default(),
            absent: endpoints.is_empty().then(|| Denial::new(Reason::NoNetwork, "no network is shared")),
        };
        Desired {
            routes: routes.into_iter().map(|route| (route.id.clone(), route)).collect(),
            services: BTreeMap::from([(id(Kind::Service, "web"), service)]),
            ..Desired::default()
        }
    }

    fn loss(route: &str) -> Diagnostic {
        Diagnostic::error(id(Kind::Route, route), Reason::Conflict, Origin::Default, "taken by another")
    }

    #[test]
    fn a_live_route_says_where_it_stands_and_what_answers() {
        let mut claims =
            vec![claim("b.test", "/x", "https"), claim("a.test", "/x", "https"), claim("a.test", "/x", "plain")];
        for claim in &mut claims[1..] {
            claim.matched.terms.insert(Term::is(Test::Method(BTreeSet::from(["GET".into()]))));
        }
        let desired = desired(vec![route("web", Action::Serve, claims)], &["10.0.0.1:80", "10.0.0.2:80"]);
        let report = serde_json::to_value(routes(&desired, &[])).unwrap();
        let expected = serde_json::json!([{
            "id": "docker/route/shop/web",
            "hosts": ["a.test", "b.test"],
            "paths": ["/x"],
            "matches": ["a.test/x [method=GET]", "b.test/x"],
            "listeners": ["https", "plain"],
            "state": "live",
            "reason": null,
            "detail": null,
            "policy": "partners",
            "middlewares": ["docker/middleware/shop/strip"],
            "services": ["docker/service/shop/web"],
            "endpoints": 2,
            "part_of": [],
            "origin": "container shop-web-1",
            "priority": 3,
        }]);
        assert_eq!(report, expected);

        let mut desired = desired;
        for service in desired.services.values_mut() {
            (service.endpoints[1].phase, service.endpoints[1].weight) = (Phase::Draining, 3);
        }
        let since = Timestamp::from_second(7).unwrap();
        let verdict = Verdict { state: HealthState::Ejected, open: true, since, why: Some("it failed".into()) };
        let place = ("10.0.0.1:80".parse().unwrap(), "shop-web-1".into());
        let verdicts = BTreeMap::from([(id(Kind::Service, "web"), BTreeMap::from([(place, verdict)]))]);
        let ejected = serde_json::to_value(services(&desired, &verdicts)).unwrap()[0]["endpoints"][0].clone();
        assert_eq!(
            (&ejected["state"], &ejected["open"], &ejected["why"]),
            (&"ejected".into(), &true.into(), &"it failed".into())
        );
        assert_eq!(ejected["since"], "1970-01-01T00:00:07Z");

        let report = serde_json::to_value(services(&desired, &Verdicts::new())).unwrap();
        assert_eq!(
            (&report[0]["endpoints"][0]["open"], &report[0]["endpoints"][1]["open"]),
            (&true.into(), &false.into())
        );
        assert_eq!(report[0]["endpoints"][0]["weight"], 1);
        assert_eq!(report[0]["endpoints"][0]["state"], "ready");
        assert_eq!(report[0]["endpoints"][1]["address"], "10.0.0.2:80");
        assert_eq!(report[0]["endpoints"][1]["state"], "draining");
        assert_eq!(report[0]["endpoints"][1]["weight"], 3);
        assert_eq!(report[0]["routes"], serde_json::json!(["docker/route/shop/web"]));
    }

    fn state(
        action: Action,
        claims: Vec<Claim>,
        endpoints: &[&str],
        findings: &[Diagnostic],
    ) -> (RouteState, Option<Reason>) {
        let reports = routes(&desired(vec![route("web", action, claims)], endpoints), findings);
        (reports[0].state, reports[0].reason)
    }

    #[test]
    fn states_and_their_reasons() {
        let denial = || Action::Deny(Denial::new(Reason::Invalid, "misspelt"));
        let here = || vec![claim("a.test", "/", "https")];
        let one = ["10.0.0.1:80"];
        let (lost, other) = ([loss("web")], [loss("another")]);
        assert_eq!(state(denial(), here(), &one, &lost), (RouteState::Denied, Some(Reason::Invalid)));
        assert_eq!(state(denial(), vec![], &one, &lost), (RouteState::LeftOut, Some(Reason::Conflict)));
        // Nothing took its claims: it could not stand anywhere.
        assert_eq!(state(denial(), vec![], &one, &[]), (RouteState::LeftOut, Some(Reason::Invalid)));
        assert_eq!(state(Action::Serve, vec![], &one, &lost), (RouteState::LeftOut, Some(Reason::Conflict)));
        // In part left out.
        assert_eq!(state(Action::Serve, here(), &one, &lost), (RouteState::Live, Some(Reason::Conflict)));
        assert_eq!(state(Action::Serve, here(), &[], &[]), (RouteState::Live, Some(Reason::NoNetwork)));
        assert_eq!(state(Action::Serve, here(), &one, &other), (RouteState::Live, None));
        // One with another route: nobody took anything from it.
        assert_eq!(state(Action::Serve, vec![], &one, &[]), (RouteState::Live, None));
    }
}
