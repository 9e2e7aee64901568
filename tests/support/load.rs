//! A steady load: so many GETs a second over TLS, whatever becomes of them, and a record of each.
//!
//! ```text
//! Plan ─start─▶ a thread here, or a process in a container ─stop─▶ [Record]
//! ```
//! An open loop: requests start when it is time, not when the ones before are done, so that a stall costs as many
//! requests as it would cost users.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore};
use tokio_rustls::TlsConnector;

use super::container::{Container, Running};
use super::engine::Engine;
use super::http::Answer;
use super::wait::eventually;

/// What a request may take; one that takes longer has failed.
pub const LIMIT: Duration = Duration::from_secs(1);
/// When a request is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// As many as browsers and API clients have to one host, more or less.
const H2_CONNECTIONS: usize = 4;
/// Whoever finds all of them busy waits, and is the later for it: without a bound, a machine that stalls for a moment would
/// be kept busy by handshakes for good.
const H1_CONNECTIONS: usize = 64;
/// Where a load in a container finds its plan and puts its records.
const SHARED: &str = "/load";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    H1,
    H2,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub to: SocketAddr,
    pub host: String,
    /// PEM.
    pub root: String,
    /// Requests a second of each.
    pub rates: BTreeMap<Protocol, u32>,
}

/// One request. Times since the Unix epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub protocol: Protocol,
    pub sent: Duration,
    pub took: Duration,
    /// Who answered 200, or what happened instead.
    pub outcome: Result<Served, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Served {
    pub by: String,
    /// When the backend had it.
    pub received: Duration,
}

impl Record {
    /// Why it has failed, if it has.
    pub fn failure(&self) -> Option<String> {
        match &self.outcome {
            Err(why) => Some(why.clone()),
            Ok(served) if self.took > LIMIT => Some(format!("{} answered after {:?}", served.by, self.took)),
            Ok(_) => None,
        }
    }
}

/// A load under way.
pub enum Load {
    Here { stop: Arc<AtomicBool>, thread: JoinHandle<Vec<Record>> },
    Contained { container: Running, shared: TempDir },
}

impl Plan {
    /// In this process.
    pub fn start(self) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || self.carry_out(|| stop.load(Ordering::Relaxed))
        });
        Load::Here { stop, thread }
    }

    /// In a container of its own on this network: this very test executable, whose one test is [`in_a_container`].
    pub fn start_in(self, engine: &'static Engine, name: &str, network: &str) -> Load {
        let shared = tempfile::Builder::new().prefix("load-").tempdir().unwrap();
        std::fs::write(shared.path().join("plan"), serde_json::to_vec(&self).unwrap()).unwrap();
        let executable = std::env::current_exe().unwrap();
        let container = Container::named(engine, name)
            .image("portolan:test")
            .network(network)
            .option("--volume", &format!("{}:/test:ro", executable.display()))
            .option("--volume", &format!("{}:{SHARED}", shared.path().display()))
            .option("--entrypoint", "/test")
            .command(&["--exact", "support::load::in_a_container", "--ignored", "--nocapture"])
            .start();
        Load::Contained { container, shared }
    }

    fn carry_out(self, done: impl Fn() -> bool) -> Vec<Record> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, self.send(done))
    }

    async fn send(self, done: impl Fn() -> bool) -> Vec<Record> {
        let (records, mut recorded) = tokio::sync::mpsc::unbounded_channel();
        let mut clients: Vec<(Client, Duration, tokio::time::Instant)> = self
            .rates
            .iter()
            .map(|(protocol, rate)| {
                (Client::new(&self, *protocol), Duration::from_secs(1) / *rate, tokio::time::Instant::now())
            })
            .collect();
        while !done() {
            let now = tokio::time::Instant::now();
            for (client, every, due) in &mut clients {
                while *due <= now {
                    let (client, records, scheduled) = (client.clone(), records.clone(), *due);
                    tokio::task::spawn_local(async move {
                        let _ = records.send(client.get(scheduled.into_std()).await);
                    });
                    *due += *every;
                }
            }
            let next = clients.iter().map(|(_, _, due)| *due).min().unwrap();
            tokio::time::sleep_until(next).await;
        }
        // What is under way is waited for: it counts.
        drop(records);
        let mut all = Vec::new();
        while let Some(record) = recorded.recv().await {
            all.push(record);
        }
        all
    }
}

impl Load {
    pub fn stop(self) -> Vec<Record> {
        let records = match self {
            Load::Here { stop, thread } => {
                stop.store(true, Ordering::Relaxed);
                thread.join().unwrap()
            }
            Load::Contained { container, shared } => {
                std::fs::write(shared.path().join("stop"), "").unwrap();
                let file = shared.path().join("records");
                eventually("the load in a container ends", || if file.exists() { Ok(()) } else { Err("it goes on") });
                drop(container);
                serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
            }
        };
        assert!(!records.is_empty(), "no load at all");
        records
    }
}

