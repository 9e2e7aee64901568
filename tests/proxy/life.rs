//! How a proxy starts, ends, and keeps others out of its state.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::{Backend, Then};
use crate::support::h2::{DATA, GOAWAY, H2, HEADERS};
use crate::support::http::{Answer, get_plain};
use crate::support::portolan::Portolan;
use crate::support::tls::Client;
use crate::support::wait::{PATIENCE, eventually};

/// An endpoint that says when a request has come, and answers when it is let go.
fn held() -> (Backend, Receiver<()>, Sender<()>) {
    let (came, coming) = channel();
    let (go, going) = channel();
    let going = Mutex::new(going);
    let backend = Backend::answering(move |exchange| {
        came.send(()).unwrap();
        let _ = going.lock().unwrap().recv_timeout(Duration::from_secs(60));
        exchange.respond("200 OK", &[], b"late")?;
        Ok(Then::Keep)
    });
    (backend, coming, go)
}

fn start(backend: &Backend, shutdown: Value) -> Portolan {
    Portolan::serving(json!({
        "routes": { "s": { "host": "life.test", "listeners": ["plain", "https"] } },
        "services": { "s": { "endpoints": [backend.url()] } },
        "shutdown": shutdown,
    }))
}

fn wait_until_closed(address: SocketAddr) {
    eventually("nothing is accepted any more", || match TcpStream::connect(address) {
        Err(_) => Ok(()),
        Ok(_) => Err("still accepting"),
    });
}

