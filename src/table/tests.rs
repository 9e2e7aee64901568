//! The indexed look-up against a naive one, on random tables and random requests.
//!
//! The naive one knows no index: it takes every claim of the listener, leaves out what the rules about hosts exclude,
//! sorts by `standing_rank`, and tries each predicate as its documentation reads. Requests are made of their parts, and
//! only the index sees them spelt as a client would.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::diagnostic::{Origin, Reason};
use crate::model::host::HostPattern;
use crate::model::id::{Kind, Provider, Source};
use crate::model::path::PathMatch;
use crate::model::pattern::Pattern;
use crate::model::predicate::{Term, Test};
use crate::model::route::RouteMatch;
use crate::reconcile::{Action, Claim, Desired, DesiredRoute, HostFacts, standing_rank};

const HOSTS: [&str; 7] = ["a.x", "b.x", "a.y", "x", "*.x", "*.y", "*"];
const NAMES: [&str; 6] = ["a.x", "b.x", "a.y", "c.y", "x", "a.b.x"];
const HOST_REGEXES: [&str; 4] = ["^a", "x$", "b", r"^[ab]\.x$"];
const PATH_REGEXES: [&str; 5] = ["^/a", "b$", "/ab", "a b", "^/$"];
const SEGMENTS: [&str; 5] = ["", "a", "b", "ab", "a%20b"];
const CLIENTS: [&str; 4] = ["10.0.0.1", "10.0.0.2", "192.0.2.1", "::1"];
const NETS: [&str; 4] = ["10.0.0.0/8", "10.0.0.1/32", "::1/128", "0.0.0.0/0"];

/// A request by its parts.
#[derive(Debug, Clone)]
struct Asked {
    host: &'static str,
    path: String,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
    client: &'static str,
}

#[derive(Debug, Clone)]
struct Written {
    source: usize,
    priority: i64,
    created: i64,
    claims: Vec<RouteMatch>,
}

/// What is known about a host: who of its claimants holds it, and how.
#[derive(Debug, Clone, Copy)]
struct Hold {
    nth: usize,
    protected: bool,
    away: bool,
}

fn sources() -> [Source; 4] {
    let docker = |namespace: &str| Source::new(Provider::Docker, Some(namespace.into()));
    [Source::new(Provider::File, None), docker("p"), docker("q"), docker("_/c")]
}

fn path_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(select(&SEGMENTS[..]), 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    (path_text(), 0..4).prop_map(|(text, kind)| match kind {
        0 => PathMatch::exact(&text).expect("valid"),
        1 => PathMatch::StringPrefix(text.into()),
        _ => PathMatch::prefix(&text).expect("valid"),
    })
}

fn pattern(texts: &'static [&'static str]) -> impl Strategy<Value = Pattern> {
    select(texts).prop_map(|text| Pattern::new(text).expect("valid"))
}

fn test() -> impl Strategy<Value = Test> {
    let methods = select(vec![vec!["GET"], vec!["POST"], vec!["GET", "POST"]]);
    let (names, parameters) = (|| select(&["h", "i"][..]), || select(&["q", "r s"][..]));
    prop_oneof![
        select(&HOSTS[..]).prop_map(|host| Test::Host(host.parse().expect("valid"))),
        pattern(&HOST_REGEXES).prop_map(Test::HostRegex),
        path_match().prop_map(Test::Path),
        pattern(&PATH_REGEXES).prop_map(Test::PathRegex),
        methods.prop_map(|methods| Test::Method(methods.into_iter().map(Into::into).collect())),
        (names(), select(&["1", "2"][..]))
            .prop_map(|(name, value)| Test::Header { name: name.into(), value: value.into() }),
        (names(), pattern(&["1", "^2$"])).prop_map(|(name, value)| Test::HeaderRegex { name: name.into(), value }),
        (parameters(), select(&["", "1", "a+b"][..]))
            .prop_map(|(name, value)| Test::Query { name: name.into(), value: value.into() }),
        (parameters(), pattern(&["^$", "1", "a.b"]))
            .prop_map(|(name, value)| Test::QueryRegex { name: name.into(), value }),
        select(&NETS[..]).prop_map(|net| Test::Clients(BTreeSet::from([net.parse().expect("valid")]))),
    ]
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    prop_oneof![scattered(), crowded()]
}

/// Of the few that meet at one place, told apart by headers and parameters alone.
fn crowded() -> impl Strategy<Value = RouteMatch> {
    let header = (select(&["h", "i"][..]), select(&["1", "2"][..]))
        .prop_map(|(name, value)| Test::Header { name: name.into(), value: value.into() });
    let query = select(&["", "1", "a+b"][..]).prop_map(|value| Test::Query { name: "q".into(), value: value.into() });
    let term = (prop::bool::weighted(0.1), prop_oneof![header, query, test()])
        .prop_map(|(negated, test)| Term { negated, test });
    (select(&["a.x", "*.x"][..]), proptest::collection::btree_set(term, 1..3)).prop_map(|(host, terms)| RouteMatch {
        terms,
        ..RouteMatch::new(host.parse().expect("valid"), PathMatch::everything())
    })
}

