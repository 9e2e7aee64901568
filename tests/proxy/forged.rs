//! Headers that say who the client is, made up by the client, in every spelling in which an endpoint may read them.
//! Each goes every way that there is; an endpoint that keeps all it receives must have received none.

use std::io::Write;

use serde_json::json;
use tempfile::TempDir;

use crate::support::h2::{H2, HEADERS};
use crate::support::http::{ask, send_plain};
use crate::support::pki::{Authority, Pair};
use crate::support::portolan::Portolan;
use crate::support::recorder::{Received, Recorder};
use crate::support::tls::Client;

const MADE_UP: &str = "made-up";
const ALL: [&str; 6] = ["client_cert", "client_cert_chain", "xfcc", "traefik_pem", "traefik_info", "nginx"];

/// Header lines as they are sent over h1. Over h2 their names are in lower case, as they have to be.
const SPELLINGS: [&[&str]; 43] = [
    &["Client-Cert: :made-up:"],
    &["client-cert: :made-up:"],
    &["CLIENT-CERT: :made-up:"],
    &["cLiEnT-cErT: :made-up:"],
    &["Client_Cert: :made-up:"],
    &["Client-Cert_Chain: :made-up:"],
    &["client.cert: :made-up:"],
    &["Client-Cert-Chain: :made-up:, :made-up:"],
    &["Client-Cert: :made-up:", "Client-Cert: :made-up:"],
    &["Client-Cert:", "Client-Cert: :made-up:"],
    &["X-Forwarded-Client-Cert: Hash=made-up;Subject=\"CN=admin\";URI=spiffe://td/admin"],
    &["X-FORWARDED-CLIENT-CERT: Hash=made-up"],
    &["X_Forwarded_Client_Cert: Hash=made-up"],
    &["X-Forwarded_Client-Cert: Hash=made-up"],
    &["X.Forwarded.Client.Cert: Hash=made-up"],
    &["X-Forwarded-Client-Cert: Hash=made-up", "X-Forwarded-Client-Cert: Hash=made-up"],
    &["X-Forwarded-Client-Cert:made-up"],
    &["X-Forwarded-Client-Cert: \t made-up \t"],
    &["X-Forwarded-Tls-Client-Cert: made-up"],
    &["x_forwarded_tls_client_cert: made-up"],
    &["X-Forwarded-Tls-Client-Cert-Info: Subject%3D%22CN%3Dmade-up%22"],
    &["X_Forwarded_Tls_Client_Cert_Info: made-up"],
    &["X~Forwarded~Tls~Client~Cert: made-up"],
    &["ssl-client-verify: SUCCESS made-up"],
    &["SSL-CLIENT-VERIFY: SUCCESS made-up"],
    &["SSL_CLIENT_VERIFY: SUCCESS made-up"],
    &["Ssl.Client.Verify: SUCCESS made-up"],
    &["ssl!client|verify: made-up"],
    &["ssl-client-cert: made-up"],
    &["ssl-client-subject-dn: CN=made-up"],
    &["SSL_CLIENT_S_DN: CN=made-up"],
    &["ssl-client-issuer-dn: CN=made-up"],
    &["ssl-client-verify: made-up", "ssl_client_verify: made-up", "SSL-Client-Verify: made-up"],
    &["X-SSL-Client-Cert: made-up"],
    &["X-SSL-Client-S-DN: made-up"],
    &["X_SSL_CLIENT_VERIFY: made-up"],
    &["X-Client-Cert: made-up"],
    &["X-Client-Verify: made-up"],
    &["X-TLS-Client-DN: made-up"],
    &["X-Amzn-Mtls-Clientcert-Leaf: made-up"],
    &["X-ARR-ClientCert: made-up"],
    &["Cf-Client-Cert-Der-Base64: made-up"],
    &["l5d-client-id: made-up"],
];

