//! The life of a tunnel: what ends it, what does not, and what it keeps of the proxy.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::put;
use crate::support::backend::{Backend, Then};
use crate::support::portolan::{Portolan, lay_over};
use crate::support::wait::{eventually, throughout};
use crate::support::websocket::{ALL, Echo, Over, Proxy, Socket, ended, says};

const DEADLINE: Duration = Duration::from_secs(2);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A proxy whose routes stand in a file of their own.
struct Held {
    portolan: Portolan,
    proxy: Proxy,
    dir: PathBuf,
    _dir: tempfile::TempDir,
}

impl Held {
    fn start(routes: &Value, settings: Value) -> Held {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.d");
        std::fs::create_dir(&path).unwrap();
        put(&path, routes);
        let mut all = json!({
            "workers": 1,
            "providers": { "file": { "path": path } },
            "shutdown": { "delay": "0s", "deadline": format!("{}s", DEADLINE.as_secs()) },
        });
        lay_over(&mut all, settings);
        let portolan = Portolan::serving(all);
        let proxy = Proxy::of(&portolan);
        Held { portolan, proxy, dir: path, _dir: dir }
    }

    /// Until the table is one that was made of these.
    fn swap(&self, routes: &Value) {
        let before = self.portolan.metric("portolan_table_generation");
        put(&self.dir, routes);
        eventually("another table", || match self.portolan.metric("portolan_table_generation") {
            now if now > before => Ok(()),
            now => Err(now),
        });
    }
}

/// A route for WebSockets and another one that may change.
fn routes(url: &str) -> Value {
    json!({
        "routes": {
            "ws": { "host": "ws.test", "listeners": ["plain", "https"], "service": "ws" },
            "other": { "host": "other.test", "listeners": ["plain"], "service": "ws" },
        },
        "services": { "ws": { "endpoints": [url] } },
    })
}

fn with(mut routes: Value, over: Value) -> Value {
    lay_over(&mut routes, over);
    routes
}

async fn stays(socket: &mut Socket) {
    says(socket, "still here").await.expect("a tunnel that stands");
}

/// How long it took until it was over.
async fn over(socket: &mut Socket) -> Duration {
    let began = Instant::now();
    tokio::time::timeout(Duration::from_secs(20), ended(socket)).await.expect("a tunnel that ends");
    began.elapsed()
}

#[test]
fn a_tunnel_lives_and_ends_with_its_own_route() {
    runtime().block_on(async {
        let (echo, second) = (Echo::start().await, Echo::start().await);
        let base = routes(&echo.url());
        let held = Held::start(&base, json!({}));
        for via in [Over::H1, Over::H2Tls] {
            let mut socket = held.proxy.open(via, "ws.test").await;
            // Others change, endpoints come, timeouts change: the route is what it was.
            let prefix = json!({ "middlewares": { "p": { "add_prefix": "/p" } } });
            let others = with(with(base.clone(), prefix), json!({ "routes": { "other": { "use": ["p"] } } }));
            held.swap(&others);
            stays(&mut socket).await;
            let more = json!({ "services": { "ws": {
                "endpoints": [echo.url(), second.url()], "timeouts": { "response_header": "50s" },
            } } });
            held.swap(&with(others.clone(), more));
            stays(&mut socket).await;

            // Its own content changes, and back within the time: nothing was.
            let changed = with(others.clone(), json!({ "routes": { "ws": { "use": ["p"] } } }));
            held.swap(&changed);
            stays(&mut socket).await;
            held.swap(&others);
            tokio::time::sleep(DEADLINE + Duration::from_millis(500)).await;
            stays(&mut socket).await;

            // It changes for good.
            held.swap(&changed);
            let began = Instant::now();
            stays(&mut socket).await;
            over(&mut socket).await;
            assert!(began.elapsed() + Duration::from_millis(300) >= DEADLINE, "after {:?}", began.elapsed());
            held.swap(&base);

            // It is gone.
            let mut socket = held.proxy.open(via, "ws.test").await;
            held.swap(&with(base.clone(), json!({ "routes": { "ws": null } })));
            let began = Instant::now();
            stays(&mut socket).await;
            over(&mut socket).await;
            assert!(began.elapsed() + Duration::from_millis(300) >= DEADLINE, "after {:?}", began.elapsed());
            held.swap(&base);

            // It is closed: whoever would be refused now is cut now.
            let mut socket = held.proxy.open(via, "ws.test").await;
            held.swap(&with(base.clone(), json!({ "routes": { "ws": { "use": ["nothing"] } } })));
            let took = over(&mut socket).await;
            assert!(took < DEADLINE - Duration::from_millis(500), "after {took:?}");
            held.swap(&base);
        }
        let reasons: Vec<Value> = eventually("six tunnels are logged", || {
            let lines = held.portolan.access_log();
            let reasons: Vec<Value> = lines.iter().map(|line| line["reason"].clone()).collect();
            if reasons.len() == 6 { Ok(reasons) } else { Err(lines) }
        });
        let three = ["RouteWithdrawn", "RouteWithdrawn", "Unresolved"];
        assert_eq!(reasons, [three, three].concat());
    });
}

