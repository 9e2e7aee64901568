//! Limits and timeouts of a listener: what each cuts off, and what it must spare.
//!
//! Times are small and margins wide: a limit of a second is given many to show, and what must live is watched for
//! several times the limit.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::{Backend, Then};
use crate::support::h2::{DATA, GOAWAY, H2, HEADERS, PREFACE, RST_STREAM};
use crate::support::http::{Answer, get_plain, send_plain};
use crate::support::portolan::{Portolan, lay_over};
use crate::support::tls::Client;
use crate::support::wait::{PATIENCE, eventually};

const HEAD: &str = "GET / HTTP/1.1\r\nHost: limits.test\r\n\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: limits.test\r\nTransfer-Encoding: chunked\r\n\r\n";

fn start(backend: &Backend, limits: Value, timeouts: Value) -> Portolan {
    start_with(backend, limits, timeouts, json!({}))
}

fn start_with(backend: &Backend, limits: Value, timeouts: Value, more: Value) -> Portolan {
    let listener = json!({ "limits": limits, "timeouts": timeouts });
    let mut settings = json!({
        "listeners": { "plain": listener, "https": listener },
        "routes": { "s": { "host": "limits.test", "listeners": ["plain", "https"] } },
        "services": { "s": { "endpoints": [backend.url()] } },
    });
    lay_over(&mut settings, more);
    Portolan::serving(settings)
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn h2(portolan: &Portolan) -> H2 {
    let client = Client::trusting(&portolan.root()).alpn(&[b"h2"]);
    H2::over(client.connect(portolan.https, "limits.test").unwrap())
}

/// Everything until the server ends the connection, or nothing comes for as long as the tests are patient.
fn rest(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
        Err(e) => panic!("not closed: {e}; so far {:?}", String::from_utf8_lossy(&received)),
    }
    String::from_utf8_lossy(&received).into()
}

/// One answer of a connection that stays open.
fn answer(stream: &mut TcpStream) -> Answer {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received);
        if let Some(answer) = Answer::parse(&text)
            && answer.body.len() >= answer.header("content-length").unwrap().parse().unwrap()
        {
            return answer;
        }
        let mut more = [0; 4096];
        let count = stream.read(&mut more).unwrap();
        assert!(count > 0, "closed after {text:?}");
        received.extend_from_slice(&more[..count]);
    }
}

fn refused(text: &str, status: u16, reason: &str) {
    let answer = Answer::parse(text).unwrap_or_else(|| panic!("no answer: {text:?}"));
    assert_eq!((answer.status, answer.reason()), (status, Some(reason)), "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
}

/// How many connections were cut for this reason.
fn cut(portolan: &Portolan, reason: &str) -> u64 {
    let series = format!("portolan_connections_cut_total{{reason=\"{reason}\"}} ");
    let metrics = portolan.metrics();
    metrics.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
}

fn is_cut(portolan: &Portolan, reason: &str) {
    eventually(&format!("a connection cut by {reason}"), || match cut(portolan, reason) {
        0 => Err(portolan.metrics()),
        _ => Ok(()),
    });
}

// Heads

#[test]
fn a_head_that_trickles_in_is_answered_408() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}), json!({ "header": "1s" }));
    let mut stream = connect(portolan.plain);
    let mut slow = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        for byte in HEAD.replacen("\r\n\r\n", "\r\nX-Slow: 0123456789012345678901234567890123456789\r\n\r\n", 1).bytes()
        {
            if slow.write_all(&[byte]).is_err() {
                return;
            }
            sleep(Duration::from_millis(100));
        }
    });
    refused(&rest(&mut stream), 408, "HeaderTimeout");
    assert!(backend.received().is_empty());
    is_cut(&portolan, "HeaderTimeout");
    portolan.logged(json!({ "status": 408, "reason": "HeaderTimeout", "listener": "plain", "method": "" }));

    // The same within TLS.
    let client = Client::trusting(&portolan.root());
    let mut session = client.connect(portolan.https, "limits.test").unwrap();
    session.write_all(&HEAD.as_bytes()[..20]).unwrap();
    let mut text = String::new();
    session.read_to_string(&mut text).unwrap();
    refused(&text, 408, "HeaderTimeout");
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}), json!({ "header": "1s" }));
    let mut plain = connect(portolan.plain);
    assert_eq!(rest(&mut plain), "");
    // h2, with half of its preface.
    let mut half = connect(portolan.plain);
    half.write_all(&PREFACE[..10]).unwrap();
    assert_eq!(rest(&mut half), "");
    eventually("both are counted", || match cut(&portolan, "HeaderTimeout") {
        2 => Ok(()),
        count => Err(count),
    });
}

