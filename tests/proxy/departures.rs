//! Endpoints that leave: what was under way there, and what was about to go there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::support::backend::{Backend, Then};
use crate::support::h2::H2;
use crate::support::http::{Answer, send_plain_within};
use crate::support::port::Deaf;
use crate::support::portolan::Portolan;
use crate::support::tls::Client;
use crate::support::wait::eventually;

/// A proxy whose one service is in a file that a test rewrites.
struct World {
    portolan: Portolan,
    routes: TempDir,
}

impl World {
    fn with(endpoints: &[String]) -> World {
        let routes = tempfile::tempdir().unwrap();
        write(routes.path(), endpoints);
        let portolan = Portolan::serving(json!({
            "workers": 2, "providers": { "file": { "path": routes.path() } },
        }));
        World { portolan, routes }
    }

    fn endpoints(&self, endpoints: &[String]) {
        write(self.routes.path(), endpoints);
    }

    /// Until an endpoint is in force.
    fn wait_for(&self, endpoint: SocketAddr) {
        eventually("the endpoint is there", || {
            let listed = self.portolan.cli(&["services", "-o", "json"]);
            if listed.contains(&endpoint.to_string()) { Ok(()) } else { Err(listed) }
        });
    }

    /// Sends a request from a thread of its own; the answer comes with the time it came at.
    fn send(&self, method: &str, body: &str) -> mpsc::Receiver<(Answer, Instant)> {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: departs.test\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        later(self.portolan.plain, request)
    }
}

fn write(dir: &Path, endpoints: &[String]) {
    let document = json!({
        "routes": { "r": { "host": "departs.test", "listeners": ["plain", "https"], "service": "s" } },
        "services": { "s": { "endpoints": endpoints } },
    });
    super::put(dir, &document);
}

fn later(to: SocketAddr, request: String) -> mpsc::Receiver<(Answer, Instant)> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let answer = send_plain_within(to, &request, Duration::from_secs(20)).unwrap();
        let _ = tell.send((answer, Instant::now()));
    });
    told
}

/// Takes requests and never answers.
fn hanging() -> Backend {
    Backend::answering(|exchange| {
        exchange.read_body()?;
        exchange.closed_by_peer();
        Ok(Then::Close)
    })
}

fn wait_for_requests(backend: &Backend, count: usize) {
    eventually("the request arrives", || match backend.received().len() {
        seen if seen >= count => Ok(()),
        seen => Err(seen),
    });
}

#[test]
fn a_get_that_hangs_moves_to_another_endpoint_within_100_ms() {
    let (hang, good) = (hanging(), Backend::named("good"));
    let both = [hang.url(), good.url()];
    let world = World::with(&both);
    let mut took = Vec::new();
    for round in 1..=5 {
        // One of two goes to the one that hangs.
        let gets = [world.send("GET", ""), world.send("GET", "")];
        wait_for_requests(&hang, round);
        let start = Instant::now();
        world.endpoints(&both[1..]);
        let answers = gets.map(|get| get.recv_timeout(Duration::from_secs(10)).unwrap());
        assert!(
            answers.iter().all(|(answer, _)| answer.status == 200 && answer.told().name() == "good"),
            "{answers:?}"
        );
        took.push(answers.iter().map(|(_, at)| at.saturating_duration_since(start)).max().unwrap());
        world.endpoints(&both);
        world.wait_for(hang.address);
    }
    took.sort();
    assert!(took[2] < Duration::from_millis(100), "from the file's rename to the answer: {took:?}");
    eventually("the retries are counted", || {
        let metrics = world.portolan.metrics();
        let series = "portolan_upstream_retries_total{reason=\"gone\",service=\"file/service/s\"} 5";
        if metrics.contains(series) { Ok(()) } else { Err(metrics) }
    });
}

#[test]
fn streams_of_an_h2_client_move_too_and_all_at_once() {
    let (hang, good) = (hanging(), Backend::named("good"));
    let both = [hang.url(), good.url()];
    let world = World::with(&both);
    let client = Client::trusting(&world.portolan.root()).alpn(&[b"h2"]);
    let mut h2 = H2::over(client.connect(world.portolan.https, "departs.test").unwrap());
    let mut streams: Vec<u32> = (0..40).map(|_| h2.get("departs.test", "/")).collect();
    wait_for_requests(&hang, 20);
    world.endpoints(&both[1..]);
    while !streams.is_empty() {
        let frame = h2.frame().unwrap();
        if frame.kind == crate::support::h2::HEADERS {
            assert_eq!(frame.status(), "200");
        }
        if frame.ends_stream() {
            streams.retain(|stream| *stream != frame.stream);
        }
    }
    assert_eq!((hang.received().len(), good.received().len()), (20, 40));
}

