//! What Portolan speaks to endpoints: h1 or h2, in the clear or over TLS, and what it takes for an endpoint.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::backend::{Backend, Told};
use crate::support::frames::frame;
use crate::support::h2::{DATA, GOAWAY, H2, HEADERS, RST_STREAM};
use crate::support::http::{Answer, send_plain_within};
use crate::support::peer::{Peer, Speaks};
use crate::support::pki::{Authority, Pair};
use crate::support::portolan::{Portolan, lay_over};
use crate::support::tls::Client;
use crate::support::wait::eventually;

/// One service at `up.test`, on the listener without TLS and on the one with it.
fn serving(endpoint: &str, fields: Value) -> Portolan {
    serving_with(endpoint, fields, json!({}))
}

fn serving_with(endpoint: &str, fields: Value, over: Value) -> Portolan {
    let mut service = json!({ "endpoints": [endpoint] });
    lay_over(&mut service, fields);
    let mut all = json!({
        "workers": 1,
        "routes": { "r": { "host": "up.test", "listeners": ["plain", "https"], "service": "s" } },
        "services": { "s": service },
    });
    lay_over(&mut all, over);
    Portolan::serving(all)
}

fn ask(portolan: &Portolan, host: &str, method: &str, body: &str) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request = format!("{method} /p?q=1 HTTP/1.1\r\nHost: {host}\r\n{length}Connection: close\r\n\r\n{body}");
    send_plain_within(portolan.plain, &request, Duration::from_secs(10)).unwrap()
}

fn get(portolan: &Portolan) -> Answer {
    ask(portolan, "up.test", "GET", "")
}

#[track_caller]
fn told(answer: &Answer) -> Told {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.told()
}

#[track_caller]
fn assert_refused(portolan: &Portolan, answer: &Answer, reason: &str, words: &[&str]) {
    assert_eq!((answer.status, answer.reason()), (502, Some(reason)), "{answer:?}\n{}", portolan.log());
    portolan.says(words);
}

struct Pki {
    dir: TempDir,
    ca: Authority,
}

impl Pki {
    fn new() -> Pki {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path(), "endpoints");
        Pki { dir, ca }
    }

    fn pair(&self) -> Pair {
        self.ca.issue("web", "IP:127.0.0.1,DNS:web.test")
    }

    /// A service's tls that trusts it, with its bundle.
    fn bundles(&self) -> Value {
        json!({ "trust_bundles": { "endpoints": { "file": self.ca.ca_file } } })
    }

    fn trusting(&self, endpoint: &str, tls: Value) -> Portolan {
        let mut all = json!({ "trust": ["endpoints"] });
        lay_over(&mut all, tls);
        serving_with(endpoint, json!({ "tls": all }), self.bundles())
    }
}

#[test]
fn h2c_is_one_connection_for_all_requests() {
    let peer = Peer::start(Speaks { pause: Duration::from_millis(50), ..Speaks::default() });
    let portolan = serving(&peer.url("h2c"), json!({}));
    std::thread::scope(|scope| {
        let answers: Vec<_> = (0..20).map(|_| scope.spawn(|| get(&portolan))).collect();
        for answer in answers {
            assert_eq!(told(&answer.join().unwrap()).name(), "HTTP/2.0");
        }
    });
    let told = told(&ask(&portolan, "up.test", "POST", "some body"));
    assert_eq!((told.target(), told.body_length()), ("http://up.test/p?q=1", 9));
    assert_eq!(told.all("x-forwarded-host"), ["up.test"]);
    for name in ["host", "connection", "transfer-encoding", "te", "keep-alive"] {
        assert!(told.all(name).is_empty(), "{name}: {told:?}");
    }
    assert_eq!(peer.connections(), 1);
}

#[test]
fn a_services_scheme_says_more_of_a_url_and_may_not_contradict_it() {
    let peer = Peer::h2c();
    let portolan = serving(&peer.url("http"), json!({ "scheme": "h2c" }));
    assert_eq!(told(&get(&portolan)).name(), "HTTP/2.0");
    let portolan = serving(&peer.url("https"), json!({ "scheme": "h2c" }));
    portolan.problem("Invalid", &["the service's scheme is h2c"]);
    assert_eq!(get(&portolan).status, 503);
    let portolan = serving(&peer.url("h2c"), json!({ "tls": { "server_name": "a" } }));
    portolan.problem("Invalid", &["over TLS"]);
    assert_eq!(get(&portolan).status, 503);
    assert_eq!(peer.requests().len(), 1);
}

