//! The endpoints that answer for a service, and which of them gets the next request.
//!
//! ```text
//! request head ─affinity─▶ Affinity (hash key, cookie) ─pick─▶ Member ─▶ its LiveEndpoint
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;

use crate::model::diagnostic::Denial;
use crate::model::id::ObjectId;
use crate::model::service::{Balance, Endpoint, HashKey, Phase, Traffic};

use super::balance::{Balancer, mix};
use super::budget::Budget;
use super::client_tls::ClientTls;
use super::endpoint::{Endpoints, LiveEndpoint, fnv};
use super::sticky::{Cookies, StickyKey, values};

/// The union of one or more services. Turns and budget are carried across tables by the services' ids.
///
/// What every request reads stands together at the beginning: where ten thousand upstreams are busy, each cache line of
/// one is a miss. A request for the only endpoint of an upstream reads one.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Upstream {
    /// One of them, as most have it, stands here.
    pub members: SmallVec<[Member; 1]>,
    /// Shared by all upstreams of equal traffic.
    pub traffic: Arc<Traffic>,
    cookies: Option<Box<Cookies>>,
    /// Requests that there was one candidate for. Part of [`Carried::turn`] once another upstream takes its place.
    alone: AtomicUsize,
    /// The only candidate, where there is one.
    only: Option<u32>,
    counts_in_flight: bool,
    /// Indexes of the members that new requests may go to.
    candidates: SmallVec<[u32; 4]>,
    carried: Arc<Carried>,
    balancer: Balancer,
    pub services: Vec<ObjectId>,
    /// The services as reports and logs show them.
    pub label: Arc<str>,
    /// Why there is no endpoint, where there is none.
    pub absent: Option<Denial>,
}

const _: () = assert!(std::mem::offset_of!(Upstream, candidates) <= 64);

/// An endpoint as one upstream sees it.
#[derive(Debug, Clone)]
pub struct Member {
    pub endpoint: Arc<LiveEndpoint>,
    pub weight: u32,
    pub phase: Phase,
}

impl PartialEq for Member {
    fn eq(&self, other: &Member) -> bool {
        (self.endpoint.id, self.weight, self.phase) == (other.endpoint.id, other.weight, other.phase)
    }
}

/// What survives a change of the upstream.
#[derive(Debug, Default)]
struct Carried {
    /// One counter for all workers: replicas get equal shares whichever worker a client lands on. It is the number of
    /// requests as well.
    turn: AtomicUsize,
    budget: Budget,
}

/// What ties a request to an endpoint, read from its head once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity {
    key: u64,
    /// Of a sticky cookie that is ours.
    tag: Option<u64>,
}

/// What an upstream is made of.
pub(super) struct Parts<'a> {
    pub services: &'a [ObjectId],
    pub traffic: Arc<Traffic>,
    /// Each with the TLS that it is spoken to over.
    pub endpoints: Vec<(Endpoint, Option<Arc<ClientTls>>)>,
    pub absent: Option<Denial>,
    pub sticky_key: &'a StickyKey,
}

