//! Streams of gRPC's own client, cut when their policy does not admit them any more; those of other policies go on.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::{Peer, python, script};
use crate::proxy::mtls::{Pki, Stage, replace};
use crate::support::announce;
use crate::support::pki::Pair;

/// The promise is a second; a busy machine gets more.
const SOON: Duration = Duration::from_secs(5);

/// A stream on which every line comes back.
struct Held {
    process: Child,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Held {
    fn open(stage: &Stage, host: &str, pair: &Pair) -> Held {
        let mut process = Command::new(python())
            .arg(script())
            .args(["held", &stage.portolan.https.to_string(), host])
            .args([&stage.portolan.root(), &pair.cert_file, &pair.key_file])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut held = Held { process, answers };
        assert_eq!(held.says("begun"), "begun", "{}", stage.portolan.log());
        held
    }

    /// What comes next: the line again, or how the stream has ended.
    fn says(&mut self, line: &str) -> String {
        // Its end shows in what it prints.
        let _ = writeln!(self.process.stdin.as_mut().unwrap(), "{line}");
        self.hears()
    }

    fn hears(&mut self) -> String {
        self.answers.next().expect("it says how it ended").unwrap()
    }

    /// Waits for the end, which must come by itself.
    fn ends(&mut self, what: &str, since: Instant) {
        let heard = self.hears();
        assert!(heard.starts_with("ended: ") && heard != "ended: OK", "{what}: {heard}");
        assert!(since.elapsed() < SOON, "{what}: after {:?}", since.elapsed());
        announce(&format!("gRPC stream, {what}: cut after {:?}, {heard}", since.elapsed()));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn streams_are_cut_by_a_list_a_policy_the_end_of_a_certificate_and_a_withdrawn_ca() {
    let pki = Pki::new();
    let peer = Peer::start();
    let list = pki.dir.path().join("list.pem");
    replace(&list, pki.a.list(1, 3600, &[]));
    let over = json!({
        "services": { "s": { "endpoints": [peer.url()] } },
        "revocations": { "l": { "file": list } },
    });
    let policies = json!({ "p": { "trust": ["a"], "revoked": ["l"] }, "q": { "trust": ["b"] } });
    let stage = Stage::start(&pki, &[("p.test", Some("p")), ("q.test", Some("q"))], policies, over);
    let short = pki.a.issue_for("short", "DNS:short.example", Duration::from_secs(15));
    let mut other = Held::open(&stage, "q.test", &pki.other);
    let [mut web, mut db] = [&pki.web, &pki.db].map(|pair| Held::open(&stage, "p.test", pair));
    let mut ending = Held::open(&stage, "p.test", &short);

    replace(&list, pki.a.list(2, 3600, &[&pki.db]));
    db.ends("a list", Instant::now());
    assert_eq!(web.says("not on the list"), "not on the list");

    let allow = |dns: &str| stage.portolan.edit(json!({ "mtls_policies": { "p": { "allow": [{ "dns": dns }] } } }));
    allow("short.example");
    web.ends("a policy", Instant::now());
    assert_eq!(ending.says("still allowed"), "still allowed");

    let left = short.not_after().duration_since(SystemTime::now()).unwrap_or_default();
    let end = Instant::now() + left;
    ending.ends("the end of a certificate", end);
    assert!(Instant::now() >= end, "cut before its certificate ended");

    allow("*.example");
    let mut web = crate::support::wait::eventually("the policy admits again", || {
        match stage.curl(Some(&pki.web), "https://p.test/", &["--http2"]) {
            Ok(answer) if answer.status != 403 => Ok(Held::open(&stage, "p.test", &pki.web)),
            other => Err(format!("{other:?}")),
        }
    });
    replace(&pki.a.ca_file, std::fs::read(&pki.b.ca_file).unwrap());
    web.ends("a withdrawn CA", Instant::now());
    assert_eq!(other.says("of another policy"), "of another policy");
}
