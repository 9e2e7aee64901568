//! What a proxy tells of itself: access log, metrics, the admin API and the commands that ask it.

use serde_json::{Value, json};

use crate::support::backend::{Backend, nobody};
use crate::support::http::{get_plain, send_plain};
use crate::support::pki::Authority;
use crate::support::portolan::{Portolan, command};
use crate::support::run;
use crate::support::wait::eventually;

fn start(backend: &Backend) -> Portolan {
    Portolan::serving(json!({
        "routes": {
            "shop": { "host": "shop.test", "listeners": ["plain", "https"] },
            "broken": { "host": "broken.test", "mlts": "partners", "service": "shop" },
            "down": { "host": "down.test", "listeners": ["plain"] },
        },
        "services": { "shop": { "endpoints": [backend.url()] }, "down": { "endpoints": [nobody()] } },
    }))
}

#[test]
fn the_access_log_tells_who_asked_for_what_and_who_answered() {
    let backend = Backend::named("s");
    let portolan = start(&backend);
    let options = ["--http2", "--data", "12345", "--user-agent", "tester \"1\"", "--referer", "https://a.test/"];
    let answer = portolan.curl("https://shop.test/a%2Fb?q=1", &options).unwrap();
    let line = portolan.logged(json!({ "path": "/a%2Fb?q=1" }));
    let expected = json!({
        "listener": "https", "protocol": "HTTP/2.0", "method": "POST", "host": "shop.test", "status": 200,
        "request_bytes": 5, "response_bytes": answer.body.len(), "route": "settings/route/shop",
        "service": "settings/service/shop", "endpoint": backend.url(), "user_agent": "tester \"1\"",
        "referer": "https://a.test/",
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(line[key], *value, "{key} of {line}");
    }
    assert_eq!((&line["tls"]["version"], &line["tls"]["sni"]), (&json!("TLSv1.3"), &json!("shop.test")), "{line}");
    assert_eq!(line["tls"]["resumed"], false, "{line}");
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    let (whole, upstream) = (line["duration_ms"].as_f64().unwrap(), line["upstream_ms"].as_f64().unwrap());
    assert!(whole >= upstream && upstream > 0.0, "{line}");
    assert!(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
    assert!(line.get("reason").is_none(), "{line}");

    get_plain(portolan.plain, "nobody.test", "/missing").unwrap();
    let line = portolan.logged(json!({ "path": "/missing" }));
    assert_eq!((&line["status"], &line["reason"], line.get("route")), (&json!(404), &json!("NoRoute"), None), "{line}");
    get_plain(portolan.plain, "down.test", "/down").unwrap();
    let line = portolan.logged(json!({ "path": "/down" }));
    assert_eq!((&line["status"], &line["reason"]), (&json!(502), &json!("EndpointUnreachable")), "{line}");
    assert_eq!(line["route"], "settings/route/down", "{line}");
}

#[test]
fn what_a_client_sends_stays_inside_its_field() {
    let backend = Backend::named("s");
    let portolan = start(&backend);
    let request =
        "GET /log HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: a\"b\\c\u{9b}31m\u{e9}\tz\r\nConnection: close\r\n\r\n";
    assert_eq!(send_plain(portolan.plain, request).unwrap().status, 200);
    // Each line is one JSON object, or this fails.
    let line = portolan.logged(json!({ "path": "/log" }));
    assert_eq!(line["user_agent"], "a\"b\\c\u{9b}31m\u{e9}\tz", "{line}");
    let raw = std::fs::read_to_string(portolan.dir().join("stdout.log")).unwrap();
    assert!(!raw.contains('\u{9b}') && !raw.contains('\t'), "a terminal would obey it: {raw:?}");
}

#[test]
fn an_access_log_that_is_off_is_silent() {
    let mut portolan = Portolan::serving(json!({ "access_log": { "enabled": false } }));
    assert_eq!(get_plain(portolan.plain, "nobody.test", "/").unwrap().status, 404);
    // What has been written is out when it ends.
    portolan.terminate();
    assert_eq!(portolan.wait(), Some(0));
    assert_eq!(std::fs::read_to_string(portolan.dir().join("stdout.log")).unwrap(), "");
}

/// The value of a series, once it is what is wanted.
fn wait_for(portolan: &Portolan, series: &str, value: &str) {
    eventually(&format!("{series} {value}"), || {
        let metrics = portolan.metrics();
        let found = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        if found == Some(value) { Ok(()) } else { Err(format!("{found:?} in\n{metrics}")) }
    });
}

#[test]
fn metrics_count_requests_by_route() {
    let backend = Backend::named("s");
    let portolan = start(&backend);
    for _ in 0..3 {
        get_plain(portolan.plain, "shop.test", "/").unwrap();
    }
    portolan.get("https://shop.test/").unwrap();
    get_plain(portolan.plain, "down.test", "/").unwrap();
    get_plain(portolan.plain, "nobody.test", "/").unwrap();
    assert_eq!(portolan.get("https://unknown.test/").unwrap_err().code, 35);
    let labels = "route=\"settings/route/shop\",service=\"settings/service/shop\"";
    for (series, value) in [
        (format!("portolan_requests_total{{code=\"2xx\",{labels}}}"), "4"),
        (format!("portolan_request_duration_seconds_count{{{labels}}}"), "4"),
        ("portolan_refusals_total{reason=\"NoRoute\"}".to_string(), "1"),
        ("portolan_refusals_total{reason=\"EndpointUnreachable\"}".to_string(), "1"),
        (
            "portolan_upstream_errors_total{kind=\"EndpointUnreachable\",service=\"settings/service/down\"}"
                .to_string(),
            "1",
        ),
        ("portolan_tls_handshake_failures_total{reason=\"unrecognized_name\"}".to_string(), "1"),
        ("portolan_requests_in_flight".to_string(), "0"),
        ("portolan_object_problems{provider=\"settings\",reason=\"UnknownField\"}".to_string(), "1"),
        ("portolan_provider_state{provider=\"settings\",state=\"live\"}".to_string(), "1"),
    ] {
        wait_for(&portolan, &series, value);
    }
    let metrics = portolan.metrics();
    for name in [
        "portolan_table_generation ",
        "portolan_reconcile_duration_seconds_count ",
        "portolan_compile_duration_seconds_count ",
        "portolan_certificate_expiry_timestamp_seconds{issuer=\"corp\",name=\"shop.test\"} ",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} in\n{metrics}");
    }
    assert!(!metrics.contains("nobody.test") && !metrics.contains("unknown.test"), "no client makes series");
}

#[test]
fn the_commands_list_what_is_live() {
    let backend = Backend::named("s");
    let dir = tempfile::tempdir().unwrap();
    let pair = Authority::create(dir.path(), "ca").issue("own", "DNS:own.test");
    let portolan = Portolan::serving(json!({
        "routes": {
            "shop": { "host": "shop.test", "path": "/a", "listeners": ["plain", "https"], "use": ["p"], "priority": 3 },
            "broken": { "host": "broken.test", "mlts": "partners", "service": "shop" },
        },
        "middlewares": { "p": { "add_prefix": "/p" } },
        "services": { "shop": { "endpoints": [backend.url()] } },
        "certificates": { "own": { "cert_file": pair.cert_file, "key_file": pair.key_file } },
    }));
    portolan.get("https://shop.test/a").unwrap();
    let listed = |kind: &str| -> Vec<Value> { serde_json::from_str(&portolan.cli(&[kind, "-o", "json"])).unwrap() };

    let routes = listed("routes");
    let shop = routes.iter().find(|route| route["id"] == "settings/route/shop").unwrap();
    for (key, value) in [
        ("hosts", json!(["shop.test"])),
        ("paths", json!(["/a"])),
        ("listeners", json!(["https", "plain"])),
        ("state", json!("live")),
        ("reason", json!(null)),
        ("middlewares", json!(["settings/middleware/p"])),
        ("services", json!(["settings/service/shop"])),
        ("endpoints", json!(1)),
        ("priority", json!(3)),
    ] {
        assert_eq!(shop[key], value, "{key} of {shop}");
    }
    assert!(shop["origin"].as_str().unwrap().starts_with("portolan.yaml:"), "{shop}");
    let broken = routes.iter().find(|route| route["id"] == "settings/route/broken").unwrap();
    assert_eq!((&broken["state"], &broken["reason"]), (&json!("denied"), &json!("Invalid")), "{broken}");

    let services = listed("services");
    assert_eq!(services[0]["endpoints"][0]["address"], backend.address.to_string(), "{services:?}");
    let certificates = listed("certificates");
    let of =
        |kind: &str| certificates.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("{certificates:?}"));
    assert_eq!((&of("issued")["name"], &of("issued")["issuer"]), (&json!("shop.test"), &json!("corp")));
    assert_eq!(of("configured")["hosts"], json!(["own.test"]));
    let problems = listed("problems");
    assert_eq!((problems.len(), &problems[0]["reason"]), (1, &json!("UnknownField")), "{problems:?}");

    for (kind, words) in [
        ("routes", &["ROUTE", "settings/route/shop", "shop.test", "denied", "Invalid"][..]),
        ("services", &["SERVICE", "settings/service/shop", &backend.address.to_string()]),
        ("certificates", &["NAME", "shop.test", "settings/certificate/own", "issued", "configured"]),
        ("problems", &["REASON", "UnknownField", "settings/route/broken", "portolan.yaml:", "did you mean \"mtls\"?"]),
    ] {
        let table = portolan.cli(&[kind]);
        for word in words {
            assert!(table.contains(word), "{word} in\n{table}");
        }
        assert!(!table.contains('\u{1b}'), "colours are for terminals: {table:?}");
    }
}

