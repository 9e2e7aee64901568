//! What changes while clients are connected: bundles that break and are mended, policies that come and change.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Pki, Stage, get, replace};
use crate::support::tls::Session;
use crate::support::wait::eventually;

fn status(session: &mut Session) -> u16 {
    session.ask(&get("r.test", "/")).unwrap().status
}

/// On one connection; where that is closed with the answer, the answer is the end.
fn until(session: &mut Session, wanted: u16) {
    eventually(&format!("the answer is {wanted}"), || match status(session) {
        now if now == wanted => Ok(()),
        now => Err(now),
    });
}

fn expired_root() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

fn start(pki: &Pki, policy: Value) -> Stage {
    Stage::start(pki, &[("r.test", Some("p"))], json!({ "p": policy }), json!({}))
}

#[test]
fn a_bundle_that_breaks_closes_and_opens_again_when_it_is_mended() {
    let pki = Pki::new();
    let stage = start(&pki, json!({ "trust": ["a"] }));
    let mut session = stage.connect(Some(&pki.web), "r.test").unwrap();
    assert_eq!(status(&mut session), 200);
    let good = std::fs::read(&pki.a.ca_file).unwrap();
    let leaf = std::fs::read(&pki.web.cert_file).unwrap();
    let expired = expired_root();
    let expired = expired.as_bytes();
    for (bad, words) in [
        (&b""[..], "empty"),
        (b"garbage\n", "holds no certificate"),
        (&good[..good.len() / 2], "a mere beginning of what it held"),
        (&leaf, "no CA that can be trusted"),
        (expired, "every CA in it has expired"),
    ] {
        replace(&pki.a.ca_file, bad);
        until(&mut session, 503);
        stage.portolan.problem("TrustInvalid", &[words]);
        assert_eq!(stage.ask(Some(&pki.web), "r.test", "/"), Ok(503), "{words}");
        let route = &stage.portolan.routes_of("r.test")[0];
        assert_eq!((&route["state"], &route["reason"]), (&json!("denied"), &json!("TrustInvalid")), "{route}");
        assert_eq!(stage.ask(None, "r.test", "/"), Ok(503), "{words}");
        replace(&pki.a.ca_file, &good);
        until(&mut session, 200);
    }
    std::fs::remove_file(&pki.a.ca_file).unwrap();
    until(&mut session, 503);
    // One expired root beside a good one is named, and not trusted.
    replace(&pki.a.ca_file, [expired, &good].concat());
    until(&mut session, 200);
    stage.portolan.problem("TrustInvalid", &["expired at", "is not trusted"]);
}

#[test]
fn a_ca_that_is_withdrawn_lets_nobody_in_any_more_and_no_session_resumes() {
    let pki = Pki::new();
    let stage = start(&pki, json!({ "trust": ["a"] }));
    let mut client = stage.client(Some(&pki.web));
    client.share_sessions();
    let mut session = client.connect(stage.portolan.https, "r.test").unwrap();
    assert_eq!(status(&mut session), 200);
    let mut again = client.connect(stage.portolan.https, "r.test").unwrap();
    assert_eq!((status(&mut again), again.resumed()), (200, true));

    replace(&pki.a.ca_file, std::fs::read(&pki.b.ca_file).unwrap());
    until(&mut session, 403);
    let late = client.connect(stage.portolan.https, "r.test");
    let refused = late.and_then(|mut session| session.ask(&get("r.test", "/")));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(stage.ask(Some(&pki.other), "r.test", "/"), Ok(200));
}

#[test]
fn a_policy_that_changes_is_asked_on_connections_that_are_open() {
    let pki = Pki::new();
    let stage = start(&pki, json!({ "trust": ["a"], "handshake": "ask" }));
    let mut web = stage.connect(Some(&pki.web), "r.test").unwrap();
    let mut db = stage.connect(Some(&pki.db), "r.test").unwrap();
    assert_eq!((status(&mut web), status(&mut db)), (200, 200));
    stage.portolan.edit(json!({ "mtls_policies": { "p": { "allow": [{ "dns": "db.example" }] } } }));
    until(&mut web, 403);
    assert_eq!(status(&mut db), 200, "who is allowed stays on its connection");
}

#[test]
fn a_client_that_came_before_the_policy_is_sent_to_another_connection() {
    let pki = Pki::new();
    let stage =
        Stage::start(&pki, &[("r.test", None)], json!({ "p": { "trust": ["a"], "handshake": "ask" } }), json!({}));
    let mut session = stage.connect(Some(&pki.web), "r.test").unwrap();
    assert_eq!(status(&mut session), 200);
    stage.portolan.edit(json!({ "routes": { "r0": { "mtls": "p" } } }));
    let mut last = 200;
    eventually("it is turned away", || {
        last = status(&mut session);
        if last == 200 { Err(last) } else { Ok(()) }
    });
    // A request that is under way at that very moment is refused as it stands.
    assert!(matches!(last, 421 | 403), "{last}");
    eventually("a new connection shows its certificate", || match stage.ask(Some(&pki.web), "r.test", "/") {
        Ok(200) => Ok(()),
        other => Err(other),
    });
    assert_eq!(stage.ask(None, "r.test", "/"), Ok(403));
}

#[test]
fn a_certificate_that_ends_is_refused_on_the_connection_that_it_opened() {
    let pki = Pki::new();
    let stage = start(&pki, json!({ "trust": ["a"], "handshake": "ask" }));
    let short = pki.a.issue_for("short", "DNS:short.example", Duration::from_secs(4));
    let mut session = stage.connect(Some(&short), "r.test").unwrap();
    assert_eq!(status(&mut session), 200);
    eventually("it has ended", || {
        let answer = session.ask(&get("r.test", "/")).unwrap();
        match (answer.status, answer.reason()) {
            (403, Some("CertificateExpired")) => Ok(()),
            _ => Err(answer),
        }
    });
}
