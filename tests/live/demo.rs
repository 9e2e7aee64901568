//! The main job with nothing installed: what `portolan demo` prints works as printed.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::support::container::Container;
use crate::support::engine::{Engine, PORTOLAN};
use crate::support::http::{self, Answer, Failure};
use crate::support::output_of;
use crate::support::wait::eventually;

/// Where every Docker client looks first; in the enclosure there is nothing unless a test puts it there.
const WELL_KNOWN: &str = "/run/docker.sock";

/// The demo's ports are its own choice, so two at once may want the same.
static ONE_DEMO: Mutex<()> = Mutex::new(());

#[test]
fn without_an_engine_both_embedded_replicas_answer_at_the_printed_address() {
    // An engine is not asked for, but the enclosure is: outside of it the machine's own would be found.
    let Some(_) = Engine::shared() else { return };
    let _one = ONE_DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::start();

    let mut counts = BTreeMap::new();
    for _ in 0..10 {
        let answer = demo.get(&demo.url).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        *counts.entry(answer.whoami("Name").unwrap().to_string()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 2, "{counts:?}");
    assert!(counts.values().all(|&count| count >= 3), "{counts:?} of ten");
    demo.stop();
}

#[test]
fn with_an_engine_a_labelled_container_is_live_beside_the_demo() {
    let Some(engine) = Engine::shared() else { return };
    let _one = ONE_DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let _known = Linked::to(&engine.socket);
    let demo = Demo::start();
    let hello = Container::named(engine, "demo-hello").label("portolan.host", "hello.localhost").start();

    let port = demo.address.port();
    let url = format!("https://hello.localhost:{port}/");
    eventually(&url, || match demo.get(&url) {
        Ok(answer) if answer.whoami("Name") == Some(&hello.name) => Ok(()),
        other => Err(other),
    });
    assert_eq!(demo.get(&demo.url).unwrap().status, 200, "and its own route stands");
    demo.stop();
}

struct Demo {
    process: Child,
    dir: TempDir,
    url: String,
    address: SocketAddr,
    ca: PathBuf,
}

impl Demo {
    fn start() -> Demo {
        let dir = tempfile::tempdir().unwrap();
        let printed = dir.path().join("printed");
        let file = File::create(&printed).unwrap();
        let process = Command::new(PORTOLAN)
            .arg("demo")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let (url, ca) = eventually("the demo prints an address and a CA", || {
            let text = std::fs::read_to_string(&printed).unwrap();
            addressed(&text).ok_or(text)
        });
        let authority = url.trim_start_matches("https://").split('/').next().unwrap();
        let port = authority.rsplit_once(':').map_or(443, |(_, port)| port.parse().unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let demo = Demo { process, dir, url, address, ca };
        eventually("the demo answers", || demo.get(&demo.url).map(drop));
        demo
    }

    fn get(&self, url: &str) -> Result<Answer, Failure> {
        http::curl(url, self.address, Some(&self.ca), &[])
    }

    fn stop(mut self) {
        output_of(Command::new("kill").args(["-TERM", &self.process.id().to_string()]));
        let status = eventually("the demo ends", || self.process.try_wait().unwrap().ok_or("still running"));
        assert_eq!(status.code(), Some(0), "after SIGTERM");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- demo\n{}", crate::support::tail(&self.dir.path().join("printed"), 40));
        }
        // Both fail harmlessly where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The first `https://` address, and the first path of a certificate file, of what a person would copy.
fn addressed(text: &str) -> Option<(String, PathBuf)> {
    let words = || text.split(|c: char| c.is_whitespace() || "'\"`,()".contains(c)).filter(|word| !word.is_empty());
    let url = words().find(|word| word.starts_with("https://"))?;
    let holds_certificate =
        |path: &Path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("BEGIN CERTIFICATE"));
    let ca = words().map(PathBuf::from).find(|path| path.is_absolute() && holds_certificate(path))?;
    Some((url.to_string(), ca))
}

struct Linked;

impl Linked {
    fn to(socket: &Path) -> Linked {
        symlink(socket, WELL_KNOWN).unwrap();
        Linked
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(WELL_KNOWN);
    }
}
