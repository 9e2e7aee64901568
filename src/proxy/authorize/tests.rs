//! Random tables and requests against what the words of the interface say, with tables that change under connections.
//!
//! The reference knows no certificate, no key and no index: it knows which client of the pool was issued by whom, and
//! reads the mode table and the rules about hosts as they stand there. What the proxy does runs in full from the text of
//! a file to the head that an endpoint would get: lowering, reconcile, compile, the look-up, 421, `authorize`, and the
//! headers that say who somebody is. Those that come with a request are made up, in any spelling, and none arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::select;
use rustls_pki_types::CertificateDer;

use super::*;
use crate::config::yaml;
use crate::model::id::{Name, ObjectId, Provider, Source};
use crate::model::listener::Listener;
use crate::model::schema::TlsVersion;
use crate::model::{Ledger, Snapshot};
use crate::provider::lower::{self, Author};
use crate::proxy::forwarded::Vouched;
use crate::proxy::misdirected;
use crate::reconcile::{Inputs, reconcile};
use crate::table::testing::{Ca, Says};
use crate::table::{Materials, RequestView, StickyKey, TableListener, compile};

const HOSTS: [&str; 3] = ["a.x", "b.x", "*.x"];
const NAMES: [&str; 4] = ["a.x", "b.x", "c.x", "a.y"];
const PATHS: [&str; 2] = ["/", "/p"];
const MODES: [&str; 5] = ["off", "request", "require_any", "verify_if_given", "require"];
const ALLOW: [&str; 5] = [
    "",
    "{ dns: web.example }",
    "{ dns: '*.shop.example' }",
    "{ uri: 'spiffe://td/ns/*/sa/web' }",
    "{ subject: { CN: admin } }",
];

const FORWARD: &str = ", forward: [client_cert, client_cert_chain, xfcc, traefik_pem, traefik_info, nginx]";
/// Names by which endpoints are told of certificates, and others begin.
const TELLING: [&str; 12] = [
    "client-cert",
    "client-cert-chain",
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info",
    "ssl-client-verify",
    "ssl-client-cert",
    "ssl-client-subject-dn",
    "ssl-client-issuer-dn",
    "x-ssl-client-cert",
    "x-client-dn",
    "cf-client-cert-sha256",
];
const SEPARATORS: [char; 4] = ['-', '_', '.', '~'];
const MADE_UP: &str = "made-up";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    A,
    B,
    Somebody,
}

/// A client of the pool, as the reference knows it.
struct Known {
    by: By,
    serial: u64,
    expired: bool,
    /// Entries of `ALLOW` that name it.
    named_by: &'static [usize],
}

const KNOWN: [Known; 7] = [
    Known { by: By::A, serial: 1, expired: false, named_by: &[1, 4] },
    // Nearly somebody who is named, in every way.
    Known { by: By::A, serial: 2, expired: false, named_by: &[] },
    Known { by: By::A, serial: 3, expired: false, named_by: &[2, 3] },
    Known { by: By::A, serial: 4, expired: false, named_by: &[] },
    Known { by: By::A, serial: 5, expired: true, named_by: &[1, 4] },
    Known { by: By::B, serial: 1, expired: false, named_by: &[1, 4] },
    Known { by: By::Somebody, serial: 1, expired: false, named_by: &[1, 4] },
];

struct Pool {
    a: Ca,
    b: Ca,
    /// As in `KNOWN`.
    chains: Vec<Vec<CertificateDer<'static>>>,
}

static POOL: LazyLock<Pool> = LazyLock::new(|| {
    let (a, b, somebody) = (Ca::root("a"), Ca::root("b"), Ca::root("a"));
    let admin = |serial| Says { dns: vec!["web.example"], serial, ..Says::default() };
    let near = Says {
        dns: vec!["xweb.example", "web.example.evil", "web.exampl", "shop.example"],
        uris: vec!["spiffe://td/ns/a/sa/web-x", "spiffe://td/ns//sa/web", "xspiffe://td/ns/a/sa/web"],
        serial: 2,
        ..Says::default()
    };
    let db = Says { dns: vec!["db.shop.example"], uris: vec!["spiffe://td/ns/a/sa/web"], serial: 3, ..Says::default() };
    let deep =
        Says { dns: vec!["a.db.shop.example"], uris: vec!["spiffe://td/ns/a/b/sa/web"], serial: 4, ..Says::default() };
    let chains = vec![
        a.client("admin", &admin(1)),
        a.client("admin-x", &near),
        a.client("db", &db),
        a.client("xadmin", &deep),
        a.client("admin", &Says { to: Some(1_000_000_000), ..admin(5) }),
        b.client("admin", &admin(1)),
        somebody.client("admin", &admin(1)),
    ];
    Pool { a, b, chains }
});