#[test]
fn heads_beyond_the_limits_are_refused() {
    let backend = Backend::named("s");
    let limits = json!({ "header_size": "2KiB", "headers": 20, "uri_size": "1KiB" });
    let portolan = start(&backend, limits, json!({}));
    let fields = |count: usize| (0..count).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let head = |path: &str, fields: &str| format!("GET {path} HTTP/1.1\r\nHost: limits.test\r\n{fields}\r\n");
    let send = |request: String| send_plain(portolan.plain, &request).unwrap();
    for (request, status, reason) in [
        (head(&format!("/{}", "x".repeat(1024)), ""), 414, "UriTooLong"),
        (head("/", &fields(20)), 431, "HeadersTooLarge"),
        (head("/", &format!("X: {}\r\n", "x".repeat(2048))), 431, "HeadersTooLarge"),
    ] {
        let answer = send(request);
        assert_eq!((answer.status, answer.reason()), (status, Some(reason)), "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
        portolan.logged(json!({ "status": status, "reason": reason }));
    }
    // Beyond all measure: the library's own answer.
    for (request, status) in
        [(head("/", &format!("X: {}\r\n", "x".repeat(10_000))), 431), (head("/", &fields(200)), 431)]
    {
        assert_eq!(send(request).status, status);
    }
    is_cut(&portolan, "HeadersTooLarge");
    portolan.logged(json!({ "status": 431, "reason": "HeadersTooLarge", "method": "" }));
    assert!(backend.received().is_empty());
    // What is allowed comes through, to the last one.
    let largest = head(&format!("/{}", "x".repeat(1023)), &format!("Connection: close\r\n{}", fields(18)));
    assert_eq!(send(largest).status, 200);

    let url = "https://limits.test/";
    let long = format!("{url}{}", "x".repeat(1024));
    let big = format!("X-Big: {}", "x".repeat(2048));
    for (url, header, status, reason) in
        [(&*long, "X: 1", 414, Some("UriTooLong")), (url, &*big, 431, Some("HeadersTooLarge"))]
    {
        let answer = portolan.curl(url, &["--http2", "-H", header]).unwrap();
        assert_eq!((answer.protocol.as_str(), answer.status, answer.reason()), ("HTTP/2", status, reason));
    }
}

#[test]
fn more_than_a_hundred_fields_by_setting() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "headers": 300 }), json!({}));
    let fields = |count: usize| (0..count).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let head = |count| format!("GET / HTTP/1.1\r\nHost: limits.test\r\nConnection: close\r\n{}\r\n", fields(count));
    assert_eq!(send_plain(portolan.plain, &head(298)).unwrap().status, 200);
    assert_eq!(send_plain(portolan.plain, &head(299)).unwrap().status, 431);
}

// Idle connections

#[test]
fn an_idle_h1_connection_is_closed_and_one_in_use_is_not() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}), json!({ "idle": "2s", "header": "20s" }));
    let mut stream = connect(portolan.plain);
    for _ in 0..6 {
        stream.write_all(HEAD.as_bytes()).unwrap();
        assert_eq!(answer(&mut stream).status, 200);
        sleep(Duration::from_millis(500));
    }
    let idle = Instant::now();
    assert_eq!(rest(&mut stream), "", "no 408: nothing was asked");
    assert!(idle.elapsed() > Duration::from_millis(1200), "{:?}", idle.elapsed());
    assert!(idle.elapsed() < Duration::from_secs(12), "the idle limit, not the head's: {:?}", idle.elapsed());
    is_cut(&portolan, "IdleTimeout");
}

