//! What `run` makes of its settings, and of those it cannot use.

use serde_json::json;

use crate::support::http::get_plain;
use crate::support::portolan::{Portolan, command};
use crate::support::run;

/// Exit code 1 and these words, of a `portolan.yaml` that cannot be used.
#[track_caller]
fn assert_refused(yaml: &str, words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("portolan.yaml"), yaml).unwrap();
    let output = run(&mut command(dir.path(), &["run"]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{yaml}:\n{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} of {yaml}:\n{said}");
    }
    assert!(std::fs::read_dir(dir.path()).unwrap().count() == 1, "nothing is made before the settings are read");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    assert_refused(
        "workers: 1\nlisteners:\n  https: { adress: \":1\" }\n",
        &["portolan.yaml:3:12", "adress", "\"address\""],
    );
    assert_refused("shutdwon: { delay: 1s }\n", &["portolan.yaml:1:1", "shutdwon", "\"shutdown\""]);
}

#[test]
fn every_mistake_is_told_at_once() {
    let yaml = "workers: many\nlog: { level: loud }\nshutdown: { delay: 5 parsecs }\naccess_log: { formt: json }\n";
    assert_refused(yaml, &["portolan.yaml:1:10", "portolan.yaml:2:15", "portolan.yaml:3:20", "portolan.yaml:4:15"]);
}

#[test]
fn yaml_that_cannot_be_read_is_told_with_line_and_column() {
    assert_refused("workers: 1\nlog: [\n", &["portolan.yaml:"]);
    assert_refused("workers: 1\nworkers: 2\n", &["portolan.yaml:2:1", "workers"]);
}

#[test]
fn what_would_be_ignored_refuses_to_start() {
    let not_built = ["NotSupportedYet", "leave it out"];
    assert_refused("claims: [{ source: docker/shop, hosts: [a.example] }]\n", &[&["claims"][..], &not_built].concat());
    let yaml = "listeners:\n  https: { proxy_protocol: v1v2 }\n";
    assert_refused(yaml, &[&["portolan.yaml:2:28", "proxy_protocol"][..], &not_built].concat());
    assert_refused("issuers: { lets: { acme: {} } }\n", &[&["issuers.lets.acme"][..], &not_built].concat());
    assert_refused("admin: { address: \":9180\" }\n", &["admin.address", "loopback"]);
}

#[test]
fn names_that_lead_nowhere_refuse_to_start() {
    assert_refused("default_issuers: [crop]\n", &["portolan.yaml:1:18", "crop", "\"corp\""]);
    assert_refused("default_certificate: shop\n", &["default_certificate", "there is no certificate \"shop\""]);
}

#[test]
fn two_listeners_cannot_have_one_address() {
    let yaml = "listeners:\n  http: { address: \":8000\" }\n  https: { address: \"127.0.0.1:8000\" }\n";
    assert_refused(yaml, &["portolan.yaml:3:", "taken by listeners.http"]);
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&mut command(dir.path(), &["run", "--config", "absent.yaml"]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("absent.yaml"), "{said}");
}

/// Whether its own answers name their reason, which is as good a setting as any.
fn names_reasons(settings: bool, flags: &[&str], environment: &[(&str, &str)]) -> bool {
    let settings = json!({ "providers": { "docker": "off" }, "reason_header": settings });
    let portolan = Portolan::spawn_with(settings, flags, environment);
    portolan.wait_until_ready();
    get_plain(portolan.plain, "nobody.test", "/").unwrap().reason().is_some()
}

#[test]
fn the_environment_wins_over_the_file_and_a_flag_over_both() {
    assert!(names_reasons(true, &[], &[]));
    assert!(!names_reasons(true, &[], &[("PORTOLAN_REASON_HEADER", "false")]));
    assert!(names_reasons(true, &["--reason_header", "true"], &[("PORTOLAN_REASON_HEADER", "false")]));
    assert!(!names_reasons(true, &["--reason_header=off"], &[]));
    assert!(!names_reasons(true, &["--reasonHeader", "false"], &[]));
}

#[test]
fn levels_are_two_underscores_in_variables_and_dots_in_flags() {
    let port = crate::support::port::free_port();
    let settings = json!({ "providers": { "docker": "off" } });
    let address = format!("127.0.0.1:{port}");
    let portolan = Portolan::spawn_with(
        settings,
        &["--listeners.extra.address", &address],
        &[("PORTOLAN_ACCESS_LOG__FORMAT", "common"), ("PORTOLAN_LISTENERS__EXTRA__REDIRECT", "https")],
    );
    portolan.wait_until_ready();
    assert_eq!(get_plain(address.parse().unwrap(), "a.test", "/x").unwrap().status, 308);
    let log = crate::support::wait::eventually("a line in the common format", || {
        let log = portolan.log();
        if log.contains("\"GET /x HTTP/1.1\" 308") { Ok(log) } else { Err(log) }
    });
    assert!(log.lines().any(|line| line.starts_with("127.0.0.1 - - [")), "{log}");
}

#[test]
fn an_unknown_variable_or_flag_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("portolan.yaml"), "workers: 1\n").unwrap();
    let flag = run(&mut command(dir.path(), &["run", "--lgo.level", "debug"]));
    let said = String::from_utf8_lossy(&flag.stderr);
    assert!(flag.status.code() == Some(1) && said.contains("--lgo.level") && said.contains("\"log.level\""), "{said}");
    let flag = run(&mut command(dir.path(), &["run", "--workers"]));
    let said = String::from_utf8_lossy(&flag.stderr);
    assert!(flag.status.code() == Some(2) && said.contains("--workers has no value"), "{said}");
    let variable = run(command(dir.path(), &["run"]).env("PORTOLAN_WORKERS", "many"));
    let said = String::from_utf8_lossy(&variable.stderr);
    assert!(variable.status.code() == Some(1) && said.contains("PORTOLAN_WORKERS") && said.contains("many"), "{said}");
}
