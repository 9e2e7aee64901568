//! A Docker engine of our own: one for all live tests of the process.
//!
//! Data root, sockets and bridge are its own, and it runs only in the enclosure that `tests/run` makes, which also ends
//! it: libtest has no hook for the end of the last test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::pki::{Authority, Pair};
use super::wait::eventually;
use super::{announce, output_of, port, run, tail};

/// The binary under test, and the whole content of the images.
pub const PORTOLAN: &str = env!("CARGO_BIN_EXE_portolan");

pub struct Engine {
    dir: PathBuf,
    pub socket: PathBuf,
    /// The same engine over TCP, by TLS with client certificates of `authority` alone.
    pub tcp: SocketAddr,
    pub authority: Authority,
    pub client: Pair,
}

impl Engine {
    /// The engine that all live tests of this process share. `None`: there can be none here, which has been said (and
    /// has failed the test where CI must not pass without it).
    pub fn shared() -> Option<&'static Engine> {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        match why_not() {
            None => Some(ENGINE.get_or_init(Engine::start)),
            Some(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
                panic!("a live test must run in CI: {why}")
            }
            Some(why) => {
                announce(&format!("LEFT OUT: {why}"));
                None
            }
        }
    }

    fn start() -> Engine {
        let dir = PathBuf::from(std::env::var("PORTOLAN_TEST_DIR").unwrap());
        let empty_config = dir.join("daemon.json");
        std::fs::write(&empty_config, "{}").unwrap();

        // Its own bridge, with an address that its own networks (172.17.0.0/16 and on) do not reach for.
        let ip = |args: &[&str]| output_of(Command::new("ip").args(args));
        ip(&["link", "add", "portolan0", "type", "bridge"]);
        ip(&["address", "add", "10.213.0.1/24", "dev", "portolan0"]);
        ip(&["link", "set", "portolan0", "up"]);

        let authority = Authority::create(&dir.join("tls"), "engine-ca");
        let server = authority.issue("engine", "IP:127.0.0.1");
        let client = authority.issue("client", "DNS:client");
        let engine = Engine {
            socket: dir.join("docker.sock"),
            tcp: SocketAddr::from(([127, 0, 0, 1], port::free_port())),
            authority,
            client,
            dir,
        };
        let log = engine.dir.join("dockerd.log");
        // The group is named after the directory, by which tests/run finds and removes it.
        let cgroup = format!("/{}", engine.dir.file_name().unwrap().to_string_lossy());
        let mut daemon = Command::new("dockerd")
            .arg("--config-file")
            .arg(&empty_config)
            .arg("--data-root")
            .arg(engine.dir.join("data"))
            .arg("--exec-root")
            .arg(engine.dir.join("exec"))
            .arg("--pidfile")
            .arg(engine.dir.join("dockerd.pid"))
            .arg("--host")
            .arg(format!("unix://{}", engine.socket.display()))
            .arg("--host")
            .arg(format!("tcp://{}", engine.tcp))
            .args(["--tlsverify", "--tlscacert"])
            .arg(&engine.authority.ca_file)
            .arg("--tlscert")
            .arg(&server.cert_file)
            .arg("--tlskey")
            .arg(&server.key_file)
            .args(["--bridge", "portolan0", "--cgroup-parent", &cgroup])
            // systemd, the default with cgroup v2, is not there to be asked inside the enclosure.
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        eventually("the engine answers", || {
            if let Some(status) = daemon.try_wait().unwrap() {
                panic!("dockerd ended with {status}:\n{}", tail(&log, 30));
            }
            let probe = run(&mut engine.client_command(&["version"]));
            if probe.status.success() { Ok(()) } else { Err(tail(&log, 5)) }
        });
        engine.build_images();
        engine
    }

    /// `portolan:test` is the binary alone; `whoami:one` exposes 8080, `whoami:two` 8080 and 9090.
    fn build_images(&self) {
        assert_static(Path::new(PORTOLAN));
        let binary = Path::new(PORTOLAN);
        let mut tar = Command::new("tar")
            .args(["--create", "--file=-", "--transform=s,.*,portolan,", "--directory"])
            .arg(binary.parent().unwrap())
            .arg(binary.file_name().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        output_of(
            self.client_command(&["import", "--change", r#"ENTRYPOINT ["/portolan"]"#, "-", "portolan:test"])
                .stdin(tar.stdout.take().unwrap()),
        );
        assert!(tar.wait().unwrap().success());

        // A commit adds an empty layer, needs no builder, and works with every client.
        let blank = self.docker(&["create", "portolan:test", "whoami"]);
        for (image, ports) in [("whoami:one", "EXPOSE 8080"), ("whoami:two", "EXPOSE 8080 9090")] {
            let command = r#"CMD ["whoami", "--listen", ":8080"]"#;
            self.docker(&["commit", "--change", ports, "--change", command, &blank, image]);
        }
        self.docker(&["rm", &blank]);
    }

    /// The standard output of a docker command that must succeed.
    pub fn docker(&self, args: &[&str]) -> String {
        output_of(&mut self.client_command(args))
    }

    /// What it has told since then, as its events have it, oldest first. Filters as of `docker events`.
    pub fn told(&self, since: SystemTime, filters: &[&str]) -> Vec<Value> {
        let stamp = |time: SystemTime| {
            let time = time.duration_since(UNIX_EPOCH).unwrap();
            format!("{}.{:09}", time.as_secs(), time.subsec_nanos())
        };
        let (since, until) = (stamp(since), stamp(SystemTime::now()));
        let mut words = vec!["events", "--since", &since, "--until", &until, "--format", "{{json .}}"];
        words.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
        self.docker(&words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn client_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(args)
            // Whatever engine the developer's shell points at, it is not this one.
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_TLS_VERIFY")
            .env_remove("DOCKER_CERT_PATH")
            .env("DOCKER_CONFIG", self.dir.join("client"))
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command
    }

    /// A network that is there as long as the value is.
    pub fn network(&'static self, name: &str, options: &[&str]) -> Network {
        self.try_network(name, options).unwrap_or_else(|why| panic!("no network {name}: {why}"))
    }

    /// The same where an engine or its client may not know an option.
    pub fn try_network(&'static self, name: &str, options: &[&str]) -> Result<Network, String> {
        let created = run(&mut self.client_command(&[&["network", "create"], options, &[name]].concat()));
        match created.status.success() {
            true => Ok(Network { engine: self, name: name.to_string() }),
            false => Err(String::from_utf8_lossy(&created.stderr).trim().to_string()),
        }
    }
}

pub struct Network {
    engine: &'static Engine,
    pub name: String,
}

impl Network {
    /// The address that the engine's host has on it, which a container sees as the peer of what the host sends.
    pub fn gateway(&self) -> String {
        let all = self.engine.docker(&[
            "network",
            "inspect",
            "--format",
            "{{range .IPAM.Config}}{{.Gateway}} {{end}}",
            &self.name,
        ]);
        all.split_whitespace().next().unwrap().to_string()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Containers of the test are gone by now if they were declared after it; if not, the enclosure's end will do.
        run(&mut self.engine.client_command(&["network", "rm", &self.name]));
    }
}

/// A static shell, for containers whose image has none.
pub fn busybox() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("busybox"))
        .find(|file| file.is_file())
        .expect("tests/run installs it")
}

fn why_not() -> Option<String> {
    if std::env::var_os("PORTOLAN_TEST_NETNS").is_none() {
        return Some("live tests run only in the enclosure that tests/run makes".to_string());
    }
    let lacking = ["dockerd", "docker", "ip", "curl", "openssl"].into_iter().find(|program| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        !std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
    });
    lacking.map(|program| format!("there is no {program} here"))
}

/// An image from scratch has no dynamic linker, and "no such file" is all that a container would say about it.
fn assert_static(binary: &Path) {
    let elf = std::fs::read(binary).unwrap();
    let quad = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap()) as usize;
    let half = |at: usize| u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()) as usize;
    // ELF64: e_phoff, e_phentsize and e_phnum; p_type 3 is PT_INTERP.
    let (table, size, count) = (quad(32), half(54), half(56));
    let dynamic = (0..count).any(|i| elf[table + i * size..][..4] == [3, 0, 0, 0]);
    assert!(
        !dynamic,
        "{} is linked dynamically and cannot run in an image of its own: build it with RUSTFLAGS='-C target-feature=+crt-static' and a CARGO_BUILD_TARGET, as tests/run does",
        binary.display()
    );
}