#[derive(Debug, Clone)]
struct PolicyOf {
    mode: usize,
    a: bool,
    b: bool,
    /// Of A, by the one list that there is.
    revoked: bool,
    allow: usize,
    ask: bool,
    /// Endpoints are told, in every way that there is.
    forward: bool,
}

/// What stands in the files now.
#[derive(Debug, Clone)]
struct World {
    /// By host and path: the policy's number, where there is one.
    routes: BTreeMap<(usize, usize), Option<usize>>,
    policies: Vec<PolicyOf>,
    a_broken: bool,
    list: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
enum Step {
    Connect { slot: usize, name: usize, client: Option<usize> },
    Ask { slot: usize, host: usize, path: usize, forged: Vec<Forged>, trusted: bool },
    Route { at: (usize, usize), policy: Option<usize> },
    Policy { number: usize, policy: PolicyOf },
    Break(bool),
    Revoke(u64),
    Reinstate(u64),
}

/// A header of a request: which of `TELLING`, with which of `SEPARATORS`, and whether in capitals.
type Forged = (usize, usize, bool);

/// Whom an endpoint is told of.
#[derive(Debug, PartialEq, Eq)]
enum About {
    /// The route's policy says nothing.
    Untold,
    Nobody,
    /// Of the pool.
    Client(usize),
}

/// Mode, roots, list and `handshake` of each policy that wants a certificate, and whether all others are refused.
type Handshake = (BTreeSet<(usize, bool, bool, bool, bool)>, bool);

impl World {
    fn text(&self) -> String {
        let mut text = String::from("services: { s: { endpoints: ['http://10.0.0.1:80'] } }\nroutes:\n");
        for ((host, path), policy) in &self.routes {
            let mtls = policy.map_or(String::new(), |number| format!(", mtls: p{number}"));
            let (host_text, path_text) = (HOSTS[*host], PATHS[*path]);
            text += &format!("  r{host}{path}: {{ host: '{host_text}', path: {path_text}, service: s{mtls} }}\n");
        }
        text += "mtls_policies:\n";
        for (number, policy) in self.policies.iter().enumerate() {
            let PolicyOf { mode, a, b, revoked, allow, ask, forward } = policy;
            let trust: Vec<&str> = [(*a, "a"), (*b, "b")].iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
            let allow = if *allow == 0 { String::new() } else { format!(", allow: [{}]", ALLOW[*allow]) };
            let revoked = if *revoked { ", revoked: [l]" } else { "" };
            let forward = if *forward { FORWARD } else { "" };
            let handshake = if *ask { "ask" } else { "refuse" };
            let (mode, trust) = (MODES[*mode], trust.join(", "));
            text += &format!(
                "  p{number}: {{ mode: {mode}, trust: [{trust}], handshake: {handshake}{revoked}{allow}{forward} }}\n"
            );
        }
        text + "trust_bundles: { a: { pem: a }, b: { pem: b } }\nrevocations: { l: { pem: l } }\n"
    }

    /// Nobody is let in by it.
    fn is_closed(&self, policy: &PolicyOf) -> bool {
        let verifies = policy.mode >= 3;
        (verifies && !policy.a && !policy.b) || (!verifies && policy.allow > 0) || (policy.a && self.a_broken)
    }

    /// Routes that can answer for a name, the first first.
    fn candidates(&self, name: &str) -> Vec<((usize, usize), Option<&PolicyOf>)> {
        let of = |host: usize| {
            [1, 0].into_iter().filter_map(move |path| Some(((host, path), self.routes.get(&(host, path))?)))
        };
        let exact = HOSTS.iter().position(|host| *host == name);
        let wide = name.ends_with(".x").then_some(2);
        let all = exact.into_iter().chain(wide).flat_map(of);
        all.map(|(at, policy)| (at, policy.map(|number| &self.policies[number]))).collect()
    }

