//! An edit of `portolan.yaml` while the proxy runs, and SIGHUP.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::clients::{Clients, Keep};
use crate::support::http::{ask, curl, get_plain};
use crate::support::port::free_port;
use crate::support::portolan::{Portolan, command};
use crate::support::wait::{eventually, throughout};

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

const GET: &str = "GET / HTTP/1.1\r\nHost: s.test\r\n\r\n";

/// Serves `s.test` on `plain`, `https` and whatever is added to them.
fn start(backend: &Backend, settings: Value) -> Portolan {
    let mut all = json!({
        "routes": { "s": { "host": "s.test", "listeners": ["plain", "https"] } },
        "services": { "s": { "endpoints": [backend.url()] } },
    });
    crate::support::portolan::lay_over(&mut all, settings);
    Portolan::serving(all)
}

fn until(to: SocketAddr, host: &str, status: u16) {
    eventually(&format!("{host} at {to} is {status}"), || match get_plain(to, host, "/") {
        Ok(answer) if answer.status == status => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn two_listeners_come_and_one_goes_under_load_and_no_request_is_lost() {
    let backend = Backend::named("s");
    let going = free();
    let portolan = start(
        &backend,
        json!({
            "listeners": { "going": { "address": going } },
            "routes": { "s": { "listeners": ["plain", "https", "going"] } },
            "workers": 2,
        }),
    );
    let load = Clients::none()
        .plain(portolan.plain, "s.test", Keep::Connection)
        .plain(portolan.plain, "s.test", Keep::Nothing)
        .plain(portolan.plain, "s.test", Keep::Nothing)
        .h2(portolan.https, "s.test", &portolan.root());
    let mut leaving = Clients::none();
    for keep in [Keep::Connection, Keep::Nothing, Keep::Nothing, Keep::Nothing] {
        leaving = leaving.plain(going, "s.test", keep);
    }
    let mut added = Vec::new();
    for round in 0..5 {
        std::thread::sleep(Duration::from_millis(300));
        let (one, two) = (free(), free());
        portolan.edit(json!({
            "listeners": {
                "going": (round < 4).then(|| json!({ "address": going })),
                format!("one-{round}"): { "address": one },
                format!("two-{round}"): { "address": two },
            },
            "routes": { "s": { "listeners": listeners(round) } },
        }));
        until(one, "s.test", 200);
        until(two, "s.test", 200);
        added.extend([one, two]);
    }
    // The one that goes lets in nobody more.
    eventually("it is closed", || match get_plain(going, "s.test", "/") {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    });
    std::thread::sleep(Duration::from_millis(300));
    let gone = leaving.tally();
    let tally = load.tally();
    assert!(tally.failed.is_empty() && tally.turned_away == 0, "{tally:?}\n{}", portolan.log());
    assert!(tally.answered > 1000, "{tally:?}");
    // Who was let in there was answered: that the listener is gone, at the latest with the last request.
    let broken: Vec<&String> = gone.failed.iter().filter(|how| *how != "421").collect();
    assert!(broken.is_empty() && gone.answered > 300 && gone.turned_away > 0, "{gone:?}");
    for address in added {
        assert_eq!(get_plain(address, "s.test", "/").unwrap().status, 200);
    }
    portolan.without_problems();
    portolan.stop();
}

fn listeners(round: usize) -> Vec<String> {
    let added = (0..=round).flat_map(|n| [format!("one-{n}"), format!("two-{n}")]);
    let going = (round < 4).then(|| "going".to_string());
    ["plain".to_string(), "https".to_string()].into_iter().chain(going).chain(added).collect()
}

#[test]
fn a_listener_that_moves_is_open_at_its_new_address_before_it_leaves_the_old() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let old = portolan.plain;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let new = taken.local_addr().unwrap();
    let load = Clients::none().plain(old, "s.test", Keep::Connection).plain(old, "s.test", Keep::Nothing);

    // Somebody else is there: the old one is better than none, and the proxy as ready as before.
    portolan.edit(json!({ "listeners": { "plain": { "address": new } } }));
    let problem = portolan.problem("ListenerUnavailable", &["plain", &new.to_string(), &format!("it stays at {old}")]);
    assert!(problem["origin"].as_str().unwrap().contains("portolan.yaml:"), "{problem}");
    throughout("ready", Duration::from_millis(500), || portolan.ready());
    let tally = load.tally();
    assert!(tally.failed.is_empty() && tally.turned_away == 0 && tally.answered > 20, "{tally:?}");

    // As soon as the port is free, without another word.
    let load = Clients::none().plain(old, "s.test", Keep::Connection).plain(old, "s.test", Keep::Nothing);
    drop(taken);
    until(new, "s.test", 200);
    portolan.without_problems();
    eventually("the old address is closed", || match get_plain(old, "s.test", "/") {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    });
    std::thread::sleep(Duration::from_millis(200));
    let tally = load.tally();
    assert!(tally.failed.is_empty() && tally.answered > 20 && tally.turned_away > 0, "{tally:?}");
}

#[test]
fn a_new_listener_whose_port_is_taken_is_named_and_holds_nothing_else_up() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (bad, good) = (taken.local_addr().unwrap(), free());
    portolan.edit(json!({
        "listeners": { "bad": { "address": bad }, "good": { "address": good } },
        "routes": { "s": { "listeners": ["plain", "bad", "good"] } },
    }));
    portolan.problem("ListenerUnavailable", &["bad", "another program listens there"]);
    until(good, "s.test", 200);
    portolan.ready().unwrap();
    drop(taken);
    until(bad, "s.test", 200);
    portolan.without_problems();
}

#[test]
fn what_a_listener_says_of_itself_changes_for_connections_that_are_open_too() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let location = || get_plain(portolan.http, "s.test", "/x").unwrap().header("location").map(str::to_string);
    let forwarded = |answer: &crate::support::http::Answer| answer.told().all("x-forwarded-for").join(",");
    let from = || {
        let request = "GET / HTTP/1.1\r\nHost: s.test\r\nX-Forwarded-For: 192.0.2.9\r\nConnection: close\r\n\r\n";
        crate::support::http::send_plain(portolan.plain, request).unwrap()
    };
    assert_eq!(forwarded(&from()), "127.0.0.1");
    // Kept, and idle when the terms change: nobody is believed on it any more than on a new one.
    let mut idle = std::net::TcpStream::connect(portolan.plain).unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let load = Clients::none().plain(portolan.plain, "s.test", Keep::Connection);
    portolan.edit(json!({ "listeners": {
        "plain": { "trusted_proxies": ["127.0.0.0/8"] },
        "http": { "redirect": "https" },
        "https": { "public_port": 8443 },
    } }));
    eventually("127.0.0.1 is believed", || match forwarded(&from()) {
        told if told.starts_with("192.0.2.9") => Ok(()),
        told => Err(told),
    });
    assert_eq!(location(), Some("https://s.test:8443/x".to_string()));
    assert_eq!(std::io::Read::read(&mut idle, &mut [0]).unwrap(), 0, "it comes back under the new terms");
    portolan.edit(json!({ "listeners": { "http": { "redirect": "off" } } }));
    eventually("no redirect", || match location() {
        None => Ok(()),
        Some(location) => Err(location),
    });
    let tally = load.tally();
    assert!(tally.failed.is_empty() && tally.turned_away == 0 && tally.answered > 20, "{tally:?}");
}

