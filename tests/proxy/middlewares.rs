//! What middlewares do to requests and answers, as clients and endpoints see it.

use serde_json::{Value, json};

use crate::support::backend::{Backend, Then};
use crate::support::http::{Answer, curl, send_plain};
use crate::support::portolan::Portolan;

const HOST: &str = "mw.test";

/// One route with these middlewares, all of them in use in the order of their names.
fn start(backend: &Backend, middlewares: Value, over: Value) -> Portolan {
    let names: Vec<&String> = middlewares.as_object().unwrap().keys().collect();
    let mut settings = json!({
        "routes": { "s": { "host": HOST, "listeners": ["plain", "https"], "use": names } },
        "services": { "s": { "endpoints": [backend.url()] } },
        "middlewares": middlewares,
    });
    crate::support::portolan::lay_over(&mut settings, over);
    Portolan::serving(settings)
}

fn plain(portolan: &Portolan, target: &str, headers: &str) -> Answer {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{headers}Connection: close\r\n\r\n");
    send_plain(portolan.plain, &request).unwrap()
}

#[test]
fn a_stripped_prefix_is_told_and_the_rest_arrives_as_it_was_sent() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "strip": { "strip_prefix": ["/api", "/api/v1"] } }), json!({}));
    for (sent, forwarded, prefix) in [
        ("/api/x%2Fy?q=%2F/api", "/x%2Fy?q=%2F/api", "/api"),
        ("/%61pi/x", "/x", "/api"),
        ("/api/./y/../v1/x", "/x", "/api/v1"),
        ("/api", "/", "/api"),
        ("/api?a", "/?a", "/api"),
        ("/api//evil.test/x", "/evil.test/x", "/api"),
    ] {
        let told = plain(&portolan, sent, "X-Forwarded-Prefix: /forged\r\n").told();
        assert_eq!((told.target(), told.all("x-forwarded-prefix")), (forwarded, vec![prefix]), "{sent}");
    }
    for sent in ["/apis/x", "/x/api", "/"] {
        let told = plain(&portolan, sent, "X-Forwarded-Prefix: /forged\r\n").told();
        assert_eq!((told.target(), told.all("x-forwarded-prefix")), (sent, vec![]), "{sent}");
    }
    for protocol in ["--http1.1", "--http2"] {
        let told = portolan.curl("https://mw.test/api/v1/x?q=1", &[protocol]).unwrap().told();
        assert_eq!((told.target(), told.all("x-forwarded-prefix")), ("/x?q=1", vec!["/api/v1"]), "{protocol}");
    }
}

#[test]
fn a_trusted_proxys_prefix_stands_before_ours() {
    let backend = Backend::named("s");
    let trusted = json!({ "listeners": { "plain": { "trusted_proxies": ["127.0.0.0/8"] } } });
    let portolan = start(&backend, json!({ "strip": { "strip_prefix": ["/api"] } }), trusted);
    let told = plain(&portolan, "/api/x", "X-Forwarded-Prefix: /outer\r\n").told();
    assert_eq!(told.all("x-forwarded-prefix"), ["/outer", "/api"]);
}

fn redirected(answer: &Answer) -> (u16, Option<&str>, Option<&str>) {
    (answer.status, answer.header("location"), answer.reason())
}

#[test]
fn a_redirect_names_the_whole_url_and_says_why_everywhere() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "https": { "redirect": { "scheme": "https", "status": 301 } } }), json!({}));
    for (sent, location) in [
        ("/x?y=%2F", "https://mw.test/x?y=%2F"),
        ("//evil.test/x", "https://mw.test//evil.test/x"),
        ("/a/../x", "https://mw.test/x"),
        ("/", "https://mw.test/"),
    ] {
        let answer = plain(&portolan, sent, "");
        assert_eq!(redirected(&answer), (301, Some(location), Some("Redirect")), "{sent}");
        assert_eq!((answer.body.as_str(), answer.header("content-length")), ("", Some("0")), "{answer:?}");
    }
    let line = portolan.logged(json!({ "path": "/x?y=%2F" }));
    assert_eq!(
        (&line["status"], &line["reason"], &line["route"]),
        (&json!(301), &json!("Redirect"), &json!("settings/route/s"))
    );
    assert!(line.get("endpoint").is_none(), "{line}");
    crate::support::wait::eventually("it is counted", || {
        let metrics = portolan.metrics();
        let counted = metrics.lines().any(|line| line.contains("reason=\"Redirect\"") && line.ends_with(" 4"));
        counted.then_some(()).ok_or(metrics)
    });
    assert_eq!(backend.received().len(), 0);
    // Who is there already goes through: there is no loop.
    for protocol in ["--http1.1", "--http2"] {
        let answer = portolan.curl("https://mw.test/x", &[protocol]).unwrap();
        assert_eq!((answer.status, answer.reason(), answer.told().target()), (200, None, "/x"), "{protocol}");
    }
}

