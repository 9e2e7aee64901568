use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::model::diagnostic::Origin;
use crate::model::health::Ejection;
use crate::model::host::HostPattern;
use crate::model::id::{Kind, Name, Provider, Source};
use crate::model::path::PathMatch;
use crate::model::route::RouteMatch;
use crate::model::service::Traffic;
use crate::reconcile::{Action, Claim, Desired, DesiredRoute, Share};

/// Never answers: outcomes are put in by hand.
struct Silent;

impl Dialer for Silent {
    fn dial(&self, _: Target) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        Box::pin(std::future::pending())
    }
}

fn health() -> Health {
    Health::new(Arc::new(Silent), Metrics::new())
}

fn id(name: &str) -> ObjectId {
    ObjectId::new(&Source::new(Provider::File, None), Kind::Service, name)
}

fn endpoint(n: u8) -> Endpoint {
    Endpoint::new((IpAddr::from([10, 0, 0, n]), 80).into(), format!("web-{n}"))
}

fn check() -> Arc<HealthCheck> {
    Arc::new(HealthCheck {
        ask: Ask::Connect,
        port: None,
        interval: HealthCheck::INTERVAL,
        timeout: HealthCheck::TIMEOUT,
        healthy: 1,
        unhealthy: 1,
    })
}

/// Name, check, last octets of the endpoints.
type Written<'a> = (&'a str, Option<Arc<HealthCheck>>, &'a [u8]);

