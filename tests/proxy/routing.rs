//! Which route answers, and what is answered where none can.

use serde_json::{Value, json};

use crate::support::backend::{Backend, nobody};
use crate::support::http::{Answer, get_plain};
use crate::support::portolan::Portolan;

/// Every route on the listener without TLS, where hosts of any name can be asked for at once.
fn plainly(mut objects: Value) -> Portolan {
    for route in objects["routes"].as_object_mut().unwrap().values_mut() {
        route.as_object_mut().unwrap().entry("listeners").or_insert(json!(["plain"]));
    }
    Portolan::serving(objects)
}

fn ask(portolan: &Portolan, host: &str, path: &str) -> Answer {
    get_plain(portolan.plain, host, path).unwrap()
}

#[track_caller]
fn assert_from(portolan: &Portolan, host: &str, path: &str, name: &str) {
    let answer = ask(portolan, host, path);
    assert_eq!(answer.status, 200, "{host}{path}: {answer:?}");
    assert_eq!(answer.told().name(), name, "{host}{path}");
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, reason: &str) {
    assert_eq!((answer.status, answer.reason()), (status, Some(reason)), "{answer:?}");
}

#[test]
fn an_exact_host_comes_before_a_wildcard_and_that_before_any_host() {
    let backends = ["exact", "wildcard", "any"].map(Backend::named);
    let portolan = plainly(json!({
        "routes": {
            // In the order in which they must not be taken.
            "a-any": { "host": "*", "path": "/very/long/prefix", "service": "any" },
            "b-any": { "host": "*", "service": "any" },
            "c-wildcard": { "host": "*.order.test", "path": "/long/prefix", "service": "wildcard" },
            "d-exact": { "host": "a.order.test", "path": "/long", "service": "exact" },
        },
        "services": {
            "exact": { "endpoints": [backends[0].url()] },
            "wildcard": { "endpoints": [backends[1].url()] },
            "any": { "endpoints": [backends[2].url()] },
        },
    }));
    for (host, path, name) in [
        ("a.order.test", "/long/prefix", "exact"),
        ("b.order.test", "/long/prefix", "wildcard"),
        ("b.order.test", "/long", "any"),
        ("a.order.test", "/", "any"),
        ("a.order.test", "/very/long/prefix", "any"),
        ("elsewhere.test", "/long/prefix", "any"),
        ("A.Order.TEST.", "/long", "exact"),
        ("a.order.test:8443", "/long", "exact"),
    ] {
        assert_from(&portolan, host, path, name);
    }
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let backend = Backend::named("wildcard");
    let portolan = plainly(json!({
        "routes": { "w": { "host": "*.label.test" } },
        "services": { "w": { "endpoints": [backend.url()] } },
    }));
    assert_from(&portolan, "a.label.test", "/", "wildcard");
    for host in ["label.test", "a.b.label.test", "alabel.test", ".label.test"] {
        let answer = ask(&portolan, host, "/");
        assert_eq!(answer.status, 404, "{host}: {answer:?}");
    }
}

