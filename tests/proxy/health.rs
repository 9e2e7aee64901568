//! Endpoints that turn bad, and what becomes of their requests: checks and ejection against real backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::{Backend, Then, nobody};
use crate::support::http::{Answer, get_plain};
use crate::support::portolan::{Portolan, lay_over};
use crate::support::wait::{eventually, throughout};

/// How a backend answers its checks, to be changed under way.
#[derive(Clone, Default)]
struct Mood(Arc<AtomicUsize>);

const WELL: usize = 0;
const FAILING: usize = 1;
const HANGING: usize = 2;

impl Mood {
    fn set(&self, mood: usize) {
        self.0.store(mood, Ordering::SeqCst);
    }
}

/// Answers requests, and checks at `/up` by its mood.
fn moody(name: &'static str, mood: &Mood) -> Backend {
    let mood = mood.clone();
    Backend::answering(move |exchange| {
        exchange.read_body()?;
        if exchange.request.target == "/up" {
            match mood.0.load(Ordering::SeqCst) {
                WELL => exchange.respond("204 No Content", &[], b"")?,
                FAILING => exchange.respond("503 Service Unavailable", &[], b"not well")?,
                _ => drop(exchange.closed_by_peer()),
            }
            return Ok(Then::Close);
        }
        exchange.tell(name, 0)?;
        Ok(Then::Keep)
    })
}

fn is_check(request: &crate::support::backend::Request) -> bool {
    request.target == "/up"
}

fn checks(backend: &Backend) -> usize {
    backend.received().iter().filter(|request| is_check(request)).count()
}

fn serving(endpoints: &[String], fields: Value) -> Portolan {
    let mut service = json!({ "endpoints": endpoints });
    lay_over(&mut service, fields);
    Portolan::serving(json!({
        "workers": 2,
        "routes": { "r": { "host": "health.test", "listeners": ["plain"], "service": "s" } },
        "services": { "s": service },
    }))
}

fn ask(portolan: &Portolan) -> Answer {
    get_plain(portolan.plain, "health.test", "/").unwrap()
}