#[test]
fn a_head_that_has_begun_is_no_idle_connection() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}), json!({ "idle": "500ms", "header": "20s" }));
    let mut stream = connect(portolan.plain);
    stream.write_all(HEAD.as_bytes()).unwrap();
    assert_eq!(answer(&mut stream).status, 200);
    stream.write_all(&HEAD.as_bytes()[..10]).unwrap();
    sleep(Duration::from_secs(2));
    stream.write_all(&HEAD.as_bytes()[10..]).unwrap();
    assert_eq!(answer(&mut stream).status, 200);
}

#[test]
fn an_idle_h2_connection_is_ended_with_goaway_and_one_with_a_stream_is_not() {
    let (go, going) = channel::<()>();
    let going = Mutex::new(going);
    let backend = Backend::answering(move |exchange| {
        if exchange.request.target == "/late" {
            let _ = going.lock().unwrap().recv_timeout(PATIENCE);
        }
        exchange.respond("200 OK", &[], b"there")?;
        Ok(Then::Keep)
    });
    let portolan = start(&backend, json!({}), json!({ "idle": "1s", "header": "20s" }));
    let mut h2 = h2(&portolan);
    let stream = h2.get("limits.test", "/");
    assert_eq!(h2.answer(stream).0, "200");
    let stream = h2.get("limits.test", "/late");
    sleep(Duration::from_secs(3));
    go.send(()).unwrap();
    assert_eq!(h2.answer(stream).0, "200");
    let goaway = h2.frame().unwrap();
    assert_eq!((goaway.kind, &goaway.payload[4..8]), (GOAWAY, &[0; 4][..]), "without an error: {goaway:?}");
    while h2.frame().is_some() {}
    is_cut(&portolan, "IdleTimeout");
}

#[test]
fn a_client_that_does_not_answer_a_goaway_is_cut_off() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}), json!({ "idle": "500ms" }));
    let mut stream = connect(portolan.plain);
    stream.write_all(PREFACE).unwrap();
    // SETTINGS without anything in it; what comes is read and never acknowledged.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    rest(&mut stream);
    is_cut(&portolan, "NotClosed");
}

// Bodies

#[test]
fn a_body_beyond_the_limit_is_413_however_it_comes() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "body": "1MiB" }), json!({}));
    let announced = "POST / HTTP/1.1\r\nHost: limits.test\r\nContent-Length: 1048577\r\n\r\n";
    refused(&rest(&mut sent(&portolan, announced)), 413, "BodyTooLarge");
    assert!(backend.received().is_empty(), "refused before an endpoint heard of it");

    let mut stream = sent(&portolan, CHUNKED);
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    for _ in 0..17 {
        // It may be refused before the last one.
        let _ = stream.write_all(chunk.as_bytes());
    }
    refused(&rest(&mut stream), 413, "BodyTooLarge");
    portolan.logged(json!({ "status": 413, "reason": "BodyTooLarge" }));
    let metrics = portolan.metrics();
    assert!(!metrics.contains("portolan_upstream_errors_total{"), "no endpoint's fault: {metrics}");

    let dir = portolan.dir().join("body");
    std::fs::write(&dir, vec![b'x'; 1 << 20]).unwrap();
    let data = format!("@{}", dir.display());
    for protocol in ["--http1.1", "--http2"] {
        let post = |framing: &str| {
            portolan.curl("https://limits.test/", &[protocol, "--data-binary", &data, "-H", framing]).unwrap()
        };
        assert_eq!(post("X: 1").told().body_length(), 1 << 20, "{protocol}: just as large as it may be");
        assert_eq!(post("Content-Length:").status, 200, "{protocol}: without a length");
    }

    // Without a length over h2: the answer first, and then only that no more is wanted (RFC 9113 §8.1).
    let mut h2 = h2(&portolan);
    // The server's settings, its window among them, hold once they are acknowledged.
    let stream = h2.get("limits.test", "/");
    assert_eq!(h2.answer(stream).0, "200");
    let stream = h2.post("limits.test", "/");
    for _ in 0..16 {
        h2.data(stream, &[b'x'; 1 << 16], false);
        // For the window to open again.
        sleep(Duration::from_millis(20));
    }
    h2.data(stream, b"x", false);
    let head = h2.frame().unwrap();
    assert_eq!((head.kind, head.stream, head.status().as_str()), (HEADERS, stream, "413"));
    assert_eq!(h2.frame().unwrap().kind, DATA);
    let reset = h2.frame().unwrap();
    assert_eq!((reset.kind, reset.stream, &reset.payload[..]), (RST_STREAM, stream, &[0; 4][..]), "{reset:?}");
    // The connection goes on.
    let stream = h2.get("limits.test", "/");
    assert_eq!(h2.answer(stream).0, "200");
}

