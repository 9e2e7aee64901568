//! How requests are spread: shares whatever the protocol and the number of workers, splits, and sticky clients.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::http::Answer;
use crate::support::portolan::Portolan;
use crate::support::tls::Client;

const REQUESTS: usize = 10_000;
/// Over which the requests of a run go: enough to land on every worker.
const CONNECTIONS: usize = 10;

/// Answers in few bytes, so that ten thousand answers take little time.
fn quick() -> Backend {
    Backend::answering(|exchange| {
        exchange.read_body()?;
        exchange.respond("200 OK", &[], b"")?;
        Ok(crate::support::backend::Then::Keep)
    })
}

/// So many GETs over TLS, by h1 or by h2, with a header that tells users apart.
fn load(portolan: &Portolan, host: &str, h2: bool, requests: usize) {
    let (root, to) = (portolan.root(), portolan.https);
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let root = root.clone();
            scope.spawn(move || {
                let users = (0..requests / CONNECTIONS).map(|n| format!("user-{}", n * CONNECTIONS + connection));
                if h2 {
                    let client = Client::trusting(&root).alpn(&[b"h2"]);
                    let mut session = crate::support::h2::H2::over(client.connect(to, host).unwrap());
                    for user in users {
                        let stream = session.get_with(host, "/", &[("x-user", &user)]);
                        assert_eq!(session.answer(stream).0, "200");
                    }
                } else {
                    let mut session = Client::trusting(&root).connect(to, host).unwrap();
                    for user in users {
                        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-User: {user}\r\n\r\n");
                        assert_eq!(session.ask(&request).unwrap().status, 200);
                    }
                }
            });
        }
    });
}

/// How many requests each has received since it was looked at last.
struct Counts<'b> {
    backends: &'b [Backend],
    before: Vec<usize>,
}