impl Upstream {
    pub(super) fn new(
        parts: Parts<'_>,
        endpoints: &mut Endpoints,
        endpoints_before: &Endpoints,
        previous: Option<&Arc<Upstream>>,
    ) -> Arc<Upstream> {
        let Parts { services, traffic, endpoints: named, absent, sticky_key } = parts;
        let member = |(endpoint, tls): &(Endpoint, Option<Arc<ClientTls>>)| Member {
            endpoint: endpoints.adopt(endpoint, tls.as_ref(), endpoints_before),
            weight: endpoint.weight,
            phase: endpoint.phase,
        };
        let members: SmallVec<[Member; 1]> = named.iter().map(member).collect();
        if let Some(previous) = previous
            && (&previous.absent, &previous.traffic, &previous.members) == (&absent, &traffic, &members)
        {
            return previous.clone();
        }
        let open = |member: &Member| member.phase == Phase::Ready && member.weight > 0;
        let candidates: SmallVec<[u32; 4]> =
            (0..members.len() as u32).filter(|at| open(&members[*at as usize])).collect();
        let balancer = Balancer::new(&traffic.balance, &members, &candidates);
        Arc::new(Upstream {
            counts_in_flight: matches!(balancer, Balancer::LeastRequest),
            only: if let [only] = candidates[..] { Some(only) } else { None },
            label: services.iter().map(ObjectId::to_string).collect::<Vec<_>>().join("+").into(),
            balancer,
            cookies: traffic.sticky.as_ref().map(|sticky| Box::new(Cookies::new(sticky, sticky_key, &members))),
            services: services.to_vec(),
            traffic,
            members,
            absent,
            candidates,
            carried: previous.map(|previous| previous.hand_over()).unwrap_or_default(),
            alone: AtomicUsize::new(0),
        })
    }

    fn hand_over(&self) -> Arc<Carried> {
        self.carried.turn.fetch_add(self.alone.load(Ordering::Relaxed), Ordering::Relaxed);
        self.carried.clone()
    }

    /// Whether a new request finds an endpoint.
    pub fn is_ready(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// The endpoints that new requests go to.
    pub fn candidates(&self) -> impl ExactSizeIterator<Item = &Arc<LiveEndpoint>> {
        self.candidates.iter().map(|at| &self.members[*at as usize].endpoint)
    }

    /// Whether requests in flight have to be counted at the endpoints.
    pub fn counts_in_flight(&self) -> bool {
        self.counts_in_flight
    }

    /// `client` is asked only where the address decides.
    pub fn affinity(&self, headers: &HeaderMap, client: impl FnOnce() -> IpAddr) -> Affinity {
        let key = match &self.traffic.balance {
            Balance::ConsistentHash(by) => {
                let given = match by {
                    HashKey::ClientIp => None,
                    HashKey::Header(name) => headers.get(&**name).map(|value| fnv(value.as_bytes())),
                    HashKey::Cookie(name) => values(headers, name).next().map(|value| fnv(value.as_bytes())),
                };
                mix(given.unwrap_or_else(|| match client() {
                    IpAddr::V4(ip) => fnv(&ip.octets()),
                    IpAddr::V6(ip) => fnv(&ip.octets()),
                }))
            }
            _ => 0,
        };
        Affinity { key, tag: self.cookies.as_ref().and_then(|cookies| cookies.read(headers)) }
    }

    /// Whether the request carries a cookie of an endpoint that is there.
    pub fn knows(&self, affinity: &Affinity) -> bool {
        affinity.tag.is_some()
    }

    /// An index into `members`. `skip` leaves out, by number, endpoints that have failed this request; `None` where
    /// nobody is left. A draining endpoint keeps the clients that stick to it.
    pub fn pick(&self, affinity: &Affinity, skip: &[u64]) -> Option<usize> {
        if let Some(tag) = affinity.tag
            && let Some(at) = self.cookies.as_ref().and_then(|cookies| cookies.member(tag))
            && let Member { endpoint, weight: 1.., phase: Phase::Ready | Phase::Draining } = &self.members[at]
            && !skip.contains(&endpoint.id)
        {
            self.carried.turn.fetch_add(1, Ordering::Relaxed);
            return Some(at);
        }
        if let Some(only) = self.only {
            // Nobody's turn but its own: neither the turns nor the balancer are looked at.
            self.alone.fetch_add(1, Ordering::Relaxed);
            let only = only as usize;
            let left_out = !skip.is_empty() && skip.contains(&self.members[only].endpoint.id);
            return (!left_out).then_some(only);
        }
        let turn = self.carried.turn.fetch_add(1, Ordering::Relaxed);
        let taken = |at: usize| skip.contains(&self.members[self.candidates[at] as usize].endpoint.id);
        let at = self.balancer.pick(turn, affinity.key, &self.members, &self.candidates, taken)?;
        Some(self.candidates[at] as usize)
    }

    /// The cookie that tells a client who answered, unless it knows.
    pub fn set_cookie(&self, member: usize, affinity: &Affinity, tls: bool) -> Option<HeaderValue> {
        self.cookies.as_ref()?.set(member, affinity.tag, tls)
    }

    /// Takes one retry out of the budget, if it holds one.
    pub fn may_retry(&self, now: Instant) -> bool {
        let requests = self.carried.turn.load(Ordering::Relaxed).wrapping_add(self.alone.load(Ordering::Relaxed));
        self.carried.budget.take(self.traffic.retry.budget_percent, requests, now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::id::{Kind, Provider, Source};
    use crate::model::service::{Balance, Sticky};

    /// Upstreams of one service, table after table.
    #[derive(Default)]
    struct World {
        endpoints: Endpoints,
        upstream: Option<Arc<Upstream>>,
    }

    impl World {
        fn turn(&mut self, traffic: &Traffic, endpoints: Vec<Endpoint>) -> Arc<Upstream> {
            let services = [ObjectId::new(&Source::new(Provider::File, None), Kind::Service, "s")];
            let key = StickyKey([7; 32]);
            let traffic = Arc::new(traffic.clone());
            let endpoints = endpoints.into_iter().map(|endpoint| (endpoint, None)).collect();
            let parts = Parts { services: &services, traffic, endpoints, absent: None, sticky_key: &key };
            let mut next = Endpoints::after(&self.endpoints);
            let upstream = Upstream::new(parts, &mut next, &self.endpoints, self.upstream.as_ref());
            (self.endpoints, self.upstream) = (next, Some(upstream.clone()));
            upstream
        }
    }

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::new(([127, 0, 0, 1], port).into(), format!("web-{port}"))
    }

    fn endpoints(ports: impl IntoIterator<Item = u16>) -> Vec<Endpoint> {
        ports.into_iter().map(endpoint).collect()
    }

    fn by(balance: Balance) -> Traffic {
        Traffic { balance, ..Traffic::default() }
    }

    fn sticky(signed: bool) -> Traffic {
        Traffic { sticky: Some(Sticky { cookie: "stick".into(), signed }), ..Traffic::default() }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("value"))).collect()
    }

