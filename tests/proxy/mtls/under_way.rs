//! What is under way: WebSockets over h1 and h2 and answers that do not end, cut when their policy does not admit them
//! any more; those of other policies are left alone.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Pki, Stage, get, replace};
use crate::support::announce;
use crate::support::backend::{Backend, Then};
use crate::support::pki::Pair;
use crate::support::websocket::{Echo, Over, Proxy, Socket, ended, says};

/// From the change on disk or the end of a certificate to the cut. The promise is a second; a busy machine gets more.
const SOON: Duration = Duration::from_secs(5);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn stage(pki: &Pki, echo: &Echo) -> Stage {
    replace(&pki.dir.path().join("list.pem"), pki.a.list(1, 3600, &[]));
    let policies = json!({
        "p": { "trust": ["a"], "revoked": ["l"] },
        "q": { "trust": ["b"] },
    });
    let over = json!({
        "services": { "s": { "endpoints": [format!("http://{}", echo.address)] } },
        "revocations": { "l": { "file": pki.dir.path().join("list.pem") } },
    });
    Stage::start(pki, &[("p.test", Some("p")), ("q.test", Some("q"))], policies, over)
}

async fn open(stage: &Stage, pair: &Pair, host: &str) -> Vec<Socket> {
    let proxy = Proxy::showing(&stage.portolan, pair);
    let mut sockets = Vec::new();
    for over in [Over::H1Tls, Over::H2Tls] {
        let mut socket = proxy.open(over, host).await;
        says(&mut socket, "hello").await.unwrap();
        sockets.push(socket);
    }
    sockets
}

/// Everything of `doomed` ends soon after `change`, and nothing of `others`.
async fn cut(what: &str, doomed: Vec<Socket>, others: &mut [Socket], change: impl FnOnce()) {
    change();
    let changed = Instant::now();
    for mut socket in doomed {
        tokio::time::timeout(SOON, ended(&mut socket)).await.unwrap_or_else(|_| panic!("{what}: still open"));
    }
    announce(&format!("{what}: cut after {:?}", changed.elapsed()));
    for socket in others {
        says(socket, "still there").await.unwrap();
    }
}

#[test]
fn websockets_are_cut_by_a_list_a_withdrawn_ca_a_policy_and_the_end_of_a_certificate() {
    let pki = Pki::new();
    runtime().block_on(async {
        let echo = Echo::start().await;
        let stage = stage(&pki, &echo);
        let mut others = open(&stage, &pki.other, "q.test").await;

        let doomed = open(&stage, &pki.db, "p.test").await;
        let mut same = open(&stage, &pki.web, "p.test").await;
        cut("a list", doomed, &mut others, || {
            replace(&pki.dir.path().join("list.pem"), pki.a.list(2, 3600, &[&pki.db]));
        })
        .await;
        for socket in &mut same {
            says(socket, "not on the list").await.unwrap();
        }

        cut("a policy", same, &mut others, || {
            stage.portolan.edit(json!({ "mtls_policies": { "p": { "allow": [{ "dns": "nobody.example" }] } } }));
        })
        .await;
        stage.portolan.edit(json!({ "mtls_policies": { "p": { "allow": [{ "dns": "*.example" }] } } }));

        let short = pki.a.issue_for("short", "DNS:short.example", Duration::from_secs(6));
        let doomed = loop {
            // Until the edit is in force.
            let proxy = Proxy::showing(&stage.portolan, &short);
            match proxy.try_open(Over::H1Tls, "p.test", "/socket").await {
                Ok(socket) => break vec![socket, proxy.open(Over::H2Tls, "p.test").await],
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let ends = short.not_after();
        let wait = ends.duration_since(std::time::SystemTime::now()).unwrap_or_default();
        tokio::time::sleep(wait).await;
        cut("the end of a certificate", doomed, &mut others, || {}).await;

        let doomed = open(&stage, &pki.web, "p.test").await;
        cut("a withdrawn CA", doomed, &mut others, || {
            replace(&pki.a.ca_file, std::fs::read(&pki.b.ca_file).unwrap());
        })
        .await;
    });
}

/// As a gRPC stream is one: a head, and then now and then something.
#[test]
fn an_answer_that_does_not_end_is_cut_and_so_is_an_upload() {
    let pki = Pki::new();
    let endless = Backend::answering(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nbegun")?;
        std::thread::sleep(Duration::from_secs(30));
        Ok(Then::Close)
    });
    let list = pki.dir.path().join("list.pem");
    replace(&list, pki.a.list(1, 3600, &[]));
    let stage = Stage::start(
        &pki,
        &[("p.test", Some("p"))],
        json!({ "p": { "trust": ["a"], "revoked": ["l"] } }),
        json!({
            "services": { "s": { "endpoints": [endless.url()] } },
            "revocations": { "l": { "file": list } },
        }),
    );
    let mut h1 = stage.connect(Some(&pki.db), "p.test").unwrap();
    std::io::Write::write_all(&mut h1, get("p.test", "/").as_bytes()).unwrap();
    let mut first = [0; 4096];
    let mut heard = String::new();
    while !heard.ends_with("begun") {
        let count = h1.read(&mut first).unwrap();
        heard.push_str(&String::from_utf8_lossy(&first[..count]));
    }
    let mut h2 = stage.h2(Some(&pki.db), "p.test");
    let stream = h2.get("p.test", "/");
    loop {
        let frame = h2.frame().unwrap();
        if frame.kind == crate::support::h2::DATA && frame.stream == stream {
            break;
        }
    }
    let mut upload = stage.h2(Some(&pki.db), "p.test");
    let uploading = upload.post("p.test", "/");
    upload.data(uploading, b"part", false);

    let changed = Instant::now();
    replace(&list, pki.a.list(2, 3600, &[&pki.db]));
    assert!(h1.read(&mut first).map_or(true, |count| count == 0), "the answer goes on");
    for (h2, stream) in [(&mut h2, stream), (&mut upload, uploading)] {
        while let Some(frame) = h2.frame() {
            if frame.kind == crate::support::h2::RST_STREAM && frame.stream == stream {
                break;
            }
        }
    }
    assert!(changed.elapsed() < SOON, "{:?}", changed.elapsed());
    announce(&format!("answers under way: cut after {:?}", changed.elapsed()));
    let line = stage.portolan.logged(json!({ "reason": "CertificateRevoked", "protocol": "HTTP/2.0" }));
    assert_eq!(line["status"], 200, "{line}");
}
