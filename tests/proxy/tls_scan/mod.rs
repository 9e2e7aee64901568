//! TLS as those see it who look for its faults: two scanners, and a client that does everything wrong.
//!
//! ```text
//! testssl.sh ─▶ findings ─▶ none above LOW, but for those that `testssl.txt` gives a reason for
//! sslyze     ─▶ Mozilla's intermediate profile
//! hostile/   ─▶ one word a case ─▶ `hostile.txt`: the alert, and the clause that asks for it
//! ```
//! `tests/run` installs what they need.

mod hostile;
mod scanners;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::support::backend::Backend;
use crate::support::pki::Authority;
use crate::support::port;
use crate::support::portolan::Portolan;

/// Two listeners: `https` has a host that anybody may ask and one with a certificate of RSA, `guarded` has the first as
/// well, and two hosts under policies that require certificates of different CAs.
struct Stage {
    portolan: Portolan,
    guarded: SocketAddr,
    /// Certificates with their keys, by name, and `root.pem`.
    dir: tempfile::TempDir,
    _backend: Backend,
}

const EC: [&str; 3] = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

impl Stage {
    fn start() -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let [clients, strangers, servers] =
            ["clients", "strangers", "servers"].map(|name| Authority::create(dir.path(), name));
        clients.issue_as("web", "DNS:web.example", &EC, "clientAuth");
        clients.issue_as("rsa", "DNS:rsa.example", &["rsa:2048"], "clientAuth");
        clients.issue_as("server", "DNS:server.example", &EC, "serverAuth");
        clients.issue_for("expired", "DNS:expired.example", Duration::ZERO);
        strangers.issue_as("stranger", "DNS:web.example", &EC, "clientAuth");
        let of_rsa = servers.issue_as("of-rsa", "DNS:rsa.test", &["rsa:2048"], "serverAuth");
        let backend = Backend::named("s");
        let guarded = SocketAddr::from(([127, 0, 0, 1], port::free_port()));
        let portolan = Portolan::serving(json!({
            "listeners": { "guarded": { "address": guarded, "tls": {} } },
            "routes": {
                "open": { "host": "open.test", "service": "s", "listeners": ["https", "guarded"] },
                "rsa": { "host": "rsa.test", "service": "s", "listeners": ["https"] },
                "required": { "host": "required.test", "service": "s", "mtls": "clients", "listeners": ["guarded"] },
                "other": { "host": "other.test", "service": "s", "mtls": "strangers", "listeners": ["guarded"] },
            },
            "services": { "s": { "endpoints": [backend.url()] } },
            "mtls_policies": {
                "clients": { "mode": "require", "trust": ["clients"] },
                "strangers": { "mode": "require", "trust": ["strangers"] },
            },
            "trust_bundles": {
                "clients": { "file": clients.ca_file },
                "strangers": { "file": strangers.ca_file },
            },
            "certificates": { "rsa": { "cert_file": of_rsa.cert_file, "key_file": of_rsa.key_file } },
        }));
        std::fs::copy(portolan.root(), dir.path().join("root.pem")).unwrap();
        Stage { portolan, guarded, dir, _backend: backend }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A Python that has the packages of `requirements.txt`: `tests/run` makes one.
fn python() -> PathBuf {
    PathBuf::from(wanted("PORTOLAN_TEST_TLS_PYTHON"))
}

fn wanted(variable: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set; tests/run sets it"))
}

/// The lines of a checked-in table, in columns.
fn table(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split('|').map(str::trim).collect())
}
