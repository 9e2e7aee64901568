//! The image that the Dockerfile makes, run with as few rights as it can do with, and with too few.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::support::announce;
use crate::support::container::{Container, Running};
use crate::support::engine::{Engine, Network};
use crate::support::http;
use crate::support::run;
use crate::support::wait::eventually;

/// A group that is nobody's here, so that only who takes it or is given it may use the socket.
const GROUP: u32 = 4242;
const USER: &str = "65532";
const USER_AND_GROUP: &str = "65532:65532";
/// `CAP_NET_BIND_SERVICE` in the masks of proc(5).
const NET_BIND_SERVICE: u64 = 1 << 10;

/// An engine whose socket is its group's, and a network to be asked on.
struct Stage {
    engine: &'static Engine,
    network: Network,
    settings: TempDir,
    volume: String,
    name: String,
}

impl Stage {
    fn set(name: &str) -> Option<Stage> {
        let engine = Engine::shared()?;
        engine.product();
        chown(&engine.socket, None, Some(GROUP)).unwrap();
        std::fs::set_permissions(&engine.socket, PermissionsExt::from_mode(0o660)).unwrap();
        let settings = tempfile::Builder::new().prefix("settings-").tempdir().unwrap();
        std::fs::set_permissions(settings.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let stage = Stage {
            engine,
            network: engine.network(&format!("{name}-net"), &[]),
            settings,
            volume: format!("{name}-state"),
            name: name.to_string(),
        };
        stage.write(json!({ "shutdown": { "delay": "0s" } }));
        Some(stage)
    }

    fn write(&self, settings: serde_json::Value) {
        let (staged, file) = (self.settings.path().join("staged"), self.settings.path().join("portolan.yaml"));
        std::fs::write(&staged, settings.to_string()).unwrap();
        std::fs::set_permissions(&staged, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::rename(&staged, file).unwrap();
    }

    /// As the docs tell people to run it, but for its rights, which are the caller's.
    fn portolan(&self, name: &str) -> Container {
        Container::named(self.engine, &format!("{}-{name}", self.name))
            .image(self.engine.product())
            .command(&[])
            .network(&self.network.name)
            .option("--volume", &format!("{}:/var/run/docker.sock:ro", self.engine.socket.display()))
            .option("--volume", &format!("{}:/etc/portolan:ro", self.settings.path().display()))
            .option("--volume", &format!("{}:/var/lib/portolan", self.volume))
            .option("--cap-drop", "ALL")
            .option("--security-opt", "no-new-privileges")
            .option("--health-interval", "500ms")
            .flag("--read-only")
    }

    fn web(&self) -> Running {
        let host = format!("{}.image.test", self.name);
        Container::named(self.engine, &format!("{}-web", self.name))
            .network(&self.network.name)
            .label("portolan.host", &host)
            .start()
    }

    /// It serves on 80 and 443, with a CA in its volume, and as the user and with the capabilities that are told.
    fn serves(&self, portolan: &Running, web: &Running, groups: &str, capabilities: u64) -> String {
        let address = portolan.address(&self.network.name);
        let state = self.engine.docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", &self.volume]);
        let state = std::fs::metadata(state).unwrap();
        assert_eq!((state.uid(), state.gid(), state.mode() & 0o7777), (65532, 65532, 0o700));
        eventually("it calls itself healthy", || match portolan.inspect("{{.State.Health.Status}}").as_str() {
            "healthy" => Ok(()),
            other => Err(format!("{other}: {}", portolan.logs())),
        });
        let host = format!("{}.image.test", self.name);
        let root = portolan.exec(&["/portolan", "ca", "root"]);
        let file = self.settings.path().join("root.pem");
        std::fs::write(&file, format!("{root}\n")).unwrap();
        eventually(&host, || {
            match http::curl(&format!("https://{host}/"), SocketAddr::new(address, 443), Some(&file), &[]) {
                Ok(answer) if answer.whoami("Name") == Some(&web.name) => Ok(()),
                other => Err(format!("{other:?}\n{}", portolan.logs())),
            }
        });
        assert_eq!(http::get_plain(SocketAddr::new(address, 80), &host, "/").unwrap().status, 308);
        let tasks = Path::new("/proc").join(portolan.inspect("{{.State.Pid}}")).join("task");
        let mut threads = 0;
        for task in std::fs::read_dir(tasks).unwrap() {
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let field = |name: &str| {
                let line =
                    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{status}"));
                line.split_whitespace().collect::<Vec<_>>().join(" ")
            };
            let all = [USER; 4].join(" ");
            assert_eq!(
                (field("Uid:"), field("Gid:"), field("Groups:")),
                (all.clone(), all, groups.to_string()),
                "{status}"
            );
            for mask in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
                let expected = if ["CapPrm:", "CapEff:"].contains(&mask) { capabilities } else { 0 };
                assert_eq!(u64::from_str_radix(&field(mask), 16).unwrap(), expected, "{mask}\n{status}");
            }
            threads += 1;
        }
        assert!(threads > 2, "{threads} threads");
        announce(&format!(
            "{threads} threads, all of them user {USER} in [{groups}] with capabilities {capabilities:#x}"
        ));
        root
    }

    /// A listener that is added while it runs, on a port below 1024.
    fn opens(&self, portolan: &Running) {
        self.write(json!({
            "shutdown": { "delay": "0s" },
            "listeners": { "late": { "address": ":81", "redirect": "off" } },
        }));
        let late = SocketAddr::new(portolan.address(&self.network.name), 81);
        eventually("a late listener", || match http::get_plain(late, "nobody.image.test", "/") {
            Ok(answer) if answer.status == 404 => Ok(()),
            other => Err(format!("{other:?}\n{}", portolan.logs())),
        });
    }

    /// It ends by itself with this as its last words.
    fn refuses(&self, container: Container, words: &[&str]) {
        let container = container.start();
        let code = container.ended();
        let logs = container.logs();
        assert_eq!(code, 1, "{logs}");
        let last = logs.lines().last().unwrap_or_default();
        assert!(last.starts_with("portolan: ") && words.iter().all(|word| last.contains(word)), "{words:?}: {logs}");
        announce(last);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        run(&mut self.engine.client_command(&["volume", "rm", "--force", &self.volume]));
    }
}

/// Some engines name a user's own group among the further ones as well.
fn groups(portolan: &Running) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", portolan.inspect("{{.State.Pid}}"))).unwrap();
    let both = format!("{GROUP} {USER}");
    if status.contains(&format!("Groups:\t{both}")) { both } else { GROUP.to_string() }
}