#[test]
fn an_h1_endpoint_is_no_h2_endpoint() {
    let backend = Backend::named("h1");
    let portolan = serving(&backend.url().replace("http:", "h2c:"), json!({ "timeouts": { "connect": "2s" } }));
    let answer = get(&portolan);
    assert!(matches!(answer.reason(), Some("EndpointUnreachable" | "ConnectTimeout")), "{answer:?}");
}

#[test]
fn over_tls_the_endpoint_picks_the_protocol() {
    let pki = Pki::new();
    let pair = pki.pair();
    for (alpn, scheme, expected) in [
        (&["h2", "http/1.1"][..], "https", "HTTP/2.0"),
        (&["http/1.1"], "https", "HTTP/1.1"),
        (&[], "https", "HTTP/1.1"),
        (&["h2"], "h2", "HTTP/2.0"),
    ] {
        let peer = Peer::start(Speaks::tls(&pair, alpn));
        let portolan = pki.trusting(&peer.url(scheme), json!({}));
        for _ in 0..3 {
            let told = told(&ask(&portolan, "up.test", "POST", "some body"));
            assert_eq!((told.name(), told.body_length()), (expected, 9), "{alpn:?} {scheme}");
        }
        assert_eq!(peer.connections(), 1, "{alpn:?} {scheme}");
    }
    // h2 or nothing.
    for alpn in [&["http/1.1"][..], &[]] {
        let peer = Peer::start(Speaks::tls(&pair, alpn));
        let portolan = pki.trusting(&peer.url("h2"), json!({}));
        let answer = get(&portolan);
        assert_refused(&portolan, &answer, "EndpointTls", &["no TLS with an endpoint"]);
        assert!(peer.requests().is_empty());
    }
}

/// A check that is answered is one that asked as requests do: the same protocol, name and CAs.
#[test]
fn checks_by_get_go_the_way_that_requests_go() {
    let pki = Pki::new();
    let pair = pki.pair();
    let check = json!({ "path": "/up?deep=1", "interval": "100ms", "host": "up.test" });
    for (alpn, scheme, version) in [
        (None, "h2c", "HTTP/2.0"),
        (Some(&["h2", "http/1.1"][..]), "https", "HTTP/2.0"),
        (Some(&["http/1.1"]), "https", "HTTP/1.1"),
        (Some(&["h2"]), "h2", "HTTP/2.0"),
    ] {
        let peer = Peer::start(alpn.map_or_else(Speaks::default, |alpn| Speaks::tls(&pair, alpn)));
        let (tls, all) = match alpn {
            None => (json!({}), json!({})),
            Some(_) => (json!({ "tls": { "trust": ["endpoints"] } }), pki.bundles()),
        };
        let mut fields = json!({ "health": check });
        lay_over(&mut fields, tls);
        let portolan = serving_with(&peer.url(scheme), fields, all);
        portolan.endpoint(&peer.url(scheme), |endpoint| endpoint["state"] == "ready");
        eventually("checks", || if peer.requests().len() > 2 { Ok(()) } else { Err(peer.requests()) });
        assert!(peer.requests().iter().all(|request| request == "GET /up"), "{:?}", peer.requests());
        assert_eq!(told(&get(&portolan)).name(), version, "{scheme}");
    }
}

#[test]
fn a_check_takes_no_certificate_that_requests_would_not_take() {
    let pki = Pki::new();
    let peer = Peer::start(Speaks::tls(&pki.pair(), &["h2"]));
    let health = json!({ "path": "/up", "interval": "100ms" });
    for (scheme, tls, why) in [
        ("https", json!({ "trust": ["endpoints"], "server_name": "elsewhere.test" }), "not for elsewhere.test"),
        ("h2", json!({}), "no CA that the service trusts"),
    ] {
        let fields = json!({ "health": health, "tls": tls, "ejection": { "failures": 0 } });
        let portolan = serving_with(&peer.url(scheme), fields, pki.bundles());
        let endpoint = portolan.endpoint(&peer.url(scheme), |endpoint| endpoint["state"] == "unhealthy");
        assert!(endpoint["why"].as_str().unwrap().contains(why), "{endpoint}");
        let answer = get(&portolan);
        assert_eq!((answer.status, answer.reason()), (503, Some("NotReady")), "{answer:?}");
    }
    assert!(peer.requests().is_empty(), "{:?}", peer.requests());
}