fn scattered() -> impl Strategy<Value = RouteMatch> {
    let term = (prop::bool::weighted(0.3), test()).prop_map(|(negated, test)| Term { negated, test });
    let terms = prop_oneof![Just(BTreeSet::new()), proptest::collection::btree_set(term, 0..3)];
    (select(&HOSTS[..]), path_match(), terms, prop::bool::weighted(0.1)).prop_map(|(host, path, terms, unread)| {
        let unread = unread.then(|| "rule=?".into());
        RouteMatch { host: host.parse().expect("valid"), path, terms, unread }
    })
}

fn written() -> impl Strategy<Value = Written> {
    let priority = prop_oneof![4 => Just(0), 1 => select(&[-5, 5, 1000][..])];
    (0..4usize, priority, 0..3i64, proptest::collection::vec(route_match(), 1..3))
        .prop_map(|(source, priority, created, claims)| Written { source, priority, created, claims })
}

fn hold() -> impl Strategy<Value = Hold> {
    (0..4usize, prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(|(nth, protected, away)| Hold {
        nth,
        protected,
        away,
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let headers = proptest::collection::vec((select(&["h", "i"][..]), select(&["1", "2", "12"][..])), 0..3);
    let query = proptest::collection::vec((select(&["q", "r s"][..]), select(&["", "1", "a+b", "a b"][..])), 0..3);
    (select(&NAMES[..]), path_text(), select(&["GET", "POST", "get"][..]), headers, query, select(&CLIENTS[..]))
        .prop_map(|(host, path, method, headers, query, client)| Asked { host, path, method, headers, query, client })
}

fn desired(routes: &[Written], holds: &[Hold]) -> Desired {
    let name = Name::normalised("https");
    let listener = Listener::for_tests("https", true);
    let mut desired = Desired { listeners: BTreeMap::from([(name.clone(), listener)]), ..Desired::default() };
    for (at, route) in routes.iter().enumerate() {
        let source = sources()[route.source].clone();
        let id = ObjectId::new(&source, Kind::Route, format!("r{at}"));
        let matches: BTreeSet<&RouteMatch> = route.claims.iter().collect();
        let claim =
            |matched: &RouteMatch| Claim { listener: name.clone(), matched: matched.clone(), shares: Vec::new() };
        let written = DesiredRoute {
            id: id.clone(),
            origin: Origin::Default,
            source,
            created: Timestamp::from_second(route.created).expect("a time"),
            priority: route.priority,
            middlewares: Vec::new(),
            policies: BTreeSet::new(),
            action: Action::Deny(Denial::new(Reason::Invalid, "for the test")),
            claims: matches.into_iter().map(claim).collect(),
            part_of: BTreeSet::new(),
        };
        desired.routes.insert(id, written);
    }
    for (host, hold) in HOSTS.iter().zip(holds) {
        let host: HostPattern = host.parse().expect("valid");
        let claims = |route: &&DesiredRoute| {
            route.claims.iter().any(|claim| claim.matched.host == host && !claim.matched.is_by_host_regex())
        };
        let claimants: BTreeSet<&Source> = desired.routes.values().filter(claims).map(|route| &route.source).collect();
        let operator = claimants.iter().find(|source| source.is_operator());
        let tenant = claimants.iter().nth(hold.nth % claimants.len().max(1)).filter(|_| host != HostPattern::Any);
        let gone = Source::new(Provider::Docker, Some("gone".into()));
        let away = hold.away && operator.is_none() && host != HostPattern::Any;
        let holder = if away { Some(gone) } else { operator.or(tenant).map(|source| Source::clone(source)) };
        if let Some(holder) = holder {
            let facts = HostFacts {
                protected: hold.protected,
                away,
                holders: BTreeSet::from([holder]),
                ..HostFacts::default()
            };
            desired.hosts.insert(host, facts);
        }
    }
    desired
}

/// Whether any label but the first differs.
fn is_under(host: &str, suffix: &str) -> bool {
    let labels: Vec<&str> = host.split('.').collect();
    labels.len() > 1 && labels[1..].join(".") == suffix
}

fn host_is(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => host == &**name,
        HostPattern::Wildcard(suffix) => is_under(host, suffix),
        HostPattern::Any => true,
    }
}

fn path_is(path: &PathMatch, asked: &str) -> bool {
    let segments = |text: &str| text.split('/').skip(1).map(str::to_string).collect::<Vec<_>>();
    match path {
        PathMatch::Exact(text) => asked == &**text,
        PathMatch::Prefix(text) if &**text == "/" => true,
        PathMatch::Prefix(text) => segments(asked).starts_with(&segments(text)),
        PathMatch::StringPrefix(text) => asked.len() >= text.len() && asked[..text.len()] == **text,
    }
}

fn holds(test: &Test, asked: &Asked) -> bool {
    let found = |pairs: &[(&'static str, &'static str)], name: &str, is: &dyn Fn(&str) -> bool| {
        pairs.iter().filter(|(key, _)| *key == name).any(|(_, value)| is(value))
    };
    match test {
        Test::Host(pattern) => host_is(pattern, asked.host),
        Test::HostRegex(pattern) => pattern.is_match(asked.host.as_bytes()),
        Test::Path(path) => path_is(path, &asked.path),
        Test::PathRegex(pattern) => pattern.is_match(asked.path.replace("%20", " ").as_bytes()),
        Test::Method(methods) => methods.contains(asked.method),
        Test::Header { name, value } => found(&asked.headers, name, &|found| found == &**value),
        Test::HeaderRegex { name, value } => found(&asked.headers, name, &|found| value.is_match(found.as_bytes())),
        Test::Query { name, value } => found(&asked.query, name, &|found| found == &**value),
        Test::QueryRegex { name, value } => found(&asked.query, name, &|found| value.is_match(found.as_bytes())),
        Test::Clients(nets) => {
            let client: IpAddr = asked.client.parse().expect("an address");
            nets.iter().any(|net| net.contains(&client))
        }
    }
}

fn naive<'d>(desired: &'d Desired, asked: &Asked) -> Option<&'d ObjectId> {
    let claims: Vec<(&DesiredRoute, &Claim)> =
        desired.routes.values().flat_map(|route| route.claims.iter().map(move |claim| (route, claim))).collect();
    let alone = |host: &HostPattern| desired.hosts.get(host).is_some_and(|facts| facts.protected || facts.away);
    let known = |host: &HostPattern| alone(host) || claims.iter().any(|(_, claim)| claim.matched.host == *host);
    let exact = HostPattern::Exact(asked.host.into());
    let wildcard = HOSTS
        .iter()
        .map(|host| host.parse().expect("valid"))
        .find(|host| matches!(host, HostPattern::Wildcard(suffix) if is_under(asked.host, suffix)));
    let cover = wildcard.as_ref().and_then(|wildcard| desired.hosts.get(wildcard));
    let covered = cover.is_some_and(|facts| facts.protected && facts.holders.iter().any(Source::is_operator));
    // By the most specific host that anybody claims: whose rules the request stands under.
    let of = if known(&exact) { exact } else { wildcard.filter(known).unwrap_or(HostPattern::Any) };
    let facts = desired.hosts.get(&of);
    let mut candidates: Vec<_> = claims
        .iter()
        .filter(|(_, claim)| host_is(&claim.matched.host, asked.host))
        .filter(|(route, claim)| {
            let mine = |facts: &HostFacts| facts.holders.contains(&route.source);
            let tenant = !route.source.is_operator();
            let shut = facts.is_some_and(|facts| facts.protected && !mine(facts));
            let kept = facts.is_some_and(|facts| facts.away && claim.matched.host != of && !mine(facts));
            !(tenant && (shut || kept || covered))
        })
        .map(|(route, claim)| (standing_rank(desired, route, claim, &of), *route, *claim))
        .collect();
    candidates.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let matches = |matched: &RouteMatch| {
        path_is(&matched.path, &asked.path) && matched.terms.iter().all(|term| holds(&term.test, asked) != term.negated)
    };
    candidates.into_iter().find(|(_, _, claim)| matches(&claim.matched)).map(|(_, route, _)| &route.id)
}