#[test]
fn it_is_not_ready_before_it_stops_serving() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "delay": "2s", "deadline": "5s" }));
    assert_eq!(portolan.try_cli(&["health"]).status.code(), Some(0));
    portolan.terminate();
    eventually("not ready", || match portolan.ready() {
        Err(why) if why.starts_with("503 ") => Ok(()),
        other => Err(other),
    });
    for _ in 0..20 {
        assert_eq!(get_plain(portolan.plain, "life.test", "/").unwrap().status, 200);
    }
    assert_eq!(portolan.get("https://life.test/").unwrap().status, 200);
    assert_eq!(portolan.try_cli(&["health"]).status.code(), Some(1));
    assert_eq!(get_plain(portolan.status, "localhost", "/healthz").unwrap().status, 200);
    let (code, log) = portolan.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn an_h1_request_under_way_is_finished_with_connection_close() {
    let (backend, came, go) = held();
    let portolan = start(&backend, json!({ "delay": "0s", "deadline": "30s" }));
    let mut stream = TcpStream::connect(portolan.plain).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: life.test\r\n\r\n").unwrap();
    came.recv_timeout(PATIENCE).unwrap();
    portolan.terminate();
    wait_until_closed(portolan.plain);
    go.send(()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let answer = Answer::parse(&text).unwrap_or_else(|| panic!("no answer: {text:?}"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    let (code, log) = portolan.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn an_h2_request_under_way_is_finished_after_goaway() {
    let (backend, came, go) = held();
    let portolan = start(&backend, json!({ "delay": "0s", "deadline": "30s" }));
    let client = Client::trusting(&portolan.root()).alpn(&[b"h2"]);
    let mut h2 = H2::over(client.connect(portolan.https, "life.test").unwrap());
    let stream = h2.get("life.test", "/");
    came.recv_timeout(PATIENCE).unwrap();
    portolan.terminate();
    let goaway = h2.frame().unwrap();
    assert_eq!(goaway.kind, GOAWAY, "{goaway:?}");
    assert_eq!(goaway.payload[4..8], [0; 4], "without an error: {goaway:?}");
    go.send(()).unwrap();
    // The last one names the streams that are still served.
    let (mut status, mut body, mut last) = (None, Vec::new(), None);
    while let Some(frame) = h2.frame() {
        match frame.kind {
            HEADERS => status = Some(frame.status()),
            DATA => body.extend(frame.payload),
            GOAWAY => last = Some(u32::from_be_bytes(frame.payload[..4].try_into().unwrap())),
            _ => panic!("{frame:?}"),
        }
    }
    assert_eq!((status.as_deref(), &*body), (Some("200"), &b"late"[..]));
    assert_eq!(last, Some(stream));
    let (code, log) = portolan.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn connections_without_a_request_do_not_hold_up_the_end() {
    let backend = Backend::named("s");
    // Beyond the patience of the test.
    let portolan = start(&backend, json!({ "delay": "0s", "deadline": "10m" }));
    let mut idle = TcpStream::connect(portolan.plain).unwrap();
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: life.test\r\nContent-Length: 0\r\n\r\n").unwrap();
    idle.read_exact(&mut [0; 12]).unwrap();
    let client = Client::trusting(&portolan.root()).alpn(&[b"h2"]);
    let mut h2 = H2::over(client.connect(portolan.https, "life.test").unwrap());
    let stream = h2.get("life.test", "/");
    assert_eq!(h2.answer(stream).0, "200");
    let mut untouched = TcpStream::connect(portolan.plain).unwrap();
    untouched.set_read_timeout(Some(PATIENCE)).unwrap();
    portolan.terminate();
    let mut last = None;
    while let Some(frame) = h2.frame() {
        last = Some(frame.kind);
    }
    assert_eq!(last, Some(GOAWAY));
    idle.read_to_end(&mut Vec::new()).unwrap();
    untouched.read_to_end(&mut Vec::new()).unwrap();
    let (code, log) = portolan.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn the_deadline_cuts_off_what_is_still_under_way() {
    let (backend, came, _go) = held();
    let portolan = start(&backend, json!({ "delay": "0s", "deadline": "500ms" }));
    let mut stream = TcpStream::connect(portolan.plain).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: life.test\r\n\r\n").unwrap();
    came.recv_timeout(PATIENCE).unwrap();
    portolan.terminate();
    let (code, log) = portolan.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the deadline is over"), "{log}");
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    assert!(received.is_empty(), "{}", String::from_utf8_lossy(&received));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "delay": "10m", "deadline": "10m" }));
    portolan.terminate();
    eventually("not ready", || match portolan.ready() {
        Err(why) if why.starts_with("503 ") => Ok(()),
        other => Err(other),
    });
    portolan.terminate();
    let (code, log) = portolan.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_state_directory_is_one_processes_own() {
    let first = Portolan::serving(json!({}));
    let state = first.dir().join("state");
    let (code, said) = Portolan::spawn(json!({ "providers": { "docker": "off" }, "state_dir": state })).ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(state.to_str().unwrap()) && said.contains("in use by another Portolan"), "{said}");
    assert!(said.contains("--state_dir"), "{said}");
    first.ready().unwrap();
    first.stop();
}

#[test]
fn the_root_of_the_ca_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let state = json!({ "state_dir": dir.path().join("kept") });
    let root = |portolan: &Portolan| std::fs::read(portolan.root()).unwrap();
    let first = Portolan::serving(state.clone());
    let before = root(&first);
    first.stop();
    let second = Portolan::serving(state);
    assert_eq!(root(&second), before);
    let holds_key = |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.contains("PRIVATE KEY"));
    let keys: Vec<PathBuf> = walk(&dir.path().join("kept")).into_iter().filter(holds_key).collect();
    assert!(!keys.is_empty());
    for key in keys {
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_damaged_ledger_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let ledger = state.join("ledger.json");
    std::fs::write(&ledger, "{\"version\": 1, \"hosts\": {").unwrap();
    let (code, said) = Portolan::spawn(json!({ "providers": { "docker": "off" }, "state_dir": state })).ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(ledger.to_str().unwrap()) && said.contains("damaged"), "{said}");
    assert_eq!(
        std::fs::read_to_string(&ledger).unwrap(),
        "{\"version\": 1, \"hosts\": {",
        "left for whoever repairs it"
    );
}

/// Connections that the kernel has let in and the proxy has not seen yet: none of them is reset when the socket closes.
#[test]
fn who_waits_in_the_queue_when_the_proxy_is_told_to_stop_is_answered() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "delay": "0s", "deadline": "30s" }));
    for _ in 0..3 {
        assert_eq!(get_plain(portolan.plain, "life.test", "/").unwrap().status, 200);
    }
    portolan.signal("STOP");
    let clients: Vec<TcpStream> = (0..40)
        .map(|n| {
            let mut stream = TcpStream::connect(portolan.plain).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // Some have asked already, others are about to.
            if n % 2 == 0 {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: life.test\r\n\r\n").unwrap();
            }
            stream
        })
        .collect();
    portolan.terminate();
    portolan.signal("CONT");
    std::thread::sleep(Duration::from_millis(100));
    // All of them before the first is read: one that was answered before the end stays open for a second.
    for stream in clients.iter().skip(1).step_by(2) {
        (&*stream).write_all(b"GET / HTTP/1.1\r\nHost: life.test\r\n\r\n").unwrap();
    }
    for (n, mut stream) in clients.into_iter().enumerate() {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap_or_else(|e| panic!("client {n}: {e}"));
        let answer = Answer::parse(&text).unwrap_or_else(|| panic!("client {n} has no answer: {text:?}"));
        assert_eq!(answer.status, 200, "client {n}");
        // Who had asked already may be answered before the proxy hears that it is to stop.
        let told = answer.header("connection") == Some("close");
        assert!(told || n % 2 == 0, "client {n}");
    }
    let (code, log) = portolan.ended();
    assert_eq!(code, Some(0), "{log}");
}