fn desired(services: &[Written<'_>]) -> Desired {
    let facts = |check: &Option<Arc<HealthCheck>>, endpoints: &[u8]| ServiceFacts {
        origin: Origin::Default,
        endpoints: endpoints.iter().map(|n| endpoint(*n)).collect(),
        names: Vec::new(),
        trusted: Default::default(),
        shown: Default::default(),
        traffic: Traffic { health: check.clone(), ..Traffic::default() },
        absent: None,
    };
    let services = services.iter().map(|(name, check, endpoints)| (id(name), facts(check, endpoints))).collect();
    Desired { services, ..Desired::default() }
}

impl Health {
    fn hear_of(&mut self, n: u8, outcome: Result<(), &str>) -> bool {
        let number = self.checked[&Asked::new(&id("any"), &endpoint(n), &check())].number;
        self.hear((number, outcome.map_err(String::from)))
    }

    fn eject(&mut self, service: &str, n: u8, until: Instant) {
        let ejection = Ejection { time: crate::model::units::Span(until - Instant::now()), ..Ejection::default() };
        let record = Record::new(None, &ejection, "refused", (Instant::now(), Timestamp::now()));
        self.ejected.insert((id(service), place(&endpoint(n))), record);
    }

    /// The last octets of the endpoints that requests go to.
    fn open(&self, desired: &Desired, service: &str) -> Vec<u8> {
        let verdicts = self.judge(desired);
        let of = verdicts.get(&id(service)).cloned().unwrap_or_default();
        let endpoints = &desired.services[&id(service)].endpoints;
        let open = |e: &&Endpoint| of.get(&place(e)).is_none_or(|verdict| verdict.open);
        endpoints.iter().filter(open).map(|e| e.name["web-".len()..].parse().expect("a number")).collect()
    }
}

#[tokio::test]
async fn over_tls_each_service_asks_for_itself_once_a_route_leads_there() {
    let now = Timestamp::now();
    let mut health = health();
    let mut secure = desired(&[("a", Some(check()), &[1]), ("b", Some(check()), &[1]), ("c", Some(check()), &[1])]);
    for facts in secure.services.values_mut() {
        facts.endpoints[0].scheme = Scheme::Https;
    }
    health.follow(&secure, now);
    assert_eq!(health.checked.len(), 0, "no route leads there");
    let shares = ["a", "b"].map(|name| Share { services: vec![id(name)], weight: 1 });
    secure.routes.insert(id("r"), route_to(shares.to_vec()));
    health.follow(&secure, now);
    let asked = |service: &str| Asked::new(&id(service), &secure.services[&id(service)].endpoints[0], &check());
    assert_eq!(health.checked.keys().collect::<Vec<_>>(), [&asked("a"), &asked("b")]);
    let target = target(&secure.services[&id("a")].endpoints[0], &asked("a"));
    assert_eq!(target.secure.map(|spoken| spoken.service), Some(id("a")));
}

fn route_to(shares: Vec<Share>) -> DesiredRoute {
    let matched = RouteMatch::new(HostPattern::Any, PathMatch::prefix("/").expect("a path"));
    DesiredRoute {
        id: id("r"),
        origin: Origin::Default,
        source: Source::new(Provider::File, None),
        created: Timestamp::UNIX_EPOCH,
        priority: 0,
        middlewares: Vec::new(),
        policies: Default::default(),
        action: Action::Serve,
        claims: vec![Claim { listener: Name::normalised("plain"), matched, shares }],
        part_of: Default::default(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn one_probe_however_many_services_name_it_and_its_tally_stays() {
    let now = Timestamp::now();
    let mut health = health();
    let first = desired(&[("a", Some(check()), &[1, 2]), ("b", Some(check()), &[1]), ("c", None, &[1])]);
    health.follow(&first, now);
    assert_eq!(health.checked.len(), 2);
    assert!(health.hear_of(1, Err("503")));
    health.follow(&desired(&[("b", Some(check()), &[1, 3])]), now);
    assert_eq!(health.checked.len(), 2);
    assert!(!health.hear_of(1, Err("503")), "nothing new");
    let other = Arc::new(HealthCheck { unhealthy: 7, ..(*check()).clone() });
    health.follow(&desired(&[("a", Some(check()), &[1]), ("b", Some(other), &[1])]), now);
    assert_eq!(health.checked.len(), 2, "another check is another probe");
    health.follow(&desired(&[]), now);
    assert_eq!((health.checked.len(), health.numbers.len()), (0, 0));
}

#[tokio::test]
async fn those_that_pass_get_the_requests_else_those_that_are_not_known() {
    let mut health = health();
    let desired = desired(&[("a", Some(check()), &[1, 2, 3])]);
    health.follow(&desired, Timestamp::now());
    assert_eq!(health.open(&desired, "a"), [1, 2, 3], "nobody is known");
    health.hear_of(1, Err("refused"));
    assert_eq!(health.open(&desired, "a"), [2, 3]);
    health.hear_of(2, Ok(()));
    assert_eq!(health.open(&desired, "a"), [2]);
    health.hear_of(3, Err("refused"));
    health.hear_of(2, Err("refused"));
    assert_eq!(health.open(&desired, "a"), [] as [u8; 0]);
    let verdicts = health.judge(&desired);
    assert!(verdicts[&id("a")].values().all(|v| v.why.as_deref() == Some("refused")), "{verdicts:?}");
    health.hear_of(1, Ok(()));
    assert_eq!(health.open(&desired, "a"), [1]);
}

#[tokio::test]
async fn an_ejection_never_leaves_nobody() {
    let mut health = health();
    let all = desired(&[("a", None, &[1, 2, 3])]);
    health.eject("a", 1, soon());
    assert_eq!(health.open(&all, "a"), [2, 3]);
    health.eject("a", 2, soon());
    health.eject("a", 3, soon());
    assert_eq!(health.open(&all, "a"), [1, 2, 3], "all of them are as none");
    let left = desired(&[("a", None, &[1])]);
    assert_eq!(health.open(&left, "a"), [1], "the others have left");
    health.follow(&left, Timestamp::now());
    assert_eq!(health.ejected.len(), 1);

    let mut health = self::health();
    let checked = desired(&[("a", Some(check()), &[1, 2, 3])]);
    health.follow(&checked, Timestamp::now());
    for n in 1..=3 {
        health.hear_of(n, Ok(()));
    }
    health.eject("a", 1, soon());
    assert_eq!(health.open(&checked, "a"), [2, 3]);
    health.hear_of(2, Err("503"));
    health.hear_of(3, Err("503"));
    assert_eq!(health.open(&checked, "a"), [1], "its check passes, and the others' fail");
}