#[test]
fn a_tunnel_ends_with_its_endpoint() {
    runtime().block_on(async {
        let (echo, second) = (Echo::start().await, Echo::start().await);
        let base = routes(&echo.url());
        let held = Held::start(&base, json!({}));
        for via in [Over::H1Tls, Over::H2] {
            let mut socket = held.proxy.open(via, "ws.test").await;
            held.swap(&routes(&second.url()));
            let took = over(&mut socket).await;
            assert!(took < DEADLINE, "after {took:?}");
            held.portolan.logged(json!({ "reason": "EndpointGone" }));
            held.swap(&base);
        }
    });
}

#[test]
fn a_download_ends_with_its_route_as_a_tunnel_does() {
    let backend = Backend::answering(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun")?;
        exchange.closed_by_peer();
        Ok(Then::Close)
    });
    let base = routes(&backend.url());
    let held = Held::start(&base, json!({}));
    for (over, reason) in [
        (json!({ "routes": { "ws": { "use": ["nothing"] } } }), "Unresolved"),
        (json!({ "routes": { "ws": null } }), "RouteWithdrawn"),
    ] {
        let mut stream = TcpStream::connect(held.portolan.plain).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: ws.test\r\n\r\n").unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"begun") {
            let mut part = [0; 1000];
            let count = stream.read(&mut part).unwrap();
            seen.extend_from_slice(&part[..count]);
        }
        held.swap(&with(base.clone(), over));
        // The connection ends within the answer; a reset says the same.
        assert!(matches!(stream.read(&mut [0; 10]), Ok(0) | Err(_)), "more came");
        held.portolan.logged(json!({ "reason": reason, "status": 200 }));
        held.swap(&base);
    }
}

#[test]
fn whichever_side_goes_away_takes_the_other_along() {
    runtime().block_on(async {
        let echo = Echo::start().await;
        let portolan = Held::start(&routes(&echo.url()), json!({}));
        for (at, via) in ALL.into_iter().enumerate() {
            let mut socket = portolan.proxy.open(via, "ws.test").await;
            stays(&mut socket).await;
            drop(socket);
            eventually("the endpoint's side ends", || echo.ended().get(at).cloned().ok_or(via));
        }
        let leaver = Backend::answering(|exchange| {
            let key = exchange.request.all("sec-websocket-key")[0].to_string();
            let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
            exchange.write(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            ))?;
            Ok(Then::Close)
        });
        portolan.swap(&routes(&leaver.url()));
        for via in ALL {
            let mut socket = portolan.proxy.open(via, "ws.test").await;
            over(&mut socket).await;
        }
        eventually("no tunnel is left", || match portolan.portolan.metric("portolan_tunnels") {
            0.0 => Ok(()),
            other => Err(other),
        });
    });
}

#[test]
fn silence_ends_a_tunnel_and_no_other_limit_does() {
    runtime().block_on(async {
        let echo = Echo::start().await;
        let short = json!({ "header": "1s", "idle": "1s", "body": "1s", "send": "1s", "tunnel_idle": "4s" });
        let listeners = json!({ "listeners": { "plain": { "timeouts": short }, "https": { "timeouts": short } } });
        let hasty = json!({ "services": { "ws": { "timeouts": { "request": "1s", "response_header": "1s" } } } });
        let held = Held::start(&with(routes(&echo.url()), hasty), listeners);
        for via in [Over::H1, Over::H2Tls] {
            let mut socket = held.proxy.open(via, "ws.test").await;
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(2500)).await;
                stays(&mut socket).await;
            }
            let took = over(&mut socket).await;
            assert!(took >= Duration::from_millis(3500), "{via:?}: after {took:?}");
        }
        eventually("both are counted", || {
            match held.portolan.metric(r#"portolan_connections_cut_total{reason="TunnelIdle"}"#) {
                2.0 => Ok(()),
                other => Err(other),
            }
        });
    });
}

