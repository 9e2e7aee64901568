//! Endpoints by name, against a DNS server of the test's own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::{Backend, Exchange, Then};
use crate::support::dns::{Dns, two_places};
use crate::support::http::{Answer, get_plain};
use crate::support::portolan::Portolan;
use crate::support::wait::{eventually, throughout};

fn settings(endpoints: Value) -> Value {
    json!({
        "workers": 2,
        "routes": { "r": { "host": "names.test", "listeners": ["plain"], "service": "s" } },
        "services": { "s": { "endpoints": endpoints } },
    })
}

fn named(address: SocketAddr, name: &'static str) -> Backend {
    Backend::at(address, move |exchange: &mut Exchange| {
        let length = exchange.read_body()?.len();
        exchange.tell(name, length)?;
        Ok(Then::Keep)
    })
}

fn ask(portolan: &Portolan) -> Answer {
    get_plain(portolan.plain, "names.test", "/").unwrap()
}

/// Who answers, of the next few.
fn who(portolan: &Portolan) -> Vec<String> {
    let mut names: Vec<String> = (0..6)
        .map(|_| {
            let answer = ask(portolan);
            if answer.status == 200 { answer.told().name().to_string() } else { answer.status.to_string() }
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn until_who(portolan: &Portolan, expected: &[&str]) {
    eventually(&format!("answers from {expected:?}"), || {
        let who = who(portolan);
        if who == expected { Ok(()) } else { Err(who) }
    });
}

#[test]
fn a_name_is_all_its_addresses_as_they_change_and_its_last_ones_when_it_fails() {
    let places = two_places();
    let [_one, _two] = [named(places[0], "one"), named(places[1], "two")];
    let url = format!("http://Kuard.example.test:{}", places[0].port());
    let dns = Dns::start();
    dns.set("kuard.example.test", &["127.0.0.1"], 1);
    let portolan = Portolan::resolving(settings(json!([url])), &dns, "");
    assert_eq!(who(&portolan), ["one"], "ready is when names were looked up");
    assert!(portolan.problems().is_empty(), "{:?}", portolan.problems());

    dns.set("kuard.example.test", &["127.0.0.2", "127.0.0.1"], 1);
    until_who(&portolan, &["one", "two"]);
    let shown: Vec<Value> = portolan.services()[0]["endpoints"].as_array().unwrap().clone();
    let addresses: Vec<&str> = shown.iter().map(|endpoint| endpoint["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, [places[0].to_string(), places[1].to_string()]);
    assert!(shown.iter().all(|endpoint| endpoint["name"] == url.as_str()), "{shown:?}");

    dns.forget("kuard.example.test");
    let problem = portolan.problem("NoAddress", &["kuard.example.test", "NXDOMAIN", "last addresses stay in force"]);
    assert_eq!((&problem["severity"], &problem["field"]), (&json!("warning"), &json!("endpoints")));
    assert_eq!(who(&portolan), ["one", "two"], "a name that is not known any more keeps what it had");

    dns.set("kuard.example.test", &["127.0.0.2"], 1);
    until_who(&portolan, &["two"]);
    portolan.without_problems();

    dns.silent(true);
    portolan.problem("NoAddress", &["kuard.example.test", "last addresses stay in force"]);
    assert_eq!(who(&portolan), ["two"]);
    dns.silent(false);
    portolan.without_problems();
}

#[test]
fn a_name_that_never_led_anywhere_is_named_and_answers_503() {
    let dns = Dns::start();
    let backend = Backend::named("known");
    let url = format!("http://late.test:{}", backend.address.port());
    let portolan = Portolan::resolving(settings(json!([url])), &dns, "");
    let answer = ask(&portolan);
    assert_eq!((answer.status, answer.reason()), (503, Some("NoAddress")), "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    let problem = portolan.problem("NoAddress", &["the name late.test has never led to an address", "NXDOMAIN"]);
    assert_eq!(problem["severity"], "error");
    dns.set("late.test", &["127.0.0.1"], 600);
    until_who(&portolan, &["known"]);
    portolan.without_problems();
}

#[test]
fn search_domains_and_ipv6_addresses_count() {
    let dns = Dns::start();
    let backend = Backend::at("[::1]:0".parse().unwrap(), |exchange| {
        exchange.read_body()?;
        exchange.tell("six", 0)?;
        Ok(Then::Keep)
    });
    dns.set("kuard.corp.test", &["::1"], 5);
    let url = format!("http://kuard:{}", backend.address.port());
    let portolan = Portolan::resolving(settings(json!([url])), &dns, "search corp.test\noptions ndots:1");
    assert_eq!(who(&portolan), ["six"]);
}

/// An engine's own DNS says 600 s of an address that is another one as soon as its container is recreated.
#[test]
fn a_failed_connect_has_the_name_looked_up_at_once() {
    let places = two_places();
    let _two = named(places[1], "two");
    let dns = Dns::start();
    dns.set("moved.test", &["127.0.0.1"], 600);
    let url = format!("http://moved.test:{}", places[0].port());
    let portolan = Portolan::resolving(settings(json!([url])), &dns, "");
    // Just looked up by its own clock, which takes 5 s to strike again.
    let before = dns.asked("moved.test");
    eventually("the name is looked up again within 5 s", || {
        let asked = dns.asked("moved.test");
        if asked > before { Ok(()) } else { Err(asked) }
    });
    dns.set("moved.test", &["127.0.0.2"], 600);
    let start = Instant::now();
    assert_eq!(ask(&portolan).status, 502);
    until_who(&portolan, &["two"]);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    // And no storm comes of it.
    let before = dns.asked("moved.test");
    throughout("requests are answered", Duration::from_secs(1), || match ask(&portolan).status {
        200 => Ok(()),
        status => Err(status),
    });
    assert!(dns.asked("moved.test") - before <= 2);
}

#[test]
fn a_dead_endpoint_under_load_asks_dns_a_few_times_a_second_at_most() {
    let [place, _] = two_places();
    let dns = Dns::start();
    dns.set("dead.test", &["127.0.0.1"], 600);
    let portolan = Portolan::resolving(settings(json!([format!("http://dead.test:{}", place.port())])), &dns, "");
    let (before, start) = (dns.asked("dead.test"), Instant::now());
    while start.elapsed() < Duration::from_millis(1500) {
        assert_eq!(ask(&portolan).status, 502);
    }
    let most = 2 + start.elapsed().as_millis() / 250;
    let asked = dns.asked("dead.test") - before;
    assert!((2..=most as usize).contains(&asked), "{asked} times in {:?}", start.elapsed());
}
