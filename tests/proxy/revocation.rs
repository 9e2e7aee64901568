//! Who is taken back is turned away, also on connections that have been open all along; and what cannot be read closes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::{Backend, Then};
use crate::support::pki::{Authority, Pair};
use crate::support::portolan::{Portolan, lay_over};
use crate::support::tls::{Client, Session};
use crate::support::wait::eventually;
use crate::support::{announce, port};

/// `r.test` under policy `p`, with `over` laid over the settings.
fn start(backend: &Backend, over: Value) -> Portolan {
    let mut settings = json!({
        "routes": { "r": { "host": "r.test", "service": "s", "mtls": "p" } },
        "services": { "s": { "endpoints": [backend.url()] } },
        "mtls_policies": { "p": { "mode": "require", "trust": ["b"] } },
    });
    lay_over(&mut settings, over);
    Portolan::serving(settings)
}

/// Somebody with a certificate and a connection, which the proxy may end with a refusal.
struct Holder<'p> {
    pair: &'p Pair,
    session: Option<Session>,
}

const GET: &str = "GET / HTTP/1.1\r\nHost: r.test\r\n\r\n";

impl<'p> Holder<'p> {
    fn of(pair: &'p Pair) -> Holder<'p> {
        Holder { pair, session: None }
    }

    fn connect(&self, portolan: &Portolan) -> io::Result<Session> {
        let client = Client::trusting(&portolan.root()).showing(&self.pair.cert_file, &self.pair.key_file);
        client.connect(portolan.https, "r.test")
    }

    /// On the connection that is open, or on a new one; 0 is a refused handshake.
    fn ask(&mut self, portolan: &Portolan) -> u16 {
        if let Some(session) = &mut self.session
            && let Ok(answer) = session.ask(GET)
        {
            return answer.status;
        }
        self.session = self.connect(portolan).ok();
        let answer = self.session.as_mut().and_then(|session| session.ask(GET).ok());
        answer.map_or(0, |answer| answer.status)
    }

    /// On the connection that has been open all along.
    fn ask_here(&mut self) -> u16 {
        self.session.as_mut().unwrap().ask(GET).unwrap().status
    }

    fn ask_until(&mut self, portolan: &Portolan, status: u16) {
        eventually(&format!("the answer is {status}"), || match self.ask(portolan) {
            now if now == status => Ok(()),
            now => Err((now, portolan.problems())),
        });
    }

    /// Until the connection that is open now is refused; every answer before that is 200.
    fn ask_until_refused_here(&mut self) -> Duration {
        let started = Instant::now();
        eventually("it is refused where it is connected", || match self.ask_here() {
            403 => Ok(()),
            200 => Err(200),
            other => panic!("{other}"),
        });
        started.elapsed()
    }
}

/// A new connection is refused, in the handshake or by its first answer.
fn is_refused(portolan: &Portolan, pair: &Pair) -> bool {
    Holder::of(pair).ask(portolan) != 200
}

fn put(path: &Path, text: impl AsRef<[u8]>) {
    let staged = path.with_extension("staged");
    std::fs::write(&staged, text).unwrap();
    std::fs::rename(&staged, path).unwrap();
}

#[test]
fn who_is_taken_back_by_the_internal_ca_is_turned_away_where_it_is_connected() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "trust_bundles": { "b": { "issuer": "corp" } } }));
    let issue = |name: &str| -> Pair {
        portolan.cli(&["ca", "issue", "--uri", &format!("spiffe://example.org/{name}"), "--out", name]);
        Pair {
            cert_file: portolan.dir().join(name).join("cert.pem"),
            key_file: portolan.dir().join(name).join("key.pem"),
        }
    };
    let (alice, bob) = (issue("alice"), issue("bob"));
    let [mut of_alice, mut of_bob] = [&alice, &bob].map(Holder::of);
    assert_eq!([&mut of_alice, &mut of_bob].map(|holder| holder.ask(&portolan)), [200, 200]);
    assert_eq!(portolan.get("https://r.test/").map(|answer| answer.status).unwrap_or(0), 0, "without a certificate");

    portolan.cli(&["ca", "revoke", "alice/cert.pem"]);
    let took = of_alice.ask_until_refused_here();
    announce(&format!("refused {took:?} after the command ended"));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(is_refused(&portolan, &alice));
    assert_eq!(of_bob.ask_here(), 200);
    assert!(!is_refused(&portolan, &bob));

    // What is not known is not let in.
    let list = portolan.dir().join("state/issuers/corp/revoked.json");
    let good = std::fs::read(&list).unwrap();
    put(&list, &good[..good.len() / 2]);
    of_bob.ask_until(&portolan, 503);
    portolan.problem("TrustInvalid", &["revoked.json", "is damaged"]);
    std::fs::remove_file(&list).unwrap();
    portolan.problem("TrustInvalid", &["revoked.json", "cannot be read"]);
    assert_eq!(of_bob.ask(&portolan), 503);
    // Any command of the CA makes a lost one anew, of what its log knows.
    portolan.cli(&["ca", "root"]);
    of_bob.ask_until(&portolan, 200);
    assert!(is_refused(&portolan, &alice));
}

