//! What is tried again, where, how often; and what is given up in time.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::{Backend, Then, nobody};
use crate::support::http::{Answer, send_plain, send_plain_within};
use crate::support::port::Deaf;
use crate::support::portolan::{Portolan, lay_over};

/// One service at `retry.test`, on the listener without TLS.
fn serving(endpoints: &[String], fields: Value) -> Portolan {
    let mut service = json!({ "endpoints": endpoints });
    lay_over(&mut service, fields);
    Portolan::serving(json!({
        "workers": 1,
        "routes": { "r": { "host": "retry.test", "listeners": ["plain"], "service": "s" } },
        "services": { "s": service },
    }))
}

fn ask(portolan: &Portolan, method: &str, body: &str) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request = format!("{method} / HTTP/1.1\r\nHost: retry.test\r\n{length}Connection: close\r\n\r\n{body}");
    send_plain_within(portolan.plain, &request, Duration::from_secs(10)).unwrap()
}

fn get(portolan: &Portolan) -> Answer {
    ask(portolan, "GET", "")
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, reason: &str) {
    assert_eq!((answer.status, answer.reason()), (status, Some(reason)), "{answer:?}");
}

/// Reads requests and closes, without a byte of an answer.
fn breaking() -> Backend {
    Backend::answering(|_| Ok(Then::Close))
}

/// Answers the first request of each connection and breaks off at the second: what a client sees that sends just as its
/// kept connection is closed.
fn closing_when_kept() -> Backend {
    let seen: Mutex<HashMap<usize, usize>> = Mutex::default();
    Backend::answering(move |exchange| {
        let connection = exchange.request.connection;
        let count = {
            let mut seen = seen.lock().unwrap();
            let count = seen.entry(connection).or_insert(0);
            *count += 1;
            *count
        };
        if count > 1 {
            return Ok(Then::Close);
        }
        let length = exchange.read_body()?.len();
        exchange.tell("kept", length)?;
        Ok(Then::Keep)
    })
}

#[test]
fn no_get_fails_where_kept_connections_are_closed_as_the_request_goes_out() {
    let backend = closing_when_kept();
    let portolan = serving(&[backend.url()], json!({ "retry": { "budget": "100%" } }));
    for n in 0..100 {
        assert_eq!(get(&portolan).status, 200, "request {n}");
    }
    assert!(backend.received().len() > 140, "kept connections were never used: {}", backend.received().len());
    let metrics = portolan.metrics();
    assert!(
        metrics.contains("portolan_upstream_retries_total{reason=\"broken\",service=\"settings/service/s\"}"),
        "{metrics}"
    );
}

#[test]
fn a_post_is_never_sent_twice() {
    let backend = closing_when_kept();
    let portolan = serving(&[backend.url()], json!({}));
    for _ in 0..5 {
        assert_eq!(ask(&portolan, "POST", "once").status, 200);
        assert_refused(&ask(&portolan, "POST", "once"), 502, "EndpointReset");
    }
    assert_eq!(backend.received().len(), 10);
    // With somebody else to ask it is no different.
    let two = [breaking(), breaking()];
    let portolan = serving(&two.each_ref().map(Backend::url), json!({}));
    for (method, body) in [("POST", ""), ("POST", "x"), ("PATCH", "x"), ("PUT", "x")] {
        let before: usize = two.iter().map(|backend| backend.received().len()).sum();
        assert_refused(&ask(&portolan, method, body), 502, "EndpointReset");
        let after: usize = two.iter().map(|backend| backend.received().len()).sum();
        assert_eq!(after - before, 1, "{method} {body}");
    }
}

#[test]
fn what_may_be_done_twice_goes_to_another_endpoint() {
    let (bad, good) = (breaking(), Backend::named("good"));
    let portolan = serving(&[bad.url(), good.url()], json!({}));
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "GET"] {
        let answer = ask(&portolan, method, "");
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
    }
    assert_eq!(good.received().len(), 6);
    assert!(bad.received().len() >= 3, "round robin asks it first every other time");
    let all = bad.received();
    assert_eq!(all[0].all("x-forwarded-for"), ["127.0.0.1"]);
    let told = get(&portolan).told();
    assert_eq!((told.all("host"), told.all("x-forwarded-host")), (vec!["retry.test"], vec!["retry.test"]));
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let half = || {
        Backend::answering(|exchange| {
            exchange.write("HTTP/1.1 200 O")?;
            Ok(Then::Close)
        })
    };
    let two = [half(), half()];
    let portolan = serving(&two.each_ref().map(Backend::url), json!({}));
    assert_refused(&get(&portolan), 502, "EndpointReset");
    assert_eq!(two.iter().map(|backend| backend.received().len()).sum::<usize>(), 1);
}

#[test]
fn attempts_are_counted() {
    for (attempts, tried) in [(1, 1), (2, 2), (3, 3), (9, 4)] {
        let four = [breaking(), breaking(), breaking(), breaking()];
        let portolan = serving(&four.each_ref().map(Backend::url), json!({ "retry": { "attempts": attempts } }));
        assert_refused(&get(&portolan), 502, "EndpointReset");
        let counts = four.each_ref().map(|backend| backend.received().len());
        assert_eq!(counts.iter().sum::<usize>(), tried, "{attempts} attempts");
        assert!(counts.iter().all(|count| *count <= 1), "never twice to the same: {counts:?}");
    }
}

