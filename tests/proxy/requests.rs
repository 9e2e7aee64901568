//! Requests and answers on their way through: protocols, bodies, connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;

use crate::support::backend::{Backend, Then};
use crate::support::h2::{DATA, H2, HEADERS};
use crate::support::http::{get_plain, send_plain};
use crate::support::portolan::Portolan;
use crate::support::tls::Client;
use crate::support::wait::PATIENCE;

const MIB: usize = 1 << 20;

/// One worker, so that it is certain which one keeps a connection.
fn start(backend: &Backend) -> Portolan {
    Portolan::serving(json!({
        "workers": 1,
        "routes": { "s": { "host": "requests.test", "listeners": ["plain", "https"] } },
        "services": { "s": { "endpoints": [backend.url()] } },
    }))
}

fn h2(portolan: &Portolan) -> H2 {
    let client = Client::trusting(&portolan.root()).alpn(&[b"h2"]);
    H2::over(client.connect(portolan.https, "requests.test").unwrap())
}

/// No two stretches of it are alike, so that what is lost, doubled or moved is seen.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (state >> 24) as u8 % 26
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn the_protocol_is_the_one_that_alpn_agreed_on() {
    let backend = Backend::named("s");
    let portolan = start(&backend);
    for (option, protocol) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2"), ("--no-alpn", "HTTP/1.1")] {
        let answer = portolan.curl("https://requests.test/", &[option]).unwrap();
        assert_eq!((answer.protocol.as_str(), answer.status), (protocol, 200), "{option}");
    }
    let client = |protocols: &[&[u8]]| Client::trusting(&portolan.root()).alpn(protocols);
    let connect = |protocols: &[&[u8]]| client(protocols).connect(portolan.https, "requests.test");
    assert_eq!(connect(&[b"http/1.1", b"h2"]).unwrap().alpn(), Some(&b"h2"[..]), "the server's order");
    assert_eq!(connect(&[b"http/1.1"]).unwrap().alpn(), Some(&b"http/1.1"[..]));
    assert_eq!(connect(&[]).unwrap().alpn(), None);
    assert!(connect(&[b"spdy/3"]).is_err(), "nothing in common");
}

#[test]
fn a_mebibyte_goes_through_both_ways_unharmed() {
    let backend = Backend::answering(|exchange| {
        let body = exchange.read_body()?;
        exchange.respond("200 OK", &[], &body)?;
        Ok(Then::Keep)
    });
    let portolan = start(&backend);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("body");
    let body = pattern(MIB);
    std::fs::write(&file, &body).unwrap();
    let upload = format!("@{}", file.display());
    for protocol in ["--http1.1", "--http2"] {
        for framing in
            [&["--data-binary", &upload][..], &["--data-binary", &upload, "-H", "Transfer-Encoding: chunked"]]
        {
            if protocol == "--http2" && framing.len() > 2 {
                continue;
            }
            let answer = portolan.curl("https://requests.test/", &[&[protocol], framing].concat()).unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.body.as_bytes() == body, "{protocol} {framing:?}: {} bytes came back", answer.body.len());
        }
    }
}

