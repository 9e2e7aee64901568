//! A Docker engine of our own: one for all live tests of the process.
//!
//! Data root, sockets and bridge are its own, and it runs only in the enclosure that `tests/run` makes, which also ends
//! it: libtest has no hook for the end of the last test.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::pki::{Authority, Pair};
use super::wait::eventually;
use super::{announce, node, output_of, port, run, tail};

/// The binary under test, and the whole content of the images.
pub const PORTOLAN: &str = env!("CARGO_BIN_EXE_portolan");

pub struct Engine {
    pub dir: PathBuf,
    bridge: &'static str,
    profile: Profile,
    daemon: Mutex<Child>,
    /// Whether it has the image `portolan:local`.
    built: OnceLock<()>,
    pub socket: PathBuf,
    /// The same engine over TCP, by TLS with client certificates of `authority` alone.
    pub tcp: SocketAddr,
    pub authority: Authority,
    pub client: Pair,
}

/// What an engine is for: live-restore and swarm exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Shared,
    /// Its containers run on without it.
    LiveRestore,
    Swarm,
    /// The same on a machine of its own ([`node`]).
    Node,
}

impl Engine {
    /// The engine that all live tests of this process share. `None`: there can be none here, which has been said (and
    /// has failed the test where CI must not pass without it).
    pub fn shared() -> Option<&'static Engine> {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        match why_not() {
            None => Some(ENGINE.get_or_init(|| {
                let dir = PathBuf::from(std::env::var("PORTOLAN_TEST_DIR").unwrap());
                Engine::start(dir, "portolan0", "10.213.0.1/24", Profile::Shared)
            })),
            Some(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
                panic!("a live test must run in CI: {why}")
            }
            Some(why) => {
                announce(&format!("LEFT OUT: {why}"));
                None
            }
        }
    }

    /// An engine that a test may stop: its containers go on without it. It is there for as long as the process is, and
    /// there can be one of each name and bridge.
    pub fn alone(name: &str, bridge: &'static str, address: &str) -> Option<&'static Engine> {
        Engine::shared()?;
        Some(Engine::beside(name, bridge, address, Profile::LiveRestore))
    }

    /// The one manager of a swarm of one node, which all tests of this process share.
    pub fn swarm() -> Option<&'static Engine> {
        static ENGINE: OnceLock<&'static Engine> = OnceLock::new();
        Engine::shared()?;
        Some(ENGINE.get_or_init(|| {
            let engine = Engine::beside("swarm", "portolan9", "10.222.0.1/24", Profile::Swarm);
            // By itself it would take addresses that another engine may be about to take.
            let gateway = ["--subnet", "10.223.0.0/24", "--opt", "com.docker.network.bridge.name=docker_gwbridge"];
            let options = ["--opt", "com.docker.network.bridge.enable_icc=false"];
            engine.docker(&[&["network", "create"], &gateway[..], &options, &["docker_gwbridge"]].concat());
            engine.init_swarm();
            engine
        }))
    }

    /// A second engine for the swarm, on a machine of its own. Once in a process.
    pub fn node(manager: &Engine) -> &'static Engine {
        node::create(manager.bridge);
        Engine::beside("node", "portolan8", "10.226.0.1/24", Profile::Node)
    }

    pub fn init_swarm(&self) {
        self.docker(&[
            "swarm",
            "init",
            "--advertise-addr",
            "10.222.0.1",
            "--default-addr-pool",
            "10.224.0.0/16",
            "--dispatcher-heartbeat",
            "1s",
        ]);
    }

    fn beside(name: &str, bridge: &'static str, address: &str, profile: Profile) -> &'static Engine {
        let dir = PathBuf::from(std::env::var("PORTOLAN_TEST_DIR").unwrap()).join(name);
        std::fs::create_dir(&dir).unwrap();
        Box::leak(Box::new(Engine::start(dir, bridge, address, profile)))
    }

    fn start(dir: PathBuf, bridge: &'static str, address: &str, profile: Profile) -> Engine {
        std::fs::write(dir.join("daemon.json"), "{}").unwrap();

        // Its own bridge, with an address that its own networks (172.17.0.0/16 and on) do not reach for.
        let program = || if profile == Profile::Node { node::inside("ip") } else { Command::new("ip") };
        let ip = |args: &[&str]| output_of(program().args(args));
        ip(&["link", "add", bridge, "type", "bridge"]);
        ip(&["address", "add", address, "dev", bridge]);
        ip(&["link", "set", bridge, "up"]);

        let authority = Authority::create(&dir.join("tls"), "engine-ca");
        let server = authority.issue("engine", "IP:127.0.0.1");
        let client = authority.issue("client", "DNS:client");
        let tcp = SocketAddr::from(([127, 0, 0, 1], port::free_port()));
        let daemon = Mutex::new(daemon(&dir, bridge, profile, tcp, &authority, &server));
        let engine = Engine {
            socket: dir.join("docker.sock"),
            tcp,
            authority,
            client,
            dir,
            bridge,
            profile,
            daemon,
            built: OnceLock::new(),
        };
        engine.wait_until_up();
        engine.build_images();
        engine
    }

    fn wait_until_up(&self) {
        let log = self.dir.join("dockerd.log");
        eventually("the engine answers", || {
            if let Some(status) = self.daemon.lock().unwrap().try_wait().unwrap() {
                panic!("dockerd ended with {status}:\n{}", tail(&log, 30));
            }
            let probe = run(&mut self.client_command(&["version"]));
            if probe.status.success() { Ok(()) } else { Err(tail(&log, 5)) }
        });
    }

    /// Ends the engine in order. Of one that is [`Engine::alone`], containers run on.
    pub fn down(&self) {
        let mut daemon = self.daemon.lock().unwrap();
        output_of(Command::new("kill").args(["-TERM", &daemon.id().to_string()]));
        eventually("the engine ends", || {
            daemon.try_wait().unwrap().ok_or_else(|| tail(&self.dir.join("dockerd.log"), 5))
        });
    }

    /// Ends it as a crash does. Of one that is [`Engine::alone`], containers run on.
    pub fn kill(&self) {
        let mut daemon = self.daemon.lock().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Starts it again after [`Engine::down`] or [`Engine::kill`].
    pub fn up(&self) {
        let server = self.authority.issue("engine-again", "IP:127.0.0.1");
        *self.daemon.lock().unwrap() = daemon(&self.dir, self.bridge, self.profile, self.tcp, &self.authority, &server);
        self.wait_until_up();
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

    /// `portolan:local`: the image that the project's Dockerfile makes of the binary under test.
    pub fn product(&self) -> &'static str {
        self.built.get_or_init(|| {
            let context = self.dir.join("image");
            let certificates = context.join("etc/ssl/certs");
            std::fs::create_dir_all(&certificates).unwrap();
            std::fs::create_dir(context.join("state")).unwrap();
            std::fs::DirBuilder::new().mode(0o700).create(context.join("state/portolan")).unwrap();
            std::fs::copy("/etc/ssl/certs/ca-certificates.crt", certificates.join("ca-certificates.crt")).unwrap();
            std::fs::copy(PORTOLAN, context.join("portolan")).unwrap();
            let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile");
            let builder = ["docker", "/usr/bin/docker"].into_iter().find(|client| builds(client));
            let mut command =
                self.client_command(&["build", "--tag", PRODUCT, "--build-arg", "BIN=prebuilt", "--file"]);
            command.arg(dockerfile).arg(&context).env("DOCKER_BUILDKIT", "1");
            let mut command = with_program(builder.expect("a docker client that builds with BuildKit"), &command);
            output_of(&mut command);
            std::fs::remove_dir_all(context).unwrap();
        });
        PRODUCT
    }

    /// The standard output of a docker command that must succeed.
    pub fn docker(&self, args: &[&str]) -> String {
        output_of(&mut self.client_command(args))
    }

    /// Lets its containers count as many on the machine, not as one: all of them stand in one control group, which gets
    /// no more of a busy CPU than any single process beside it. Once one of them runs.
    pub fn give_weight(&self) {
        let group = self.dir.file_name().unwrap();
        for (root, file, weight) in
            [("/sys/fs/cgroup/cpu", "cpu.shares", "16384"), ("/sys/fs/cgroup", "cpu.weight", "1600")]
        {
            // One of the two versions is there; without either the machine has to be idle.
            let _ = std::fs::write(Path::new(root).join(group).join(file), weight);
        }
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

/// What the examples in the docs call it.
const PRODUCT: &str = "portolan:local";

/// Whether a docker client has BuildKit: since 23.0 that is one with buildx, before it is any.
fn builds(client: &str) -> bool {
    let says =
        |argument: &[&str]| Command::new(client).args(argument).output().ok().filter(|said| said.status.success());
    let old = |said: &std::process::Output| String::from_utf8_lossy(&said.stdout).contains("version 20.");
    says(&["buildx", "version"]).is_some() || says(&["--version"]).is_some_and(|said| old(&said))
}

fn with_program(program: &str, command: &Command) -> Command {
    let mut other = Command::new(program);
    other.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other
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

fn daemon(dir: &Path, bridge: &str, profile: Profile, tcp: SocketAddr, authority: &Authority, server: &Pair) -> Child {
    // The group is named after the test run's directory, by which tests/run finds and removes it.
    let root = PathBuf::from(std::env::var("PORTOLAN_TEST_DIR").unwrap());
    let cgroup = format!("/{}-{bridge}", root.file_name().unwrap().to_string_lossy());
    let mut command = if profile == Profile::Node { node::engine("dockerd") } else { Command::new("dockerd") };
    command
        .arg("--config-file")
        .arg(dir.join("daemon.json"))
        .arg("--data-root")
        .arg(dir.join("data"))
        .arg("--exec-root")
        .arg(dir.join("exec"))
        .arg("--pidfile")
        .arg(dir.join("dockerd.pid"))
        .arg("--host")
        .arg(format!("unix://{}", dir.join("docker.sock").display()))
        .arg("--host")
        .arg(format!("tcp://{tcp}"))
        .args(["--tlsverify", "--tlscacert"])
        .arg(&authority.ca_file)
        .arg("--tlscert")
        .arg(&server.cert_file)
        .arg("--tlskey")
        .arg(&server.key_file)
        .args(["--bridge", bridge, "--cgroup-parent", &cgroup])
        // systemd, the default with cgroup v2, is not there to be asked inside the enclosure.
        .args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
    if profile != Profile::Shared {
        // The tables are the shared engine's.
        command.args(["--iptables=false", "--ip6tables=false"]);
    }
    if profile == Profile::LiveRestore {
        command.arg("--live-restore");
    }
    let log = std::fs::File::options().create(true).append(true).open(dir.join("dockerd.log")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
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
