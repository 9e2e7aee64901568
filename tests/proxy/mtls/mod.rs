//! Mutual TLS as clients see it: rustls, curl and openssl, over h1 and h2.

mod changes;
mod crossing;
mod forward;
mod modes;
pub mod record;
mod under_way;

use std::io;
use std::path::{Path, PathBuf};

use rustls::AlertDescription;
use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::h2::H2;
use crate::support::http::{Answer, Failure};
use crate::support::pki::{Authority, Pair};
use crate::support::portolan::{Portolan, lay_over};
use crate::support::tls::{Client, Session};

/// Two CAs that policies may trust, one that none does, and clients of theirs.
pub struct Pki {
    pub dir: tempfile::TempDir,
    pub a: Authority,
    pub b: Authority,
    pub web: Pair,
    pub db: Pair,
    pub other: Pair,
    pub unknown: Pair,
}

impl Pki {
    pub fn new() -> Pki {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| Authority::create(&dir.path().join(name), name));
        Pki {
            web: a.issue("web", "DNS:web.example,URI:spiffe://td.example/ns/shop/sa/web"),
            db: a.issue("db", "DNS:db.example"),
            other: b.issue("web", "DNS:web.example"),
            unknown: c.issue("web", "DNS:web.example"),
            dir,
            a,
            b,
        }
    }

    fn bundles(&self) -> Value {
        json!({ "a": { "file": self.a.ca_file }, "b": { "file": self.b.ca_file } })
    }
}

pub struct Stage {
    pub portolan: Portolan,
    backend: Backend,
    root: PathBuf,
}

impl Stage {
    /// Routes by host, or by host and path, to their policies.
    pub fn start(pki: &Pki, routes: &[(&str, Option<&str>)], policies: Value, over: Value) -> Stage {
        let backend = Backend::named("s");
        let mut settings = json!({
            "services": { "s": { "endpoints": [backend.url()] } },
            "mtls_policies": policies,
            "trust_bundles": pki.bundles(),
            "routes": {},
        });
        for (index, (at, policy)) in routes.iter().enumerate() {
            let (host, path) = at.split_once('/').unwrap_or((at, ""));
            let mut route = json!({ "host": host, "path": format!("/{path}"), "service": "s" });
            if let Some(policy) = policy {
                route["mtls"] = json!(policy);
            }
            settings["routes"][format!("r{index}")] = route;
        }
        lay_over(&mut settings, over);
        let portolan = Portolan::serving(settings);
        Stage { root: portolan.root(), portolan, backend }
    }

    fn client(&self, pair: Option<&Pair>) -> Client {
        let client = Client::trusting(&self.root);
        match pair {
            Some(pair) => client.showing(&pair.cert_file, &pair.key_file),
            None => client,
        }
    }

    fn connect(&self, pair: Option<&Pair>, name: &str) -> io::Result<Session> {
        self.client(pair).connect(self.portolan.https, name)
    }

    fn h2(&self, pair: Option<&Pair>, name: &str) -> H2 {
        H2::over(self.client(pair).alpn(&[b"h2"]).connect(self.portolan.https, name).unwrap())
    }

    /// What a request on a connection of its own comes to, with rustls: a status, or the alert that ends the handshake.
    fn ask(&self, pair: Option<&Pair>, host: &str, path: &str) -> Result<u16, Option<AlertDescription>> {
        let asked = self.connect(pair, host).and_then(|mut session| session.ask(&get(host, path)));
        asked.map(|answer| answer.status).map_err(|error| alert(&error))
    }

    pub fn curl(&self, pair: Option<&Pair>, url: &str, options: &[&str]) -> Result<Answer, Failure> {
        let shown = pair.map(|pair| [path(&pair.cert_file), path(&pair.key_file)]);
        let mut all: Vec<&str> = options.to_vec();
        if let Some([cert, key]) = &shown {
            all.extend(["--cert", cert, "--key", key]);
        }
        self.portolan.curl(url, &all)
    }
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// Renamed into place.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let staged = path.with_extension("staged");
    std::fs::write(&staged, content).unwrap();
    std::fs::rename(&staged, path).unwrap();
}