#[test]
fn a_post_waits_for_its_answer_a_little_longer_and_is_not_sent_again() {
    let good = Backend::named("good");
    let slow = Backend::answering(|exchange| {
        let body = exchange.read_body()?;
        if body == b"late" {
            std::thread::sleep(Duration::from_secs(1));
            exchange.tell("slow", body.len())?;
            return Ok(Then::Close);
        }
        exchange.closed_by_peer();
        Ok(Then::Close)
    });
    let world = World::with(&[slow.url()]);
    let (late, never) = (world.send("POST", "late"), world.send("POST", "never"));
    wait_for_requests(&slow, 2);
    let start = Instant::now();
    world.endpoints(&[good.url()]);
    let (answer, _) = late.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(answer.told().name(), "slow", "what it answered in time is the answer");
    let (answer, at) = never.recv_timeout(Duration::from_secs(15)).unwrap();
    assert_eq!((answer.status, answer.reason()), (502, Some("EndpointGone")), "{answer:?}");
    let waited = at - start;
    assert!((4500..9000).contains(&waited.as_millis()), "{waited:?}");
    assert!(good.received().is_empty(), "{:?}", good.received());
}

#[test]
fn an_answer_that_has_begun_goes_on() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::answering(move |exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
        let _ = wait.lock().unwrap().recv();
        exchange.write("-last")?;
        Ok(Then::Close)
    });
    let good = Backend::named("good");
    let world = World::with(&[backend.url()]);
    let mut client = TcpStream::connect(world.portolan.plain).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: departs.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    while !text.ends_with("first") {
        let mut some = [0; 512];
        let read = client.read(&mut some).unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    world.endpoints(&[good.url()]);
    world.wait_for(good.address);
    go.send(()).unwrap();
    client.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("first-last"), "{text}");
}

#[test]
fn kept_connections_to_an_endpoint_that_left_are_closed_at_once() {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let backend = Backend::answering(move |exchange| {
        exchange.respond("200 OK", &[], b"kept")?;
        // Nothing more is asked of it: what comes is the end.
        let closed = exchange.closed_by_peer();
        tell.lock().unwrap().send((closed, Instant::now())).unwrap();
        Ok(Then::Close)
    });
    let good = Backend::named("good");
    let world = World::with(&[backend.url()]);
    let (answer, _) = world.send("GET", "").recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(answer.body, "kept");
    assert!(told.recv_timeout(Duration::from_millis(500)).is_err(), "it is kept while the endpoint is there");
    let start = Instant::now();
    world.endpoints(&[good.url()]);
    let (closed, at) = told.recv_timeout(Duration::from_secs(3)).expect("well before it is too old to keep");
    assert!(closed && at - start < Duration::from_secs(2), "{:?}", at - start);
}

#[test]
fn a_connect_to_an_endpoint_that_left_is_abandoned() {
    let (deaf, good) = (Deaf::new(), Backend::named("good"));
    let both = [deaf.url(), good.url()];
    let world = World::with(&both);
    // One of two of each kind goes to the one that takes no connection.
    let sent: Vec<_> = ["GET", "GET", "POST", "POST"].map(|method| world.send(method, "")).into();
    eventually("two are answered", || match good.received().len() {
        2 => Ok(()),
        seen => Err(seen),
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(good.received().len(), 2, "the others wait for their connection");
    let start = Instant::now();
    world.endpoints(&both[1..]);
    for waiting in sent {
        let (answer, at) = waiting.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(answer.told().name(), "good", "nothing of it was sent: any method may move");
        assert!(at.saturating_duration_since(start) < Duration::from_secs(2), "{:?}", at - start);
    }
}

#[test]
fn where_nobody_is_left_a_get_waits_for_its_answer_too() {
    let slow = Backend::answering(|exchange| {
        std::thread::sleep(Duration::from_secs(1));
        exchange.tell("slow", 0)?;
        Ok(Then::Close)
    });
    let world = World::with(&[slow.url()]);
    let get = world.send("GET", "");
    wait_for_requests(&slow, 1);
    world.endpoints(&[]);
    let (answer, _) = get.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(answer.told().name(), "slow");
    let (answer, _) = world.send("GET", "").recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
}

#[test]
fn a_route_that_is_taken_away_finishes_what_is_under_way() {
    let slow = Backend::answering(|exchange| {
        std::thread::sleep(Duration::from_secs(7));
        exchange.tell("slow", 0)?;
        Ok(Then::Close)
    });
    let world = World::with(&[slow.url()]);
    let get = world.send("GET", "");
    wait_for_requests(&slow, 1);
    super::put(world.routes.path(), &json!({ "routes": {}, "services": {} }));
    let (answer, _) = get.recv_timeout(Duration::from_secs(15)).unwrap();
    assert_eq!(answer.told().name(), "slow", "its end is no word on the endpoint");
}