fn sent(portolan: &Portolan, request: &str) -> TcpStream {
    let mut stream = connect(portolan.plain);
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "body": "1KiB" }), json!({}));
    for _ in 0..20 {
        let mut stream = sent(&portolan, "POST / HTTP/1.1\r\nHost: limits.test\r\nContent-Length: 8000000\r\n\r\n");
        let mut writer = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            let piece = [b'x'; 1 << 16];
            for _ in 0..16 {
                writer.write_all(&piece)?;
                sleep(Duration::from_millis(2));
            }
            writer.shutdown(std::net::Shutdown::Write)
        });
        sleep(Duration::from_millis(20));
        // Not a reset: that would take the answer with it.
        let mut received = String::new();
        stream.read_to_string(&mut received).unwrap();
        refused(&received, 413, "BodyTooLarge");
        // Linux would give the answer out even so; other systems, and what is lost on the way, would not.
        sending.join().unwrap().expect("it is read on, and nothing is reset");
    }
}

#[test]
fn a_body_below_the_rate_is_cut_off_and_one_above_it_is_not() {
    let backend = Backend::named("s");
    let portolan =
        start(&backend, json!({ "body_rate": "100B" }), json!({ "body": "1s", "header": "1s", "idle": "1s" }));
    let mut slow = sent(&portolan, CHUNKED);
    let mut writer = slow.try_clone().unwrap();
    std::thread::spawn(move || {
        while writer.write_all(b"1\r\nx\r\n").is_ok() {
            sleep(Duration::from_millis(100));
        }
    });
    refused(&rest(&mut slow), 408, "BodyTooSlow");
    portolan.logged(json!({ "status": 408, "reason": "BodyTooSlow", "method": "POST" }));
    let metrics = portolan.metrics();
    assert!(!metrics.contains("portolan_upstream_errors_total{"), "no endpoint's fault: {metrics}");

    let mut fair = sent(&portolan, CHUNKED);
    for _ in 0..40 {
        // Ten times the rate, and for four times as long as any of the limits.
        fair.write_all(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes()).unwrap();
        sleep(Duration::from_millis(100));
    }
    fair.write_all(b"0\r\n\r\n").unwrap();
    let answer = answer(&mut fair);
    assert_eq!((answer.status, answer.told().body_length()), (200, 4000));

    // h2 likewise.
    let mut h2 = h2(&portolan);
    let stream = h2.post("limits.test", "/");
    h2.data(stream, b"x", false);
    let head = h2.frame().unwrap();
    assert_eq!((head.kind, head.stream), (HEADERS, stream));
    assert_eq!(head.status(), "408");
    portolan.logged(json!({ "status": 408, "reason": "BodyTooSlow", "protocol": "HTTP/2.0" }));
}

#[test]
fn a_body_that_waits_for_its_endpoint_is_not_late() {
    let backend = Backend::answering(|exchange| {
        sleep(Duration::from_secs(4));
        let length = exchange.read_body()?.len();
        exchange.tell("slow", length)?;
        Ok(Then::Keep)
    });
    let portolan = start(&backend, json!({ "body_rate": "1KiB" }), json!({ "body": "1s" }));
    // More than all buffers on the way hold, so that it stands still.
    let length = 32 << 20;
    let mut stream =
        sent(&portolan, &format!("POST / HTTP/1.1\r\nHost: limits.test\r\nContent-Length: {length}\r\n\r\n"));
    stream.write_all(&vec![b'x'; length]).unwrap();
    let answer = answer(&mut stream);
    assert_eq!((answer.status, answer.told().body_length()), (200, length as u64));
}

