//! Objects in files: live when a file is whole, in force until another one is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::announce;
use crate::support::backend::Backend;
use crate::support::http::{Answer, get_plain};
use crate::support::portolan::{Portolan, lay_over};
use crate::support::wait::{eventually, throughout};

struct Files {
    portolan: Portolan,
    routes: PathBuf,
    _dir: tempfile::TempDir,
}

impl Files {
    /// A directory with these files, and a proxy that reads it.
    fn start(files: &[(&str, &str)], over: Value) -> Files {
        let dir = tempfile::tempdir().unwrap();
        let routes = dir.path().join("routes.d");
        std::fs::create_dir(&routes).unwrap();
        for (name, text) in files {
            place(&routes.join(name), text);
        }
        let mut settings = json!({ "providers": { "file": { "path": routes } } });
        lay_over(&mut settings, over);
        Files { portolan: Portolan::serving(settings), routes, _dir: dir }
    }

    fn ask(&self, host: &str) -> Answer {
        get_plain(self.portolan.plain, host, "/").unwrap()
    }

    fn until(&self, host: &str, status: u16) -> Answer {
        eventually(&format!("{host} answers {status}"), || match self.ask(host) {
            answer if answer.status == status => Ok(answer),
            answer => Err(answer),
        })
    }
}

/// Written elsewhere and renamed into place.
fn place(path: &Path, text: &str) {
    let draft = path.with_file_name(".draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, path).unwrap();
}

/// A route on the plain listener, with a service of its own.
fn route(name: &str, host: &str, backend: &Backend) -> String {
    format!(
        "routes:\n  {name}:\n    host: {host}\n    listeners: [plain]\nservices:\n  {name}:\n    endpoints: [\"{}\"]\n",
        backend.url()
    )
}

#[test]
fn a_file_that_is_renamed_into_place_is_live_at_once() {
    let (old, new) = (Backend::named("old"), Backend::named("new"));
    let files = Files::start(&[("shop.yaml", &route("shop", "shop.test", &old))], json!({}));
    assert_eq!(files.ask("shop.test").told().name(), "old");
    let draft = files.routes.join(".draft");
    std::fs::write(&draft, route("shop", "shop.test", &new)).unwrap();
    let start = Instant::now();
    std::fs::rename(&draft, files.routes.join("shop.yaml")).unwrap();
    let limit = Duration::from_secs(20);
    while files.ask("shop.test").told().name() != "new" {
        assert!(start.elapsed() < limit, "still the old one after {limit:?}:\n{}", files.portolan.log());
    }
    announce(&format!("rename to first new answer: {:.1} ms", start.elapsed().as_secs_f64() * 1e3));
}

#[test]
fn files_and_settings_make_one_set_of_objects() {
    let (file, settings) = (Backend::named("file"), Backend::named("settings"));
    let text = format!(
        "routes:\n  here: {{ host: here.test, listeners: [plain], service: shared }}\n  own: {{ host: own.test, listeners: \
         [plain], service: local }}\nservices:\n  local: {{ endpoints: [\"{}\"] }}\n",
        file.url()
    );
    let files = Files::start(
        &[("one.yaml", &text)],
        json!({
            "routes": { "set": { "host": "set.test", "listeners": ["plain"], "service": "shared" } },
            "services": { "shared": { "endpoints": [settings.url()] } },
        }),
    );
    for (host, name) in [("here.test", "settings"), ("own.test", "file"), ("set.test", "settings")] {
        assert_eq!(files.ask(host).told().name(), name, "{host}");
    }
    // JSON is as good, and a file may come later.
    let json = json!({ "routes": { "late": { "host": "late.test", "listeners": ["plain"], "service": "shared" } } });
    place(&files.routes.join("late.json"), &json.to_string());
    assert_eq!(files.until("late.test", 200).told().name(), "settings");
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_last_content_and_says_where() {
    let backend = Backend::named("s");
    let good = route("shop", "shop.test", &backend);
    let files = Files::start(&[("shop.yaml", &good)], json!({}));
    place(&files.routes.join("shop.yaml"), &good.replace("    listeners: [plain]", "    listeners: [plain"));
    let path = files.routes.join("shop.yaml");
    let problem = files.portolan.problem("Unreadable", &[path.to_str().unwrap(), "stays in force"]);
    let origin = problem["origin"].as_str().unwrap();
    let place_in_file: Vec<u32> =
        origin.strip_prefix(&format!("{}:", path.display())).unwrap().split(':').map(|n| n.parse().unwrap()).collect();
    assert!(matches!(place_in_file[..], [4 | 5, column] if column > 0), "{origin}");
    assert_eq!(files.ask("shop.test").status, 200);

    place(&path, "");
    files.portolan.problem("Unreadable", &["it is empty"]);
    assert_eq!(files.ask("shop.test").status, 200);

    place(&path, &route("shop", "mended.test", &backend));
    files.until("mended.test", 200);
    assert_eq!(files.ask("shop.test").status, 404);
    eventually("no problem is left", || match files.portolan.problems() {
        problems if problems.is_empty() => Ok(()),
        problems => Err(problems),
    });
}

#[test]
fn a_writer_that_pauses_before_the_policy_never_opens_the_route() {
    let backend = Backend::named("s");
    let before = route("shop", "shop.test", &backend);
    let files =
        Files::start(&[("shop.yaml", &before)], json!({ "services": { "s": { "endpoints": [backend.url()] } } }));

    // One file anew, and one that was good before.
    for name in ["new.yaml", "shop.yaml"] {
        let host = format!("{}.paused.test", &name[..3]);
        let mut writer = std::fs::File::create(files.routes.join(name)).unwrap();
        write!(writer, "routes:\n  {}:\n    host: {host}\n    listeners: [plain]\n    service: s\n", &name[..3])
            .unwrap();
        writer.sync_all().unwrap();
        throughout("half a file is nothing", Duration::from_millis(2500), || match files.ask(&host) {
            answer if answer.status == 404 => Ok(()),
            answer => Err(answer),
        });
        writer.write_all(b"    mtls: partners\n").unwrap();
        drop(writer);
        let denied = files.until(&host, 503);
        // Under a policy it stands on no listener without TLS.
        assert_eq!(denied.reason(), Some("NoListener"), "{denied:?}");
    }
    assert!(backend.received().is_empty(), "{:?}", backend.received());
}

#[test]
fn a_beginning_of_what_it_said_is_not_believed() {
    let backend = Backend::named("s");
    let whole = format!(
        "services:\n  s: {{ endpoints: [\"{}\"] }}\nroutes:\n  shop:\n    host: shop.test\n    service: s\n    listeners: \
         [plain]\n    mtls: partners\n",
        backend.url()
    );
    let files = Files::start(&[("shop.yaml", &whole)], json!({}));
    assert_eq!(files.ask("shop.test").status, 503);
    place(&files.routes.join("shop.yaml"), whole.strip_suffix("    mtls: partners\n").unwrap());
    files.portolan.problem("Unreadable", &["shop.yaml", "still being written"]);
    assert_eq!(files.ask("shop.test").status, 503);
    assert!(backend.received().is_empty());
}

#[test]
fn a_deleted_file_takes_its_objects_along() {
    let backend = Backend::named("s");
    let (one, two) = (route("one", "one.test", &backend), route("two", "two.test", &backend));
    let files = Files::start(&[("one.yaml", &one), ("two.yaml", &two)], json!({}));
    assert_eq!((files.ask("one.test").status, files.ask("two.test").status), (200, 200));
    std::fs::remove_file(files.routes.join("one.yaml")).unwrap();
    assert_eq!(files.until("one.test", 404).reason(), Some("NoRoute"));
    assert_eq!(files.ask("two.test").status, 200);
}

#[test]
fn two_files_that_give_one_name_to_different_routes_close_both() {
    let backend = Backend::named("s");
    let service = format!("services:\n  s: {{ endpoints: [\"{}\"] }}\n", backend.url());
    let one = "routes:\n  shop: { host: one.test, service: s, listeners: [plain] }\n";
    let two = "routes:\n  shop: { host: two.test, service: s, listeners: [plain] }\n";
    let files = Files::start(&[("0.yaml", &service), ("1.yaml", one)], json!({}));
    assert_eq!(files.ask("one.test").status, 200);
    place(&files.routes.join("2.yaml"), two);
    for host in ["one.test", "two.test"] {
        assert_eq!(files.until(host, 503).reason(), Some("NameTaken"), "{host}");
    }
    let taken: Vec<String> = files
        .portolan
        .problems()
        .iter()
        .filter(|problem| problem["reason"] == "NameTaken")
        .map(|problem| problem["origin"].as_str().unwrap().to_string())
        .collect();
    for name in ["1.yaml:2:", "2.yaml:2:"] {
        assert!(taken.iter().any(|origin| origin.contains(name)), "{name} in {taken:?}");
    }

    // Said twice alike, it is one route.
    place(&files.routes.join("2.yaml"), one);
    files.until("one.test", 200);
    assert_eq!(files.ask("two.test").status, 404);
}

#[test]
fn a_directory_that_is_not_there_yet_is_read_when_it_appears() {
    let backend = Backend::named("s");
    let dir = tempfile::tempdir().unwrap();
    let routes = dir.path().join("later");
    let portolan = Portolan::serving(json!({ "providers": { "file": { "path": routes } } }));
    portolan.problem("Unreadable", &["later", "no such directory"]);
    std::fs::create_dir(&routes).unwrap();
    place(&routes.join("shop.yml"), &route("shop", "shop.test", &backend));
    eventually("the route in it", || match get_plain(portolan.plain, "shop.test", "/").unwrap() {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer),
    });
}
