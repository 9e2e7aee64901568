//! `Expect: 100-continue` from h1 to h1: the body waits for its endpoint (RFC 9110 §10.1.1).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::backend::{Backend, Then};
use crate::support::portolan::Portolan;
use crate::support::wire::{Wire, lossy};

const HEAD: &str = "POST /up HTTP/1.1\r\nHost: expect.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

fn serving(backend: &Backend) -> Portolan {
    Portolan::serving(json!({
        "workers": 1,
        "routes": { "s": { "host": "expect.test", "listeners": ["plain"] } },
        "services": { "s": { "endpoints": [backend.url()] } },
    }))
}

/// A client that has sent its head and waits.
fn waiting(portolan: &Portolan) -> Wire<TcpStream> {
    let mut stream = TcpStream::connect(portolan.plain).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(HEAD.as_bytes()).unwrap();
    Wire::new(stream)
}

fn head(wire: &mut Wire<TcpStream>) -> String {
    lossy(&wire.until(b"\r\n\r\n").unwrap()).to_lowercase()
}

#[test]
fn a_body_waits_for_the_endpoints_100() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::answering(move |exchange| {
        wait.lock().unwrap().recv().unwrap();
        exchange.write("HTTP/1.1 100 Continue\r\n\r\n")?;
        let body = exchange.read_body()?;
        exchange.respond("200 OK", &[], &body)?;
        Ok(Then::Keep)
    });
    let portolan = serving(&backend);
    let mut wire = waiting(&portolan);
    // Well within the second after which nobody waits any more.
    wire.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(wire.stream.read(&mut [0; 1]).is_err(), "the client was told to go on before the endpoint said so");
    wire.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    go.send(()).unwrap();
    assert!(head(&mut wire).starts_with("http/1.1 100 "));
    wire.stream.write_all(b"hello").unwrap();
    let answer = head(&mut wire);
    assert!(answer.starts_with("http/1.1 200 ") && !answer.contains("connection: close"), "{answer}");
    assert_eq!(wire.until(b"hello").unwrap(), b"hello");
    // Both connections go on.
    wire.stream.write_all(HEAD.as_bytes()).unwrap();
    go.send(()).unwrap();
    assert!(head(&mut wire).starts_with("http/1.1 100 "));
    wire.stream.write_all(b"again").unwrap();
    assert!(head(&mut wire).starts_with("http/1.1 200 "));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_answer_instead_of_a_100_is_the_answer_and_the_body_is_never_asked_for() {
    let (seen, sees) = mpsc::channel();
    let refusal = vec![b'x'; 100_000];
    let said = refusal.clone();
    let backend = Backend::answering(move |exchange| {
        exchange.respond("413 Payload Too Large", &[], &said)?;
        // Nothing but the end of the connection comes after it.
        let mut rest = Vec::new();
        exchange.stream().read_to_end(&mut rest)?;
        seen.send(rest).unwrap();
        Ok(Then::Close)
    });
    let portolan = serving(&backend);
    let mut wire = waiting(&portolan);
    let answer = head(&mut wire);
    assert!(answer.starts_with("http/1.1 413 ") && answer.contains("connection: close"), "{answer}");
    wire.rest().unwrap();
    assert_eq!(wire.buffer, refusal, "the whole answer, and then the end");
    assert_eq!(sees.recv_timeout(Duration::from_secs(20)).unwrap(), b"", "the endpoint was sent a body");
    portolan.logged(json!({ "status": 413, "reason": null, "request_bytes": 0 }));
}

#[test]
fn an_endpoint_that_says_nothing_gets_the_body_after_a_second() {
    let backend = Backend::named("s");
    let portolan = serving(&backend);
    let began = Instant::now();
    let mut wire = waiting(&portolan);
    assert!(head(&mut wire).starts_with("http/1.1 100 "));
    assert!(began.elapsed() >= Duration::from_millis(900), "after {:?}", began.elapsed());
    wire.stream.write_all(b"hello").unwrap();
    assert!(head(&mut wire).starts_with("http/1.1 200 "));
}