#[test]
fn a_client_that_listens_while_its_body_is_open_is_not_late() {
    let backend = Backend::answering(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")?;
        exchange.read_chunk()?;
        assert!(exchange.read_chunk()?.is_empty());
        exchange.write("there")?;
        Ok(Then::Keep)
    });
    let portolan = start(&backend, json!({ "body_rate": "1KiB" }), json!({ "body": "500ms", "header": "500ms" }));
    let mut stream = sent(&portolan, CHUNKED);
    sleep(Duration::from_secs(2));
    stream.write_all(b"1\r\nx\r\n0\r\n\r\n").unwrap();
    assert_eq!(answer(&mut stream).body, "there");
}

// Answers

#[test]
fn a_client_that_takes_nothing_is_cut_off_and_a_slow_one_is_not() {
    let backend = Backend::answering(|exchange| {
        let length = 64 << 20;
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..length >> 20 {
            exchange.write(&piece)?;
        }
        Ok(Then::Keep)
    });
    let portolan = start(&backend, json!({}), json!({ "send": "2s", "idle": "1s", "header": "1s", "body": "1s" }));
    let mut slow = sent(&portolan, HEAD);
    let _stuck = sent(&portolan, HEAD);
    let start = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    while start.elapsed() < Duration::from_secs(6) {
        let mut left = buffer.len();
        while left > 0 {
            let count = slow.read(&mut buffer[..left]).unwrap();
            assert!(count > 0, "cut off after {:?}", start.elapsed());
            left -= count;
        }
        sleep(Duration::from_millis(250));
    }
    is_cut(&portolan, "SendTimeout");
    assert_eq!(cut(&portolan, "SendTimeout"), 1, "the one that takes nothing, not the slow one");
    assert!(slow.read(&mut buffer).unwrap() > 0);
}

#[test]
fn a_stream_of_events_lives_through_all_that_is_shorter_than_its_pauses() {
    let backend = Backend::answering(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..3 {
            exchange.write("9\r\ndata: x\n\n\r\n")?;
            sleep(Duration::from_secs(2));
        }
        exchange.write("0\r\n\r\n")?;
        Ok(Then::Keep)
    });
    let short = json!({ "send": "500ms", "idle": "500ms", "header": "500ms", "body": "500ms" });
    let portolan = start(&backend, json!({}), short);
    let mut h1 = sent(&portolan, &HEAD.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    let mut h2 = h2(&portolan);
    let stream = h2.get("limits.test", "/");
    let (status, body) = h2.answer(stream);
    assert_eq!((status.as_str(), body), ("200", "data: x\n\n".repeat(3).into_bytes()));
    assert_eq!(rest(&mut h1).matches("data: x").count(), 3);
}

// How many

#[test]
fn connections_beyond_the_cap_are_closed_over_all_workers() {
    let backend = Backend::named("s");
    let more = json!({ "workers": 4 });
    let portolan = start_with(&backend, json!({ "connections": 5 }), json!({}), more);
    let mut open: Vec<TcpStream> = (0..5).map(|_| connect(portolan.plain)).collect();
    for stream in &mut open {
        stream.write_all(HEAD.as_bytes()).unwrap();
        assert_eq!(answer(stream).status, 200);
    }
    for _ in 0..10 {
        assert!(get_plain(portolan.plain, "limits.test", "/").is_err());
    }
    eventually("they are counted", || match cut(&portolan, "TooManyConnections") {
        10 => Ok(()),
        count => Err(count),
    });
    assert!(portolan.log().contains("connections are refused"), "{}", portolan.log());
    // Another listener has places of its own, and whoever is in stays.
    assert_eq!(portolan.get("https://limits.test/").unwrap().status, 200);
    open[0].write_all(HEAD.as_bytes()).unwrap();
    assert_eq!(answer(&mut open[0]).status, 200);
    // A place that is given up is given away.
    drop(open.pop());
    eventually("a place", || {
        get_plain(portolan.plain, "limits.test", "/").map(|answer| assert_eq!(answer.status, 200))
    });
}