#[test]
fn a_command_that_finds_no_proxy_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let admin = format!("127.0.0.1:{}", crate::support::port::free_port());
    let output = run(&mut command(dir.path(), &["routes", "--admin", &admin]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(&admin) && said.contains("portolan run"), "{said}");
    let output = run(&mut command(dir.path(), &["health", "--status", &admin]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn health_is_an_exit_code() {
    let portolan = Portolan::serving(json!({}));
    let output = portolan.try_cli(&["health"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let status = portolan.status.to_string();
    assert_eq!(portolan.try_cli(&["health", "--status", &status]).status.code(), Some(0));
}

#[test]
fn the_status_listener_serves_nothing_else() {
    let backend = Backend::named("s");
    let portolan = start(&backend);
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/", 404),
        ("/api/routes", 404),
        ("/healthz/", 404),
        ("/metrics/x", 404),
        ("/debug/pprof", 404),
    ] {
        assert_eq!(get_plain(portolan.status, "shop.test", path).unwrap().status, status, "{path}");
    }
    // Nor are its paths served where requests are.
    for path in ["/readyz", "/metrics", "/api/routes"] {
        assert_eq!(get_plain(portolan.plain, "localhost", path).unwrap().status, 404, "{path}");
    }
}

#[test]
fn the_admin_api_only_reads_and_only_for_this_machine() {
    let backend = Backend::named("s");
    let portolan = start(&backend);
    for kind in ["routes", "services", "certificates", "providers", "problems"] {
        let answer = get_plain(portolan.admin, "localhost", &format!("/api/{kind}")).unwrap();
        assert_eq!(answer.status, 200, "{kind}");
        assert!(answer.body.starts_with('['), "{kind}: {}", answer.body);
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let request = format!(
                "{method} /api/{kind} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            assert_eq!(send_plain(portolan.admin, &request).unwrap().status, 405, "{method} {kind}");
        }
    }
    // A page that points a name of its own at this machine.
    assert_eq!(get_plain(portolan.admin, "evil.test", "/api/routes").unwrap().status, 403);
    assert_eq!(get_plain(portolan.admin, "localhost", "/metrics").unwrap().status, 404);
}

#[test]
fn commands_that_are_not_built_yet_say_so_and_exit_with_2() {
    let dir = tempfile::tempdir().unwrap();
    for words in ["check a.yaml", "check --compose compose.yaml", "check -", "explain https://a.example/", "crds"] {
        let output = run(&mut command(dir.path(), &words.split(' ').collect::<Vec<_>>()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("NotSupportedYet"), "{words}: {output:?}");
        assert!(output.stdout.is_empty(), "{words}: {output:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn schema_and_version_need_no_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let say = |words: &[&str]| crate::support::output_of(&mut command(dir.path(), words));
    for (words, is_settings) in [(&["schema"][..], true), (&["schema", "dynamic"], false)] {
        let schema: Value = serde_json::from_str(&say(words)).unwrap();
        assert!(schema["$schema"].is_string(), "{words:?}");
        // Objects may stand in both.
        assert!(schema["properties"]["mtls_policies"].is_object(), "{words:?}: {schema:#}");
        assert_eq!(schema["properties"].get("shutdown").is_some(), is_settings, "{words:?}: {schema:#}");
    }
    assert_eq!(say(&["--version"]), format!("portolan {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(&mut command(dir.path(), &["rum"])).status.code(), Some(2));
}