    fn port(upstream: &Upstream, headers: &HeaderMap, skip: &[u64]) -> Option<u16> {
        let affinity = upstream.affinity(headers, || IpAddr::from([10, 0, 0, 1]));
        upstream.pick(&affinity, skip).map(|at| upstream.members[at].endpoint.address.port())
    }

    fn ports(upstream: &Upstream, count: usize) -> Vec<u16> {
        (0..count).filter_map(|_| port(upstream, &HeaderMap::new(), &[])).collect()
    }

    fn shares(ports: impl IntoIterator<Item = u16>) -> BTreeMap<u16, usize> {
        ports.into_iter().fold(BTreeMap::new(), |mut shares, port| {
            *shares.entry(port).or_default() += 1;
            shares
        })
    }

    fn id(upstream: &Upstream, port: u16) -> u64 {
        upstream.members.iter().find(|m| m.endpoint.address.port() == port).expect("there").endpoint.id
    }

    #[test]
    fn turns_go_round_and_survive_a_change_of_endpoints() {
        let mut world = World::default();
        let first = world.turn(&Traffic::default(), endpoints(1..=2));
        assert_eq!(ports(&first, 3), [1, 2, 1]);
        let second = world.turn(&Traffic::default(), endpoints(1..=3));
        assert_eq!(ports(&second, 3), [1, 2, 3]);
        assert_eq!(ports(&first, 1), [1], "both generations count on");
        assert_eq!(id(&first, 1), id(&second, 1));
        let third = world.turn(&by(Balance::LeastRequest), endpoints(1..=3));
        assert_eq!(id(&second, 1), id(&third, 1), "another way of balancing is no other endpoint");
    }