#[test]
fn one_client_address_has_no_more_than_its_share() {
    let backend = Backend::named("s");
    let more = json!({ "workers": 4, "listeners": { "plain": { "trusted_proxies": ["127.0.0.3/32"] } } });
    let portolan = start_with(&backend, json!({ "client_connections": 3 }), json!({}), more);
    let mut open: Vec<TcpStream> = (0..3).map(|_| connect_from([127, 0, 0, 1], portolan.plain)).collect();
    let mut served = |stream: &mut TcpStream| {
        stream.write_all(HEAD.as_bytes()).and_then(|()| stream.read(&mut [0; 4096])).is_ok_and(|count| count > 0)
    };
    assert!(open.iter_mut().all(&mut served));
    assert!(!served(&mut connect_from([127, 0, 0, 1], portolan.plain)));
    assert!(served(&mut connect_from([127, 0, 0, 2], portolan.plain)), "another client");
    // A trusted proxy speaks for many.
    let mut proxied: Vec<TcpStream> = (0..6).map(|_| connect_from([127, 0, 0, 3], portolan.plain)).collect();
    assert!(proxied.iter_mut().all(&mut served));
    is_cut(&portolan, "TooManyClientConnections");
    drop(open.pop());
    eventually("a place", || match served(&mut connect_from([127, 0, 0, 1], portolan.plain)) {
        true => Ok(()),
        false => Err("refused"),
    });
}

