//! The compose files of the docs, as they are.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::wait::eventually;
use crate::support::{http, output_of, run};

/// All of them publish the ports 80 and 443.
static ALONE: Mutex<()> = Mutex::new(());

/// A compose file that is up.
struct Project {
    engine: &'static Engine,
    name: &'static str,
    file: PathBuf,
}

impl Project {
    fn up(engine: &'static Engine, name: &'static str, file: &str) -> Project {
        engine.product();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(file);
        let project = Project { engine, name, file };
        output_of(&mut project.compose(&["up", "--detach"]));
        project
    }

    fn compose(&self, args: &[&str]) -> Command {
        // Debian's program, or the plugin that other packages bring.
        let alone = Command::new("docker-compose").arg("version").output().is_ok_and(|said| said.status.success());
        let mut command = Command::new(if alone { "docker-compose" } else { "docker" });
        command.args((!alone).then_some("compose"));
        command.args(["--project-name", self.name, "--file"]).arg(&self.file).args(args);
        for (name, value) in self.engine.client_command(&[]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("DOCKER_SOCKET", &self.engine.socket);
        command
    }

    /// What the file's own comment tells people to do.
    fn is_served(&self) {
        let portolan = ["exec", "-T", "portolan", "/portolan"];
        let root = eventually("the CA's root", || {
            let said = run(&mut self.compose(&[&portolan[..], &["ca", "root"]].concat()));
            if said.status.success() { Ok(said.stdout) } else { Err(self.logs()) }
        });
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("root.pem");
        std::fs::write(&file, root).unwrap();
        let https = SocketAddr::from(([127, 0, 0, 1], 443));
        eventually("https://hello.localhost/", || {
            match http::curl("https://hello.localhost/", https, Some(&file), &[]) {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}\n{}", self.logs())),
            }
        });
        let http = SocketAddr::from(([127, 0, 0, 1], 80));
        assert_eq!(http::get_plain(http, "hello.localhost", "/").unwrap().status, 308);
        // Of its own containers; those of other tests are there as well.
        let problems = output_of(&mut self.compose(&[&portolan[..], &["problems", "-o", "json"]].concat()));
        assert!(!problems.contains(&format!("/{}/", self.name)) && !problems.contains("Provider"), "{problems}");
        output_of(&mut self.compose(&[&portolan[..], &["health"]].concat()));
    }

    fn logs(&self) -> String {
        String::from_utf8_lossy(&run(&mut self.compose(&["logs", "--tail", "20"])).stdout).into_owned()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.logs());
        }
        // Not its time to end in order, which the proxy takes 5 s to begin.
        run(&mut self.compose(&["kill"]));
        run(&mut self.compose(&["down", "--volumes"]));
    }
}

#[test]
fn the_compose_file_of_the_docs_serves() {
    let Some(engine) = Engine::shared() else { return };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Project::up(engine, "example", "compose.yml").is_served();
}

#[test]
fn the_compose_file_with_a_socket_proxy_serves_without_a_socket() {
    let Some(engine) = Engine::shared() else { return };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Nothing is pulled here: under the name that the file has, this very test executable goes by the same variables.
    let executable = std::env::current_exe().unwrap();
    let stand_in = Container::named(engine, "stand-in").image("portolan:test").create();
    engine.docker(&["cp", &executable.display().to_string(), &format!("{}:/test", stand_in.id)]);
    let command = r#"CMD ["--exact", "support::socket_proxy::in_a_container", "--ignored", "--nocapture"]"#;
    let changes = ["--change", r#"ENTRYPOINT ["/test"]"#, "--change", command];
    let image = "tecnativa/docker-socket-proxy:v0.4.1";
    engine.docker(&[&["commit"], &changes[..], &[&stand_in.id, image]].concat());
    Project::up(engine, "proxied", "socket-proxy.yml").is_served();
}