#[test]
fn the_longest_prefix_wins_by_whole_segments_and_an_exact_path_before_it() {
    let backends = ["root", "api", "v1", "exactly"].map(Backend::named);
    let portolan = plainly(json!({
        "routes": {
            "root": { "host": "path.test" },
            "api": { "host": "path.test", "path": "/api" },
            "v1": { "host": "path.test", "path": "/api/v1/" },
            "exactly": { "host": "path.test", "path_exact": "/api/v1" },
        },
        "services": {
            "root": { "endpoints": [backends[0].url()] },
            "api": { "endpoints": [backends[1].url()] },
            "v1": { "endpoints": [backends[2].url()] },
            "exactly": { "endpoints": [backends[3].url()] },
        },
    }));
    for (path, name) in [
        ("/", "root"),
        ("/apis", "root"),
        ("/API", "root"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/v2", "api"),
        ("/api/v12", "api"),
        ("/api/v1", "exactly"),
        ("/api/v1/", "v1"),
        ("/api/v1/x", "v1"),
        ("/api/v1?x=/", "exactly"),
    ] {
        assert_from(&portolan, "path.test", path, name);
    }
}

#[test]
fn a_route_is_served_on_its_listeners_alone() {
    let backend = Backend::named("one");
    let portolan = Portolan::serving(json!({
        "listeners": { "other": { "address": format!("127.0.0.1:{}", crate::support::port::free_port()) } },
        "routes": {
            "silent": { "host": "silent.test", "service": "s" },
            "plain": { "host": "plain.test", "listeners": ["plain"], "service": "s" },
            "both": { "host": "both.test", "listeners": ["plain", "https"], "service": "s" },
        },
        "services": { "s": { "endpoints": [backend.url()] } },
    }));
    let https = |host: &str| portolan.get(&format!("https://{host}/")).map(|answer| answer.status);
    assert_eq!(https("silent.test").unwrap(), 200, "without listeners: on every TLS listener");
    assert_refused(&ask(&portolan, "silent.test", "/"), 404, "NoRoute");
    assert_from(&portolan, "plain.test", "/", "one");
    // No leaf for it there: the handshake names nobody that is served.
    assert_eq!(https("plain.test").unwrap_err().code, 35);
    assert_from(&portolan, "both.test", "/", "one");
    assert_eq!(https("both.test").unwrap(), 200);
}

#[test]
fn each_alternative_of_a_rule_ranks_on_its_own() {
    let backends = ["ruled", "plain"].map(Backend::named);
    let portolan = plainly(json!({
        "routes": {
            "ruled": { "rule": "Host(`a.rule.test`) && Path(`/x y`) || HOST(\"*.b.rule.test\") || Host(`none.rule.test`) && Host(`a.rule.test`)" },
            "plain": { "hosts": ["a.rule.test", "c.b.rule.test"] },
        },
        "services": { "ruled": { "endpoints": [backends[0].url()] }, "plain": { "endpoints": [backends[1].url()] } },
    }));
    for (host, path, name) in [
        ("a.rule.test", "/x%20y", "ruled"),
        ("a.rule.test", "/x%20y/", "plain"),
        ("b.b.rule.test", "/", "ruled"),
        ("c.b.rule.test", "/", "plain"),
    ] {
        assert_from(&portolan, host, path, name);
    }
    assert_refused(&ask(&portolan, "none.rule.test", "/"), 404, "NoRoute");
}

#[test]
fn a_denied_route_answers_503_and_nothing_falls_through_to_another() {
    let backend = Backend::named("open");
    let portolan = Portolan::serving(json!({
        "routes": {
            "open": { "host": "denied.test", "listeners": ["https", "plain"], "service": "s" },
            "any": { "host": "*", "listeners": ["plain"], "service": "s" },
            "unknown-key": { "host": "denied.test", "path": "/misspelt", "mlts": "partners", "service": "s" },
            "policy": { "host": "denied.test", "path": "/policy", "mtls": "partners", "service": "s" },
            "ruled": { "rule": "Host(`ruled.test`) && PathPrefix(`/x`", "service": "s", "listeners": ["plain"] },
            "nameless": { "host": "denied.test", "path": "/nameless", "service": "nowhere", "listeners": ["plain"] },
            "use": { "host": "denied.test", "path": "/use", "use": ["nothing"], "service": "s", "listeners": ["plain"] },
            "value": { "host": "denied.test", "path": "/value", "priority": "high", "service": "s", "listeners": ["plain"] },
            "listener": { "host": "denied.test", "path": "/listener", "service": "s", "listeners": ["plain", "plane"] },
        },
        "mtls_policies": { "partners": { "mode": "require" } },
        "services": { "s": { "endpoints": [backend.url()] } },
    }));
    // Without listeners they stand on TLS listeners.
    let denied = portolan.get("https://denied.test/misspelt/x").unwrap();
    assert_refused(&denied, 503, "Invalid");
    let denied = portolan.get("https://denied.test/policy").unwrap();
    // It requires a certificate that nobody could have.
    assert_refused(&denied, 503, "Invalid");

    for (host, path, reason) in [
        ("denied.test", "/nameless", "Unresolved"),
        ("denied.test", "/use/x", "Unresolved"),
        ("denied.test", "/value", "Invalid"),
        ("denied.test", "/listener", "Unresolved"),
        // Its rule cannot be read, so its literal host is closed whole.
        ("ruled.test", "/", "Invalid"),
    ] {
        let answer = ask(&portolan, host, path);
        assert_refused(&answer, 503, reason);
        assert_eq!(answer.header("retry-after"), None, "asking again does not mend it: {answer:?}");
        assert_eq!(answer.body, "503 Service Unavailable\n", "the reason's detail is not for clients");
    }
    assert!(backend.received().is_empty(), "{:?}", backend.received());
    portolan.problem("UnknownField", &["settings/route/unknown-key", "mlts", "mtls", "portolan.yaml:"]);
    portolan.problem("Unresolved", &["settings/route/nameless", "nowhere"]);
    portolan.problem(
        "Invalid",
        &["settings/route/ruled", "at character 38 of the rule", "the closing ) of PathPrefix", "portolan.yaml:"],
    );
}

#[test]
fn without_a_route_the_answer_is_404() {
    let portolan = Portolan::serving(json!({ "routes": {} }));
    let answer = ask(&portolan, "nobody.test", "/");
    assert_refused(&answer, 404, "NoRoute");
    assert_eq!(answer.body, "404 Not Found\n");
}

#[test]
fn the_reason_is_not_told_where_the_settings_say_so() {
    let portolan = Portolan::serving(json!({ "reason_header": false }));
    let answer = ask(&portolan, "nobody.test", "/");
    assert_eq!((answer.status, answer.reason()), (404, None));
}

#[test]
fn an_endpoint_that_refuses_is_502_and_none_at_all_503_with_retry_after() {
    let portolan = plainly(json!({
        "routes": { "refuses": { "host": "refuses.test" }, "none": { "host": "none.test" } },
        "services": { "refuses": { "endpoints": [nobody()] }, "none": { "endpoints": [] } },
    }));
    let answer = ask(&portolan, "refuses.test", "/");
    assert_refused(&answer, 502, "EndpointUnreachable");
    assert_eq!(answer.header("retry-after"), None);
    let answer = ask(&portolan, "none.test", "/");
    assert_refused(&answer, 503, "NoEndpoint");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[test]
fn an_endpoint_that_breaks_off_before_its_answer_is_502_and_is_not_asked_twice() {
    use crate::support::backend::Then;
    let first = Backend::answering(|_| Ok(Then::Close));
    let portolan = plainly(json!({
        "routes": { "breaks": { "host": "breaks.test" } },
        "services": { "breaks": { "endpoints": [first.url()] } },
    }));
    assert_refused(&ask(&portolan, "breaks.test", "/"), 502, "EndpointReset");
    assert_eq!(first.received().len(), 1, "a request that may have arrived is never sent again");
}

#[test]
fn another_endpoint_is_asked_where_one_refuses_the_connection() {
    let up = Backend::named("up");
    let portolan = plainly(json!({
        "routes": { "s": { "host": "second.test" } },
        "services": { "s": { "endpoints": [nobody(), up.url(), nobody()] } },
    }));
    for _ in 0..9 {
        assert_from(&portolan, "second.test", "/", "up");
    }
    assert_eq!(up.received().len(), 9);
}

#[test]
fn round_robin_shares_exactly_whichever_worker_a_client_lands_on() {
    let backends = ["a", "b", "c"].map(Backend::named);
    let portolan = plainly(json!({
        "workers": 2,
        "routes": { "s": { "host": "shares.test" } },
        "services": { "s": { "endpoints": backends.iter().map(Backend::url).collect::<Vec<_>>() } },
    }));
    for _ in 0..30 {
        assert_eq!(ask(&portolan, "shares.test", "/").status, 200);
    }
    assert_eq!(backends.map(|backend| backend.received().len()), [10, 10, 10]);
}