/// A CA of somebody else's, two clients, and the file of its list.
struct Partners {
    dir: tempfile::TempDir,
    ca: Authority,
    alice: Pair,
    bob: Pair,
    list: PathBuf,
}

impl Partners {
    fn new() -> Partners {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path(), "partners");
        let (alice, bob) = (ca.issue("alice", "DNS:alice.example"), ca.issue("bob", "DNS:bob.example"));
        let list = dir.path().join("list.pem");
        Partners { dir, ca, alice, bob, list }
    }

    fn settings(&self, revocation: Value) -> Value {
        json!({
            "mtls_policies": { "p": { "revoked": ["l"], "handshake": "ask" } },
            "trust_bundles": { "b": { "file": self.ca.ca_file } },
            "revocations": { "l": revocation },
        })
    }
}

#[test]
fn a_list_in_a_file_bites_closes_and_opens_where_clients_are_connected() {
    let (backend, partners) = (Backend::named("s"), Partners::new());
    let Partners { ca, alice, bob, list, .. } = &partners;
    put(list, ca.list(5, 3600, &[]));
    let mut portolan = start(&backend, partners.settings(json!({ "file": list })));
    let [mut of_alice, mut of_bob] = [alice, bob].map(Holder::of);
    assert_eq!([&mut of_alice, &mut of_bob].map(|holder| holder.ask(&portolan)), [200, 200]);

    let six = ca.list(6, 3600, &[alice]);
    put(list, &six);
    of_alice.ask_until_refused_here();
    assert_eq!(of_bob.ask_here(), 200);
    for (bad, words) in [
        (ca.list(5, 3600, &[]), ["older than one that was seen before", "number 0x06"]),
        (String::new(), ["it is empty", "list.pem"]),
        ("garbage".into(), ["holds no revocation list", "list.pem"]),
        (six[..six.len() / 2].into(), ["mere beginning", "list.pem"]),
    ] {
        put(list, &bad);
        of_bob.ask_until(&portolan, 503);
        portolan.problem("TrustInvalid", &words);
        put(list, &six);
        of_bob.ask_until(&portolan, 200);
        assert_eq!(of_alice.ask(&portolan), 403, "{words:?}");
    }

    // The next process knows what this one has seen.
    portolan.kill();
    put(list, ca.list(5, 3600, &[]));
    portolan.again();
    portolan.wait_until_ready();
    portolan.problem("TrustInvalid", &["older than one that was seen before"]);
    assert!(is_refused(&portolan, bob));
    // DER is as good as PEM.
    let seven = pem_to_der(&ca.list(7, 3600, &[bob]));
    put(list, seven);
    eventually("alice is off the list", || if is_refused(&portolan, alice) { Err(portolan.log()) } else { Ok(()) });
    assert!(is_refused(&portolan, bob));
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    pem.contents
}

#[test]
fn an_overdue_list_denies_unless_its_owner_says_otherwise() {
    let (backend, partners) = (Backend::named("s"), Partners::new());
    let Partners { ca, alice, bob, list, .. } = &partners;
    put(list, ca.list(1, 6, &[alice]));
    let portolan = start(&backend, partners.settings(json!({ "file": list })));
    let mut of_bob = Holder::of(bob);
    assert_eq!(of_bob.ask(&portolan), 200);
    of_bob.ask_until_refused_here();
    portolan.problem("TrustInvalid", &["overdue since", "nobody whom its issuer vouches for"]);
    portolan.edit(json!({ "revocations": { "l": { "stale": "accept" } } }));
    of_bob.ask_until(&portolan, 200);
    portolan.problem("TrustInvalid", &["overdue since", "whoever is revoked since then is let in"]);
    assert!(is_refused(&portolan, alice), "who stands on it");
    portolan.edit(json!({ "revocations": { "l": { "stale": "deny" } } }));
    of_bob.ask_until(&portolan, 403);
    put(list, ca.list(2, 3600, &[]));
    of_bob.ask_until(&portolan, 200);
}