#[test]
fn a_bad_edit_changes_nothing_and_is_named_until_it_is_mended() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let good = std::fs::read_to_string(portolan.dir().join("portolan.yaml")).unwrap();
    let other = free();
    let with = |listeners: Value| {
        let mut settings: Value = serde_json::from_str(&good).unwrap();
        crate::support::portolan::lay_over(&mut settings, json!({ "listeners": listeners, "reason_header": false }));
        serde_json::to_string_pretty(&settings).unwrap()
    };
    let half = with(json!({ "other": { "address": other } }));
    for (text, reason, words) in [
        (
            with(json!({ "other": { "adress": other } })),
            "UnknownField",
            &["adress", "\\\"address\\\"", "portolan.yaml:"][..],
        ),
        (with(json!({ "other": { "address": portolan.plain } })), "Invalid", &["is taken by listeners."]),
        (half[..half.len() / 2].to_string(), "Unreadable", &["portolan.yaml:"]),
        (good[..good.len() / 2].to_string(), "Unreadable", &["portolan.yaml", "still being written"]),
        (String::new(), "Unreadable", &["portolan.yaml", "it is empty"]),
    ] {
        portolan.put(&text);
        let problem = portolan.problem(reason, words);
        assert!(problem["detail"].as_str().unwrap().contains("the settings in force stay"), "{problem}");
        portolan.says(&[words[0], "ERROR"]);
        let refused = get_plain(portolan.plain, "nobody.test", "/").unwrap();
        assert!(refused.reason().is_some(), "the rest of the edit is not in force either");
        assert_eq!(get_plain(portolan.plain, "s.test", "/").unwrap().status, 200);
        assert!(get_plain(other, "s.test", "/").is_err());
        portolan.ready().unwrap();
        portolan.put(&good);
        portolan.without_problems();
    }
    std::fs::remove_file(portolan.dir().join("portolan.yaml")).unwrap();
    portolan.problem("Unreadable", &["portolan.yaml", "cannot be read"]);
    assert_eq!(get_plain(portolan.plain, "s.test", "/").unwrap().status, 200);
    portolan.put(&good);
    portolan.without_problems();
    portolan.stop();
}