/// The names of those that answer the next requests, or the statuses.
fn who(portolan: &Portolan) -> Vec<String> {
    let mut names: Vec<String> = (0..8)
        .map(|_| match ask(portolan) {
            answer if answer.status == 200 => answer.told().name().to_string(),
            answer => answer.status.to_string(),
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn is(state: &'static str) -> impl Fn(&Value) -> bool {
    move |endpoint| endpoint["state"] == state
}

#[test]
fn an_endpoint_whose_check_fails_gets_no_request_until_it_passes_again() {
    let mood = Mood::default();
    let (good, bad) = (moody("good", &Mood::default()), moody("bad", &mood));
    let check = json!({ "path": "/up", "interval": "100ms", "timeout": "300ms", "unhealthy": 2 });
    let portolan = serving(&[good.url(), bad.url()], json!({ "health": check }));
    portolan.endpoint(&good.url(), is("ready"));
    portolan.endpoint(&bad.url(), is("ready"));
    assert_eq!(who(&portolan), ["bad", "good"]);

    for (turn, why) in [(FAILING, "status 503"), (HANGING, "no answer within 300ms")] {
        mood.set(turn);
        let endpoint = portolan.endpoint(&bad.url(), is("unhealthy"));
        assert!(endpoint["why"].as_str().unwrap().contains(why), "{endpoint}");
        assert!(endpoint["since"].is_string() && endpoint["open"] == false, "{endpoint}");
        assert_eq!(who(&portolan), ["good"]);
        let table = portolan.cli(&["services"]);
        assert!(table.contains("unhealthy") && table.contains(why), "{table}");
        let metrics = portolan.metrics();
        assert!(
            metrics.contains("portolan_endpoints_out{service=\"settings/service/s\",state=\"unhealthy\"} 1"),
            "{metrics}"
        );
        mood.set(WELL);
        let endpoint = portolan.endpoint(&bad.url(), is("ready"));
        assert!(endpoint["why"].is_null() && endpoint["open"] == true, "{endpoint}");
        assert_eq!(who(&portolan), ["bad", "good"]);
    }
    let check = bad.received().into_iter().find(is_check).unwrap();
    assert_eq!(check.all("host"), [bad.address.to_string()]);
    assert!(check.all("user-agent")[0].starts_with("portolan/"));
}

#[test]
fn without_a_path_a_connection_is_answer_enough() {
    let good = Backend::named("good");
    let nobody = nobody();
    let fields =
        json!({ "health": { "interval": "100ms" }, "ejection": { "failures": 0 }, "retry": { "attempts": 1 } });
    let portolan = serving(&[nobody.clone(), good.url()], fields);
    let endpoint = portolan.endpoint(&nobody, is("unhealthy"));
    assert!(endpoint["why"].as_str().unwrap().contains("refused"), "{endpoint}");
    portolan.endpoint(&good.url(), is("ready"));
    for _ in 0..20 {
        assert_eq!(ask(&portolan).status, 200);
    }
}

/// A peer was seen to probe once per route and backend.
#[test]
fn one_check_per_interval_however_many_routes_services_workers_and_swaps() {
    let backend = moody("one", &Mood::default());
    let service = json!({
        "endpoints": [backend.url()], "health": { "path": "/up", "interval": "500ms" },
    });
    let route =
        |n: usize| json!({ "host": format!("r{n}.test"), "listeners": ["plain"], "service": format!("s{}", n % 3) });
    let portolan = Portolan::serving(json!({
        "workers": 2,
        "routes": (0..9).map(|n| (format!("r{n}"), route(n))).collect::<serde_json::Map<_, _>>(),
        "services": { "s0": service, "s1": service, "s2": service },
    }));
    let first = portolan.endpoint(&backend.url(), is("ready"))["since"].clone();
    let (before, start) = (checks(&backend), Instant::now());
    for n in 9..15 {
        portolan.edit(json!({ "routes": { (format!("r{n}")): route(n) } }));
        eventually("the new route answers", || {
            match get_plain(portolan.plain, &format!("r{n}.test"), "/").unwrap().status {
                200 => Ok(()),
                status => Err(status),
            }
        });
    }
    std::thread::sleep(Duration::from_secs(3).saturating_sub(start.elapsed()));
    let (seen, took) = (checks(&backend) - before, start.elapsed());
    let due = took.as_secs_f64() / 0.5;
    assert!(seen as f64 <= due / 0.9 + 2.0 && seen as f64 >= due / 3.0, "{seen} checks in {took:?}");
    assert_eq!(portolan.endpoint(&backend.url(), is("ready"))["since"], first, "its state is carried across swaps");
}

#[test]
fn an_endpoint_that_comes_waits_for_its_check_while_others_answer() {
    let mood = Mood::default();
    mood.set(HANGING);
    let (old, new) = (moody("old", &Mood::default()), moody("new", &mood));
    let health = json!({ "path": "/up", "interval": "100ms", "timeout": "10s" });
    let portolan = serving(&[old.url()], json!({ "health": health }));
    portolan.endpoint(&old.url(), is("ready"));
    portolan.edit(json!({ "services": { "s": { "endpoints": [old.url(), new.url()] } } }));
    let endpoint = portolan.endpoint(&new.url(), is("unchecked"));
    assert_eq!(endpoint["open"], false);
    throughout("only the old one answers", Duration::from_millis(500), || match who(&portolan) {
        names if names == ["old"] => Ok(()),
        names => Err(names),
    });
    assert!(new.received().iter().all(is_check));
}

#[test]
fn where_all_checks_fail_it_is_503_and_where_none_has_ended_yet_requests_go_through() {
    let mood = Mood::default();
    mood.set(HANGING);
    let backend = moody("one", &mood);
    let health = json!({ "path": "/up", "interval": "100ms", "timeout": "2s", "unhealthy": 1 });
    let portolan = serving(&[backend.url()], json!({ "health": health }));
    assert_eq!(who(&portolan), ["one"], "nobody is known to be bad");
    portolan.endpoint(&backend.url(), is("unhealthy"));
    let answer = ask(&portolan);
    assert_eq!((answer.status, answer.reason()), (503, Some("NotReady")), "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    let since = portolan.endpoint(&backend.url(), is("unhealthy"))["since"].clone();
    portolan.edit(json!({ "routes": { "other": { "host": "other.test", "listeners": ["plain"], "service": "s" } } }));
    eventually("the other route is there", || match get_plain(portolan.plain, "other.test", "/").unwrap().status {
        503 => Ok(()),
        status => Err(status),
    });
    let endpoint = portolan.endpoint(&backend.url(), is("unhealthy"));
    assert_eq!(endpoint["since"], since, "its state is carried across swaps");
    mood.set(WELL);
    eventually("it answers again", || match ask(&portolan).status {
        200 => Ok(()),
        status => Err(status),
    });
}

#[test]
fn an_endpoint_that_refuses_one_request_after_the_other_is_ejected_for_a_while() {
    let good = Backend::named("good");
    let nobody = nobody();
    let fields = json!({ "retry": { "attempts": 1 }, "ejection": { "time": "2s" } });
    let portolan = serving(&[nobody.clone(), good.url()], fields);
    let failed = (0..40).filter(|_| ask(&portolan).status != 200).count();
    // Five, and those that were on their way while the table was made.
    assert!((5..=8).contains(&failed), "{failed} of 40");
    let endpoint = portolan.endpoint(&nobody, is("ejected"));
    assert!(endpoint["why"].as_str().unwrap().starts_with("5 requests failed in a row"), "{endpoint}");
    assert_eq!(endpoint["open"], false);
    assert!(portolan.metrics().contains("portolan_ejections_total 1"));
    // It is tried again after its time, and one failure is enough to send it out for twice as long.
    portolan.endpoint(&nobody, is("ready"));
    let failed = (0..20).filter(|_| ask(&portolan).status != 200).count();
    assert!((1..=3).contains(&failed), "{failed} of 20");
    portolan.endpoint(&nobody, is("ejected"));
}

#[test]
fn with_retries_nobody_sees_an_ejection() {
    let good = Backend::named("good");
    let nobody = nobody();
    let portolan = serving(&[nobody.clone(), good.url()], json!({}));
    for _ in 0..20 {
        assert_eq!(ask(&portolan).status, 200);
    }
    portolan.endpoint(&nobody, is("ejected"));
}

#[test]
fn statuses_count_where_the_service_says_so_and_a_good_answer_ends_the_row() {
    let (good, ill) = (Backend::named("good"), Arc::new(AtomicUsize::new(0)));
    let count = ill.clone();
    let bad = Backend::answering(move |exchange| {
        exchange.read_body()?;
        // Every third one is well, as long as it counts.
        match count.fetch_add(1, Ordering::SeqCst) {
            n if n < 12 && n % 3 == 2 => exchange.tell("bad", 0)?,
            _ => exchange.respond("503 Service Unavailable", &[], b"")?,
        }
        Ok(Then::Keep)
    });
    let fields = json!({ "ejection": { "failures": 3, "status": [503], "time": "1m" } });
    let portolan = serving(&[bad.url(), good.url()], fields);
    for _ in 0..24 {
        ask(&portolan);
    }
    assert_eq!(ill.load(Ordering::SeqCst), 12, "two in a row are not three");
    portolan.endpoint(&bad.url(), is("ready"));
    for _ in 0..12 {
        ask(&portolan);
    }
    let endpoint = portolan.endpoint(&bad.url(), is("ejected"));
    assert!(endpoint["why"].as_str().unwrap().contains("status 503"), "{endpoint}");
    assert_eq!(who(&portolan), ["good"]);
    // Not counted unless the service says so.
    let portolan = serving(&[bad.url(), good.url()], json!({}));
    for _ in 0..20 {
        ask(&portolan);
    }
    portolan.endpoint(&bad.url(), is("ready"));
}

#[test]
fn ejection_leaves_half_of_the_endpoints_and_never_nobody() {
    let all: Vec<String> = (0..4).map(|_| nobody()).collect();
    let portolan = serving(&all, json!({ "retry": { "attempts": 1 }, "ejection": { "time": "1m" } }));
    for _ in 0..60 {
        let answer = ask(&portolan);
        assert_eq!((answer.status, answer.reason()), (502, Some("EndpointUnreachable")));
    }
    eventually("two of four are ejected", || {
        let services = portolan.services();
        let out = services[0]["endpoints"].as_array().unwrap().iter().filter(|e| e["state"] == "ejected").count();
        if out == 2 { Ok(()) } else { Err(services) }
    });
    // The two that were left go away: those that are out are asked again.
    let services = portolan.services();
    let out: Vec<Value> = services[0]["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["state"] == "ejected")
        .map(|e| e["name"].clone())
        .collect();
    portolan.edit(json!({ "services": { "s": { "endpoints": out } } }));
    let names: Vec<&str> = out.iter().map(|name| name.as_str().unwrap()).collect();
    for name in names {
        let endpoint = portolan.endpoint(name, |endpoint| endpoint["open"] == true);
        assert_eq!(endpoint["state"], "ejected", "{endpoint}");
    }
    assert_eq!(ask(&portolan).reason(), Some("EndpointUnreachable"));
}

#[test]
fn ejection_can_be_switched_off() {
    let good = Backend::named("good");
    let nobody = nobody();
    let fields = json!({ "retry": { "attempts": 1 }, "ejection": { "failures": 0 } });
    let portolan = serving(&[nobody.clone(), good.url()], fields);
    let failed = (0..40).filter(|_| ask(&portolan).status != 200).count();
    assert_eq!(failed, 20);
    portolan.endpoint(&nobody, is("ready"));
}
