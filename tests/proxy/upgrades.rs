//! Connections that leave HTTP: who may, and how it is agreed (RFC 9110 §7.8, RFC 6455, RFC 8441).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::support::backend::{Backend, Then};
use crate::support::http::send_plain;
use crate::support::portolan::Portolan;
use crate::support::wait::eventually;
use crate::support::websocket::{ALL, Echo, Over, Proxy, ended, says};
use crate::support::wire::{Wire, lossy};

fn serving(url: &str) -> Portolan {
    Portolan::serving(json!({
        "workers": 1,
        "routes": { "s": { "host": "ws.test", "listeners": ["plain", "https"] } },
        "services": { "s": { "endpoints": [url] } },
    }))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A request for a protocol that is no WebSocket.
const RAW: &str = "GET /raw HTTP/1.1\r\nHost: ws.test\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n";

fn dial(portolan: &Portolan) -> Wire<TcpStream> {
    let stream = TcpStream::connect(portolan.plain).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    Wire::new(stream)
}

fn switched(portolan: &Portolan) -> Wire<TcpStream> {
    let mut wire = dial(portolan);
    wire.stream.write_all(RAW.as_bytes()).unwrap();
    let head = lossy(&wire.until(b"\r\n\r\n").unwrap()).to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("\r\nupgrade: lines\r\n"), "{head}");
    wire
}

#[test]
fn websockets_pass_over_h1_and_h2_with_tls_and_without() {
    let runtime = runtime();
    runtime.block_on(async {
        let echo = Echo::start().await;
        let portolan = serving(&echo.url());
        let proxy = Proxy::of(&portolan);
        for (at, over) in ALL.into_iter().enumerate() {
            let mut socket = proxy.open(over, "ws.test").await;
            says(&mut socket, "hello").await.unwrap();
            socket.send(Message::binary(vec![0, 255, 7])).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap().into_data()[..], [0, 255, 7], "{over:?}");
            socket.send(Message::Ping("are you there".into())).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("are you there".into()), "{over:?}");
            eventually("one tunnel is counted", || match portolan.metric("portolan_tunnels") {
                1.0 => Ok(()),
                other => Err(other),
            });
            let close = CloseFrame { code: 4001.into(), reason: "enough".into() };
            socket.close(Some(close.clone())).await.unwrap();
            assert_eq!(ended(&mut socket).await, Some(Message::Close(Some(close))), "{over:?}");
            eventually("the endpoint's side ends", || {
                echo.ended().get(at).filter(|end| *end == "closed: 4001").cloned().ok_or_else(|| echo.ended())
            });
        }
        eventually("no tunnel is left", || match portolan.metric("portolan_tunnels") {
            0.0 => Ok(()),
            other => Err(other),
        });
        let h1 = portolan.logged(json!({ "status": 101 }));
        assert_eq!((&h1["method"], &h1["reason"]), (&json!("GET"), &json!(null)), "{h1}");
        let bytes = |line: &serde_json::Value, name: &str| line[name].as_u64().unwrap_or_else(|| panic!("{line}"));
        // Frames of 5, 3, 13 and 8 bytes; a client's have a mask.
        assert_eq!((bytes(&h1, "request_bytes"), bytes(&h1, "response_bytes")), (53, 37), "{h1}");
        let h2 = portolan.logged(json!({ "status": 200 }));
        assert_eq!((&h2["method"], bytes(&h2, "request_bytes")), (&json!("CONNECT"), 53), "{h2}");
    });
}

#[test]
fn a_message_of_64_mib_passes_both_ways() {
    let runtime = runtime();
    runtime.block_on(async {
        let echo = Echo::start().await;
        let portolan = serving(&echo.url());
        let proxy = Proxy::of(&portolan);
        for over in [Over::H1Tls, Over::H2Tls] {
            let mut socket = proxy.open(over, "ws.test").await;
            let before = portolan.resident();
            let message: Vec<u8> = (0..64u32 << 18).flat_map(u32::to_le_bytes).collect();
            socket.send(Message::binary(message.clone())).await.unwrap();
            let back = socket.next().await.unwrap().unwrap().into_data();
            assert!(back == message, "{over:?}: {} bytes came back", back.len());
            let grown = portolan.resident().saturating_sub(before);
            assert!(grown < 24 << 20, "{over:?}: resident memory grew by {grown} bytes");
        }
    });
}

#[test]
fn what_an_endpoint_says_instead_of_switching_is_an_ordinary_answer() {
    let backend = Backend::answering(|exchange| {
        let status = exchange.request.target.trim_start_matches('/').to_string();
        exchange.respond(&format!("{status} Said"), &[], b"no")?;
        Ok(Then::Keep)
    });
    let portolan = serving(&backend.url());
    let proxy = Proxy::of(&portolan);
    runtime().block_on(async {
        for over in ALL {
            let status = proxy.try_open(over, "ws.test", "/403").await.map(drop).unwrap_err();
            assert_eq!(status, 403, "{over:?}");
        }
        // An h2 client would take it for a yes.
        let status = proxy.try_open(Over::H2, "ws.test", "/200").await.map(drop).unwrap_err();
        assert_eq!(status, 502);
        portolan.logged(json!({ "status": 502, "reason": "UpgradeRefused" }));
    });
    for request in backend.received() {
        assert_eq!((request.method.as_str(), request.all("upgrade")), ("GET", vec!["websocket"]), "{request:?}");
        assert_eq!(request.all("connection"), ["upgrade"], "{request:?}");
        assert_eq!(request.all("sec-websocket-key")[0].len(), 24, "{request:?}");
    }
    // h1 clients go on with their connection.
    let mut wire = dial(&portolan);
    for _ in 0..2 {
        wire.stream.write_all(RAW.replace("/raw", "/200").as_bytes()).unwrap();
        let head = lossy(&wire.until(b"\r\n\r\n").unwrap());
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(wire.until(b"no").unwrap(), b"no");
    }
}

