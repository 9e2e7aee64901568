//! As whom a process runs that was started as root: as a user who owns its state and nothing else.
//!
//! ```text
//! root ─ the groups of the engine's sockets, gid, uid, no capability but NET_BIND_SERVICE ─▶ user ─ can it work? ─▶ go on
//! another user (`--user`) ────────────────────────────────────────────────────────────────────┘        └ no: what to change
//! ```
//! Before any thread is started and any socket is opened: to the kernel ids and capabilities are one thread's own, and
//! threads that are started later inherit them. So every worker may open low ports, also for listeners that are added
//! while it runs.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::config::Loaded;
use crate::config::settings::{DockerSettings, ProviderSettings, Settings, SwarmSettings};
use crate::control::state::StateError;
use crate::model::Provider;

/// What a container needs to be started as root; said wherever one of them is missing.
const AS_ROOT: &str = "give the container the capabilities SETUID, SETGID and NET_BIND_SERVICE (cap_drop: [ALL] with \
                       cap_add: [SETUID, SETGID, NET_BIND_SERVICE]), or start it as that user: user: \"65532:65532\" with \
                       group_add: [the group of the engine's socket]";

/// Becomes the user of the settings where it can, and says what is in the way where nothing would work. Without a user in
/// the settings nothing is done and nothing is asked.
pub fn take_on(loaded: &Loaded) -> anyhow::Result<()> {
    let settings = &loaded.settings;
    let Some(user) = settings.user.filter(|user| *user != 0) else { return Ok(()) };
    let sockets = sockets(&settings.providers);
    let was_root = geteuid().is_root();
    if was_root {
        become_user(user, &groups_of(&sockets))?;
    }
    for path in loaded.places() {
        if let Err(error) = File::open(&path)
            && error.kind() == ErrorKind::PermissionDenied
        {
            bail!("{}: {error}; make it readable for {}", path.display(), whoever());
        }
    }
    for socket in &sockets {
        reach(socket, was_root)?;
    }
    Ok(())
}

/// The same for a command that only works on files of the state directory, so that they stay the user's own.
pub fn take_on_for_files(settings: &Settings) -> anyhow::Result<()> {
    match settings.user {
        Some(user) if user != 0 && geteuid().is_root() => become_user(user, &[]),
        _ => Ok(()),
    }
}

/// What to do about a state directory that is not ours to write.
pub fn advise(error: StateError) -> anyhow::Error {
    let StateError::Unusable { path, source } = &error else { return error.into() };
    let advice = match (source.kind(), std::fs::metadata(path)) {
        (ErrorKind::PermissionDenied, Ok(metadata)) => {
            let (user, group) = (geteuid().as_raw(), getegid().as_raw());
            format!(
                "it belongs to {}, and this process is {}; chown -R {user}:{group} what is mounted there, or mount a new \
                 named volume, which takes its owner from the image",
                owner(&metadata),
                whoever(),
            )
        }
        (ErrorKind::ReadOnlyFilesystem, _) => "mount a volume there".to_string(),
        _ => return error.into(),
    };
    anyhow::anyhow!("{error}: {advice}")
}

fn become_user(user: u32, groups: &[u32]) -> anyhow::Result<()> {
    // Another thread would stay root.
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        bail!("user: {user}: there are threads already; this is a fault of Portolan");
    }
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let refused = |what: &str| format!("started as root, it cannot become user {user} ({what}); {AS_ROOT}");
    set_keep_capabilities(true).with_context(|| refused("keeping capabilities"))?;
    set_thread_groups(&groups).with_context(|| refused("setgroups"))?;
    set_thread_res_gid(gid, gid, gid).with_context(|| refused("setgid"))?;
    set_thread_res_uid(uid, uid, uid).with_context(|| refused("setuid"))?;
    let kept = capabilities(None).context("capget")?.permitted & CapabilitySet::NET_BIND_SERVICE;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("capset")?;
    set_keep_capabilities(false).context("keeping capabilities no more")?;
    Ok(())
}

/// The socket files of engines that the settings name, or that are looked for by themselves.
fn sockets(providers: &ProviderSettings) -> Vec<PathBuf> {
    let ProviderSettings { docker, swarm, kubernetes: _, file: _, api: _, off } = providers;
    let on = |provider| !off.contains(&provider);
    let docker = on(Provider::Docker).then(|| docker.clone().unwrap_or_default());
    let swarm = on(Provider::Swarm).then(|| swarm.clone().unwrap_or_default());
    let docker = docker.into_iter().map(|DockerSettings { endpoint, .. }| endpoint);
    let swarm = swarm.into_iter().flat_map(|SwarmSettings { endpoints, .. }| endpoints);
    let mut sockets: Vec<PathBuf> =
        docker.chain(swarm).filter_map(|endpoint| endpoint.trim().strip_prefix("unix://").map(PathBuf::from)).collect();
    sockets.sort();
    sockets.dedup();
    sockets
}

