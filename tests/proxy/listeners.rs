//! Listeners: who is redirected where, and what is said of one that cannot be opened.

use std::net::TcpListener;

use serde_json::json;

use crate::support::backend::Backend;
use crate::support::http::{get_plain, send_plain};
use crate::support::portolan::Portolan;

#[test]
fn http_is_redirected_with_host_path_and_query_kept() {
    let backend = Backend::named("s");
    let portolan = Portolan::serving(json!({
        "listeners": { "https": { "public_port": 443 } },
        "routes": {
            "s": { "host": "known.test" },
            "here": { "host": "known.test", "path": "/here", "listeners": ["http"], "service": "s" },
        },
        "services": { "s": { "endpoints": [backend.url()] } },
    }));
    for (host, target, location) in [
        ("known.test", "/", "https://known.test/"),
        ("known.test", "/a%2Fb//c;d?x=1&y=%20", "https://known.test/a%2Fb//c;d?x=1&y=%20"),
        ("Known.Test:8080", "/x?", "https://known.test/x?"),
        // Which hosts exist is not told in the clear.
        ("unknown.test", "/x", "https://unknown.test/x"),
        ("[::1]:80", "/", "https://[::1]/"),
        ("known.test", "http://known.test/absolute", "https://known.test/absolute"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = if target.starts_with("http:") {
            send_plain(portolan.http, &request).unwrap()
        } else {
            get_plain(portolan.http, host, target).unwrap()
        };
        assert_eq!((answer.status, answer.header("location")), (308, Some(location)), "{host} {target}: {answer:?}");
        assert_eq!((answer.reason(), answer.body.as_str()), (Some("RedirectToHttps"), ""), "{answer:?}");
    }
    assert!(backend.received().is_empty());
    // The method is kept by a 308, whatever it is.
    let post = "POST /x HTTP/1.1\r\nHost: known.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(send_plain(portolan.http, post).unwrap().status, 308);
    // A route that names this listener is served on it.
    assert_eq!(get_plain(portolan.http, "known.test", "/here/x").unwrap().told().target(), "/here/x");
    let malformed = send_plain(portolan.http, "GET / HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!((malformed.status, malformed.header("location")), (400, None));
}

#[test]
fn a_redirect_names_the_port_that_clients_see() {
    let portolan = Portolan::serving(json!({}));
    let location =
        |portolan: &Portolan| get_plain(portolan.http, "a.test", "/x").unwrap().header("location").map(str::to_string);
    assert_eq!(location(&portolan), Some(format!("https://a.test:{}/x", portolan.https.port())));
    let portolan = Portolan::serving(json!({ "listeners": { "https": { "public_port": 8443 } } }));
    assert_eq!(location(&portolan), Some("https://a.test:8443/x".to_string()));
}

#[test]
fn a_client_that_follows_the_redirect_arrives() {
    let backend = Backend::named("s");
    let portolan = Portolan::serving(json!({
        "routes": { "s": { "host": "follow.test" } },
        "services": { "s": { "endpoints": [backend.url()] } },
    }));
    let location = get_plain(portolan.http, "follow.test", "/a?b").unwrap().header("location").unwrap().to_string();
    assert_eq!(portolan.get(&location).unwrap().told().target(), "/a?b");
}

/// Exit code and log of a proxy that cannot open what `settings` names.
fn refused(settings: serde_json::Value) -> String {
    let mut all = json!({ "providers": { "docker": "off" } });
    crate::support::portolan::lay_over(&mut all, settings);
    let (code, said) = Portolan::spawn(all).ended();
    assert_eq!(code, Some(1), "{said}");
    // The last thing said is what a person reads.
    said.lines().last().unwrap().to_string()
}

#[test]
fn a_listener_that_cannot_be_opened_ends_the_start_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(json!({ "listeners": { "shopfront": { "address": address } } }));
    for words in ["shopfront", &address, "another program listens there; stop it or choose another address"] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
    let said = refused(json!({ "listeners": { "https": { "address": "192.0.2.1:8443" } } }));
    for words in ["https", "192.0.2.1:8443", "this machine has no such address"] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
    for section in ["status", "admin"] {
        let said = refused(json!({ section: { "address": address } }));
        for words in [section, &address, &format!("free it or set {section}.address")] {
            assert!(said.contains(words), "{words:?} in {said}");
        }
    }
}