#[test]
fn what_waits_for_a_restart_is_named_and_the_rest_of_the_edit_is_in_force() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let (status, admin) = (free(), free());
    portolan.edit(json!({
        "workers": 7, "state_dir": "/elsewhere", "status": { "address": status }, "admin": { "address": admin },
        "log": { "format": "text" }, "reason_header": false, "access_log": { "format": "common" },
    }));
    for field in ["workers", "state_dir", "status.address", "admin.address", "log.format"] {
        let problem = portolan.problem("NeedsRestart", &[&format!("\"field\":\"{field}\"")]);
        assert_eq!(problem["severity"], "warning");
        assert!(problem["origin"].as_str().unwrap().contains("portolan.yaml:"), "{problem}");
        portolan.says(&["NeedsRestart", field]);
    }
    assert!(get_plain(portolan.plain, "nobody.test", "/common").unwrap().reason().is_none());
    portolan.says(&["\"GET /common HTTP/1.1\" 404"]);
    assert!(get_plain(status, "localhost", "/readyz").is_err());
    portolan.edit(json!({
        "workers": null, "state_dir": portolan.dir().join("state"), "status": { "address": portolan.status },
        "admin": { "address": portolan.admin }, "log": { "format": "json", "level": "error" },
        "access_log": { "enabled": false },
    }));
    portolan.without_problems();
    get_plain(portolan.plain, "nobody.test", "/unlogged").unwrap();
    portolan.edit(json!({ "access_log": { "enabled": true, "format": "json" } }));
    let logged = eventually("the access log is on", || {
        get_plain(portolan.plain, "nobody.test", "/logged").unwrap();
        let log = portolan.log();
        if log.contains("\"/logged\"") { Ok(log) } else { Err(log) }
    });
    assert!(!logged.contains("/unlogged"), "{logged}");
    // At level error the second and third edit are not worth a line.
    assert_eq!(logged.matches("the settings are in force").count(), 1, "{logged}");
}