fn connect_from(from: impl Into<IpAddr>, to: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.into(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// An endpoint that tells of each request and answers none on `/hang`.
fn hanging() -> (Backend, std::sync::mpsc::Receiver<()>) {
    let (came, coming) = channel();
    let came = Arc::new(Mutex::new(came));
    let backend = Backend::answering(move |exchange| {
        if exchange.request.target == "/hang" {
            came.lock().unwrap().send(()).unwrap();
            exchange.closed_by_peer();
            return Ok(Then::Close);
        }
        exchange.respond("200 OK", &[], b"there")?;
        Ok(Then::Keep)
    });
    (backend, coming)
}

#[test]
fn streams_beyond_the_cap_are_refused_and_the_others_go_on() {
    let (backend, coming) = hanging();
    let portolan = start(&backend, json!({ "streams": 2 }), json!({}));
    let mut h2 = h2(&portolan);
    let first = h2.get("limits.test", "/hang");
    coming.recv_timeout(PATIENCE).unwrap();
    let second = h2.get("limits.test", "/");
    assert_eq!(h2.answer(second).0, "200");
    h2.get("limits.test", "/hang");
    coming.recv_timeout(PATIENCE).unwrap();
    let third = h2.get("limits.test", "/");
    let frame = h2.frame().unwrap();
    // REFUSED_STREAM: it may be sent again (RFC 9113 §8.7).
    assert_eq!((frame.kind, frame.stream, &frame.payload[..]), (RST_STREAM, third, &[0, 0, 0, 7][..]), "{frame:?}");
    h2.reset(first);
    eventually("a stream's place", || {
        let stream = h2.get("limits.test", "/");
        let frame = h2.frame().unwrap();
        if frame.kind == RST_STREAM {
            return Err(frame);
        }
        assert_eq!((frame.kind, frame.status().as_str()), (HEADERS, "200"));
        assert_eq!(h2.frame().unwrap().kind, DATA);
        assert!(stream > 0);
        Ok(())
    });
}

#[test]
fn rapid_resets_end_the_connection() {
    let (backend, coming) = hanging();
    let portolan = start(&backend, json!({ "resets": 10 }), json!({}));
    // One by one, each after it came to the endpoint.
    let mut paced = h2(&portolan);
    let mut reached = 0;
    let ended = loop {
        // Ended by then, it takes no more.
        let Ok(stream) = paced.try_get("limits.test", "/hang") else { break true };
        match coming.recv_timeout(Duration::from_secs(2)) {
            Ok(()) => reached += 1,
            Err(_) => break true,
        }
        if paced.try_reset(stream).is_err() {
            break true;
        }
        if reached > 50 {
            break false;
        }
    };
    assert!(ended, "{reached} requests were given up and it was still served");
    assert!(reached >= 11, "after {reached}");
    is_cut(&portolan, "TooManyResets");

    // All at once, before any of them is looked at.
    let mut burst = h2(&portolan);
    let error = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..1000 {
            let stream = burst.get("limits.test", "/hang");
            burst.reset(stream);
        }
        while let Some(frame) = burst.frame() {
            if frame.kind == GOAWAY {
                return Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
        None
    }));
    // It may be cut while it sends; then nothing of it can be read any more.
    if let Ok(Some(code)) = error {
        assert_eq!(code, 11, "ENHANCE_YOUR_CALM");
    }
    eventually("it is counted", || match cut(&portolan, "H2Flood") + cut(&portolan, "TooManyResets") {
        2.. => Ok(()),
        count => Err(count),
    });
}

#[test]
fn a_client_that_gives_up_now_and_then_is_served_on() {
    let (backend, coming) = hanging();
    let portolan = start(&backend, json!({ "resets": 5 }), json!({}));
    let mut h2 = h2(&portolan);
    for _ in 0..10 {
        for path in ["/", "/"] {
            let stream = h2.get("limits.test", path);
            assert_eq!(h2.answer(stream).0, "200");
        }
        let stream = h2.get("limits.test", "/hang");
        coming.recv_timeout(PATIENCE).unwrap();
        h2.reset(stream);
    }
    let stream = h2.get("limits.test", "/");
    assert_eq!(h2.answer(stream).0, "200");
    assert_eq!(cut(&portolan, "TooManyResets"), 0);
}

// HTTP/2 with prior knowledge

#[test]
fn a_plain_listener_speaks_h2_to_who_begins_with_it() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "streams": 7 }), json!({}));
    let answer = crate::support::http::curl(
        "http://limits.test/x",
        portolan.plain,
        None,
        &["--http2-prior-knowledge", "-H", "X: 1"],
    )
    .unwrap();
    assert_eq!((answer.protocol.as_str(), answer.status), ("HTTP/2", 200));
    assert_eq!((answer.told().target(), answer.told().all("x-forwarded-proto")), ("/x", vec!["http"]));
    // The preface in pieces, however it is cut.
    for cut in [1, 3, 18, 23] {
        let mut stream = connect(portolan.plain);
        stream.write_all(&PREFACE[..cut]).unwrap();
        sleep(Duration::from_millis(100));
        stream.write_all(&PREFACE[cut..]).unwrap();
        let mut h2 = H2::after_preface(stream);
        let stream = h2.get("limits.test", "/");
        assert_eq!(h2.answer(stream).0, "200", "cut at {cut}");
    }
    // What begins alike and is none.
    for method in ["P", "POST", "PRI", "PRIX"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: limits.test\r\nConnection: close\r\n\r\n");
        for cut in [1, 3] {
            let mut stream = connect(portolan.plain);
            stream.write_all(&head.as_bytes()[..cut]).unwrap();
            sleep(Duration::from_millis(100));
            stream.write_all(&head.as_bytes()[cut..]).unwrap();
            let text = rest(&mut stream);
            let answer = Answer::parse(&text).unwrap_or_else(|| panic!("{method}: {text:?}"));
            assert_eq!((answer.protocol.as_str(), answer.status), ("HTTP/1.1", 200), "{method} cut at {cut}");
            assert_eq!(backend.received().last().unwrap().method, method);
        }
    }
    // A redirecting listener redirects in either protocol.
    let options = ["--http2-prior-knowledge"];
    let answer = crate::support::http::curl("http://limits.test/x", portolan.http, None, &options).unwrap();
    assert_eq!((answer.protocol.as_str(), answer.status), ("HTTP/2", 308));
}

// Status and admin

#[test]
fn slow_clients_of_the_status_listener_do_not_keep_probes_out() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}), json!({}));
    let slow: Vec<TcpStream> = [portolan.status, portolan.admin]
        .into_iter()
        .flat_map(|address| (0..300).map(move |_| address))
        .map(|address| {
            let mut stream = connect(address);
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
            stream
        })
        .collect();
    assert_eq!(get_plain(portolan.status, "localhost", "/readyz").unwrap().status, 200);
    assert_eq!(portolan.routes().len(), 1);
    drop(slow);
}