#[test]
fn every_part_of_a_redirect_and_what_stands_before_it() {
    let backend = Backend::named("s");
    let middlewares = json!({
        "1-strip": { "strip_prefix": ["/old"] },
        "2-new": { "add_prefix": "/new" },
        "3-tagged": { "headers": { "response": {
            "set": { "strict-transport-security": "max-age=1" }, "remove": ["portolan-reason"] } } },
        "4-away": { "redirect": { "host": "www.mw.test", "port": 8443 } },
        "5-late": { "headers": { "response": { "set": { "x-late": "1" } } } },
    });
    let portolan = start(&backend, middlewares, json!({}));
    let answer = plain(&portolan, "/old/x?q", "");
    // The same scheme, and the path as the middlewares before it made it.
    assert_eq!(redirected(&answer), (308, Some("http://www.mw.test:8443/new/x?q"), Some("Redirect")), "{answer:?}");
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=1"), "{answer:?}");
    assert_eq!(answer.header("x-late"), None, "it stands behind the redirect: {answer:?}");
}

#[test]
fn a_redirect_goes_by_the_scheme_that_a_trusted_balancer_received() {
    let backend = Backend::named("s");
    let https = json!({ "https": { "redirect": { "scheme": "https" } } });
    let trusted = json!({ "listeners": { "plain": { "trusted_proxies": ["127.0.0.0/8"] } } });
    let portolan = start(&backend, https.clone(), trusted);
    let says = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: front.test\r\n";
    assert_eq!(plain(&portolan, "/x", says).status, 200, "the client came over https");
    let says = "X-Forwarded-Proto: http\r\nX-Forwarded-Host: front.test:8080\r\n";
    let answer = plain(&portolan, "/x", says);
    assert_eq!(redirected(&answer), (308, Some("https://front.test/x"), Some("Redirect")));
    // From a stranger it is a mere claim.
    let portolan = start(&backend, https, json!({}));
    let answer = plain(&portolan, "/x", "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n");
    assert_eq!(redirected(&answer), (308, Some("https://mw.test/x"), Some("Redirect")));
}

#[test]
fn a_redirects_path_is_the_whole_path_and_ends_where_it_leads() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "p": { "redirect": { "path": "/new/~a", "status": 303 } } }), json!({}));
    assert_eq!(redirected(&plain(&portolan, "/old?q=1", "")).1, Some("http://mw.test/new/~a?q=1"));
    assert_eq!(plain(&portolan, "/new/%7Ea?q=1", "").told().target(), "/new/%7Ea?q=1");
    let answer = curl("https://mw.test/old", portolan.https, Some(&portolan.root()), &["--http2"]).unwrap();
    assert_eq!((answer.status, answer.header("location")), (303, Some("https://mw.test/new/~a")));
}

#[test]
fn answers_pass_the_middlewares_in_reverse() {
    let backend = Backend::answering(|exchange| {
        exchange.respond("200 OK", &["Set-Cookie: a=1", "Set-Cookie: b=2", "X-Order: endpoint"], b"")?;
        Ok(Then::Keep)
    });
    let add = |value: &str| json!({ "headers": { "response": { "add": { "x-order": value, "set-cookie": value } } } });
    let portolan = start(&backend, json!({ "1": add("c=outer"), "2": add("d=inner") }), json!({}));
    let answer = plain(&portolan, "/", "");
    let values = |name: &str| -> Vec<&str> {
        answer.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(values("x-order"), ["endpoint", "d=inner", "c=outer"]);
    assert_eq!(values("set-cookie"), ["a=1", "b=2", "d=inner", "c=outer"]);
}

#[test]
fn portolans_own_answers_are_its_own() {
    let backend = Backend::named("s");
    let tagged = json!({ "t": { "headers": { "response": { "set": { "x-tag": "1" }, "remove": ["retry-after"] } } } });
    let none = json!({ "services": { "s": { "endpoints": [] } } });
    let portolan = start(&backend, tagged, none);
    let answer = plain(&portolan, "/", "");
    assert_eq!(
        (answer.status, answer.header("x-tag"), answer.header("retry-after")),
        (503, None, Some("1")),
        "{answer:?}"
    );
}

#[test]
fn a_middleware_that_cannot_be_closes_its_route_and_no_other() {
    let backend = Backend::named("s");
    let portolan = Portolan::serving(json!({
        "routes": {
            "bad": { "host": HOST, "path": "/bad", "listeners": ["plain"], "use": ["crlf"], "service": "s" },
            "good": { "host": HOST, "listeners": ["plain"], "service": "s" },
        },
        "services": { "s": { "endpoints": [backend.url()] } },
        "middlewares": { "crlf": { "redirect": { "path": "/x\r\nset-cookie: a=1" } } },
    }));
    let answer = plain(&portolan, "/bad/x", "");
    assert_eq!((answer.status, answer.reason(), answer.header("location")), (503, Some("Invalid"), None), "{answer:?}");
    assert_eq!(plain(&portolan, "/x", "").status, 200);
    portolan.problem("Invalid", &["settings/middleware/crlf", "redirect.path", "portolan.yaml:"]);
}

#[test]
fn a_route_that_only_redirects_needs_no_service() {
    let portolan = Portolan::serving(json!({
        "routes": { "old": { "host": HOST, "listeners": ["plain"], "use": ["www"] } },
        "middlewares": { "www": { "redirect": { "host": "www.mw.test" } } },
    }));
    assert_eq!(redirected(&plain(&portolan, "/x", "")), (308, Some("http://www.mw.test/x"), Some("Redirect")));
    assert_eq!(portolan.problems(), [] as [Value; 0]);
    assert_eq!(portolan.routes_of(HOST)[0]["state"], "live");
}