/// A leaf that ended long ago, with the CA beside it, which has not.
fn expired(dir: &Path) -> (PathBuf, Pair) {
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(["127.0.0.1".to_string()]).unwrap();
    (leaf.not_before, leaf.not_after) = (rcgen::date_time_ymd(1999, 1, 1), rcgen::date_time_ymd(1999, 12, 31));
    let leaf = leaf.signed_by(&key, &ca).unwrap();
    let put = |name: &str, pem: String| {
        std::fs::write(dir.join(name), pem).unwrap();
        dir.join(name)
    };
    let pair = Pair { cert_file: put("expired.pem", leaf.pem()), key_file: put("expired.key", key.serialize_pem()) };
    (put("expired-ca.pem", ca.pem()), pair)
}

#[test]
fn a_certificate_that_is_not_the_endpoints_is_not_taken() {
    let pki = Pki::new();
    let strange = Authority::create(&pki.dir.path().join("strange"), "strange");
    let itself = Pair { cert_file: strange.ca_file.clone(), key_file: strange.ca_file.with_extension("key") };
    let (past, ended) = expired(pki.dir.path());
    let cases: [(Pair, Value, &[&str]); 5] = [
        (pki.ca.issue("other", "DNS:other.test"), json!({}), &["not for 127.0.0.1", "other.test"]),
        (pki.pair(), json!({ "server_name": "elsewhere.test" }), &["not for elsewhere.test", "web.test"]),
        (strange.issue("web", "IP:127.0.0.1"), json!({}), &["no CA that the service trusts"]),
        (itself, json!({}), &["certificate"]),
        (ended, json!({ "trust": ["past"] }), &["has expired"]),
    ];
    for (pair, tls, words) in cases {
        let peer = Peer::start(Speaks::tls(&pair, &["h2", "http/1.1"]));
        let mut all = json!({ "trust": ["endpoints"] });
        lay_over(&mut all, tls);
        let mut bundles = pki.bundles();
        lay_over(&mut bundles, json!({ "trust_bundles": { "past": { "file": past } } }));
        let portolan = serving_with(&peer.url("https"), json!({ "tls": all }), bundles);
        for _ in 0..2 {
            assert_refused(&portolan, &get(&portolan), "EndpointCertificate", words);
        }
        assert!(peer.requests().is_empty(), "{words:?}");
        let said = portolan.log().lines().filter(|line| line.contains("no TLS with an endpoint")).count();
        assert_eq!(said, 1, "said once: {}", portolan.log());
    }
}

#[test]
fn the_right_name_is_configured_or_the_endpoints_own() {
    let pki = Pki::new();
    let peer = Peer::start(Speaks::tls(&pki.ca.issue("web", "DNS:web.test"), &["h2"]));
    let portolan = pki.trusting(&peer.url("https"), json!({ "server_name": "web.test" }));
    assert_eq!(told(&get(&portolan)).target(), "https://up.test/p?q=1");
}

#[test]
fn tls_is_never_left_out() {
    let pki = Pki::new();
    let plain = Peer::h2c();
    for scheme in ["https", "h2"] {
        let portolan = pki.trusting(&plain.url(scheme), json!({}));
        assert_refused(&portolan, &get(&portolan), "EndpointTls", &["no TLS with an endpoint"]);
    }
    assert!(plain.requests().is_empty());
    // It waits for the end of a line, and so does Portolan for its words.
    let patient = Backend::named("plain");
    let url = patient.url().replace("http:", "https:");
    let portolan = serving(&url, json!({ "timeouts": { "connect": "500ms" } }));
    assert_eq!(get(&portolan).reason(), Some("ConnectTimeout"));
    assert!(patient.received().iter().all(|request| request.target != "/p?q=1"));
    // Who cannot be trusted because the bundle is not there is not spoken to at all.
    let peer = Peer::start(Speaks::tls(&pki.pair(), &["h2"]));
    let portolan = serving(&peer.url("https"), json!({ "tls": { "trust": ["missing"] } }));
    portolan.problem("Unresolved", &["missing", "tls.trust"]);
    assert_eq!((get(&portolan).status, get(&portolan).reason().map(String::from)), (503, Some("Unresolved".into())));
    let gone = json!({ "trust_bundles": { "gone": { "file": pki.dir.path().join("gone.pem") } } });
    let portolan = serving_with(&peer.url("https"), json!({ "tls": { "trust": ["gone"] } }), gone);
    assert_eq!((get(&portolan).status, get(&portolan).reason().map(String::from)), (503, Some("TrustInvalid".into())));
    assert_eq!(peer.connections(), 0);
}