    /// What decides in handshakes for a name: equal for hosts that may share a connection.
    fn handshake(&self, name: &str) -> Handshake {
        let (mut wants, mut refuses) = (BTreeSet::new(), true);
        for ((_, path), policy) in self.candidates(name) {
            match policy {
                Some(policy) if self.is_closed(policy) => {}
                Some(PolicyOf { mode, a, b, revoked, ask, .. }) => {
                    if *mode > 0 {
                        wants.insert((*mode, *a, *b, *revoked, *ask));
                    }
                    refuses &= *mode == 4 && !ask;
                }
                None => refuses = false,
            }
            if path == 0 {
                break;
            }
        }
        let refuses = refuses && !wants.is_empty();
        (wants, refuses)
    }

    /// `shown` is what the client has shown on this connection. Nothing where the request is refused, else whom the
    /// endpoint is told of.
    fn permits(&self, name: &str, shown: Option<usize>, host: &str, path: &str) -> Option<About> {
        if self.handshake(name) != self.handshake(host) {
            return None;
        }
        let found = self.candidates(host).into_iter().find(|((_, at), _)| *at == 0 || path == "/p");
        let (_, policy) = found?;
        let Some(policy) = policy else { return Some(About::Untold) };
        if self.is_closed(policy) {
            return None;
        }
        let verified = shown.map(|client| &KNOWN[client]).is_some_and(|client| {
            let trusted = (client.by == By::A && policy.a) || (client.by == By::B && policy.b);
            let out = policy.revoked && client.by == By::A && self.list.contains(&client.serial);
            trusted && !out && !client.expired
        });
        let allowed = policy.allow == 0 || shown.is_some_and(|client| KNOWN[client].named_by.contains(&policy.allow));
        let passes = match MODES[policy.mode] {
            "off" | "request" => true,
            "require_any" => shown.is_some(),
            "verify_if_given" => shown.is_none() || (verified && allowed),
            _ => verified && allowed,
        };
        let about = match shown {
            _ if !policy.forward => About::Untold,
            Some(client) if verified => About::Client(client),
            _ => About::Nobody,
        };
        passes.then_some(about)
    }
}

fn table(world: &World, number: u64, before: &Table) -> Arc<Table> {
    let tree = yaml::parse(&"f.yaml".into(), &world.text()).expect("valid YAML");
    let source = |provider| Source::new(provider, None);
    let author = Author { source: source(Provider::File), created: Timestamp::UNIX_EPOCH, replica: None };
    let file = lower::document(&tree, &author);
    let mut settings = Snapshot::empty(Provider::Settings);
    settings.listeners.push(Listener::for_tests("https", true));
    let snapshots = BTreeMap::from([(Provider::Settings, Arc::new(settings)), (Provider::File, Arc::new(file))]);
    let desired = reconcile(Inputs {
        snapshots: &snapshots,
        ledger: &Ledger::default(),
        now: Timestamp::UNIX_EPOCH,
        unheard: &BTreeSet::new(),
        default_issuers: &[],
    })
    .desired;
    let bundle = |id: &ObjectId| match &*id.name {
        "a" if world.a_broken => Err("it is broken".to_string()),
        "a" => Ok(POOL.a.bundle()),
        _ => Ok(POOL.b.bundle()),
    };
    let serials: Vec<u64> = world.list.iter().copied().collect();
    let list = POOL.a.list(number, &serials, 4_000_000_000);
    let bundles = desired.bundles.keys().map(|id| (id.clone(), bundle(id))).collect();
    let revocations = desired.revocations.keys().map(|id| (id.clone(), Ok(list.clone()))).collect();
    let materials = Materials {
        certificates: &BTreeMap::new(),
        bundles: &bundles,
        revocations: &revocations,
        issuers: &BTreeMap::new(),
        system_roots: &Err("none in tests".into()),
        default_certificate: None,
        default_issuers: &[],
        sticky_key: &StickyKey([0; 32]),
        verdicts: &BTreeMap::new(),
    };
    compile(&desired, materials, before).expect("compiles").table
}

fn https(table: &Table) -> &TableListener {
    &table.listeners[&Name::normalised("https")]
}

fn connect(table: &Table, name: &str, client: Option<usize>) -> (TlsFacts, Option<usize>) {
    let keyed = https(table).scope(Some(name)).keyed.clone();
    // Nobody shows what nobody asks for.
    let shown = client.filter(|_| keyed.asks());
    let chain = shown.map(|client| POOL.chains[client].clone()).unwrap_or_default();
    let facts = TlsFacts {
        sni: Some(name.into()),
        name: name.into(),
        keyed,
        peer: Peer::new(chain),
        version: TlsVersion::V1_3,
        cipher: "",
        resumed: false,
        h2: true,
    };
    (facts, shown)
}

/// The head that an endpoint gets, where it gets any.
fn arriving(
    table: &Table,
    facts: &TlsFacts,
    (host, path): (&str, &str),
    forged: &[Forged],
    trusted: bool,
) -> Option<HeaderMap> {
    let listener = https(table);
    let (method, mut headers) = (Method::GET, HeaderMap::new());
    for (name, separator, capitals) in forged {
        let name = TELLING[*name].replace('-', &SEPARATORS[*separator].to_string());
        let name = if *capitals { name.to_ascii_uppercase() } else { name };
        headers.append(name.parse::<HeaderName>().expect("a name"), HeaderValue::from_static(MADE_UP));
    }
    let client: std::net::SocketAddr = ([127, 0, 0, 1], 9).into();
    let route = listener.lookup(&RequestView::new(host, path, &method, host, &headers, None, client.ip()))?;
    misdirected::check(Some(facts), listener, host).ok()?;
    let permit = authorize(table.route(route), Some(facts)).ok()?;
    let nets: Vec<IpNet> = if trusted { vec!["127.0.0.0/8".parse().expect("a net")] } else { Vec::new() };
    let vouched = Vouched::new(client, true, 443, &HeaderValue::from_static("edge"), &nets);
    vouched.apply(&mut headers, &HeaderValue::from_static("a.x"), permit.introduction().map(|told| &**told));
    Some(headers)
}

/// Whom the head tells of, to an endpoint that makes variables of names. What a trusted proxy says in its own spelling
/// stands where Portolan knows nobody.
fn read(headers: &HeaderMap, trusted: bool) -> Result<About, String> {
    let mut told: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, value) in headers {
        let variable = name.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let value = value.to_str().expect("text");
        match TELLING.contains(&variable.as_str()) {
            true if value == MADE_UP && trusted && variable == name.as_str() => {}
            true => told.entry(variable).or_default().push(value),
            false => {}
        }
    }
    let Some(verify) = told.get("ssl-client-verify") else {
        return if told.is_empty() { Ok(About::Untold) } else { Err(format!("{told:?}")) };
    };
    if verify == &["NONE"] && told.len() == 1 {
        return Ok(About::Nobody);
    }
    let encoded = told.get("client-cert").and_then(|values| values[0].strip_prefix(':')?.strip_suffix(':'));
    let shown = encoded.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    let client = POOL.chains.iter().position(|chain| *chain[0] == *shown).ok_or_else(|| format!("{told:?}"))?;
    let hash = Identity::of(&POOL.chains[client][0]).expect("an identity").fingerprint;
    let own = told.iter().all(|(name, values)| match (name.as_str(), values.as_slice()) {
        // A list of all on the way: what a trusted proxy says stands before what is known.
        ("x-forwarded-client-cert", [value]) => {
            let before = value.rsplit_once(", Hash=").map_or("", |(before, _)| before);
            let own = value.contains(&format!("Hash={hash};"));
            own && (before.is_empty() || (trusted && before.split(", ").all(|one| one == MADE_UP)))
        }
        ("ssl-client-verify", [value]) => *value == "SUCCESS",
        (_, [value]) => !value.contains(MADE_UP),
        _ => false,
    });
    // The pool's clients have no certificates between theirs and the root's.
    match own && told.len() == 8 && !told.contains_key("client-cert-chain") {
        true => Ok(About::Client(client)),
        false => Err(format!("{told:?}")),
    }
}