#[test]
fn an_answer_is_streamed_its_first_half_before_the_second_is_there() {
    let (go, going) = channel::<()>();
    let going = Mutex::new(going);
    let body = pattern(MIB);
    let sent = body.clone();
    let backend = Backend::answering(move |exchange| {
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {MIB}\r\n\r\n"))?;
        exchange.write(&sent[..MIB / 2])?;
        let _ = going.lock().unwrap().recv_timeout(PATIENCE);
        exchange.write(&sent[MIB / 2..])?;
        Ok(Then::Keep)
    });
    let portolan = start(&backend);

    let mut stream = TcpStream::connect(portolan.plain).unwrap();
    stream.set_read_timeout(Some(PATIENCE / 2)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: requests.test\r\n\r\n").unwrap();
    let mut received = Vec::new();
    while received.len() < MIB / 2 {
        let mut more = [0; 1 << 16];
        let n = stream.read(&mut more).unwrap();
        received.extend_from_slice(&more[..n]);
    }
    go.send(()).unwrap();
    let head = received.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let mut rest = vec![0; MIB + head - received.len()];
    stream.read_exact(&mut rest).unwrap();
    received.extend(rest);
    assert!(received[head..] == body);

    let mut h2 = h2(&portolan);
    let id = h2.get("requests.test", "/");
    let mut frame = h2.frame().unwrap();
    assert_eq!((frame.kind, frame.status().as_str()), (HEADERS, "200"));
    let mut received = Vec::new();
    let mut gone = false;
    while !frame.ends_stream() {
        frame = h2.frame().unwrap();
        assert_eq!((frame.kind, frame.stream), (DATA, id));
        received.extend_from_slice(&frame.payload);
        if received.len() >= MIB / 2 && !gone {
            assert_eq!(received.len(), MIB / 2, "the second half is not sent yet");
            go.send(()).unwrap();
            gone = true;
        }
    }
    assert!(received == body);
}

#[test]
fn an_upload_is_streamed_its_first_half_before_the_second_is_sent() {
    let (came, coming) = channel();
    let backend = Backend::answering(move |exchange| {
        // Over h2 a body without a length is chunked from here on.
        if exchange.request.all("content-length").is_empty() {
            let first = exchange.read_chunk()?;
            came.send(first.len()).unwrap();
            let rest = exchange.read_body()?;
            exchange.tell("s", first.len() + rest.len())?;
        } else {
            let first = exchange.read_part(MIB / 2)?;
            came.send(first.len()).unwrap();
            let rest = exchange.read_part(MIB / 2)?;
            exchange.tell("s", first.len() + rest.len())?;
        }
        Ok(Then::Keep)
    });
    let portolan = start(&backend);
    let body = pattern(MIB);

    let mut stream = TcpStream::connect(portolan.plain).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: requests.test\r\nConnection: close\r\nContent-Length: {MIB}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..MIB / 2]).unwrap();
    assert_eq!(coming.recv_timeout(PATIENCE).unwrap(), MIB / 2);
    stream.write_all(&body[MIB / 2..]).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let answer = crate::support::http::Answer::parse(&text).unwrap();
    assert_eq!((answer.status, answer.told().body_length()), (200, MIB as u64));

    let mut h2 = h2(&portolan);
    let id = h2.post("requests.test", "/");
    h2.data(id, &body[..10_000], false);
    let first = coming.recv_timeout(PATIENCE).unwrap();
    assert!((1..=10_000).contains(&first), "{first}");
    h2.data(id, &body[10_000..30_000], true);
    let (status, text) = h2.answer(id);
    let told = crate::support::backend::Told::of(std::str::from_utf8(&text).unwrap());
    assert_eq!((status.as_str(), told.body_length()), ("200", 30_000));
}

#[test]
fn chunks_without_a_length_arrive_whole() {
    let backend = Backend::answering(|exchange| {
        let length = exchange.read_body()?.len();
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        exchange.write(format!("{chunked}5\r\nfirst\r\n{:x};ext=1\r\n{length:05}\r\n0\r\n\r\n", 5))?;
        Ok(Then::Keep)
    });
    let portolan = start(&backend);
    let request = "POST / HTTP/1.1\r\nHost: requests.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                   3\r\nabc\r\n8\r\ndefghijk\r\n0\r\n\r\n";
    let answer = send_plain(portolan.plain, request).unwrap();
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, Some("chunked")), "{answer:?}");
    assert_eq!(answer.body, "5\r\nfirst\r\n5\r\n00011\r\n0\r\n\r\n");
    let answer = portolan.curl("https://requests.test/", &["--http2", "--data", "abc"]).unwrap();
    assert_eq!((answer.body.as_str(), answer.header("transfer-encoding")), ("first00003", None));
}

#[test]
fn a_request_with_a_length_and_chunks_is_not_forwarded_with_both() {
    let backend = Backend::named("s");
    let portolan = start(&backend);
    let request = "POST / HTTP/1.1\r\nHost: requests.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\
                   Connection: close\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    let answer = send_plain(portolan.plain, request);
    for received in backend.received() {
        let (length, coding) = (received.all("content-length"), received.all("transfer-encoding"));
        assert!(length.is_empty() != coding.is_empty(), "RFC 9112 §6.1: {received:?}");
    }
    assert!(answer.is_ok_and(|answer| answer.status == 400 || answer.told().body_length() == 5));
}

#[test]
fn head_204_and_304_have_no_body_and_keep_their_headers() {
    let backend = Backend::answering(|exchange| {
        let head = match exchange.request.target.as_str() {
            "/204" => "HTTP/1.1 204 No Content\r\nX-Kept: 1\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\nX-Kept: 1\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-Kept: 1\r\n\r\n",
        };
        exchange.write(head)?;
        Ok(Then::Keep)
    });
    let portolan = start(&backend);
    for protocol in ["--http1.1", "--http2"] {
        for (path, options, status) in [("/", &["--head"][..], 200), ("/204", &[], 204), ("/304", &[], 304)] {
            let url = format!("https://requests.test{path}");
            let answer = portolan.curl(&url, &[&[protocol], options].concat()).unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{protocol} {path}: {answer:?}");
            assert_eq!(answer.header("x-kept"), Some("1"), "{protocol} {path}");
            let length = (status == 200).then_some("1234");
            assert_eq!(answer.header("content-length"), length, "{protocol} {path}: {answer:?}");
            assert_eq!(answer.header("transfer-encoding"), None, "{protocol} {path}: {answer:?}");
        }
    }
    assert_eq!(backend.connections(), 1, "none of them ends the connection to the endpoint");
}