#[test]
fn an_endpoint_switches_to_what_it_was_asked_for_or_not_at_all() {
    let backend = Backend::answering(|exchange| {
        let upgrade = if exchange.request.target == "/unnamed" { "" } else { "Upgrade: h2c\r\n" };
        exchange.write(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{upgrade}\r\n"))?;
        Ok(Then::Close)
    });
    let portolan = serving(&backend.url());
    for target in ["/other", "/unnamed"] {
        let answer =
            send_plain(portolan.plain, &RAW.replace("/raw", target).replace("Upgrade\r\n", "Upgrade, close\r\n"));
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.reason()), (502, Some("UpgradeRefused")), "{target}: {answer:?}");
    }
    // The proof of RFC 6455 is asked for where Portolan gave the key.
    let liar = Backend::answering(|exchange| {
        exchange.write(SWITCHED.replace("lines", "websocket\r\nSec-WebSocket-Accept: AAAA"))?;
        Ok(Then::Close)
    });
    let portolan = serving(&liar.url());
    let proxy = Proxy::of(&portolan);
    let status = runtime().block_on(proxy.try_open(Over::H2, "ws.test", "/")).map(drop).unwrap_err();
    assert_eq!(status, 502);
}

#[test]
fn what_is_said_together_with_the_heads_is_part_of_the_tunnel() {
    let backend = Backend::answering(|exchange| {
        exchange.write([SWITCHED, "early\n"].concat())?;
        let heard = exchange.read_part(9)?;
        exchange.write([b"heard ", &heard[..]].concat())?;
        Ok(Then::Close)
    });
    let portolan = serving(&backend.url());
    let mut wire = dial(&portolan);
    wire.stream.write_all([RAW, "too early"].concat().as_bytes()).unwrap();
    wire.until(b"\r\n\r\n").unwrap();
    wire.rest().unwrap();
    assert_eq!(lossy(&wire.buffer), "early\nheard too early");
}

#[test]
fn each_side_of_a_tunnel_ends_by_itself() {
    let backend = Backend::answering(|exchange| {
        exchange.write(SWITCHED)?;
        let mut heard = Vec::new();
        exchange.stream().read_to_end(&mut heard)?;
        // The client has ended its side and still listens.
        std::thread::sleep(Duration::from_millis(100));
        exchange.write([b"all of ", &heard[..]].concat())?;
        Ok(Then::Close)
    });
    let portolan = serving(&backend.url());
    let mut wire = switched(&portolan);
    wire.stream.write_all(b"this").unwrap();
    wire.stream.shutdown(Shutdown::Write).unwrap();
    wire.rest().unwrap();
    assert_eq!(lossy(&wire.buffer), "all of this");

    let first = Backend::answering(|exchange| {
        exchange.write([SWITCHED, "bye"].concat())?;
        exchange.hang_up()?;
        let mut heard = Vec::new();
        exchange.stream().read_to_end(&mut heard)?;
        assert_eq!(heard, b"still here");
        Ok(Then::Close)
    });
    let portolan = serving(&first.url());
    let mut wire = switched(&portolan);
    wire.rest().unwrap();
    assert_eq!(lossy(&wire.buffer), "bye");
    wire.stream.write_all(b"still here").unwrap();
    wire.stream.shutdown(Shutdown::Write).unwrap();
    let line = portolan.logged(json!({ "status": 101 }));
    assert_eq!((&line["request_bytes"], &line["response_bytes"]), (&json!(10), &json!(3)), "{line}");
}

/// An h2c endpoint: Portolan itself in front of the echo, which takes an extended CONNECT.
#[test]
fn websockets_pass_to_h2_endpoints_from_h1_and_h2() {
    runtime().block_on(async {
        let echo = Echo::start().await;
        let inner = serving(&echo.url());
        let outer = Portolan::serving(json!({
            "workers": 1,
            "routes": { "s": { "host": "ws.test", "listeners": ["plain", "https"] } },
            "services": { "s": { "endpoints": [format!("h2c://{}", inner.plain)] } },
        }));
        let proxy = Proxy::of(&outer);
        for over in ALL {
            let mut socket = proxy.open(over, "ws.test").await;
            says(&mut socket, "through two").await.unwrap();
            socket.close(None).await.unwrap();
            ended(&mut socket).await;
        }
        eventually("all four came by extended CONNECT", || {
            let lines = inner.access_log();
            let methods: Vec<String> = lines.iter().map(|line| line["method"].as_str().unwrap().to_string()).collect();
            if methods == ["CONNECT"; 4] { Ok(()) } else { Err(methods) }
        });
        for portolan in [&inner, &outer] {
            eventually("no tunnel is left", || match portolan.metric("portolan_tunnels") {
                0.0 => Ok(()),
                other => Err(other),
            });
        }
        // Of other protocols h2 knows nothing: the endpoint sees an ordinary request, and has no route for it.
        let answer = send_plain(outer.plain, &RAW.replace("Upgrade\r\n", "Upgrade, close\r\n")).unwrap();
        assert_eq!(answer.status, 502, "the echo takes no other request: {answer:?}");
    });
}

#[test]
fn plain_connect_and_unknown_protocols_of_h2_stay_refused() {
    let backend = Backend::named("s");
    let portolan = serving(&backend.url());
    let connect = "CONNECT ws.test:443 HTTP/1.1\r\nHost: ws.test:443\r\nConnection: close\r\n\r\n";
    let answer = send_plain(portolan.plain, connect).unwrap();
    assert_eq!((answer.status, answer.reason()), (501, Some("ConnectNotSupported")));
    assert!(backend.received().is_empty());
}
