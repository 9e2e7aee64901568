//! `--watch`: what changes is shown when it changes, on a terminal and elsewhere.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::http::{get_plain, send_plain};
use crate::support::portolan::{Portolan, command, lay_over};
use crate::support::wait::{eventually, throughout};

/// A proxy with a directory of files, on the admin address of an earlier one if there was one.
struct Files {
    portolan: Portolan,
    dir: TempDir,
}

impl Files {
    fn start(over: Value) -> Files {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = json!({ "providers": { "file": { "path": dir.path() } } });
        lay_over(&mut settings, over);
        Files { portolan: Portolan::serving(settings), dir }
    }

    fn write(&self, routes: usize) {
        let text: String = (0..routes).map(|n| format!("  r{n:03}: {{ host: h{n}.test, service: s }}\n")).collect();
        let text = format!("services: {{ s: {{ endpoints: [\"http://127.0.0.1:9\"] }} }}\nroutes:\n{text}");
        let draft = self.dir.path().join(".draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.dir.path().join("a.yaml")).unwrap();
    }
}

/// A command that watches; its output is in files.
struct Watcher {
    process: Child,
    dir: TempDir,
}

impl Watcher {
    fn spawn(command: &mut Command) -> Watcher {
        let dir = tempfile::tempdir().unwrap();
        let process = command
            .stdin(Stdio::piped())
            .stdout(File::create(dir.path().join("stdout")).unwrap())
            .stderr(File::create(dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Watcher { process, dir }
    }

    fn of(portolan: &Portolan, words: &[&str]) -> Watcher {
        let admin = portolan.admin.to_string();
        Watcher::spawn(&mut command(portolan.dir(), &[words, &["--watch", "--admin", &admin]].concat()))
    }

    /// On a terminal of 60 columns and 8 lines.
    fn at_a_terminal(portolan: &Portolan, words: &str) -> Watcher {
        let binary = env!("CARGO_BIN_EXE_portolan");
        let words = format!("{binary} {words} --watch --admin {}", portolan.admin);
        let mut script = Command::new("script");
        script.args(["-q", "-f", "-e", "-c", &words, "/dev/null"]);
        Watcher::spawn(script.env("COLUMNS", "60").env("LINES", "8").env("TERM", "xterm").env("SHELL", "/bin/sh"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        eventually(what, || {
            let said = self.said("stdout");
            if is(&said) { Ok(said) } else { Err(format!("{said}\n{}", self.said("stderr"))) }
        })
    }

    fn interrupt(&self) {
        crate::support::output_of(Command::new("kill").args(["-INT", &self.process.id().to_string()]));
    }

    fn code(&mut self) -> Option<i32> {
        eventually("the watcher ends", || self.process.try_wait().unwrap().ok_or("still there")).code()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn without_a_terminal_each_change_is_a_new_table_after_its_time() {
    let files = Files::start(json!({}));
    files.write(1);
    let mut watcher = Watcher::of(&files.portolan, &["routes"]);
    let said = watcher.until("the first table", |said| said.contains("file/route/r000"));
    let (time, rest) = said.split_once('\n').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok() && rest.starts_with("STATE"), "{said}");

    let before = Instant::now();
    files.write(2);
    let said = watcher.until("the second table", |said| said.contains("file/route/r001"));
    assert!(before.elapsed() < Duration::from_secs(5), "it is told, and not looked for now and then");
    assert_eq!(said.matches("STATE").count(), 2, "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");

    // Another view that lists the same routes.
    std::fs::write(files.dir.path().join("b.yaml"), "middlewares: { p: { add_prefix: / } }\n").unwrap();
    files.portolan.problem("Invalid", &["file/middleware/p"]);
    throughout("nothing that is listed has changed", Duration::from_millis(500), || {
        if watcher.said("stdout") == said { Ok(()) } else { Err(watcher.said("stdout")) }
    });
    watcher.interrupt();
    assert_eq!((watcher.code(), watcher.said("stderr").as_str()), (Some(0), ""));
}

#[test]
fn in_json_each_change_is_one_line() {
    let files = Files::start(json!({}));
    let watcher = Watcher::of(&files.portolan, &["problems", "-o", "json"]);
    watcher.until("an empty list", |said| said == "[]\n");
    std::fs::write(files.dir.path().join("a.yaml"), "routes: { r: { host: a.test, mlts: p } }\n").unwrap();
    let said = watcher.until("the problem", |said| said.contains("UnknownField") && said.ends_with('\n'));
    for line in said.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap().is_array(), "{line}");
    }
    std::fs::remove_file(files.dir.path().join("a.yaml")).unwrap();
    watcher.until("it is mended", |said| said.ends_with("\n[]\n"));
}

#[test]
fn a_watcher_outlives_the_proxy_and_finds_the_next_one() {
    let mut files = Files::start(json!({}));
    files.write(1);
    let watcher = Watcher::of(&files.portolan, &["routes"]);
    let first = watcher.until("the first table", |said| said.contains("file/route/r000"));
    let admin = files.portolan.admin;
    let since = Instant::now();
    files.portolan.terminate();
    assert_eq!(files.portolan.wait(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(4), "a watcher does not hold back the end: {:?}", since.elapsed());
    eventually("it says so", || {
        let said = watcher.said("stderr");
        if said.contains(&format!("{admin}: not answering, trying again")) { Ok(()) } else { Err(said) }
    });
    // Another one, at the same address: it lists what the first did, and then more.
    let next =
        Files::start(json!({ "admin": { "address": admin }, "providers": { "file": { "path": files.dir.path() } } }));
    eventually("it says so", || {
        let said = watcher.said("stderr");
        if said.ends_with("answering again\n") { Ok(()) } else { Err(said) }
    });
    assert_eq!(watcher.said("stderr").matches("not answering").count(), 1, "once, not at each attempt");
    files.write(2);
    let said = watcher.until("its change", |said| said.contains("file/route/r001"));
    assert!(said.starts_with(&first), "{said}");
    drop(next);
}

/// What a terminal would show: the last drawing.
fn drawn(said: &str) -> Vec<String> {
    let last = said.rsplit("\u{1b}[H").next().unwrap();
    last.split("\r\n")
        .map(|line| line.trim_end_matches('\r'))
        .map(|line| line.replace("\u{1b}[K", "").replace("\u{1b}[J", ""))
        .collect()
}

#[test]
fn at_a_terminal_it_is_drawn_in_place_and_the_terminal_is_given_back() {
    if Command::new("script").arg("--version").output().is_err() {
        crate::support::announce("LEFT OUT: there is no script(1)");
        return;
    }
    let files = Files::start(json!({}));
    files.write(3);
    let mut watcher = Watcher::at_a_terminal(&files.portolan, "routes");
    let said = watcher.until("the first drawing", |said| said.contains("h2.test"));
    assert!(said.starts_with("\u{1b}[?1049h\u{1b}[?25l\u{1b}[H"), "{said:?}");
    assert!(drawn(&said)[0].starts_with("portolan routes: 3, last changed 20"), "{said:?}");

    files.write(50);
    let said = watcher.until("what does not fit is counted", |said| said.contains("… 46 more"));
    let lines = drawn(&said);
    let width = |line: &str| {
        let plain: String = line
            .split('\u{1b}')
            .enumerate()
            .map(|(n, part)| if n == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) })
            .collect();
        plain.chars().count()
    };
    assert_eq!(lines.len(), 8, "{lines:#?}");
    assert!(lines.iter().all(|line| width(line) <= 60), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("\u{1b}[32mlive\u{1b}[0m")), "{lines:#?}");

    // Ctrl-C, as the terminal itself sends it.
    watcher.process.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(watcher.code(), Some(0));
    let said = watcher.said("stdout");
    assert!(said.trim_end().ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{said:?}");
}

#[test]
fn the_api_answers_who_has_seen_it_when_it_is_another() {
    let files = Files::start(json!({}));
    let admin = files.portolan.admin;
    let first = get_plain(admin, "localhost", "/api/routes").unwrap();
    let tag = first.header("etag").unwrap().trim_matches('"').to_string();
    let waiting = std::thread::spawn(move || {
        let request = format!("GET /api/routes?after={tag} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        send_plain(admin, &request)
    });
    std::thread::sleep(Duration::from_millis(300));
    files.write(1);
    let second = waiting.join().unwrap().unwrap();
    assert!(second.status == 200 && second.body.contains("file/route/r000"), "{second:?}");
    let refused = get_plain(admin, "evil.test", "/api/routes?after=00").unwrap();
    assert_eq!(refused.status, 403, "a page of somebody else's may not wait either");
}