#[test]
#[ignore = "no test: the process of a load in a container"]
fn in_a_container() {
    let shared = Path::new(SHARED);
    let plan: Plan = serde_json::from_slice(&std::fs::read(shared.join("plan")).unwrap()).unwrap();
    let looked = Cell::new(Instant::now());
    let records = plan.carry_out(|| {
        // Not a look at the disk for every request.
        if looked.get().elapsed() < Duration::from_millis(100) {
            return false;
        }
        looked.set(Instant::now());
        shared.join("stop").exists()
    });
    let unfinished: PathBuf = shared.join("records.new");
    std::fs::write(&unfinished, serde_json::to_vec(&records).unwrap()).unwrap();
    std::fs::rename(unfinished, shared.join("records")).unwrap();
}

type H1 = http1::SendRequest<Empty<Bytes>>;
type H2 = http2::SendRequest<Empty<Bytes>>;

/// The connections of one protocol.
#[derive(Clone)]
struct Client {
    to: SocketAddr,
    host: Arc<str>,
    protocol: Protocol,
    tls: TlsConnector,
    idle: Rc<RefCell<Vec<H1>>>,
    places: Rc<Semaphore>,
    /// Made on first use, one after the other asked, each replaced when it is closed.
    shared: Rc<[Mutex<Option<H2>>; H2_CONNECTIONS]>,
    turn: Rc<Cell<usize>>,
}

impl Client {
    fn new(plan: &Plan, protocol: Protocol) -> Client {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(plan.root.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = match protocol {
            Protocol::H1 => vec![b"http/1.1".to_vec()],
            Protocol::H2 => vec![b"h2".to_vec()],
        };
        Client {
            to: plan.to,
            host: plan.host.as_str().into(),
            protocol,
            tls: TlsConnector::from(Arc::new(config)),
            idle: Default::default(),
            places: Rc::new(Semaphore::new(H1_CONNECTIONS)),
            shared: Default::default(),
            turn: Default::default(),
        }
    }

    async fn get(self, scheduled: Instant) -> Record {
        let sent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let exchange = async {
            match self.protocol {
                Protocol::H1 => self.over_h1().await,
                Protocol::H2 => self.over_h2().await,
            }
        };
        let outcome = match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("nothing within {PATIENCE:?}")),
        };
        Record { protocol: self.protocol, sent, took: scheduled.elapsed(), outcome }
    }

    async fn over_h1(&self) -> Result<Served, String> {
        let _place = self.places.acquire().await.map_err(|e| e.to_string())?;
        let mut sender = loop {
            let idle = self.idle.borrow_mut().pop();
            match idle {
                Some(mut sender) => {
                    if sender.ready().await.is_ok() {
                        break sender;
                    }
                }
                None => {
                    let (sender, connection) =
                        http1::handshake(self.connect().await?).await.map_err(|e| format!("handshake: {e}"))?;
                    tokio::task::spawn_local(connection);
                    break sender;
                }
            }
        };
        let request = Request::get("/").header("host", &*self.host).body(Empty::new()).unwrap();
        let response = sender.send_request(request).await.map_err(said)?;
        let served = read(response).await?;
        self.idle.borrow_mut().push(sender);
        Ok(served)
    }

    async fn over_h2(&self) -> Result<Served, String> {
        let turn = self.turn.replace(self.turn.get() + 1);
        let mut sender = {
            let mut slot = self.shared[turn % H2_CONNECTIONS].lock().await;
            match slot.as_ref().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender.clone(),
                None => {
                    let (sender, connection) = http2::handshake(TokioExecutor::new(), self.connect().await?)
                        .await
                        .map_err(|e| format!("handshake: {e}"))?;
                    tokio::task::spawn(connection);
                    slot.insert(sender).clone()
                }
            }
        };
        let request = Request::get(format!("https://{}/", self.host)).body(Empty::new()).unwrap();
        read(sender.send_request(request).await.map_err(said)?).await
    }

    async fn connect(&self) -> Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>, String> {
        let stream = TcpStream::connect(self.to).await.map_err(|e| format!("connect: {e}"))?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(self.host.to_string()).unwrap();
        Ok(TokioIo::new(self.tls.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?))
    }
}

fn said(error: hyper::Error) -> String {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

async fn read(response: hyper::Response<hyper::body::Incoming>) -> Result<Served, String> {
    let (head, body) = response.into_parts();
    let text =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_string();
    let body = body.collect().await.map_err(|e| format!("{} and then {}", head.status, said(e)))?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let answer = Answer { protocol: String::new(), status: head.status.as_u16(), headers: Vec::new(), body };
    let name = answer.whoami("Name").or(answer.whoami("Hostname"));
    match (head.status, name, text("whoami-received").parse()) {
        (StatusCode::OK, Some(by), Ok(received)) => {
            Ok(Served { by: by.to_string(), received: Duration::from_secs_f64(received) })
        }
        (status, ..) => Err(format!("{status} {}", text("portolan-reason"))),
    }
}