/// The groups whose members may use these sockets.
fn groups_of(sockets: &[PathBuf]) -> Vec<u32> {
    let all = sockets.iter().filter_map(|socket| std::fs::metadata(socket).ok());
    let mut groups: Vec<u32> = all.filter(is_open_to_its_group).map(|metadata| metadata.gid()).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn is_open_to_its_group(socket: &Metadata) -> bool {
    socket.mode() & 0o060 == 0o060
}

/// Fails where the engine's socket is there and will never be ours. Whatever else is wrong with it may pass.
fn reach(socket: &Path, was_root: bool) -> anyhow::Result<()> {
    let denied = |error: &io::Error| error.kind() == ErrorKind::PermissionDenied;
    let Err(error) = UnixStream::connect(socket) else { return Ok(()) };
    if !denied(&error) {
        return Ok(());
    }
    let Ok(metadata) = std::fs::metadata(socket) else {
        bail!("{}: {error}; open its directory to {}", socket.display(), whoever());
    };
    let group = metadata.gid();
    let member = getegid().as_raw() == group || getgroups().is_ok_and(|all| all.contains(&Gid::from_raw(group)));
    let advice = match (is_open_to_its_group(&metadata), member) {
        (false, _) => format!(
            "open it to its group on the host (chmod g+rw), or put a socket proxy before it and set \
             providers.docker.endpoint; {} may do nothing with it",
            if was_root { "the user that this container becomes" } else { "this user" }
        ),
        (true, false) => format!("add the group: group_add: [\"{group}\"], or docker run --group-add {group}"),
        (true, true) => "its group has the right, so something else forbids it; with SELinux: security_opt: \
                         [\"label=disable\"]"
            .to_string(),
    };
    bail!(
        "{}: {error}: it belongs to {}, and this process is {}; {advice}",
        socket.display(),
        owner(&metadata),
        whoever()
    )
}

fn owner(metadata: &Metadata) -> String {
    format!("{}:{} with mode {:04o}", metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

/// This process.
fn whoever() -> String {
    let groups = getgroups().unwrap_or_default();
    let groups: Vec<String> = groups.iter().map(|group| group.as_raw().to_string()).collect();
    format!("user {}:{} in groups [{}]", geteuid().as_raw(), getegid().as_raw(), groups.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    fn providers(docker: Option<&str>, swarm: &[&str], off: &[Provider]) -> Vec<String> {
        let docker = docker.map(|endpoint| DockerSettings { endpoint: endpoint.into(), ..DockerSettings::default() });
        let endpoints = serde_json::json!({ "endpoints": swarm });
        let swarm = (!swarm.is_empty()).then(|| serde_json::from_value(endpoints).expect("settings"));
        let off = off.iter().copied().collect();
        let found = sockets(&ProviderSettings { docker, swarm, off, ..ProviderSettings::default() });
        found.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn the_sockets_are_those_that_are_asked() {
        assert_eq!(providers(None, &[], &[]), ["/var/run/docker.sock"]);
        assert_eq!(providers(Some("tcp://engine:2375"), &[], &[Provider::Swarm]), [""; 0]);
        assert_eq!(providers(Some("unix:///a"), &["unix:///b", "tcp://c", "unix:///a"], &[]), ["/a", "/b"]);
        assert_eq!(providers(None, &[], &[Provider::Docker, Provider::Swarm]), [""; 0]);
    }

    #[test]
    fn a_group_that_may_do_nothing_is_not_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("s");
        let _listener = UnixListener::bind(&socket).expect("bound");
        let with = |mode: u32| {
            std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(mode)).expect("changed");
            groups_of(&[socket.clone(), socket.clone(), dir.path().join("absent")])
        };
        let own = std::fs::metadata(&socket).expect("there").gid();
        assert_eq!(with(0o660), [own]);
        assert_eq!(with(0o600), [0; 0]);
        assert_eq!(with(0o640), [0; 0]);
        assert!(reach(&dir.path().join("absent"), true).is_ok(), "an engine that is not there may come");
        assert!(reach(&socket, true).is_ok());
    }
}