#[test]
fn verification_is_off_where_the_operator_says_so() {
    let pki = Pki::new();
    let peer = Peer::start(Speaks::tls(&pki.ca.issue("other", "DNS:other.test"), &["h2"]));
    let portolan = serving(&peer.url("https"), json!({ "tls": { "insecure_skip_verify": true } }));
    assert_eq!(told(&get(&portolan)).name(), "HTTP/2.0");
}

#[test]
fn the_systems_cas_are_trusted_where_nothing_is_said() {
    let pki = Pki::new();
    let peer = Peer::start(Speaks::tls(&pki.pair(), &["h2"]));
    let settings = |port: &Peer| {
        json!({
            "providers": { "docker": "off" },
            "routes": { "r": { "host": "up.test", "listeners": ["plain"], "service": "s" } },
            "services": { "s": { "endpoints": [port.url("https")] } },
        })
    };
    let ca = pki.ca.ca_file.to_str().unwrap();
    let portolan = Portolan::spawn_with(settings(&peer), &[], &[("SSL_CERT_FILE", ca)]);
    portolan.wait_until_ready();
    assert_eq!(told(&get(&portolan)).name(), "HTTP/2.0");
    let portolan = serving(&peer.url("https"), json!({}));
    assert_refused(&portolan, &get(&portolan), "EndpointCertificate", &["no CA that the service trusts"]);
}