#[test]
fn an_own_answer_to_head_has_no_body() {
    let backend = Backend::named("s");
    let portolan = start(&backend);
    let answer =
        send_plain(portolan.plain, "HEAD / HTTP/1.1\r\nHost: nobody.test\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (404, ""));
}

#[test]
fn a_connection_to_an_endpoint_is_used_again() {
    let backend = Backend::named("s");
    let portolan = start(&backend);
    for _ in 0..10 {
        assert_eq!(get_plain(portolan.plain, "requests.test", "/").unwrap().status, 200);
        let post = "POST / HTTP/1.1\r\nHost: requests.test\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
        assert_eq!(send_plain(portolan.plain, post).unwrap().told().body_length(), 3);
    }
    assert_eq!((backend.received().len(), backend.connections()), (20, 1));
}

#[test]
fn a_kept_connection_that_the_endpoint_closed_fails_no_request() {
    let (closed, closing) = channel();
    let backend = Backend::answering(move |exchange| {
        exchange.tell("s", 0)?;
        exchange.hang_up()?;
        // Only when the proxy has let go of it too is it certain to have seen the end.
        closed.send(exchange.closed_by_peer()).unwrap();
        Ok(Then::Close)
    });
    let portolan = start(&backend);
    for method in ["GET", "POST", "GET", "DELETE", "PATCH"] {
        let request =
            format!("{method} / HTTP/1.1\r\nHost: requests.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let answer = send_plain(portolan.plain, &request).unwrap();
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
        assert!(closing.recv_timeout(PATIENCE).unwrap());
    }
    assert_eq!(backend.connections(), 5);
}

#[test]
fn an_answer_that_says_close_ends_the_kept_connection() {
    let backend = Backend::answering(|exchange| {
        exchange.respond("200 OK", &["Connection: close"], b"")?;
        // Not even closed: what was said counts.
        Ok(Then::Keep)
    });
    let portolan = start(&backend);
    for _ in 0..3 {
        assert_eq!(get_plain(portolan.plain, "requests.test", "/").unwrap().status, 200);
    }
    assert_eq!(backend.connections(), 3);
}

#[test]
fn a_client_that_goes_away_cancels_the_request_to_the_endpoint() {
    let (came, coming) = channel();
    let (closed, closing) = channel();
    let backend = Backend::answering(move |exchange| {
        if exchange.request.target == "/half" {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
        }
        came.send(()).unwrap();
        closed.send(exchange.closed_by_peer()).unwrap();
        Ok(Then::Close)
    });
    let portolan = start(&backend);
    for target in ["/", "/half"] {
        let mut stream = TcpStream::connect(portolan.plain).unwrap();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: requests.test\r\n\r\n").as_bytes()).unwrap();
        coming.recv_timeout(PATIENCE).unwrap();
        drop(stream);
        assert!(closing.recv_timeout(PATIENCE).unwrap(), "h1 {target}");
    }
    // One stream of an h2 connection that stays.
    let mut h2 = h2(&portolan);
    for target in ["/", "/half"] {
        let id = h2.get("requests.test", target);
        coming.recv_timeout(PATIENCE).unwrap();
        h2.reset(id);
        assert!(closing.recv_timeout(PATIENCE).unwrap(), "h2 {target}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_made_to_look_whole() {
    let backend = Backend::answering(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")?;
        Ok(Then::Close)
    });
    let portolan = start(&backend);
    for protocol in ["--http1.1", "--http2"] {
        let failure = portolan.curl("https://requests.test/", &[protocol]).unwrap_err();
        assert!(matches!(failure.code, 18 | 56 | 92), "{protocol}: {failure:?}");
    }
    let line = portolan.logged(json!({ "reason": "EndpointReset", "status": 200 }));
    assert_eq!(line["response_bytes"], 4, "{line}");
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let backend = Backend::named("s");
    let portolan = start(&backend);
    let mut stream = TcpStream::connect(portolan.plain).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let requests = "GET /1 HTTP/1.1\r\nHost: requests.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: requests.test\r\n\r\n\
                    GET /3 HTTP/1.1\r\nHost: requests.test\r\nConnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let targets: Vec<&str> =
        text.match_indices("\"target\":\"").map(|(at, key)| &text[at + key.len()..][..2]).collect();
    assert_eq!(targets, ["/1", "/2", "/3"]);
}