#[test]
fn a_provider_is_turned_on_led_elsewhere_and_turned_off_by_an_edit() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let file = |name: &str| {
        let dir = portolan.dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let route = json!({
            "routes": { name: { "host": format!("{name}.test"), "listeners": ["plain"], "service": "t" } },
            "services": { "t": { "endpoints": [backend.url()] } },
        });
        std::fs::write(dir.join("route.json"), route.to_string()).unwrap();
        dir
    };
    let (one, two) = (file("one"), file("two"));
    portolan.edit(json!({ "providers": { "file": { "path": one } } }));
    until(portolan.plain, "one.test", 200);
    portolan.edit(json!({ "providers": { "file": { "path": two } } }));
    until(portolan.plain, "two.test", 200);
    until(portolan.plain, "one.test", 404);
    let kept = portolan.dir().join("state/snapshots/file.json");
    eventually("what it said is kept", || match std::fs::read_to_string(&kept) {
        Ok(text) if text.contains("two.test") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    portolan.edit(json!({ "providers": { "file": null } }));
    until(portolan.plain, "two.test", 404);
    eventually("nothing of it is kept", || if kept.exists() { Err(()) } else { Ok(()) });
    assert_eq!(get_plain(portolan.plain, "s.test", "/").unwrap().status, 200);

    // One that cannot be had is a problem, and nothing else.
    let nowhere = json!({ "endpoint": format!("unix://{}", portolan.dir().join("none.sock").display()) });
    portolan.edit(json!({ "providers": { "docker": nowhere } }));
    portolan.problem("ProviderUnavailable", &["docker", "it has never answered"]);
    portolan.ready().unwrap();
    portolan.edit(json!({ "providers": { "docker": "off" } }));
    portolan.without_problems();
    portolan.stop();
}

#[test]
fn an_issuer_is_added_and_takes_over_and_the_old_one_goes() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let root = |issuer: &str| {
        let file = portolan.dir().join(format!("{issuer}.pem"));
        std::fs::write(&file, portolan.cli(&["ca", "root", "--issuer", issuer]) + "\n").unwrap();
        file
    };
    let vouched = |root: &std::path::Path| curl("https://s.test/", portolan.https, Some(root), &[]).map(|a| a.status);
    let corp = root("corp");
    assert_eq!(vouched(&corp).unwrap(), 200);

    // One that cannot be opened changes nothing; SIGHUP asks again though the file is the same.
    let lab_dir = portolan.dir().join("state/issuers/lab");
    std::fs::write(&lab_dir, "in the way").unwrap();
    portolan.edit(json!({ "issuers": { "lab": { "internal": {} } }, "default_issuers": ["lab"] }));
    portolan.problem("Unreadable", &["settings/issuer/lab", "portolan.yaml:", "the settings in force stay"]);
    assert_eq!(vouched(&corp).unwrap(), 200);
    std::fs::remove_file(&lab_dir).unwrap();
    portolan.signal("HUP");
    portolan.without_problems();
    let lab = root("lab");
    eventually("lab vouches", || vouched(&lab).map(|status| assert_eq!(status, 200)));
    assert_eq!(vouched(&corp).unwrap_err().code, 60);

    portolan.edit(json!({ "issuers": { "corp": "off" } }));
    portolan.says(&["the settings are in force", "\"changed\":\"issuers\""]);
    assert_eq!(vouched(&lab).unwrap(), 200);
    portolan.signal("HUP");
    portolan.says(&["the settings are as they were"]);
    portolan.edit(json!({ "default_issuers": ["corp"] }));
    portolan.problem("Invalid", &["default_issuers", "there is no issuer"]);
    assert_eq!(vouched(&lab).unwrap(), 200);
    portolan.stop();
}

