//! The proxy under test in a container of its own, with the engine's socket mounted: as the README tells users to run it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::container::{Container, Running};
use super::engine::Engine;
use super::http::{self, Answer, Failure};
use super::portolan::{lay_over, write_settings};
use super::wait::eventually;

pub struct Contained {
    pub container: Running,
    address: IpAddr,
    dir: TempDir,
}

impl Contained {
    /// On these networks of the engine; the first one is where it is asked.
    pub fn start(engine: &'static Engine, name: &str, networks: &[&str]) -> Contained {
        Contained::with(engine, name, networks, json!({}))
    }

    /// With these settings laid over the ones that every test needs.
    pub fn with(engine: &'static Engine, name: &str, networks: &[&str], settings: Value) -> Contained {
        let dir = tempfile::Builder::new().prefix("portolan-").tempdir().unwrap();
        let mut all = json!({
            "listeners": { "plain": { "address": ":8000", "redirect": "off" } },
            "providers": { "docker": {} },
            "log": { "level": "debug", "format": "json" },
            "shutdown": { "delay": "0s", "deadline": "5s" },
            "state_dir": "/home/state",
        });
        lay_over(&mut all, settings);
        write_settings(dir.path(), &all);
        let container = Container::named(engine, name)
            .image("portolan:test")
            .network(networks[0])
            .option("--volume", &format!("{}:/var/run/docker.sock", engine.socket.display()))
            .option("--volume", &format!("{}:/home", dir.path().display()))
            .option("--workdir", "/home")
            .command(&["run", "--config", "/home/portolan.yaml"])
            .start();
        for network in &networks[1..] {
            container.connect(network);
        }
        let contained = Contained { address: container.address(networks[0]), container, dir };
        eventually("the proxy in its container is ready", || {
            match http::get_plain(SocketAddr::new(contained.address, 9181), "localhost", "/readyz") {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(other),
            }
        });
        contained
    }

    /// Its listener without redirect.
    pub fn plain(&self) -> SocketAddr {
        SocketAddr::new(self.address, 8000)
    }

    pub fn https(&self) -> SocketAddr {
        SocketAddr::new(self.address, 443)
    }

    /// The internal CA's root.
    pub fn root(&self) -> PathBuf {
        let root: PathBuf = self.dir.path().join("root.pem");
        if !root.exists() {
            std::fs::write(&root, self.cli(&["ca", "root"]) + "\n").unwrap();
        }
        root
    }

    pub fn get(&self, url: &str) -> Result<Answer, Failure> {
        http::curl(url, self.https(), Some(&self.root()), &[])
    }

    /// Asks until the answer is what `wanted` takes.
    pub fn get_until(&self, url: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        eventually(url, || match self.get(url) {
            Ok(answer) if wanted(&answer) => Ok(answer),
            other => Err(other),
        })
    }

    pub fn get_from(&self, url: &str, name: &str) -> Answer {
        self.get_until(url, |answer| answer.status == 200 && answer.whoami("Name") == Some(name))
    }

    /// The answer of the container with this host name.
    pub fn get_from_host(&self, url: &str, hostname: &str) -> Answer {
        self.get_until(url, |answer| answer.status == 200 && answer.whoami("Hostname") == Some(hostname))
    }

    pub fn problems(&self) -> Vec<Value> {
        self.list("problems")
    }

    pub fn routes(&self) -> Vec<Value> {
        self.list("routes")
    }

    pub fn services(&self) -> Vec<Value> {
        self.list("services")
    }

    fn list(&self, what: &str) -> Vec<Value> {
        let json = self.cli(&[what, "-o", "json"]);
        serde_json::from_str(&json).unwrap_or_else(|e| panic!("not a JSON array ({e}): {json}"))
    }

    /// `docker stop`, and the exit code that an orderly end has.
    pub fn stop(self) {
        self.container.stop();
        assert_eq!(self.container.inspect("{{.State.ExitCode}}"), "0");
    }

    /// Run inside, so that settings, state and the loopback admin listener are its own.
    fn cli(&self, args: &[&str]) -> String {
        self.container.exec(&[&["/portolan"], args].concat())
    }
}