#[test]
fn a_request_that_nobody_took_is_offered_to_every_endpoint_whatever_its_method() {
    let good = Backend::named("good");
    let endpoints: Vec<String> = (0..6).map(|_| nobody()).chain([good.url()]).collect();
    let portolan = serving(&endpoints, json!({}));
    for _ in 0..7 {
        assert_eq!(ask(&portolan, "POST", "body").told().body_length(), 4);
    }
    let portolan = serving(&endpoints[..6], json!({ "retry": { "attempts": 1 } }));
    assert_refused(&get(&portolan), 502, "EndpointUnreachable");
}

#[test]
fn the_budget_ends_retries_when_everything_fails() {
    let two = [breaking(), breaking()];
    let portolan = serving(
        &two.each_ref().map(Backend::url),
        json!({ "retry": { "budget": "0%" }, "ejection": { "failures": 0 } }),
    );
    let start = Instant::now();
    for _ in 0..100 {
        assert_refused(&get(&portolan), 502, "EndpointReset");
    }
    let retries = two.iter().map(|backend| backend.received().len()).sum::<usize>() - 100;
    let most = 10 + (start.elapsed().as_secs_f64() * 10.0) as usize + 1;
    assert!((10..=most).contains(&retries), "{retries} retries of at most {most}");
}

#[test]
fn an_endpoint_that_takes_no_connection_is_given_up_in_time() {
    let deaf = Deaf::new();
    let quick = json!({ "timeouts": { "connect": "200ms" } });
    let portolan = serving(&[deaf.url()], quick.clone());
    let start = Instant::now();
    assert_refused(&get(&portolan), 504, "ConnectTimeout");
    assert!((200..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let good = Backend::named("good");
    let portolan = serving(&[deaf.url(), good.url()], quick);
    for _ in 0..4 {
        assert_eq!(ask(&portolan, "POST", "x").told().name(), "good");
    }
}

#[test]
fn the_head_of_an_answer_is_awaited_from_the_requests_last_byte() {
    let silent = Backend::answering(|exchange| {
        exchange.read_body()?;
        exchange.closed_by_peer();
        Ok(Then::Close)
    });
    let slow = json!({ "timeouts": { "response_header": "300ms" } });
    let portolan = serving(&[silent.url()], slow.clone());
    let start = Instant::now();
    assert_refused(&get(&portolan), 504, "ResponseTimeout");
    assert!((300..2500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(silent.received().len(), 1, "a late answer is not asked for again");
    let start = Instant::now();
    assert_refused(&ask(&portolan, "POST", "x"), 504, "ResponseTimeout");
    assert!((300..2500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());

    // An upload takes as long as it takes.
    let backend = Backend::named("upload");
    let portolan = serving(&[backend.url()], slow);
    let mut client = TcpStream::connect(portolan.plain).unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: retry.test\r\nContent-Length: 5\r\nConnection: close\r\n\r\n").unwrap();
    for byte in b"slow!" {
        std::thread::sleep(Duration::from_millis(250));
        client.write_all(&[*byte]).unwrap();
    }
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("\"body_length\":5"), "{text}");
}

#[test]
fn a_request_that_takes_too_long_in_all_is_504_before_its_head_and_cut_after_it() {
    let backend = Backend::answering(|exchange| {
        if exchange.request.target == "/silent" {
            exchange.closed_by_peer();
            return Ok(Then::Close);
        }
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            exchange.write("1\r\nx\r\n")?;
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let portolan = serving(&[backend.url()], json!({ "timeouts": { "request": "500ms" } }));
    let path = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: retry.test\r\nConnection: close\r\n\r\n");
        send_plain(portolan.plain, &request)
    };
    let start = Instant::now();
    assert_refused(&path("/silent").unwrap(), 504, "RequestTimeout");
    assert!((500..2500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(backend.received().len(), 1);
    let start = Instant::now();
    let cut = path("/drip").unwrap();
    assert!((400..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert!(cut.status == 200 && !cut.body.contains("\r\n0\r\n"), "cut off, not ended: {cut:?}");
    portolan.logged(json!({ "path": "/drip", "status": 200, "reason": "RequestTimeout" }));
}

/// The endpoint sees half a request, which is nothing that it did.
#[test]
fn a_body_that_breaks_off_is_no_endpoints_fault_and_goes_nowhere_else() {
    let backends = [Backend::named("a"), Backend::named("b")];
    let portolan = serving(&backends.each_ref().map(Backend::url), json!({}));
    let head = "PUT / HTTP/1.1\r\nHost: retry.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    for _ in 0..2 {
        let answer = send_plain(portolan.plain, &format!("{head}2\r\nok\r\nno chunk\r\n")).unwrap();
        assert_refused(&answer, 400, "Malformed");
    }
    // What is answered afterwards is counted, so that what came before has been.
    assert_eq!(get(&portolan).status, 200);
    portolan.logged(json!({ "status": 400, "reason": "Malformed" }));
    let metrics = portolan.metrics();
    for series in ["portolan_upstream_errors_total{", "portolan_upstream_retries_total{"] {
        assert!(!metrics.contains(series), "{metrics}");
    }
}