/// Whole requests that only h1 can say. `{host}` is where they go.
const RAW: [&str; 6] = [
    // Folded, whole and in the name's line.
    "GET / HTTP/1.1\r\nHost: {host}\r\nX-Folded: a\r\n Client-Cert: made-up\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: {host}\r\nClient-Cert:\r\n made-up\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: {host}\r\nClient-Cert : made-up\r\nConnection: close\r\n\r\n",
    // What `Connection` names is gone, and what it does not is looked at all the same.
    "GET / HTTP/1.1\r\nHost: {host}\r\nssl-client-verify: made-up\r\nConnection: close, ssl_client_verify\r\n\r\n",
    // As trailers.
    "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTrailer: Client-Cert, ssl_client_verify\r\n\
     Connection: close\r\n\r\n2\r\nok\r\n0\r\nClient-Cert: made-up\r\nssl_client_verify: made-up\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTrailer: X.Forwarded.Client.Cert\r\n\
     Connection: close\r\n\r\n2\r\nok\r\n0\r\nX.Forwarded.Client.Cert: made-up\r\n\r\n",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    PlainH2,
    /// Without a certificate, under a policy that does not insist on one; or, `Known`, with one.
    Tls,
    TlsH2,
    Known,
    KnownH2,
    /// Without any policy.
    Open,
    OpenH2,
}

const WAYS: [Way; 8] =
    [Way::Plain, Way::PlainH2, Way::Tls, Way::TlsH2, Way::Known, Way::KnownH2, Way::Open, Way::OpenH2];

impl Way {
    fn host(self) -> &'static str {
        match self {
            Way::Plain | Way::PlainH2 | Way::Open | Way::OpenH2 => "open.test",
            _ => "maybe.test",
        }
    }

    fn is_h2(self) -> bool {
        matches!(self, Way::PlainH2 | Way::TlsH2 | Way::KnownH2 | Way::OpenH2)
    }

    fn is_known(self) -> bool {
        matches!(self, Way::Known | Way::KnownH2)
    }
}

struct Stage {
    _dir: TempDir,
    recorder: Recorder,
    portolan: Portolan,
    pair: Pair,
}

impl Stage {
    fn start(trusted: &str) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path(), "clients");
        let pair = ca.issue("web", "DNS:web.example");
        let recorder = Recorder::start();
        // What hides underscores is not what is looked at here.
        let listener = json!({ "trusted_proxies": [trusted], "underscore_headers": "pass" });
        let portolan = Portolan::serving(json!({
            "listeners": { "plain": listener, "https": listener },
            "services": { "s": { "endpoints": [recorder.url()] } },
            "trust_bundles": { "clients": { "file": ca.ca_file } },
            "mtls_policies": { "maybe": { "mode": "verify_if_given", "trust": ["clients"], "forward": ALL } },
            "routes": {
                "open": { "host": "open.test", "listeners": ["plain", "https"], "service": "s" },
                "maybe": { "host": "maybe.test", "service": "s", "mtls": "maybe" },
            },
        }));
        Stage { _dir: dir, recorder, portolan, pair }
    }

    /// What the endpoint received of it.
    fn sent(&self, way: Way, lines: &[&str]) -> Vec<Received> {
        if !way.is_h2() {
            let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{lines}\r\n", way.host());
            return self.sent_raw(way, &request);
        }
        let fields: Vec<(String, &str)> = lines
            .iter()
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.trim()))
            .collect();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, *value)).collect();
        let mut h2 = match way {
            Way::PlainH2 => {
                let mut stream = std::net::TcpStream::connect(self.portolan.plain).unwrap();
                stream.write_all(crate::support::h2::PREFACE).unwrap();
                H2::after_preface(stream)
            }
            _ => H2::over(self.client(way).alpn(&[b"h2"]).connect(self.portolan.https, way.host()).unwrap()),
        };
        h2.get_with(way.host(), "/", &fields);
        // Refused is as good.
        let answer = h2.frame();
        assert!(answer.is_none_or(|frame| frame.kind != HEADERS || ["200", "400"].contains(&&*frame.status())));
        self.recorder.take()
    }

    fn sent_raw(&self, way: Way, request: &str) -> Vec<Received> {
        let answer = match way {
            Way::Plain => send_plain(self.portolan.plain, request),
            _ => ask(&mut self.client(way).connect(self.portolan.https, way.host()).unwrap(), request),
        };
        let answer = answer.unwrap();
        assert!(matches!(answer.status, 200 | 400), "{request}: {answer:?}");
        self.recorder.take()
    }

    fn client(&self, way: Way) -> Client {
        let client = Client::trusting(&self.portolan.root());
        if way.is_known() { client.showing(&self.pair.cert_file, &self.pair.key_file) } else { client }
    }
}

