//! The internal CA while traffic flows: leaves, intermediates and the root give way to others, and nobody notices who is
//! not meant to.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::announce;
use crate::support::backend::Backend;
use crate::support::peer::{Peer, Speaks};
use crate::support::pki::Pair;
use crate::support::portolan::Portolan;
use crate::support::tls::{Client, Session};
use crate::support::wait::eventually;

const GET: &str = "GET / HTTP/1.1\r\nHost: r.test\r\n\r\n";

#[test]
fn a_leaf_is_renewed_twenty_times_and_no_handshake_fails() {
    let backend = Backend::named("s");
    let portolan = Portolan::serving(json!({
        // The shortest there is: an intermediate of five seconds makes way about every three.
        "issuers": { "corp": { "internal": { "ttl": "2s", "intermediate_ttl": "5s" } } },
        "routes": { "r": { "host": "r.test", "service": "s" }, "quiet": { "host": "quiet.test", "service": "s" } },
        "services": { "s": { "endpoints": [backend.url()] } },
    }));
    let client = Client::trusting(&portolan.root());
    let connect = |name: &str| client.connect(portolan.https, name);
    connect("quiet.test").unwrap();
    let mut kept = connect("r.test").unwrap();
    let (mut leaves, mut intermediates) = (BTreeSet::new(), BTreeSet::new());
    let (started, mut handshakes, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while leaves.len() <= 20 {
        assert!(started.elapsed() < Duration::from_secs(90), "{} leaves", leaves.len());
        let began = Instant::now();
        let session = connect("r.test").unwrap_or_else(|error| panic!("handshake {handshakes}: {error}"));
        longest = longest.max(began.elapsed());
        let chain = session.chain();
        leaves.insert(chain[0].clone());
        intermediates.insert(chain[1].clone());
        handshakes += 1;
        assert_eq!(kept.ask(GET).unwrap().status, 200, "on the connection of the first leaf");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(intermediates.len() >= 4, "{} intermediates", intermediates.len());
    connect("quiet.test").expect("nobody asked for it in ten lives");
    announce(&format!(
        "{} leaves of {} intermediates in {:?}: {handshakes} handshakes, none failed, the longest {longest:?}",
        leaves.len(),
        intermediates.len(),
        started.elapsed(),
    ));
}

#[test]
fn a_host_outside_the_constraints_is_a_problem_of_its_route_until_the_settings_permit_it() {
    let backend = Backend::named("s");
    let internal =
        |dns: &[&str]| json!({ "issuers": { "corp": { "internal": { "name_constraints": { "dns": dns } } } } });
    let mut settings = internal(&["corp.test"]);
    settings["routes"] = json!({
        "r": { "host": "r.test", "service": "s" }, "in": { "hosts": ["a.corp.test", "*.b.corp.test"], "service": "s" },
    });
    settings["services"] = json!({ "s": { "endpoints": [backend.url()] } });
    let portolan = Portolan::serving(settings);
    let status = |host: &str| portolan.get(&format!("https://{host}/")).map_or(0, |answer| answer.status);
    assert_eq!(["a.corp.test", "x.b.corp.test", "r.test"].map(status), [200, 200, 0]);
    let problem =
        portolan.problem("NoCertificate", &["no certificate for r.test", "may not sign DNS:r.test", "corp.test"]);
    assert!(problem["subject"].to_string().contains("route/r"), "{problem}");

    // The root that clients have says what it said.
    portolan.edit(internal(&["test"]));
    portolan.problem("NoCertificate", &["r.test", "the name constraints in its root", "portolan ca rotate"]);
    portolan.cli(&["ca", "rotate", "--overlap", "1h"]);
    eventually("it is permitted", || {
        // The old one may not vouch for it.
        std::fs::remove_file(portolan.root()).unwrap();
        match status("r.test") {
            200 => Ok(()),
            other => Err((other, portolan.problems())),
        }
    });
    portolan.edit(json!({ "issuers": { "corp": { "internal": { "ttl": "1s" } } } }));
    portolan.problem("Invalid", &["issuers.corp.internal.ttl", "write 2s or more"]);
    assert_eq!(status("r.test"), 200);
}

#[test]
fn a_root_that_is_about_to_end_is_a_problem_until_it_is_rotated() {
    let (backend, dir) = (Backend::named("s"), tempfile::tempdir().unwrap());
    let long_ago = Timestamp::now() - SignedDuration::from_hours(24 * 3600);
    let ca = dir.path().join("state/issuers/corp");
    portolan::control::ca::InternalCa::open_at(&ca, "corp", long_ago).unwrap();
    let portolan = Portolan::serving(json!({
        "state_dir": dir.path().join("state"),
        "routes": { "r": { "host": "r.test", "service": "s" } }, "services": { "s": { "endpoints": [backend.url()] } },
    }));
    portolan.problem("CertificateInvalid", &["the root of the internal CA", "portolan ca rotate"]);
    assert_eq!(portolan.get("https://r.test/").unwrap().status, 200);
    portolan.cli(&["ca", "rotate"]);
    portolan.without_problems();
    assert_eq!(portolan.get("https://r.test/").unwrap().status, 200, "for a client of the old root");
}

/// A client of one time: the roots that it knows, and what it shows.
struct Caller {
    client: Client,
    session: Option<Session>,
    left: u32,
}

/// Requests on one connection before the next.
const EACH: u32 = 10;

impl Caller {
    fn new(root: &Path, pair: &Pair) -> Caller {
        Caller { client: Client::trusting(root).showing(&pair.cert_file, &pair.key_file), session: None, left: 0 }
    }

    fn ask(&mut self, portolan: &Portolan) -> io::Result<u16> {
        if self.left == 0 {
            self.session = None;
        }
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                self.left = EACH;
                none.insert(self.client.connect(portolan.https, "r.test")?)
            }
        };
        let answer = session.ask(GET)?;
        self.left -= 1;
        if answer.header("connection") == Some("close") {
            self.left = 0;
        }
        Ok(answer.status)
    }
}