    #[test]
    fn an_unchanged_upstream_is_the_same_one() {
        let mut world = World::default();
        let first = world.turn(&Traffic::default(), endpoints([1]));
        assert!(Arc::ptr_eq(&first, &world.turn(&Traffic::default(), endpoints([1]))));
        assert!(!Arc::ptr_eq(&first, &world.turn(&sticky(false), endpoints([1]))));
    }

    #[test]
    fn an_endpoint_that_failed_is_skipped_however_requests_are_balanced() {
        for balance in [
            Balance::RoundRobin,
            Balance::Random,
            Balance::Weighted,
            Balance::LeastRequest,
            Balance::ConsistentHash(HashKey::ClientIp),
        ] {
            let upstream = World::default().turn(&by(balance.clone()), endpoints(1..=2));
            let (one, two) = (id(&upstream, 1), id(&upstream, 2));
            for _ in 0..20 {
                assert_eq!(port(&upstream, &HeaderMap::new(), &[one]), Some(2), "{balance:?}");
            }
            assert_eq!(port(&upstream, &HeaderMap::new(), &[one, two]), None, "{balance:?}");
        }
    }

    #[test]
    fn draining_and_weightless_endpoints_get_no_request() {
        for balance in [
            Balance::RoundRobin,
            Balance::Random,
            Balance::Weighted,
            Balance::LeastRequest,
            Balance::ConsistentHash(HashKey::ClientIp),
        ] {
            let mut all = endpoints(1..=3);
            all[0].phase = Phase::Draining;
            all[2].weight = 0;
            let upstream = World::default().turn(&by(balance.clone()), all.clone());
            assert_eq!(shares(ports(&upstream, 50)), BTreeMap::from([(2, 50)]), "{balance:?}");
            all[1].phase = Phase::Draining;
            let upstream = World::default().turn(&by(balance.clone()), all);
            assert!(!upstream.is_ready());
            assert_eq!(ports(&upstream, 5), [0u16; 0], "{balance:?}");
        }
    }

    #[test]
    fn a_change_of_phase_keeps_the_endpoint_and_a_return_is_a_new_one() {
        let mut world = World::default();
        let ready = world.turn(&Traffic::default(), endpoints(1..=2));
        let mut some = endpoints(1..=2);
        some[0].phase = Phase::Draining;
        let draining = world.turn(&Traffic::default(), some);
        assert_eq!(id(&ready, 1), id(&draining, 1));
        world.turn(&Traffic::default(), endpoints([2]));
        let back = world.turn(&Traffic::default(), endpoints(1..=2));
        assert_ne!(id(&ready, 1), id(&back, 1));
        assert_eq!(id(&ready, 2), id(&back, 2));
    }

    #[test]
    fn weights_share_exactly() {
        let mut all = endpoints(1..=3);
        for (endpoint, weight) in all.iter_mut().zip([5, 3, 2]) {
            endpoint.weight = weight;
        }
        let upstream = World::default().turn(&by(Balance::Weighted), all);
        assert_eq!(shares(ports(&upstream, 10_000)), BTreeMap::from([(1, 5000), (2, 3000), (3, 2000)]));
        assert_eq!(shares(ports(&upstream, 10)), BTreeMap::from([(1, 5), (2, 3), (3, 2)]), "within ten requests too");
    }

    #[test]
    fn random_shares_are_equal_within_5_per_cent() {
        let upstream = World::default().turn(&by(Balance::Random), endpoints(1..=4));
        let shares = shares(ports(&upstream, 40_000));
        assert!(shares.values().all(|count| count.abs_diff(10_000) < 500), "{shares:?}");
    }

