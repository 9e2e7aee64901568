//! From one host to another: certificates, connections, sessions.

use serde_json::json;

use super::{Pki, Stage, get};

fn policies() -> serde_json::Value {
    json!({
        "a": { "mode": "require", "trust": ["a"] },
        "b": { "mode": "require", "trust": ["b"] },
        "also": { "mode": "require", "trust": ["a"], "allow": [{ "dns": "db.example" }] },
    })
}

#[test]
fn a_certificate_of_one_hosts_ca_opens_no_other_host_and_no_other_path() {
    let pki = Pki::new();
    let routes = [
        ("a.test", Some("a")),
        ("b.test", Some("b")),
        ("mixed.test/a", Some("a")),
        ("mixed.test/b", Some("b")),
        ("mixed.test", None),
    ];
    let stage = Stage::start(&pki, &routes, policies(), json!({}));
    assert_eq!(stage.ask(Some(&pki.web), "a.test", "/"), Ok(200));
    assert_eq!(stage.ask(Some(&pki.other), "b.test", "/"), Ok(200));
    assert!(stage.ask(Some(&pki.web), "b.test", "/").is_err());
    assert!(stage.ask(Some(&pki.other), "a.test", "/").is_err());
    // Two CAs on one host: whoever comes is let in where its own is wanted, and nowhere else.
    for (client, expected) in [
        (None, [200, 403, 403]),
        (Some(&pki.web), [200, 200, 403]),
        (Some(&pki.other), [200, 403, 200]),
        (Some(&pki.unknown), [200, 403, 403]),
    ] {
        let found = ["/", "/a", "/b"].map(|path| stage.ask(client, "mixed.test", path).unwrap());
        assert_eq!(found, expected);
        // All on one connection of h2.
        let mut h2 = stage.h2(client, "mixed.test");
        let found = ["/", "/a", "/b"].map(|path| {
            let stream = h2.get("mixed.test", path);
            h2.answer(stream).0.parse::<u16>().unwrap()
        });
        assert_eq!(found, expected, "h2");
    }
}

#[test]
fn a_request_for_another_policy_than_its_connections_is_misdirected() {
    let pki = Pki::new();
    let routes = [("open.test", None), ("a.test", Some("a")), ("b.test", Some("b")), ("also.test", Some("also"))];
    let stage = Stage::start(&pki, &routes, policies(), json!({}));
    for (client, name, host, expected) in [
        (None, "open.test", "a.test", 421),
        (Some(&pki.web), "open.test", "a.test", 421),
        (Some(&pki.web), "a.test", "open.test", 421),
        (Some(&pki.web), "a.test", "b.test", 421),
        (Some(&pki.web), "a.test", "A.Test.", 200),
        // Same CA, same mode: the handshake would have been the same, and who is allowed is asked of each request.
        (Some(&pki.web), "a.test", "also.test", 403),
        (Some(&pki.db), "a.test", "also.test", 200),
        // Nobody named: nobody's policy.
        (Some(&pki.web), "127.0.0.1", "a.test", 421),
    ] {
        let mut session = stage.connect(client, name).unwrap();
        let answer = session.ask(&get(host, "/")).unwrap();
        assert_eq!(answer.status, expected, "{name} {host} {answer:?}");
        let mut h2 = stage.h2(client, name);
        let crossed = h2.get(&host.to_lowercase(), "/");
        assert_eq!(h2.answer(crossed).0, expected.to_string(), "h2: {name} {host}");
        let own = h2.get(name, "/");
        let own = h2.answer(own).0;
        assert!(own == "200" || name == "127.0.0.1", "its own stream goes on: {own}");
    }
}

#[test]
fn a_session_opens_nothing_that_its_own_host_does_not() {
    let pki = Pki::new();
    let stage = Stage::start(
        &pki,
        &[("a.test", Some("a")), ("b.test", Some("b")), ("open.test", None), ("also.test", Some("also"))],
        policies(),
        json!({}),
    );
    // One store of sessions for all of them: a client that offers a ticket wherever it can.
    let mut client = stage.client(Some(&pki.web));
    client.share_sessions();
    let reached = |name: &str, host: &str| {
        client.connect(stage.portolan.https, name).map(|mut session| {
            let answer = session.ask(&get(host, "/"));
            (answer.map(|answer| answer.status).unwrap_or(0), session.resumed())
        })
    };
    assert_eq!(reached("a.test", "a.test").unwrap(), (200, false));
    assert_eq!(reached("a.test", "a.test").unwrap(), (200, true), "its certificate comes with the session");
    for name in ["b.test", "open.test"] {
        let (status, resumed) = reached(name, "a.test").unwrap_or((0, false));
        assert!(!resumed && status != 200, "{name}: {status}");
    }
    let (status, resumed) = reached("also.test", "also.test").unwrap();
    assert_eq!(status, 403, "allowed for each request, resumed: {resumed}");
}
