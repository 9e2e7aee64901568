//! A request is answered from one table, however many are swapped in while it is under way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::support::portolan::Portolan;

const SWAPS: u32 = 200;
const REQUESTS: u32 = 10_000;
const CLIENTS: u32 = 8;

/// Generation N adds the prefix `/gN`, sends to backend N and is named in a response header by the route.
fn generation(n: u32, backend: SocketAddr) -> String {
    json!({
        "routes": { "swap": { "host": "swap.localhost", "listeners": ["plain", "https"], "use": ["prefix", "name"], "service": "backend" } },
        "middlewares": {
            "prefix": { "add_prefix": format!("/g{n}") },
            "name": { "headers": { "response": { "set": { "x-generation": n.to_string() } } } },
        },
        "services": { "backend": { "endpoints": [format!("http://{backend}")] } },
    })
    .to_string()
}

#[test]
fn every_answer_shows_one_generation_throughout_200_swaps() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stop = CancellationToken::new();
    let backends: Vec<SocketAddr> = (0..=SWAPS)
        .map(|n| {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            runtime.spawn(portolan::whoami::serve(listener, Some(n.to_string()), stop.clone()));
            address
        })
        .collect();

    let dir = tempfile::tempdir().unwrap();
    let routes = dir.path().join("routes.d");
    std::fs::create_dir(&routes).unwrap();
    let write = |n: u32| {
        let staged = dir.path().join("staged");
        std::fs::write(&staged, generation(n, backends[n as usize])).unwrap();
        std::fs::rename(&staged, routes.join("swap.json")).unwrap();
    };
    write(0);
    let portolan = Portolan::start(json!({ "providers": { "file": { "path": routes } }, "workers": 2 }));

    let seen = Arc::new(AtomicU32::new(0));
    let swapped = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| runtime.spawn(client(portolan.plain, seen.clone(), swapped.clone()))).collect();
    runtime.block_on(async {
        for n in 1..=SWAPS {
            write(n);
            let live = tokio::time::timeout(Duration::from_secs(10), async {
                while seen.load(Ordering::Relaxed) < n {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            live.await.unwrap_or_else(|_| {
                panic!(
                    "generation {n} never answered, {} did:\n{}\n{:?}",
                    seen.load(Ordering::Relaxed),
                    portolan.log(),
                    portolan.routes()
                )
            });
        }
        swapped.store(true, Ordering::Relaxed);
    });
    let answered: u32 = clients.into_iter().map(|client| runtime.block_on(client).unwrap()).sum();
    assert!(answered >= REQUESTS, "only {answered} requests ran while the tables were swapped");
    stop.cancel();
    portolan.stop();
}

/// Asks until its share is done and the last swap is over; every answer must be of one generation, and none may fail.
async fn client(to: SocketAddr, seen: Arc<AtomicU32>, swapped: Arc<AtomicBool>) -> u32 {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut answered = 0;
    while answered < REQUESTS / CLIENTS || !swapped.load(Ordering::Relaxed) {
        let request =
            http::Request::get("/x").header("host", "swap.localhost").body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert_eq!(head.status, 200, "{head:?} {body}");
        let n = head.headers["x-generation"].to_str().unwrap();
        assert!(body.starts_with(&format!("Name: {n}\n")), "the route is {n}, the backend another: {body}");
        assert!(body.contains(&format!("\nGET /g{n}/x HTTP/1.1\n")), "the route is {n}, the path another: {body}");
        seen.fetch_max(n.parse().unwrap(), Ordering::Relaxed);
        answered += 1;
    }
    answered
}