#[test]
fn a_list_is_fetched_again_and_the_last_one_stays_while_its_url_is_away() {
    let (backend, partners) = (Backend::named("s"), Partners::new());
    let Partners { ca, alice, bob, .. } = &partners;
    let said: Arc<Mutex<(&str, Vec<u8>)>> = Arc::new(Mutex::new(("500 Broken", Vec::new())));
    let saying = said.clone();
    let publisher = Backend::answering(move |exchange| {
        let (status, body) = saying.lock().unwrap().clone();
        exchange.respond(status, &[], &body)?;
        Ok(Then::Close)
    });
    let say = |status: &'static str, list: Vec<u8>| *said.lock().unwrap() = (status, list);
    let url = format!("{}/ca.crl", publisher.url());
    let mut portolan = start(&backend, partners.settings(json!({ "url": url, "refresh": "1s" })));
    portolan.problem("TrustInvalid", &["the answer is 500", &url]);
    assert!(is_refused(&portolan, bob), "not fetched yet");

    say("200 OK", pem_to_der(&ca.list(5, 3600, &[])));
    eventually("the list came", || if is_refused(&portolan, alice) { Err(portolan.problems()) } else { Ok(()) });
    let [mut of_alice, mut of_bob] = [alice, bob].map(Holder::of);
    assert_eq!([&mut of_alice, &mut of_bob].map(|holder| holder.ask(&portolan)), [200, 200]);
    say("200 OK", pem_to_der(&ca.list(6, 3600, &[alice])));
    of_alice.ask_until_refused_here();
    for (status, body, why) in [
        ("503 Away", Vec::new(), "the answer is 503"),
        ("302 Found", Vec::new(), "name the place that it leads to"),
        ("200 OK", b"<html>".to_vec(), "holds no revocation list"),
        ("200 OK", pem_to_der(&ca.list(5, 3600, &[])), "older than one that was seen before"),
    ] {
        say(status, body);
        portolan.problem("TrustInvalid", &[why, "stays in force"]);
        assert_eq!([&mut of_alice, &mut of_bob].map(|holder| holder.ask(&portolan)), [403, 200], "{why}");
    }
    // A start while it is away goes by what it said last.
    portolan.kill();
    say("503 Away", Vec::new());
    portolan.again();
    portolan.wait_until_ready();
    eventually("bob is let in", || if is_refused(&portolan, bob) { Err(portolan.problems()) } else { Ok(()) });
    assert!(is_refused(&portolan, alice));
    drop(partners.dir);
}

#[test]
fn a_list_is_fetched_over_https_from_whom_the_machine_trusts() {
    let (backend, partners) = (Backend::named("s"), Partners::new());
    let Partners { ca, alice, bob, list, .. } = &partners;
    put(list, ca.list(5, 3600, &[alice]));
    let server = ca.issue("server", "DNS:localhost,IP:127.0.0.1");
    let address = format!("127.0.0.1:{}", port::free_port());
    let mut publisher = Command::new("openssl")
        .args(["s_server", "-quiet", "-WWW", "-accept", &address, "-cert"])
        .arg(&server.cert_file)
        .arg("-key")
        .arg(&server.key_file)
        .current_dir(partners.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut settings = json!({
        "providers": { "docker": "off" },
        "routes": { "r": { "host": "r.test", "service": "s", "mtls": "p" } },
        "services": { "s": { "endpoints": [backend.url()] } },
        "mtls_policies": { "p": { "mode": "require", "trust": ["b"] } },
    });
    lay_over(
        &mut settings,
        partners.settings(json!({ "url": format!("https://{address}/list.pem"), "refresh": "1s" })),
    );
    let stranger = Portolan::spawn_with(settings.clone(), &[], &[("SSL_CERT_FILE", "/dev/null")]);
    stranger.wait_until_ready();
    stranger.problem("TrustInvalid", &["cannot be reached", "certificate"]);
    let trusted = ca.ca_file.to_str().unwrap();
    let portolan = Portolan::spawn_with(settings, &[], &[("SSL_CERT_FILE", trusted)]);
    portolan.wait_until_ready();
    eventually("the list came", || if is_refused(&portolan, bob) { Err(portolan.problems()) } else { Ok(()) });
    assert!(is_refused(&portolan, alice));
    publisher.kill().unwrap();
    publisher.wait().unwrap();
}

#[test]
fn a_url_or_a_rhythm_that_cannot_be_closes_its_policy_with_words() {
    let (backend, partners) = (Backend::named("s"), Partners::new());
    for (revocation, words) in [
        (json!({ "url": "ftp://crl.test/" }), "is nothing to fetch"),
        (json!({ "url": "http://user@crl.test/" }), "is nothing to fetch"),
        (json!({ "url": "http://crl.test/", "refresh": "10ms" }), "write 1s or more"),
        (json!({ "file": "/l", "refresh": "1h" }), "refresh goes with url"),
        (json!({ "file": "/l", "url": "http://crl.test/" }), "exactly one of"),
    ] {
        let portolan = start(&backend, partners.settings(revocation.clone()));
        portolan.problem("Invalid", &[words]);
        assert!(is_refused(&portolan, &partners.bob), "{revocation}");
    }
}

#[test]
fn a_ca_without_a_list_is_named_among_the_problems() {
    let (backend, partners) = (Backend::named("s"), Partners::new());
    let portolan = start(&backend, json!({ "trust_bundles": { "b": { "file": partners.ca.ca_file } } }));
    let problem = portolan.problem("NoRevocationList", &["CN=partners"]);
    assert_eq!(problem["severity"], "info", "{problem}");
    assert!(!is_refused(&portolan, &partners.bob));
}
