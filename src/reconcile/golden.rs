//! The golden cases of reconcile and compile: `tests/golden/reconcile/<case>/in.yaml` must give `out.yaml`.
//!
//! A case lists sources with the documents they wrote; the output says where each route stands, who holds each host, and
//! every finding; then, through the compiled table, who answers what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde::Deserialize;

use super::{Action, Desired, Inputs, Outcome, Share, reconcile};
use crate::config::tree::Tree;
use crate::config::{read, yaml};
use crate::golden;
use crate::model::diagnostic::{Origin, Reason, Severity};
use crate::model::id::{Kind, Name, ObjectId, Provider, Source};
use crate::model::ledger::{Hold, Ledger};
use crate::model::listener::{Listener, ListenerLimits, ListenerTimeouts, UnderscoreHeaders};
use crate::model::mtls::{BundleSource, TrustBundle};
use crate::model::predicate::Term;
use crate::model::route::Replica;
use crate::model::schema::Scheme;
use crate::model::service::{Endpoint, Traffic};
use crate::model::snapshot::Snapshot;
use crate::provider::lower::{self, Author};
use crate::table::revocation::LoadedLists;
use crate::table::testing::Ca;
use crate::table::trust::LoadedBundle;
use crate::table::{Materials, RequestView, RouteAction, Table, compile};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Case {
    /// What the case shows, for its reader.
    about: String,
    /// Seconds since the epoch.
    now: i64,
    ledger: BTreeMap<String, HoldSpec>,
    sources: Vec<SourceSpec>,
    /// Providers whose sources are from a snapshot that was kept.
    unheard: BTreeSet<Provider>,
    /// `host path`, or `METHOD host path`, to look up on the compiled table's TLS listener, or with `http://` before the
    /// host on the plain one.
    ask: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldSpec {
    namespace: String,
    #[serde(default)]
    idle_since: Option<i64>,
    #[serde(default)]
    matches: Vec<String>,
    #[serde(default)]
    protected: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SourceSpec {
    provider: Option<Provider>,
    namespace: Option<String>,
    /// Makes the document a container's labels.
    container: Option<String>,
    /// The service that the container is a replica of.
    service: Option<String>,
    created: i64,
    /// Service to the address of its endpoint; for what an engine would discover.
    endpoints: BTreeMap<String, String>,
    /// Route to the terms of its matches, as JSON: what no document could say more shortly.
    terms: BTreeMap<String, String>,
    /// It runs, and has no endpoint: paused, say, or not healthy yet.
    running: bool,
}

#[test]
fn every_golden_case_reconciles_to_its_output() {
    golden::check("reconcile", 15, printed);
}

/// What a bundle holds is its own business: every one is the same CA, but for one that says that it is broken.
fn loaded_bundles(desired: &Desired) -> BTreeMap<ObjectId, Result<Arc<LoadedBundle>, String>> {
    let loaded = |bundle: &TrustBundle| match &bundle.from {
        Some(BundleSource::Pem(pem)) if &**pem == "broken" => Err("it is broken".to_string()),
        _ => Ok(CA.bundle()),
    };
    desired.bundles.iter().map(|(id, bundle)| (id.clone(), loaded(bundle))).collect()
}

fn loaded_lists(desired: &Desired) -> BTreeMap<ObjectId, Result<Arc<LoadedLists>, String>> {
    desired.revocations.keys().map(|id| (id.clone(), Ok(CA.list(1, &[7], 4_000_000_000)))).collect()
}

static CA: LazyLock<Ca> = LazyLock::new(|| Ca::root("ca"));

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

/// The case and, beside it, each source's document as a tree of its own.
/// What the sources of every case say.
pub fn all_snapshots() -> Vec<Snapshot> {
    let cases = golden::cases("reconcile");
    let said = cases.iter().flat_map(|path| {
        let (case, documents) = read_case(&path.join("in.yaml"));
        snapshots(&case, &documents, false).into_values()
    });
    said.map(|snapshot| (*snapshot).clone()).collect()
}

fn read_case(path: &Path) -> (Case, Vec<Tree>) {
    let text = std::fs::read_to_string(path).expect("readable");
    let mut tree = yaml::parse(&"in.yaml".into(), &text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut documents = Vec::new();
    if let crate::config::tree::Node::Map(entries) = &mut tree.node {
        for entry in entries.iter_mut().filter(|entry| entry.key == "sources") {
            if let crate::config::tree::Node::Seq(sources) = &mut entry.value.node {
                for source in sources {
                    let document = source.take("document").map(|entry| entry.value);
                    documents.push(document.unwrap_or_else(|| Tree::map(Origin::Default)));
                }
            }
        }
    }
    (read::strict(&tree).unwrap_or_else(|fault| panic!("{}: {fault}", path.display())), documents)
}

fn listeners() -> Vec<Listener> {
    [("http", 80, false), ("https", 443, true)]
        .map(|(name, port, tls)| Listener {
            id: ObjectId::new(&Source::new(Provider::Settings, None), Kind::Listener, name),
            name: Name::normalised(name),
            origin: Origin::Default,
            address: format!(":{port}").parse().expect("an address"),
            tls,
            redirect: None,
            public_port: None,
            trusted_proxies: Vec::new(),
            underscore_headers: UnderscoreHeaders::default(),
            limits: ListenerLimits::default(),
            timeouts: ListenerTimeouts::default(),
        })
        .to_vec()
}

fn snapshots(case: &Case, documents: &[Tree], reversed: bool) -> BTreeMap<Provider, Arc<Snapshot>> {
    let mut snapshots: BTreeMap<Provider, Snapshot> = BTreeMap::new();
    let settings = snapshots.entry(Provider::Settings).or_insert_with(|| Snapshot::empty(Provider::Settings));
    settings.listeners = listeners();
    for (spec, document) in case.sources.iter().zip(documents) {
        let provider = spec.provider.unwrap_or(Provider::Docker);
        let author = Author {
            source: Source::new(provider, spec.namespace.as_deref().map(Into::into)),
            created: seconds(spec.created),
            replica: spec.container.as_deref().map(|container| Replica {
                created: seconds(spec.created),
                container: container.into(),
                service: spec.service.as_deref().unwrap_or(container).into(),
            }),
        };
        let mut lowered = Snapshot::empty(provider);
        let mut kinds = Vec::new();
        for section in document.entries() {
            let kind = lower::section_kind(&section.key).expect("a section");
            for entry in section.value.entries() {
                if kind == Kind::Service && !author.source.is_operator() {
                    let lower::Lowered { spec, tls, service } =
                        lower::service(&entry.key, &entry.value, &author, &mut lowered.findings);
                    kinds.push((spec.weight.unwrap_or(1), spec.scheme.unwrap_or_default(), tls));
                    lowered.services.push(service);
                } else {
                    lower::object(kind, &entry.key, &entry.value, &author, &mut lowered, &mut Vec::new());
                }
            }
        }
        let plain = std::iter::repeat((1, Scheme::Http, None));
        for (service, (weight, scheme, tls)) in lowered.services.iter_mut().zip(kinds.into_iter().chain(plain)) {
            service.running |= spec.running || spec.endpoints.contains_key(&*service.id.name);
            if let Some(address) = spec.endpoints.get(&*service.id.name) {
                let name = spec.container.as_deref().unwrap_or(address);
                service.endpoints =
                    vec![Endpoint { weight, scheme, tls, ..Endpoint::new(address.parse().expect("address"), name) }];
                service.running = true;
            }
        }
        for route in &mut lowered.routes {
            if let Some(terms) = spec.terms.get(&*route.id.name) {
                let terms: BTreeSet<Term> = serde_json::from_str(terms).expect("terms");
                route.matches.iter_mut().for_each(|matched| matched.terms.extend(terms.clone()));
            }
        }
        snapshots.entry(provider).or_insert_with(|| Snapshot::empty(provider)).absorb(lowered);
    }
    for snapshot in snapshots.values_mut().filter(|_| reversed) {
        snapshot.routes.reverse();
        snapshot.services.reverse();
        snapshot.middlewares.reverse();
    }
    snapshots.into_iter().map(|(provider, snapshot)| (provider, Arc::new(snapshot))).collect()
}

fn printed(path: &Path, reversed: bool) -> String {
    let (case, documents) = read_case(path);
    let snapshots = snapshots(&case, &documents, reversed);
    let holds = case.ledger.iter().map(|(host, hold)| {
        let holder = Source::new(Provider::Docker, Some(hold.namespace.as_str().into()));
        let HoldSpec { idle_since, matches, protected, .. } = hold;
        let hold = Hold {
            holder,
            since: Timestamp::UNIX_EPOCH,
            idle_since: idle_since.map(seconds),
            matches: matches.iter().cloned().collect(),
            protected: *protected,
        };
        (host.clone(), hold)
    });
    let ledger = Ledger { holds: holds.collect() };
    let now = seconds(case.now);
    let Outcome { desired, ledger, lapse, findings } =
        reconcile(Inputs { snapshots: &snapshots, ledger: &ledger, now, unheard: &case.unheard, default_issuers: &[] });

    let mut out = format!("about: {}\n", serde_json::Value::String(case.about));
    let mut list = |name: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = writeln!(out, "{name}:");
        }
        for line in lines {
            let _ = writeln!(out, "- {}", serde_json::Value::String(line));
        }
    };
    let routes = desired.routes.values().map(|route| {
        let stands: Vec<String> = route
            .claims
            .iter()
            .map(|claim| {
                let endpoints = |share: &Share| -> String {
                    let services = share.services.iter().filter_map(|id| desired.services.get(id));
                    let spelt = |e: &Endpoint| match e.weight {
                        1 => e.address.to_string(),
                        weight => format!("{} x{weight}", e.address),
                    };
                    services.flat_map(|s| s.endpoints.iter().map(spelt)).collect::<Vec<_>>().join(" ")
                };
                let shares: Vec<String> = match &claim.shares[..] {
                    [] => vec!["[]".to_string()],
                    [one] => vec![format!("[{}]", endpoints(one))],
                    shares => {
                        shares.iter().map(|share| format!("{} of [{}]", share.weight, endpoints(share))).collect()
                    }
                };
                format!("{} {} -> {}", claim.listener, claim.matched, shares.join(" and "))
            })
            .collect();
        let what = match (&route.action, stands.is_empty()) {
            (_, true) if route.part_of.is_empty() => "left out".to_string(),
            (_, true) => {
                format!("is part of {}", route.part_of.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            }
            (Action::Deny(denial), _) => format!("denied {}", denial.reason),
            (Action::Serve, _) if route.policies.is_empty() => "serves".to_string(),
            (Action::Serve, _) => {
                let policies: Vec<String> = route.policies.iter().map(ToString::to_string).collect();
                format!("serves under {}:", policies.join(" and "))
            }
        };
        format!("{}: {what} {}", route.id, stands.join(", ")).trim_end().to_string()
    });
    list("routes", routes.collect());
    let told = desired.services.iter().filter(|(_, service)| service.traffic != Traffic::default());
    let traffic = told.map(|(id, service)| format!("{id}: {:?}", service.traffic.balance));
    list("balance", traffic.collect());
    let hosts = desired.hosts.iter().map(|(host, facts)| {
        let holders: Vec<String> = facts.holders.iter().map(ToString::to_string).collect();
        let protected = if facts.protected { ", protected" } else { "" };
        format!("{host}: {}{protected}", holders.join(" "))
    });
    list("hosts", hosts.collect());
    let holds = ledger.holds.iter().map(|(host, hold)| {
        let idle = hold.idle_since.map_or(String::new(), |idle| format!(", idle since {}", idle.as_second()));
        format!("{host}: {}{idle}", hold.holder)
    });
    list("ledger", holds.collect());
    list("lapse", lapse.map(|lapse| lapse.as_second().to_string()).into_iter().collect());
    list("findings", findings.iter().map(|f| format!("{:?} {f}", f.severity)).collect());

    let (bundles, revocations) = (loaded_bundles(&desired), loaded_lists(&desired));
    let materials = Materials { bundles: &bundles, revocations: &revocations, ..Materials::none() };
    let compiled = compile(&desired, materials, &Table::empty()).expect("compiles");
    let table = compiled.table;
    list(
        "compile",
        compiled
            .findings
            .iter()
            .filter(|f| f.severity == Severity::Error && f.reason != Reason::NoCertificate)
            .map(|f| f.to_string())
            .collect(),
    );
    let answers = case.ask.iter().map(|ask| {
        let words: Vec<&str> = ask.split(' ').collect();
        let (method, host, path) = match words[..] {
            [host, path] => (http::Method::GET, host, path),
            [method, host, path] => (method.parse().expect("a method"), host, path),
            _ => panic!("{ask}: host and path"),
        };
        let (listener, host) = host.strip_prefix("http://").map_or(("https", host), |host| ("http", host));
        let listener = &table.listeners[&Name::normalised(listener)];
        let headers = http::HeaderMap::new();
        let client = std::net::Ipv4Addr::LOCALHOST.into();
        let request = RequestView::new(host, path, &method, host, &headers, None, client);
        let answer = match listener.lookup(&request).map(|index| table.route(index)) {
            None => "404".to_string(),
            Some(entry) => match &entry.action {
                RouteAction::Deny(denial) => format!("503 {} by {}", denial.reason, entry.label),
                RouteAction::Forward(_) => {
                    let name = |host: &str| listener.scope(Some(host)).keyed.key.clients.clone();
                    let asks = match (name(host).asks(), name(host).refuses()) {
                        (false, _) => "",
                        (true, false) => ", asked for a certificate",
                        (true, true) => ", none gets in without one",
                    };
                    format!("{}{asks}", entry.label)
                }
            },
        };
        format!("{ask}: {answer}")
    });
    list("answers", answers.collect());
    out
}