impl<'b> Counts<'b> {
    fn of(backends: &'b [Backend]) -> Counts<'b> {
        Counts { backends, before: vec![0; backends.len()] }
    }

    fn take(&mut self) -> Vec<usize> {
        let now: Vec<usize> = self.backends.iter().map(|backend| backend.received().len()).collect();
        let new = now.iter().zip(&self.before).map(|(now, before)| now - before).collect();
        self.before = now;
        new
    }
}

#[track_caller]
fn assert_shares(what: &str, counts: &[usize], shares: &[f64], tolerance: f64) {
    let total: usize = counts.iter().sum();
    assert_eq!(total, REQUESTS, "{what}: {counts:?}");
    for (count, share) in counts.iter().zip(shares) {
        let due = share * total as f64;
        assert!((*count as f64 - due).abs() <= due * tolerance, "{what}: {count} of {due}, in {counts:?}");
    }
}

/// Bounds: round robin and weighted within 0.1 % of a share; random and hash within 10 %; least request within 40 %,
/// because it follows how fast the endpoints happen to be, which is its purpose.
fn every_way_of_balancing_keeps_its_shares(workers: usize) {
    let backends: Vec<Backend> = (0..5).map(|_| quick()).collect();
    let urls: Vec<String> = backends.iter().map(Backend::url).collect();
    let weights: BTreeMap<&String, usize> = urls.iter().zip([4, 3, 1, 1, 1]).collect();
    let service = |fields: Value| {
        let mut service = json!({ "endpoints": urls });
        crate::support::portolan::lay_over(&mut service, fields);
        service
    };
    let names = ["round-robin", "random", "weighted", "least", "hash"];
    let routes: BTreeMap<&str, Value> =
        names.iter().map(|name| (*name, json!({ "host": format!("{name}.test") }))).collect();
    let portolan = Portolan::serving(json!({
        "workers": workers,
        "log": { "level": "info" },
        "access_log": { "enabled": false },
        "routes": routes,
        "services": {
            "round-robin": service(json!({})),
            "random": service(json!({ "balance": "random" })),
            "weighted": service(json!({ "balance": "weighted", "weights": weights })),
            "least": service(json!({ "balance": "least_request" })),
            "hash": service(json!({ "balance": "consistent_hash", "hash": { "header": "X-User" } })),
        },
    }));
    let mut counts = Counts::of(&backends);
    for h2 in [false, true] {
        for (name, shares, tolerance) in [
            ("round-robin", [0.2; 5], 0.001),
            ("weighted", [0.4, 0.3, 0.1, 0.1, 0.1], 0.001),
            ("random", [0.2; 5], 0.1),
            ("least", [0.2; 5], 0.4),
            ("hash", [0.2; 5], 0.1),
        ] {
            load(&portolan, &format!("{name}.test"), h2, REQUESTS);
            assert_shares(&format!("{name}, h2 {h2}, {workers} workers"), &counts.take(), &shares, tolerance);
        }
    }
}

#[test]
fn every_way_of_balancing_keeps_its_shares_with_one_worker() {
    every_way_of_balancing_keeps_its_shares(1);
}

#[test]
fn every_way_of_balancing_keeps_its_shares_with_two_workers() {
    every_way_of_balancing_keeps_its_shares(2);
}

#[test]
fn a_hashed_user_stays_and_few_move_when_an_endpoint_is_added() {
    let backends: Vec<Backend> = (0..6).map(|_| quick()).collect();
    let dir = tempfile::tempdir().unwrap();
    let write = |count: usize| {
        let urls: Vec<String> = backends[..count].iter().map(Backend::url).collect();
        let document = json!({
            "routes": { "hash": { "host": "hash.test" } },
            "services": { "hash": { "endpoints": urls, "balance": "consistent_hash", "hash": { "header": "x-user" } } },
        });
        super::put(dir.path(), &document);
    };
    write(5);
    let portolan = Portolan::serving(json!({
        "workers": 2, "providers": { "file": { "path": dir.path() } }, "access_log": { "enabled": false },
        "log": { "level": "info" },
    }));
    let owners = || -> BTreeMap<String, usize> {
        let before: Vec<usize> = backends.iter().map(|backend| backend.received().len()).collect();
        load(&portolan, "hash.test", false, 2000);
        let new = backends.iter().enumerate().flat_map(|(at, backend)| {
            let requests = backend.received().split_off(before[at]);
            requests.into_iter().map(move |request| (request.all("x-user")[0].to_string(), at))
        });
        new.collect()
    };
    let old = owners();
    assert_eq!(old.len(), 2000);
    assert_eq!(owners(), old, "the same users, the same endpoints, whichever worker");
    write(6);
    crate::support::wait::eventually("the sixth endpoint is there", || {
        let listed = portolan.cli(&["services", "-o", "json"]);
        if listed.contains(&backends[5].address.to_string()) { Ok(()) } else { Err(listed) }
    });
    let new = owners();
    let moved: Vec<usize> = new.iter().filter(|(user, at)| old[*user] != **at).map(|(_, at)| *at).collect();
    assert!(moved.iter().all(|at| *at == 5), "a user moved between two that stayed");
    let most = 2000.0 * (1.0 / 6.0 + 0.05);
    assert!(!moved.is_empty() && (moved.len() as f64) < most, "{} of 2000 moved", moved.len());
}

#[test]
fn a_split_shares_by_weight_and_leaves_out_who_has_no_share_or_is_not_ready() {
    let backends: Vec<Backend> = (0..4).map(|_| quick()).collect();
    let url = |at: usize| backends[at].url();
    let portolan = Portolan::serving(json!({
        "workers": 2,
        "log": { "level": "info" },
        "access_log": { "enabled": false },
        "routes": {
            "split": { "host": "split.test", "split": { "shop": 90, "shop-next": 10, "shop-old": 0 } },
            "partly": { "host": "partly.test", "split": { "shop-next": 1, "away": 3 } },
            "nobody": { "host": "nobody.test", "split": { "shop-old": 0, "away": 1 } },
        },
        "services": {
            "shop": { "endpoints": [url(0), url(1)] },
            "shop-next": { "endpoints": [url(2)] },
            "shop-old": { "endpoints": [url(3)] },
            "away": { "endpoints": [] },
        },
    }));
    let mut counts = Counts::of(&backends);
    load(&portolan, "split.test", false, REQUESTS);
    assert_shares("split", &counts.take(), &[0.45, 0.45, 0.1, 0.0], 0.001);
    load(&portolan, "partly.test", true, 100);
    assert_eq!(counts.take(), [0, 0, 100, 0], "a share without a ready endpoint leaves its requests to the others");
    let answer = portolan.get("https://nobody.test/").unwrap();
    assert_eq!((answer.status, answer.reason(), answer.header("retry-after")), (503, Some("NoEndpoint"), Some("1")));
    assert_eq!(counts.take(), [0; 4]);
    let metrics = portolan.metrics();
    for service in ["settings/service/shop", "settings/service/shop-next"] {
        assert!(
            metrics.contains(&format!("code=\"2xx\",route=\"settings/route/split\",service=\"{service}\"")),
            "{metrics}"
        );
    }
}

fn cookie(answer: &Answer) -> Option<&str> {
    answer.header("set-cookie").map(|set| set.split(';').next().unwrap())
}

/// Over TLS and h2, with these cookies.
fn ask(portolan: &Portolan, host: &str, cookie: &str) -> Answer {
    let header = format!("Cookie: {cookie}");
    let answer = portolan.curl(&format!("https://{host}/"), &["--header", &header]).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

#[test]
fn a_sticky_client_comes_back_also_after_a_restart_and_moves_when_its_endpoint_is_gone() {
    let names = ["a", "b", "c"];
    let backends = names.map(Backend::named);
    let (state, routes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |of: &[&Backend]| {
        let urls: Vec<String> = of.iter().map(|backend| backend.url()).collect();
        let document = json!({
            "routes": { "hashed": { "host": "hashed.test" }, "signed": { "host": "signed.test" } },
            "services": {
                "hashed": { "endpoints": urls, "sticky": {} },
                "signed": { "endpoints": urls, "sticky": { "cookie": "me", "signed": true } },
            },
        });
        super::put(routes.path(), &document);
    };
    let all: Vec<&Backend> = backends.iter().collect();
    write(&all);
    let start = || {
        Portolan::serving(json!({
            "workers": 2, "state_dir": state.path(), "providers": { "file": { "path": routes.path() } },
        }))
    };
    let portolan = start();
    let mut kept = Vec::new();
    for host in ["hashed.test", "signed.test"] {
        let first = ask(&portolan, host, "other=1");
        let set = first.header("set-cookie").unwrap_or_else(|| panic!("{first:?}")).to_string();
        for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
            assert!(set.contains(attribute), "{set}");
        }
        let (pair, name) = (cookie(&first).unwrap().to_string(), first.told().name().to_string());
        for _ in 0..6 {
            let again = ask(&portolan, host, &format!("other=1; {pair}"));
            assert_eq!((again.told().name(), cookie(&again)), (name.as_str(), None), "it knows already: {again:?}");
            assert_eq!(again.told().all("cookie"), [format!("other=1; {pair}")], "the endpoint sees it as well");
        }
        kept.push((host, pair, name));
    }
    // A forged one counts for nothing: whose turn it is answers, and sets a new one.
    let (_, signed, _) = &kept[1];
    let forged = format!("{}0", &signed[..signed.len() - 1]);
    let forged = if forged == *signed { format!("{}1", &signed[..signed.len() - 1]) } else { forged };
    let answered: std::collections::BTreeSet<String> = (0..6)
        .map(|_| {
            let answer = ask(&portolan, "signed.test", &forged);
            assert!(cookie(&answer).is_some(), "{answer:?}");
            answer.told().name().to_string()
        })
        .collect();
    assert_eq!(answered.len(), 3, "a forged cookie holds nobody: {answered:?}");

    portolan.stop();
    let portolan = start();
    for (host, pair, name) in &kept {
        assert_eq!(ask(&portolan, host, pair).told().name(), name, "after a restart");
    }

    for (host, pair, name) in &kept {
        let rest: Vec<&Backend> = all.iter().zip(names).filter(|(_, n)| n != name).map(|(b, _)| *b).collect();
        write(&rest);
        let moved = crate::support::wait::eventually("the client moves", || {
            let answer = ask(&portolan, host, pair);
            if answer.told().name() != name { Ok(answer) } else { Err(answer) }
        });
        let new = cookie(&moved).unwrap_or_else(|| panic!("a new cookie: {moved:?}")).to_string();
        let there = moved.told().name().to_string();
        for _ in 0..4 {
            assert_eq!(ask(&portolan, host, &new).told().name(), there, "and stays where it went");
        }
        write(&all);
    }
}