/// The made-up lines and trailers that arrived.
fn arrived(received: &[Received]) -> Vec<&String> {
    let lines = received.iter().flat_map(|request| request.headers.iter().chain(&request.trailers));
    lines.filter(|line| line.contains(MADE_UP) || line.starts_with("client-cert: :made")).collect()
}

/// What Portolan itself says to the endpoint is whole, and said once.
fn wrong(way: Way, received: &[Received]) -> Option<String> {
    if let Some(fault) = received.iter().find_map(|request| request.fault.as_ref()) {
        return Some(fault.clone());
    }
    let [request] = received else { return None };
    let once = |name: &str, value: &str| request.all(name).len() == 1 && request.all(name)[0].starts_with(value);
    let told = match way {
        _ if way.is_known() => {
            once("ssl-client-verify", "SUCCESS")
                && once("client-cert", ":MII")
                && once("x-forwarded-client-cert", "Hash=")
                && once("x-forwarded-tls-client-cert", "MII")
        }
        Way::Tls | Way::TlsH2 => once("ssl-client-verify", "NONE") && request.all("client-cert").is_empty(),
        _ => request.all("ssl-client-verify").is_empty() && request.all("client-cert").is_empty(),
    };
    (!told).then(|| format!("the endpoint is told otherwise: {request:#?}"))
}

#[test]
fn no_made_up_identity_reaches_an_endpoint() {
    let stage = Stage::start("10.0.0.0/8");
    let mut failures = Vec::new();
    let mut passed = 0;
    for way in WAYS {
        for lines in SPELLINGS {
            let received = stage.sent(way, lines);
            passed += received.len();
            if !arrived(&received).is_empty() {
                failures.push(format!("{way:?} {lines:?}: {received:#?}"));
            }
            failures.extend(wrong(way, &received).map(|why| format!("{way:?} {lines:?}: {why}")));
        }
        for raw in RAW.iter().filter(|_| !way.is_h2()) {
            let received = stage.sent_raw(way, &raw.replace("{host}", way.host()));
            if !arrived(&received).is_empty() {
                failures.push(format!("{way:?} {raw}: {received:#?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    // Each was a request that an endpoint got, without what was made up.
    assert_eq!(passed, WAYS.len() * SPELLINGS.len());
}

/// A trusted proxy is believed in its own spelling, which it has looked after, and in no other; and not against what
/// Portolan has verified itself.
#[test]
fn a_trusted_proxy_lets_no_other_spelling_through() {
    let stage = Stage::start("127.0.0.0/8");
    let mut failures = Vec::new();
    for way in WAYS {
        for lines in SPELLINGS {
            let received = stage.sent(way, lines);
            let own =
                |line: &&&str| line.split(':').next().unwrap().chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            let vouched = lines.iter().filter(own).filter(|line| line.contains(MADE_UP)).count();
            let arrived = arrived(&received).len();
            // Of those that stand in a chain, the chain is one line.
            let chained = usize::from(way.is_known() && lines[0].to_lowercase().starts_with("x-forwarded-client-cert"));
            let expected = if way.is_known() { chained.min(vouched) } else { vouched };
            if arrived != expected {
                failures.push(format!("{way:?} {lines:?}: {expected} expected: {received:#?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}