fn policy_of() -> impl Strategy<Value = PolicyOf> {
    let mode = prop_oneof![2 => 0..5usize, 3 => Just(4), 1 => Just(3)];
    let allow = prop_oneof![1 => Just(0), 2 => 1..5usize];
    let (rarely, mostly) = (prop::bool::weighted(0.3), prop::bool::weighted(0.8));
    (mode, mostly, rarely, any::<bool>(), allow, rarely, any::<bool>()).prop_map(
        |(mode, a, b, revoked, allow, ask, forward)| {
            let allow = if mode < 3 { 0 } else { allow };
            PolicyOf { mode, a, b, revoked, allow, ask, forward: forward && mode >= 3 }
        },
    )
}

fn routed() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![1 => Just(None), 4 => (0..4usize).prop_map(Some)]
}

fn world() -> impl Strategy<Value = World> {
    let routes = proptest::collection::btree_map((0..3usize, 0..2usize), routed(), 1..6);
    let list = proptest::collection::btree_set(1..5u64, 0..2);
    (routes, proptest::collection::vec(policy_of(), 4), list).prop_map(|(routes, policies, list)| World {
        routes,
        policies,
        a_broken: false,
        list,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let client = prop_oneof![1 => Just(None), 5 => (0..KNOWN.len()).prop_map(Some)];
    let slot = || 0..4usize;
    let forged = || proptest::collection::vec((0..TELLING.len(), 0..SEPARATORS.len(), any::<bool>()), 0..5);
    prop_oneof![
        6 => (slot(), 0..NAMES.len(), client).prop_map(|(slot, name, client)| Step::Connect { slot, name, client }),
        50 => (slot(), 0..NAMES.len(), 0..2usize, forged(), prop::bool::weighted(0.2))
            .prop_map(|(slot, host, path, forged, trusted)| Step::Ask { slot, host, path, forged, trusted }),
        1 => ((0..3usize, 0..2usize), routed()).prop_map(|(at, policy)| Step::Route { at, policy }),
        1 => (0..4usize, policy_of()).prop_map(|(number, policy)| Step::Policy { number, policy }),
        2 => prop::bool::weighted(0.4).prop_map(Step::Break),
        2 => (1..5u64).prop_map(Step::Revoke),
        1 => (1..5u64).prop_map(Step::Reinstate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn nobody_comes_to_an_endpoint_whom_the_words_keep_out(
        mut world in world(),
        names in proptest::collection::vec((0..NAMES.len(), select((0..KNOWN.len()).collect::<Vec<_>>())), 4),
        steps in proptest::collection::vec(step(), 70..90),
    ) {
        let mut number = 1;
        let mut now = table(&world, number, &Table::empty());
        let mut connections: Vec<(usize, TlsFacts, Option<usize>)> = names
            .iter()
            .map(|(name, client)| {
                let (facts, shown) = connect(&now, NAMES[*name], Some(*client));
                (*name, facts, shown)
            })
            .collect();
        for step in &steps {
            match step.clone() {
                Step::Connect { slot, name, client } => {
                    let (facts, shown) = connect(&now, NAMES[name], client);
                    connections[slot] = (name, facts, shown);
                    continue;
                }
                Step::Ask { slot, host, path, forged, trusted } => {
                    let (name, facts, shown) = &connections[slot];
                    let (host, path) = (NAMES[host], PATHS[path]);
                    let expected = world.permits(NAMES[*name], *shown, host, path).map(|about| match about {
                        // A trusted proxy may know.
                        About::Nobody if trusted => Ok(About::Untold),
                        about => Ok(about),
                    });
                    let arrived = arriving(&now, facts, (host, path), &forged, trusted);
                    prop_assert_eq!(
                        arrived.map(|headers| read(&headers, trusted)),
                        expected,
                        "{:?} over a connection for {} by client {:?}, trusted: {}\n{}list: {:?}, broken: {}",
                        (host, path), NAMES[*name], shown, trusted, world.text(), world.list, world.a_broken
                    );
                    continue;
                }
                Step::Route { at, policy } => drop(world.routes.insert(at, policy)),
                Step::Policy { number, policy } => world.policies[number] = policy,
                Step::Break(broken) => world.a_broken = broken,
                Step::Revoke(serial) => drop(world.list.insert(serial)),
                Step::Reinstate(serial) => drop(world.list.remove(&serial)),
            }
            number += 1;
            now = table(&world, number, &now);
        }
    }
}
