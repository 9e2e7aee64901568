//! What routes ask of a request beside host and path: methods, headers, query, clients, regexes.

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::http::{Answer, send_plain};
use crate::support::portolan::Portolan;

/// A backend a route, of the route's name.
struct Site {
    portolan: Portolan,
    backends: Vec<Backend>,
}

impl Site {
    fn of(mut routes: Value) -> Site {
        let mut services = json!({});
        let mut backends = Vec::new();
        for (name, route) in routes.as_object_mut().unwrap() {
            let backend = Backend::named(name.clone().leak());
            services[name] = json!({ "endpoints": [backend.url()] });
            route["listeners"] = json!(["plain", "https"]);
            backends.push(backend);
        }
        Site { portolan: Portolan::serving(json!({ "routes": routes, "services": services })), backends }
    }

    /// `target` as it stands in the request line; each of `headers` is a line.
    fn send(&self, method: &str, host: &str, target: &str, headers: &[&str]) -> Answer {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
        send_plain(self.portolan.plain, &request).unwrap()
    }

    #[track_caller]
    fn assert_from(&self, method: &str, host: &str, target: &str, headers: &[&str], name: &str) {
        let answer = self.send(method, host, target, headers);
        assert_eq!(answer.status, 200, "{method} {host}{target} {headers:?}: {answer:?}");
        assert_eq!(answer.told().name(), name, "{method} {host}{target} {headers:?}");
    }

    #[track_caller]
    fn assert_none(&self, method: &str, host: &str, target: &str, headers: &[&str]) {
        let answer = self.send(method, host, target, headers);
        let said = (answer.status, answer.reason());
        assert_eq!(said, (404, Some("NoRoute")), "{method} {host}{target} {headers:?}: {answer:?}");
    }
}

#[test]
fn a_method_a_header_and_a_parameter_choose_the_route() {
    let site = Site::of(json!({
        "all": { "host": "m.test" },
        "posts": { "host": "m.test", "methods": ["post", "PUT"] },
        "canary": { "host": "m.test", "headers": { "X-Canary": "Yes" } },
        "beta": { "host": "m.test", "query": { "v": "be ta" } },
        "both": { "host": "m.test", "headers": { "x-canary": "Yes" }, "query": { "v": "be ta" } },
        "api": { "host": "m.test", "path": "/api" },
    }));
    for (method, target, headers, name) in [
        ("GET", "/", &[][..], "all"),
        ("POST", "/", &[], "posts"),
        ("PUT", "/?v=be+ta", &["x-canary: Yes"], "posts"),
        ("post", "/", &[], "all"),
        ("GET", "/", &["X-CANARY: Yes"], "canary"),
        ("GET", "/", &["x-canary: no", "x-canary: Yes"], "canary"),
        ("GET", "/", &["x-canary: yes"], "all"),
        ("GET", "/?v=be+ta", &[], "beta"),
        ("GET", "/?a=1&%76=be%20ta", &[], "beta"),
        ("GET", "/?v=1&v=be%20ta", &["x-canary: Yes"], "both"),
        ("GET", "/?v=be;v=be+ta", &[], "all"),
        // A longer path comes before any term.
        ("POST", "/api/x?v=be+ta", &["x-canary: Yes"], "api"),
    ] {
        site.assert_from(method, "m.test", target, headers, name);
    }
}

#[test]
fn terms_hold_over_h2_as_over_h1() {
    let site = Site::of(json!({
        "all": { "host": "h2.test" },
        "posts": { "host": "h2.test", "methods": ["POST"] },
        "canary": { "host": "h2.test", "headers": { "x-canary": "yes" }, "query": { "a": "1" } },
    }));
    for (options, target, name) in [
        (&[][..], "/", "all"),
        (&["-X", "POST"], "/", "posts"),
        (&["-H", "X-Canary: yes"], "/?a=1", "canary"),
        (&["-H", "X-Canary: yes"], "/?a=2", "all"),
    ] {
        for protocol in ["--http1.1", "--http2"] {
            let options: Vec<&str> = [&[protocol], options].concat();
            let answer = site.portolan.curl(&format!("https://h2.test{target}"), &options).unwrap();
            assert_eq!(answer.told().name(), name, "{options:?} {target}");
        }
    }
}