#[test]
fn the_internal_ca_is_trusted_by_its_name() {
    let pki = Pki::new();
    let peer = Peer::start(Speaks::tls(&pki.pair(), &["h2"]));
    // What it has not signed is not taken; that it is known at all is seen from the reason.
    let portolan = serving(&peer.url("https"), json!({ "tls": { "issuer": "corp" } }));
    assert_refused(&portolan, &get(&portolan), "EndpointCertificate", &["no CA that the service trusts"]);
    // Portolan itself has a certificate of it.
    let url = format!("https://{}", portolan.https);
    portolan.edit(json!({
        "routes": { "inner": { "host": "inner.test", "service": "told" } },
        "services": {
            "told": { "endpoints": [Backend::named("inner").url()] },
            "s": { "endpoints": [url], "tls": { "issuer": "corp", "server_name": "inner.test" } },
        },
    }));
    eventually("the handshake is good", || match get(&portolan) {
        answer if answer.status == 200 || answer.status == 421 || answer.status == 404 || answer.status == 508 => {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });
    let portolan = serving(&peer.url("https"), json!({ "tls": { "issuer": "nobody" } }));
    assert_eq!((get(&portolan).status, get(&portolan).reason().map(String::from)), (503, Some("TrustInvalid".into())));
}

#[test]
fn a_connection_is_used_under_its_own_terms_alone() {
    let pki = Pki::new();
    let peer = Peer::start(Speaks::tls(&pki.ca.issue("web", "DNS:web.test"), &["h2"]));
    let route = |host: &str, service: &str| json!({ "host": host, "listeners": ["plain"], "service": service });
    let service = |tls: Value| json!({ "endpoints": [peer.url("https")], "tls": tls });
    let mut settings = json!({
        "workers": 1,
        "routes": {
            "lax": route("lax.test", "lax"), "strict": route("strict.test", "strict"), "right": route("right.test", "right"),
        },
        "services": {
            "lax": service(json!({ "insecure_skip_verify": true })),
            "strict": service(json!({ "trust": ["endpoints"] })),
            "right": service(json!({ "trust": ["endpoints"], "server_name": "web.test" })),
        },
    });
    lay_over(&mut settings, pki.bundles());
    let portolan = Portolan::serving(settings);
    for _ in 0..2 {
        told(&ask(&portolan, "lax.test", "GET", ""));
        assert_refused(
            &portolan,
            &ask(&portolan, "strict.test", "GET", ""),
            "EndpointCertificate",
            &["not for 127.0.0.1"],
        );
        told(&ask(&portolan, "right.test", "GET", ""));
    }
    assert_eq!(peer.connections(), 2);
}

#[test]
fn what_is_no_longer_trusted_gets_no_request_over_an_old_connection() {
    let pki = Pki::new();
    let other = Authority::create(&pki.dir.path().join("other"), "other");
    let bundle = pki.dir.path().join("bundle.pem");
    let put = |from: &Path| {
        std::fs::copy(from, bundle.with_extension("new")).unwrap();
        std::fs::rename(bundle.with_extension("new"), &bundle).unwrap();
    };
    put(&pki.ca.ca_file);
    for alpn in ["h2", "http/1.1"] {
        put(&pki.ca.ca_file);
        let peer = Peer::start(Speaks::tls(&pki.pair(), &[alpn]));
        let over = json!({ "trust_bundles": { "b": { "file": bundle } } });
        let portolan = serving_with(&peer.url("https"), json!({ "tls": { "trust": ["b"] } }), over);
        told(&get(&portolan));
        put(&other.ca_file);
        eventually("the old connection is not used", || match get(&portolan) {
            answer if answer.reason() == Some("EndpointCertificate") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

/// For longer than an endpoint that has left is waited for.
#[test]
fn what_is_under_way_is_finished_when_the_terms_change() {
    let pki = Pki::new();
    let slow = Duration::from_secs(6);
    let peer = Peer::start(Speaks { pause: slow, ..Speaks::tls(&pki.pair(), &["h2"]) });
    let portolan = pki.trusting(&peer.url("https"), json!({}));
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| get(&portolan));
        eventually("it is asked", || if peer.requests().is_empty() { Err(()) } else { Ok(()) });
        portolan.edit(json!({ "services": { "s": { "tls": { "server_name": "web.test" } } } }));
        told(&answer.join().unwrap());
    });
    assert_eq!(peer.requests().len(), 1);
    told(&get(&portolan));
    assert_eq!(peer.connections(), 2);
}

#[test]
fn an_endpoints_limit_of_streams_holds() {
    let peer = Peer::start(Speaks { most_streams: Some(2), pause: Duration::from_millis(200), ..Speaks::default() });
    let portolan = serving(&peer.url("h2c"), json!({}));
    std::thread::scope(|scope| {
        let answers: Vec<_> = (0..8).map(|_| scope.spawn(|| get(&portolan))).collect();
        answers.into_iter().for_each(|answer| drop(told(&answer.join().unwrap())));
    });
    assert!(peer.most_at_a_time() <= 2, "{}", peer.most_at_a_time());
    assert!(peer.connections() <= 8 && peer.connections() >= 2, "{}", peer.connections());
}

#[test]
fn an_endpoint_that_starts_again_is_found_again() {
    let pki = Pki::new();
    let pair = pki.pair();
    let mut peer = Peer::start(Speaks::tls(&pair, &["h2"]));
    let portolan = pki.trusting(&peer.url("https"), json!({}));
    for _ in 0..3 {
        told(&get(&portolan));
        let address = peer.address;
        drop(peer);
        eventually("the port is free", || TcpListener::bind(address).map(drop));
        peer = Peer::at(address, Speaks::tls(&pair, &["h2"]));
    }
    told(&ask(&portolan, "up.test", "GET", ""));
}

/// An h2 endpoint frame by frame.
struct Script {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

/// What requests get instead of an answer: a frame for the connection (GOAWAY) or the stream.
#[derive(Clone, Copy)]
struct Unwilling {
    /// Counted over all connections.
    requests: (usize, usize),
    kind: u8,
    payload: &'static [u8],
    /// After a head and some of a body.
    midway: bool,
}

impl Unwilling {
    fn script(self) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let counted = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let counted = counted.clone();
                std::thread::spawn(move || drop(refuse(stream.unwrap(), self, &counted)));
            }
        });
        Script { address, asked }
    }
}

fn refuse(mut stream: TcpStream, how: Unwilling, asked: &AtomicUsize) -> std::io::Result<()> {
    stream.write_all(&frame(4, 0, 0, &[]))?;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut rest = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut rest)?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if head[3] == 4 && head[4] & 1 == 0 {
            stream.write_all(&frame(4, 1, 0, &[]))?;
        }
        // What ends the request.
        if !matches!(head[3], HEADERS | DATA) || head[4] & 1 == 0 {
            continue;
        }
        let Unwilling { requests: (from, to), kind, payload, midway } = how;
        if (from..to).contains(&asked.fetch_add(1, Ordering::SeqCst)) {
            if midway {
                // :status 200
                stream.write_all(&frame(HEADERS, 4, id, &[0x88]))?;
                stream.write_all(&frame(DATA, 0, id, b"half"))?;
            }
            stream.write_all(&frame(kind, 0, if kind == GOAWAY { 0 } else { id }, payload))?;
            continue;
        }
        stream.write_all(&frame(HEADERS, 4 | 1, id, &[0x88]))?;
    }
}