/// As a client spells it.
fn spelt(pairs: &[(&str, &str)]) -> Option<String> {
    let form = |text: &str| text.replace('+', "%2b").replace(' ', if text.len() > 1 { "+" } else { "%20" });
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{}={}", form(name), form(value))).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

fn indexed<'t>(table: &'t Table, asked: &Asked) -> Option<&'t ObjectId> {
    let method: Method = asked.method.parse().expect("a method");
    let mut headers = HeaderMap::new();
    for (name, value) in &asked.headers {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let query = spelt(&asked.query);
    let client = asked.client.parse().expect("an address");
    let request = RequestView::new(asked.host, &asked.path, &method, asked.host, &headers, query.as_deref(), client);
    let listener = &table.listeners[&Name::normalised("https")];
    listener.lookup(&request).map(|index| &table.route(index).id)
}

thread_local! {
    /// The one before, for its TLS configuration: a new one a case would take longer than all the rest.
    static PREVIOUS: RefCell<Arc<Table>> = RefCell::new(Arc::new(Table::empty()));
}

fn compiled(desired: &Desired) -> Arc<Table> {
    let table = PREVIOUS.with_borrow(|previous| compile(desired, Materials::none(), previous)).expect("compiles").table;
    PREVIOUS.set(table.clone());
    table
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_a_naive_matcher(
        routes in proptest::collection::vec(written(), 0..16),
        holds in proptest::collection::vec(hold(), HOSTS.len()),
        requests in proptest::collection::vec(asked(), 1..24),
    ) {
        let desired = desired(&routes, &holds);
        let table = compiled(&desired);
        for asked in &requests {
            prop_assert_eq!(indexed(&table, asked), naive(&desired, asked), "{:?}", asked);
        }
    }
}