    #[test]
    fn least_request_prefers_the_less_busy_and_starves_nobody() {
        let upstream = World::default().turn(&by(Balance::LeastRequest), endpoints(1..=4));
        let first = &upstream.members[0].endpoint;
        (0..10).for_each(|_| first.enter());
        let busy = shares(ports(&upstream, 4000));
        assert_eq!(busy.get(&1), None, "ten requests more than any other: it loses every draw: {busy:?}");
        assert!([2, 3, 4].iter().all(|port| busy[port].abs_diff(1333) < 200), "{busy:?}");
        (0..10).for_each(|_| first.leave());
        let idle = shares(ports(&upstream, 4000));
        assert!(idle.values().all(|count| count.abs_diff(1000) < 200), "all alike: {idle:?}");
        // Requests that last: nobody is more than one ahead for long.
        let mut held = Vec::new();
        for _ in 0..400 {
            let affinity = upstream.affinity(&HeaderMap::new(), || IpAddr::from([10, 0, 0, 1]));
            let endpoint = &upstream.members[upstream.pick(&affinity, &[]).expect("ready")].endpoint;
            endpoint.enter();
            held.push(endpoint);
        }
        assert!(upstream.members.iter().all(|m| m.endpoint.in_flight().abs_diff(100) <= 10), "{upstream:?}");
    }

    #[test]
    fn one_of_two_that_is_busier_never_wins() {
        let upstream = World::default().turn(&by(Balance::LeastRequest), endpoints(1..=2));
        upstream.members[0].endpoint.enter();
        assert_eq!(shares(ports(&upstream, 100)), BTreeMap::from([(2, 100)]));
    }

    #[test]
    fn hashed_requests_stay_with_their_endpoint_and_few_move_when_one_is_added() {
        let traffic = by(Balance::ConsistentHash(HashKey::Header("x-user".into())));
        let mut world = World::default();
        let before = world.turn(&traffic, endpoints(1..=6));
        let user = |n: usize| headers(&[("x-user", &format!("user-{n}"))]);
        let owners =
            |upstream: &Upstream| -> Vec<u16> { (0..10_000).filter_map(|n| port(upstream, &user(n), &[])).collect() };
        let old = owners(&before);
        assert_eq!(old, owners(&before));
        let spread = shares(old.iter().copied());
        assert!(spread.values().all(|count| count.abs_diff(1667) < 170), "10 % of a share: {spread:?}");
        let after = world.turn(&traffic, endpoints((1..=7).rev()));
        let new = owners(&after);
        let moved: Vec<u16> = old.iter().zip(&new).filter(|(a, b)| a != b).map(|(_, to)| *to).collect();
        assert!(moved.iter().all(|to| *to == 7), "a key moved between two that stayed");
        assert!((moved.len() as f64) < 10_000.0 * (1.0 / 7.0 + 0.05), "{}", moved.len());
        // Another process hashes alike.
        assert_eq!(owners(&World::default().turn(&traffic, endpoints(1..=7))), new);
    }

    #[test]
    fn the_hash_key_is_the_header_the_cookie_or_else_the_client() {
        let key = |by_key: HashKey, headers: &HeaderMap, client: [u8; 4]| {
            let upstream = World::default().turn(&by(Balance::ConsistentHash(by_key)), endpoints(1..=6));
            upstream.affinity(headers, || client.into()).key
        };
        let none = HeaderMap::new();
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        assert_ne!(key(HashKey::ClientIp, &none, a), key(HashKey::ClientIp, &none, b));
        let header = HashKey::Header("x-user".into());
        let ann = headers(&[("x-user", "ann")]);
        assert_eq!(key(header.clone(), &ann, a), key(header.clone(), &ann, b));
        assert_eq!(key(header, &none, a), key(HashKey::ClientIp, &none, a));
        let cookie = HashKey::Cookie("user".into());
        let cookies = headers(&[("cookie", "other=1; user=ann")]);
        assert_eq!(key(cookie.clone(), &cookies, a), key(cookie.clone(), &cookies, b));
        assert_eq!(key(cookie, &headers(&[("cookie", "users=ann")]), a), key(HashKey::ClientIp, &none, a));
    }