#[test]
fn clients_are_told_apart_by_their_own_address_and_no_header() {
    let site = Site::of(json!({
        "inside": { "host": "c.test", "path": "/in", "clients": ["127.0.0.0/8", "::1/128"] },
        "outside": { "host": "c.test", "path": "/out", "clients": ["192.0.2.0/24"] },
    }));
    site.assert_from("GET", "c.test", "/in", &["x-forwarded-for: 192.0.2.1"], "inside");
    let forged = ["x-forwarded-for: 192.0.2.1", "x-real-ip: 192.0.2.1", "forwarded: for=192.0.2.1"];
    site.assert_none("GET", "c.test", "/out", &forged);
    assert!(site.backends.iter().filter(|backend| !backend.received().is_empty()).count() == 1);
}

#[test]
fn a_path_regex_is_tried_on_the_decoded_path_and_refused_where_readers_differ() {
    let site = Site::of(json!({
        "all": { "host": "r.test" },
        "year": { "host": "r.test", "path_regex": "/[0-9]{4}/(a b|é)" },
        "admin": { "host": "r.test", "path_regex": "/admin(/.*)?" },
        "literal": { "host": "r.test", "path": "/2024" },
    }));
    site.assert_from("GET", "r.test", "/2023/a%20b", &[], "year");
    site.assert_from("GET", "r.test", "/2023/%c3%a9", &[], "year");
    site.assert_from("GET", "r.test", "/2023/a%20bc", &[], "all");
    site.assert_from("GET", "r.test", "/2024/a%20b", &[], "literal");
    for target in ["//admin", "/x/..;/admin", "/admin%2Fx", "/%2Fadmin"] {
        let answer = site.send("GET", "r.test", target, &[]);
        assert_eq!((answer.status, answer.reason()), (400, Some("AmbiguousPath")), "{target}: {answer:?}");
    }
}

#[test]
fn what_a_path_hides_is_refused_for_the_method_that_it_concerns() {
    let site = Site::of(json!({
        "all": { "host": "l.test" },
        "writes": { "host": "l.test", "path": "/admin", "methods": ["POST"] },
    }));
    site.assert_from("GET", "l.test", "//admin", &[], "all");
    let answer = site.send("POST", "l.test", "//admin", &["content-length: 0"]);
    assert_eq!((answer.status, answer.reason()), (400, Some("AmbiguousPath")), "{answer:?}");
}

#[test]
fn a_rule_is_matched_as_it_is_written() {
    let site = Site::of(json!({
        "regex": { "rule": "HostRegexp(`^[a-z]+\\.rule\\.test$`) && !Host(`b.rule.test`)" },
        "shop": { "rule": "Host(`a.rule.test`) && PathPrefix(`/shop`) && !Method(`DELETE`)" },
        "either": { "rule": "Host(`c.rule.test`) && (Path(`/x`) || QueryRegexp(`q`, `^[0-9]+$`))" },
    }));
    for (method, host, target, name) in [
        ("GET", "a.rule.test", "/", "regex"),
        ("GET", "a.rule.test", "/shopping", "shop"),
        ("DELETE", "a.rule.test", "/shop", "regex"),
        ("GET", "c.rule.test", "/x", "either"),
        ("GET", "c.rule.test", "/y?q=12", "either"),
        ("GET", "c.rule.test", "/y?q=1a", "regex"),
    ] {
        site.assert_from(method, host, target, &[], name);
    }
    site.assert_none("GET", "b.rule.test", "/", &[]);
    site.assert_none("GET", "a1.rule.test", "/", &[]);
}

#[test]
fn the_routes_report_shows_what_is_asked_for() {
    let site = Site::of(json!({
        "r": { "host": "report.test", "path": "/x", "methods": ["GET"], "headers": { "x-a": "1" } },
    }));
    let routes = site.portolan.routes_of("report.test");
    assert_eq!(routes[0]["matches"], json!(["report.test/x [method=GET] [header x-a=1]"]));
    let listed = site.portolan.cli(&["routes"]);
    assert!(listed.contains("/x [method=GET] [header x-a=1]"), "{listed}");
}