#[test]
fn a_file_that_appears_after_the_start_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let [http, https, status, admin] = std::array::from_fn(|_| free());
    let mut process = command(dir.path(), &["run"])
        .envs([
            ("PORTOLAN_LISTENERS__HTTP__ADDRESS", http.to_string()),
            ("PORTOLAN_LISTENERS__HTTP__REDIRECT", "off".to_string()),
            ("PORTOLAN_LISTENERS__HTTPS__ADDRESS", https.to_string()),
            ("PORTOLAN_STATUS__ADDRESS", status.to_string()),
            ("PORTOLAN_ADMIN__ADDRESS", admin.to_string()),
            ("PORTOLAN_STATE_DIR", dir.path().join("state").display().to_string()),
            ("PORTOLAN_PROVIDERS__DOCKER", "off".to_string()),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until(http, "s.test", 404);
    let backend = Backend::named("s");
    let text = format!(
        "routes:\n  s: {{ host: s.test, listeners: [http] }}\nservices:\n  s: {{ endpoints: [\"{}\"] }}\n",
        backend.url()
    );
    std::fs::write(dir.path().join("portolan.yaml"), text).unwrap();
    let appeared = std::panic::catch_unwind(|| until(http, "s.test", 200));
    process.kill().unwrap();
    process.wait().unwrap();
    appeared.unwrap();
}

#[test]
fn the_swap_of_a_config_map_is_one_edit() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let dir = portolan.dir();
    let text = std::fs::read_to_string(dir.join("portolan.yaml")).unwrap();
    let version = |name: &str, text: &str| {
        std::fs::create_dir(dir.join(name)).unwrap();
        std::fs::write(dir.join(name).join("portolan.yaml"), text).unwrap();
        std::os::unix::fs::symlink(name, dir.join("..data_tmp")).unwrap();
        std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    version("..1", &text);
    std::os::unix::fs::symlink("..data/portolan.yaml", dir.join("link")).unwrap();
    std::fs::rename(dir.join("link"), dir.join("portolan.yaml")).unwrap();
    let next = text.replace("s.test", "t.test");
    assert_ne!(next, text);
    version("..2", &next);
    until(portolan.plain, "t.test", 200);
    until(portolan.plain, "s.test", 404);
    portolan.without_problems();
}

#[test]
fn limits_change_for_connections_that_are_open_too_and_lose_nothing() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let post = || {
        let head = "POST / HTTP/1.1\r\nHost: s.test\r\nConnection: close\r\nContent-Length: 2048\r\n\r\n";
        crate::support::http::send_plain(portolan.plain, &format!("{head}{}", "x".repeat(2048))).unwrap()
    };
    assert_eq!(post().status, 200);
    let idle = || {
        let mut idle = TcpStream::connect(portolan.plain).unwrap();
        idle.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(ask(&mut idle, GET).unwrap().status, 200);
        idle
    };
    let mut old = idle();
    let load = Clients::none().plain(portolan.plain, "s.test", Keep::Connection).plain(
        portolan.plain,
        "s.test",
        Keep::Nothing,
    );
    portolan.edit(json!({ "listeners": { "plain": { "limits": { "body": "1KiB" } } } }));
    eventually("a body is too large", || match post() {
        answer if answer.status == 413 && answer.reason() == Some("BodyTooLarge") => Ok(()),
        other => Err(other),
    });
    assert_eq!(old.read(&mut [0]).unwrap(), 0, "it comes back under the new terms");

    let tally = load.tally();
    assert!(tally.failed.is_empty() && tally.turned_away == 0 && tally.answered > 20, "{tally:?}");

    // How many there may be concerns only who comes.
    let mut open = idle();
    let limits = json!({ "limits": { "body": "1KiB", "connections": 5 } });
    portolan.edit(json!({ "listeners": { "plain": limits } }));
    let mut more: Vec<TcpStream> = Vec::new();
    eventually("somebody is not let in", || {
        let mut next = TcpStream::connect(portolan.plain).unwrap();
        next.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        match next.read(&mut [0]) {
            Ok(0) => Ok(()),
            other => {
                more.push(next);
                Err(format!("{other:?}, {} are open", more.len()))
            }
        }
    });
    drop(more);
    let answer = ask(&mut open, GET).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, None));
}