    /// The cookie that the upstream sets for the endpoint at this port.
    fn cookie(upstream: &Upstream, port: u16) -> String {
        let at = upstream.members.iter().position(|m| m.endpoint.address.port() == port).expect("there");
        let nobody = upstream.affinity(&HeaderMap::new(), || IpAddr::from([10, 0, 0, 1]));
        let set = upstream.set_cookie(at, &nobody, true).expect("a cookie");
        let set = set.to_str().expect("text");
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{set}");
        assert!(!set.contains("127.0.0.1") && !set.contains("web-"), "an endpoint is not named in clear: {set}");
        set.split(';').next().expect("a pair").to_string()
    }

    #[test]
    fn a_sticky_client_stays_with_its_endpoint_while_it_drains_and_until_it_is_gone() {
        for signed in [false, true] {
            let mut world = World::default();
            let all = world.turn(&sticky(signed), endpoints(1..=3));
            let with = headers(&[("cookie", &format!("a=b; {}", cookie(&all, 2)))]);
            assert!((0..10).all(|_| port(&all, &with, &[]) == Some(2)));
            let affinity = all.affinity(&with, || IpAddr::from([10, 0, 0, 1]));
            assert_eq!(all.set_cookie(1, &affinity, true), None, "it knows already");
            assert!(all.set_cookie(0, &affinity, true).is_some(), "somebody else answered");
            assert_ne!(
                port(&all, &with, &[id(&all, 2)]),
                Some(2),
                "an endpoint that has just failed is not insisted on"
            );

            let mut some = endpoints(1..=3);
            some[1].phase = Phase::Draining;
            let draining = world.turn(&sticky(signed), some.clone());
            assert!((0..10).all(|_| port(&draining, &with, &[]) == Some(2)));
            assert!((0..10).all(|_| port(&draining, &HeaderMap::new(), &[]) != Some(2)));
            some[1].phase = Phase::Unhealthy;
            let unhealthy = world.turn(&sticky(signed), some.clone());
            assert!((0..10).all(|_| port(&unhealthy, &with, &[]) != Some(2)), "its own check says that it cannot");
            some[1].phase = Phase::Ready;
            some[1].weight = 0;
            let weightless = world.turn(&sticky(signed), some);
            assert!((0..10).all(|_| port(&weightless, &with, &[]) != Some(2)));

            let gone = world.turn(&sticky(signed), endpoints([1, 3]));
            assert!((0..10).all(|_| port(&gone, &with, &[]) != Some(2)));
            let affinity = gone.affinity(&with, || IpAddr::from([10, 0, 0, 1]));
            assert!(!gone.knows(&affinity));
            assert!(gone.set_cookie(0, &affinity, false).is_some_and(|set| !set.to_str().unwrap().contains("Secure")));
        }
    }

    #[test]
    fn a_forged_cookie_is_as_none() {
        let upstream = World::default().turn(&sticky(true), endpoints(1..=3));
        let genuine = cookie(&upstream, 2);
        let (pair, mac) = genuine.split_once('.').expect("signed");
        assert_eq!(mac.len(), 32);
        let other = cookie(&upstream, 3).split_once('.').expect("signed").1.to_string();
        for forged in
            [pair.to_string(), format!("{pair}."), format!("{pair}.{other}"), format!("{pair}.{}", &mac[..31])]
        {
            let with = headers(&[("cookie", &forged)]);
            let affinity = upstream.affinity(&with, || IpAddr::from([10, 0, 0, 1]));
            assert!(!upstream.knows(&affinity), "{forged}");
        }
        let with = headers(&[("cookie", &format!("{pair}.{other}; {genuine}"))]);
        assert_eq!(port(&upstream, &with, &[]), Some(2), "a forged one beside it takes nothing away");
        let unsigned = World::default().turn(&sticky(false), endpoints(1..=3));
        assert!(!unsigned.knows(&unsigned.affinity(&headers(&[("cookie", &genuine)]), || [10, 0, 0, 1].into())));
    }
}