fn with_three_capabilities(container: Container) -> Container {
    container.option("--cap-add", "SETUID").option("--cap-add", "SETGID").option("--cap-add", "NET_BIND_SERVICE")
}

#[test]
fn started_as_root_with_three_capabilities_it_goes_on_as_nobody_with_one() {
    let Some(stage) = Stage::set("as-root") else { return };
    let web = stage.web();
    // As in the host's network, where low ports need the capability.
    let start = |name: &str| {
        with_three_capabilities(stage.portolan(name))
            .option("--sysctl", "net.ipv4.ip_unprivileged_port_start=1024")
            .start()
    };
    let portolan = start("one");
    let root = stage.serves(&portolan, &web, &GROUP.to_string(), NET_BIND_SERVICE);
    stage.opens(&portolan);
    // What a command writes belongs to the proxy: it follows, and so does the next container with this volume.
    portolan.exec(&["/portolan", "ca", "issue", "--email", "anna@example.org", "--out", "-"]);
    portolan.stop();
    assert_eq!(portolan.inspect("{{.State.ExitCode}}"), "0");
    portolan.remove();
    let again = start("two");
    assert_eq!(stage.serves(&again, &web, &GROUP.to_string(), NET_BIND_SERVICE), root, "the CA is in the volume");
    again.stop();
}

#[test]
fn started_as_nobody_it_needs_the_group_and_nothing_else() {
    let Some(stage) = Stage::set("as-nobody") else { return };
    let web = stage.web();
    let group = GROUP.to_string();
    let portolan = stage.portolan("one").option("--user", USER_AND_GROUP).option("--group-add", &group).start();
    stage.serves(&portolan, &web, &groups(&portolan), 0);
    stage.opens(&portolan);
    portolan.stop();
    assert_eq!(portolan.inspect("{{.State.ExitCode}}"), "0");
}

#[test]
fn where_it_cannot_work_it_refuses_and_says_what_to_change() {
    let Some(stage) = Stage::set("refused") else { return };
    let group = GROUP.to_string();
    let user = |container: Container| container.option("--user", USER_AND_GROUP);

    let asked = format!("group_add: [\"{GROUP}\"]");
    stage.refuses(user(stage.portolan("no-group")), &["/var/run/docker.sock", "0660", &asked]);

    stage.refuses(stage.portolan("no-capability"), &["setgroups", "cap_add: [SETUID, SETGID, NET_BIND_SERVICE]"]);
    let half = stage.portolan("no-setuid").option("--cap-add", "SETGID");
    stage.refuses(half, &["setuid", "cap_add: [SETUID, SETGID, NET_BIND_SERVICE]"]);

    let low = user(stage.portolan("no-ports")).option("--group-add", &group);
    let low = low.option("--sysctl", "net.ipv4.ip_unprivileged_port_start=1024");
    stage.refuses(low, &["NET_BIND_SERVICE", "net.ipv4.ip_unprivileged_port_start=0", "a port from 1024 up"]);

    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed.sock");
    let _listener = UnixListener::bind(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o600)).unwrap();
    let own = |name: &str| with_three_capabilities(stage.portolan(name));
    let shut = own("no-socket")
        .option("--volume", &format!("{}:/closed.sock", closed.display()))
        .option("--env", "PORTOLAN_PROVIDERS__DOCKER__ENDPOINT=unix:///closed.sock");
    stage.refuses(shut, &["/closed.sock", "0600", "chmod g+rw", "socket proxy"]);

    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let foreign = own("no-state")
        .option("--volume", &format!("{}:/foreign", dir.path().display()))
        .option("--env", "PORTOLAN_STATE_DIR=/foreign");
    stage.refuses(foreign, &["/foreign", "chown -R 65532:65532", "named volume"]);
    let none = own("no-volume").option("--env", "PORTOLAN_STATE_DIR=/nowhere/state");
    stage.refuses(none, &["/nowhere/state", "mount a volume there"]);

    let secret = stage.settings.path().join("portolan.yaml");
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    stage.refuses(own("no-settings"), &["/etc/portolan/portolan.yaml", "readable for user 65532"]);
}