const REFUSED: &[u8] = &[0, 0, 0, 7];
/// The last stream that was looked at is none; NO_ERROR.
const LEAVING: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0];

const METHODS: [(&str, &str); 4] = [("GET", ""), ("POST", ""), ("POST", "some body"), ("PATCH", "x")];

#[test]
fn what_an_endpoint_has_not_looked_at_goes_to_another_one_with_its_body() {
    for (kind, payload) in [(RST_STREAM, REFUSED), (GOAWAY, LEAVING)] {
        let script = Unwilling { requests: (0, usize::MAX), kind, payload, midway: false }.script();
        let peer = Peer::h2c();
        let both = json!({ "endpoints": [format!("h2c://{}", script.address), peer.url("h2c")] });
        let portolan = serving("", both);
        for (method, body) in METHODS.iter().cycle().take(8) {
            assert_eq!(told(&ask(&portolan, "up.test", method, body)).body_length(), body.len() as u64);
        }
        assert_eq!(peer.requests().len(), 8);
        assert!(script.asked.load(Ordering::SeqCst) >= 4, "round robin asks it first every other time");
    }
}

#[test]
fn a_kept_connection_that_takes_no_more_is_followed_by_a_new_one() {
    for (kind, payload) in [(RST_STREAM, REFUSED), (GOAWAY, LEAVING)] {
        for (method, body) in METHODS {
            let script = Unwilling { requests: (1, 2), kind, payload, midway: false }.script();
            let portolan = serving(&format!("h2c://{}", script.address), json!({}));
            assert_eq!(get(&portolan).status, 200);
            assert_eq!(ask(&portolan, "up.test", method, body).status, 200, "{kind} {method} {body}");
            assert_eq!(script.asked.load(Ordering::SeqCst), 3, "{kind} {method} {body}");
        }
    }
}

/// CANCEL: it may have been looked at.
#[test]
fn what_may_have_been_looked_at_is_asked_again_where_twice_is_as_once() {
    for (method, body, expected) in [("GET", "", 200), ("PUT", "", 200), ("POST", "", 502), ("PUT", "x", 502)] {
        let script = Unwilling { requests: (1, 2), kind: RST_STREAM, payload: &[0, 0, 0, 8], midway: false }.script();
        let portolan = serving(&format!("h2c://{}", script.address), json!({}));
        assert_eq!(get(&portolan).status, 200);
        let answer = ask(&portolan, "up.test", method, body);
        assert_eq!(answer.status, expected, "{method} {body}: {answer:?}");
        assert_eq!(script.asked.load(Ordering::SeqCst), if expected == 200 { 3 } else { 2 });
    }
}

#[test]
fn the_time_for_an_answer_begins_when_a_body_that_is_kept_is_over() {
    let peer = Peer::start(Speaks { pause: Duration::from_secs(60), ..Speaks::default() });
    let portolan = serving(&peer.url("h2c"), json!({ "timeouts": { "response_header": "300ms" } }));
    for (method, body) in METHODS {
        let answer = ask(&portolan, "up.test", method, body);
        assert_eq!((answer.status, answer.reason()), (504, Some("ResponseTimeout")), "{method} {body}");
    }
}

#[test]
fn an_endpoints_reset_reaches_the_client_with_its_code() {
    // ENHANCE_YOUR_CALM: nobody makes it up on the way.
    let payload = &[0, 0, 0, 11];
    let script = Unwilling { requests: (0, usize::MAX), kind: RST_STREAM, payload, midway: true }.script();
    let portolan = serving(&format!("h2c://{}", script.address), json!({}));
    let session = Client::trusting(&portolan.root()).alpn(&[b"h2"]).connect(portolan.https, "up.test").unwrap();
    let mut h2 = H2::over(session);
    let stream = h2.get("up.test", "/");
    loop {
        let frame = h2.frame().unwrap();
        if frame.kind == RST_STREAM {
            assert_eq!((frame.stream, &frame.payload[..]), (stream, &payload[..]));
            break;
        }
        assert!(!frame.ends_stream(), "{frame:?}");
    }
}