#[test]
fn tunnels_have_the_drain_of_their_listener() {
    runtime().block_on(async {
        let echo = Echo::start().await;
        let held = Held::start(&routes(&echo.url()), json!({}));
        for via in [Over::H1, Over::H2] {
            let mut socket = held.proxy.open(via, "ws.test").await;
            held.portolan.edit(json!({ "listeners": { "plain": { "timeouts": { "idle": if via == Over::H1 { "70s" } else { "71s" } } } } }));
            let began = Instant::now();
            while began.elapsed() + Duration::from_millis(500) < DEADLINE {
                stays(&mut socket).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            over(&mut socket).await;
        }
        held.portolan.logged(json!({ "reason": "Drained" }));

        let mut socket = held.proxy.open(Over::H1Tls, "ws.test").await;
        let mut other = held.proxy.open(Over::H2Tls, "ws.test").await;
        held.portolan.terminate();
        tokio::time::sleep(DEADLINE / 2).await;
        stays(&mut socket).await;
        stays(&mut other).await;
        over(&mut socket).await;
        over(&mut other).await;
        let Held { portolan, .. } = held;
        let (code, log) = portolan.ended();
        assert_eq!(code, Some(0), "{log}");
    });
}

#[test]
fn a_slow_reader_holds_its_endpoint_back_and_takes_no_memory() {
    let written = Arc::new(AtomicU64::new(0));
    let of = written.clone();
    let backend = Backend::answering(move |exchange| {
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: lines\r\n\r\n")?;
        let piece = vec![b'x'; 1 << 16];
        for _ in 0..(256 << 20 >> 16) {
            exchange.write(&piece)?;
            of.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
        Ok(Then::Close)
    });
    let held = Held::start(&routes(&backend.url()), json!({}));
    let before = held.portolan.resident();
    let mut stream = TcpStream::connect(held.portolan.plain).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ws.test\r\nConnection: upgrade\r\nUpgrade: lines\r\n\r\n").unwrap();
    let mut last = 0;
    let stuck = eventually("the endpoint is held back", || {
        let now = written.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(300));
        let still = now > 0 && now == std::mem::replace(&mut last, now);
        if still { Ok(now) } else { Err(now) }
    });
    // What the kernel keeps of two sockets, and one read.
    assert!(stuck < 64 << 20, "{stuck} bytes were taken for a client that reads nothing");
    throughout("it stays so", Duration::from_millis(500), || match written.load(Ordering::SeqCst) {
        now if now == stuck => Ok(()),
        now => Err(now),
    });
    let grown = held.portolan.resident().saturating_sub(before);
    assert!(grown < 4 << 20, "resident memory grew by {grown} bytes");
    let mut all = 0u64;
    let mut space = vec![0; 1 << 20];
    loop {
        match stream.read(&mut space).unwrap() {
            0 => break,
            count => all += count as u64,
        }
    }
    assert!(all > 256 << 20, "{all} bytes, heads included");
    let grown = held.portolan.resident().saturating_sub(before);
    assert!(grown < 4 << 20, "resident memory grew by {grown} bytes");
}

/// The full figure, a hundred WebSockets across 1,000 swaps at 10,000 routes, is `make bench-held`.
#[test]
fn tunnels_keep_no_table() {
    const TUNNELS: usize = 100;
    const ROUTES: usize = 1000;
    const SWAPS: usize = 60;
    runtime().block_on(async {
        let echo = Echo::start().await;
        let url = echo.url();
        let generation = |n: usize| {
            let mut all = routes(&url);
            let other = |at: usize| {
                let route = json!({ "host": format!("h{at}.test"), "path": format!("/g{n}"), "listeners": ["plain"], "service": "ws" });
                (format!("r{at}"), route)
            };
            all["routes"].as_object_mut().unwrap().extend((0..ROUTES).map(other));
            all
        };
        let held = Held::start(&generation(0), json!({ "log": { "level": "info" } }));
        let (mut sockets, mut memory) = (Vec::new(), Vec::new());
        for n in 1..=SWAPS {
            held.swap(&generation(n));
            // Each of the first tables has some that were opened on it.
            while sockets.len() < TUNNELS.min(TUNNELS * 3 * n / SWAPS) {
                sockets.push(held.proxy.open(ALL[sockets.len() % 4], "ws.test").await);
            }
            memory.push(held.portolan.resident());
        }
        // Two tables are there while one takes the other's place: a single look says little.
        let mean = |looks: &[u64]| looks.iter().sum::<u64>() / looks.len() as u64;
        let (first, last) = (mean(&memory[SWAPS / 3..SWAPS / 2]), mean(&memory[SWAPS * 5 / 6..]));
        let grown = last.saturating_sub(first);
        for socket in &mut sockets {
            stays(socket).await;
        }
        // The allocator's own ups and downs come to 11 MiB where other tests run beside it. A table that is kept by each
        // of the thirty swaps in between would be hundreds.
        assert!(grown < 32 << 20, "resident memory grew by {grown} bytes: {memory:?}");
    });
}