/// What went wrong, and how much went at all.
#[derive(Default)]
struct Tally {
    asked: u32,
    failed: Vec<String>,
}

/// Asks at this rate until it is told to end.
fn load(who: &str, mut caller: Caller, portolan: &Portolan, rate: u32, end: &AtomicBool, tally: &Mutex<Tally>) {
    let (started, mut asked) = (Instant::now(), 0);
    while !end.load(Ordering::Relaxed) {
        let outcome = caller.ask(portolan);
        asked += 1;
        {
            let mut tally = tally.lock().unwrap();
            tally.asked += 1;
            match outcome {
                Ok(200) => {}
                other => tally.failed.push(format!("{who} after {:?}: {other:?}", started.elapsed())),
            }
        }
        let due = started + Duration::from_secs(1) * asked / rate;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn a_root_is_rotated_under_load_and_old_and_new_clients_are_served_until_the_overlap_ends() {
    let backend = Backend::named("s");
    let mut settings = json!({
        "routes": { "r": { "host": "r.test", "service": "s", "mtls": "p" } },
        "services": { "s": { "endpoints": [backend.url()] } },
        "mtls_policies": { "p": { "mode": "require", "trust": ["b"] } },
        "trust_bundles": { "b": { "issuer": "corp" } },
    });
    // An endpoint with a certificate of this very CA, made before there is a proxy.
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let endpoint = {
        let mut command =
            crate::support::portolan::command(dir.path(), &["ca", "issue", "--dns", "localhost", "--out", "e"]);
        crate::support::output_of(command.env("PORTOLAN_STATE_DIR", &state));
        pair(&dir.path().join("e"))
    };
    let peer = Peer::start(Speaks::tls(&endpoint, &["http/1.1"]));
    settings["state_dir"] = json!(state);
    settings["routes"]["up"] = json!({ "host": "up.test", "service": "up" });
    let tls = json!({ "issuer": "corp", "server_name": "localhost" });
    settings["services"]["up"] = json!({ "endpoints": [peer.url("https")], "tls": tls });
    let portolan = Portolan::serving(settings);
    let issue = |name: &str| {
        portolan.cli(&["ca", "issue", "--uri", &format!("spiffe://example.org/{name}"), "--out", name]);
        pair(&portolan.dir().join(name))
    };
    let kept = |name: &str, text: &str| -> PathBuf {
        let path = portolan.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let upstream = |root: &Path| {
        Client::trusting(root)
            .connect(portolan.https, "up.test")
            .and_then(|mut session| session.ask("GET / HTTP/1.1\r\nHost: up.test\r\n\r\n").map(|answer| answer.status))
    };
    let old = kept("old.pem", &portolan.cli(&["ca", "root"]));
    let [alice, carol, dave] = ["alice", "carol", "dave"].map(issue);
    portolan.cli(&["ca", "revoke", "carol/cert.pem"]);
    let ask = |root: &Path, pair: &Pair| Caller::new(root, pair).ask(&portolan);
    eventually("alice is served", || if matches!(ask(&old, &alice), Ok(200)) { Ok(()) } else { Err(portolan.log()) });
    let turned_away = |root: &Path, name: &str, pair: &Pair| {
        eventually(&format!("{name} is turned away"), || match ask(root, pair) {
            Ok(200) => Err(portolan.log()),
            _ => Ok(()),
        });
    };
    turned_away(&old, "carol", &carol);
    assert_eq!(upstream(&old).unwrap(), 200);

    let (end, tally) = (AtomicBool::new(false), Mutex::new(Tally::default()));
    let overlap = Duration::from_secs(9);
    std::thread::scope(|scope| {
        let run = |who: &'static str, root: &Path, pair: &Pair| {
            let caller = Caller::new(root, pair);
            let (portolan, end, tally) = (&portolan, &end, &tally);
            scope.spawn(move || load(who, caller, portolan, 50, end, tally));
        };
        // However this ends, the threads do.
        let ending = Ending(&end);
        (0..4).for_each(|_| run("old", &old, &alice));
        std::thread::sleep(Duration::from_secs(1));
        let rotated = Instant::now();
        portolan.cli(&["ca", "rotate", "--overlap", "9s"]);
        let both = portolan.cli(&["ca", "root"]);
        assert_eq!(both.matches("BEGIN").count(), 2);
        let new = kept(
            "new.pem",
            &both
                [..both.find("-----BEGIN CERTIFICATE-----\n").map_or(0, |_| both[1..].find("-----BEGIN").unwrap() + 1)],
        );
        let bob = issue("bob");
        eventually("the proxy follows", || match ask(&new, &bob) {
            Ok(200) => Ok(()),
            other => Err((other.map_err(|error| error.to_string()), portolan.log())),
        });
        let followed = rotated.elapsed();
        // Old certificates under the new root and the other way about.
        for (root, pair) in [(&new, &alice), (&old, &bob)] {
            assert_eq!(ask(root, pair).unwrap(), 200);
        }
        (0..2).for_each(|_| run("new", &new, &bob));
        assert!(!matches!(ask(&new, &carol), Ok(200)), "revoked before the rotation");
        assert_eq!(ask(&new, &dave).unwrap(), 200);
        portolan.cli(&["ca", "revoke", "dave/cert.pem"]);
        let erin = issue("erin");
        portolan.cli(&["ca", "revoke", "erin/cert.pem"]);
        turned_away(&new, "dave", &dave);
        turned_away(&new, "erin", &erin);
        assert_eq!([upstream(&old).unwrap(), upstream(&new).unwrap()], [200, 200], "an endpoint of the old root");
        std::thread::sleep(overlap.saturating_sub(rotated.elapsed() + Duration::from_secs(1)));
        drop(ending);
        announce(&format!("rotated; the proxy followed within {followed:?} of the command's start"));
    });
    let Tally { asked, failed } = tally.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {asked} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
    announce(&format!("{asked} requests before and in the overlap, none failed"));

    let (new, bob) = (portolan.dir().join("new.pem"), pair(&portolan.dir().join("bob")));
    eventually("the old root is refused", || match (ask(&new, &alice), ask(&old, &bob)) {
        (Ok(200), _) | (_, Ok(200)) => Err(portolan.log()),
        _ => Ok(()),
    });
    assert_eq!(ask(&new, &bob).unwrap(), 200);
    eventually("so is the endpoint", || match upstream(&new).unwrap() {
        502 => Ok(()),
        other => Err(other),
    });
    assert_eq!(portolan.cli(&["ca", "root"]), std::fs::read_to_string(&new).unwrap().trim_end());
}

fn pair(dir: &Path) -> Pair {
    Pair { cert_file: dir.join("cert.pem"), key_file: dir.join("key.pem") }
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
