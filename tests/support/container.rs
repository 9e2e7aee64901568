//! Containers as the tests describe them: a name, labels, a network, and `portolan whoami` inside.

use std::fmt::Write;

use super::engine::Engine;
use super::run;
use super::wait::eventually;

/// What to start. Answers by its own name unless told otherwise, so that tests see which container it was.
pub struct Container {
    engine: &'static Engine,
    name: String,
    options: Vec<String>,
    image: String,
    command: Vec<String>,
}

/// A started container; removed when dropped.
pub struct Running {
    engine: &'static Engine,
    pub name: String,
    pub id: String,
}

impl Container {
    pub fn named(engine: &'static Engine, name: &str) -> Container {
        let command = ["whoami", "--listen", ":8080", "--name", name].map(String::from).to_vec();
        Container { engine, name: name.to_string(), options: Vec::new(), image: "whoami:one".to_string(), command }
    }

    /// As `docker compose` would label it, with the container name that compose gives.
    pub fn compose(engine: &'static Engine, project: &str, service: &str, index: u32) -> Container {
        Container::named(engine, &format!("{project}-{service}-{index}"))
            .label("com.docker.compose.project", project)
            .label("com.docker.compose.service", service)
            .label("com.docker.compose.container-number", &index.to_string())
    }

    pub fn label(self, key: &str, value: &str) -> Container {
        self.option("--label", &format!("{key}={value}"))
    }

    pub fn network(self, network: &str) -> Container {
        self.option("--network", network)
    }

    pub fn option(mut self, option: &str, value: &str) -> Container {
        self.options.extend([option.to_string(), value.to_string()]);
        self
    }

    /// An option that takes no value.
    pub fn flag(mut self, flag: &str) -> Container {
        self.options.push(flag.to_string());
        self
    }

    pub fn image(mut self, image: &str) -> Container {
        self.image = image.to_string();
        self
    }

    pub fn listen(mut self, address: &str) -> Container {
        self.command[2] = address.to_string();
        self
    }

    pub fn command(mut self, command: &[&str]) -> Container {
        self.command = command.iter().map(|word| word.to_string()).collect();
        self
    }

    pub fn start(self) -> Running {
        self.made_by(&["run", "--detach"])
    }

    /// Not running yet.
    pub fn create(self) -> Running {
        self.made_by(&["create"])
    }

    fn made_by(self, verb: &[&str]) -> Running {
        let words = [verb, &["--name", &self.name]].concat();
        let words: Vec<&str> = words
            .into_iter()
            .chain(self.options.iter().map(String::as_str))
            .chain([self.image.as_str()])
            .chain(self.command.iter().map(String::as_str))
            .collect();
        let id = self.engine.docker(&words);
        Running { engine: self.engine, name: self.name.clone(), id }
    }
}

impl Running {
    pub fn inspect(&self, format: &str) -> String {
        self.engine.docker(&["inspect", "--format", format, &self.id])
    }

    /// Its IPv4 address on a network, as the engine gave it.
    pub fn address(&self, network: &str) -> std::net::IpAddr {
        let mut format = String::new();
        write!(format, "{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}").unwrap();
        self.inspect(&format).parse().expect("the container has an address there")
    }

    /// Adds it to one more network, under way.
    pub fn connect(&self, network: &str) {
        self.engine.docker(&["network", "connect", network, &self.id]);
    }

    pub fn stop(&self) {
        self.engine.docker(&["stop", "--time", "5", &self.id]);
    }

    pub fn start(&self) {
        self.engine.docker(&["start", &self.id]);
    }

    /// `docker <verb> <container>`.
    pub fn told_to(&self, verb: &str) {
        self.engine.docker(&[verb, &self.id]);
    }

    /// Takes it off a network, under way.
    pub fn disconnect(&self, network: &str) {
        self.engine.docker(&["network", "disconnect", network, &self.id]);
    }

    /// Its exit code, once it has ended by itself.
    pub fn ended(&self) -> i32 {
        eventually(&format!("{} ends", self.name), || match self.inspect("{{.State.Status}}").as_str() {
            "exited" => Ok(()),
            other => Err(format!("{other}: {}", self.logs())),
        });
        self.inspect("{{.State.ExitCode}}").parse().unwrap()
    }

    /// All that it has written.
    pub fn logs(&self) -> String {
        let logs = run(&mut self.engine.client_command(&["logs", &self.id]));
        format!("{}{}", String::from_utf8_lossy(&logs.stdout), String::from_utf8_lossy(&logs.stderr))
    }

    pub fn exec(&self, command: &[&str]) -> String {
        self.engine.docker(&[&["exec", &self.id], command].concat())
    }

    pub fn remove(self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = run(&mut self.engine.client_command(&["logs", "--tail", "20", &self.id]));
            eprintln!(
                "--- {}\n{}{}",
                self.name,
                String::from_utf8_lossy(&logs.stdout),
                String::from_utf8_lossy(&logs.stderr)
            );
        }
        run(&mut self.engine.client_command(&["rm", "--force", "--volumes", &self.id]));
    }
}
