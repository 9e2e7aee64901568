//! Which of the engine's containers Portolan itself runs in, if any.
//!
//! ```text
//! /proc/self/mountinfo, host name ─▶ candidate id ─▶ inspect on that engine ─▶ Some(id) | None
//! ```
//! The engine has the last word: the same id on another engine, or a host that happens to be named like a container, is
//! nobody.

use super::connect::{Engine, EngineError};

/// The files that an engine mounts into every container, whatever is in its image.
const MOUNTED: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// `None`: Portolan is no container of this engine.
pub async fn container(engine: &Engine) -> Result<Option<String>, EngineError> {
    for candidate in candidates() {
        match engine.api.inspect_container(&candidate, None).await {
            Ok(said) => {
                let runs = said.state.and_then(|state| state.running).unwrap_or_default();
                if let Some(id) = said.id.filter(|id| runs && id.starts_with(&candidate)) {
                    return Ok(Some(id));
                }
            }
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(engine.explain("GET /containers/{id}/json", error)),
        }
    }
    Ok(None)
}

/// What may be the id of Portolan's own container, whole or its first 12 digits.
pub fn candidates() -> Vec<String> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    [from_mounts(&mountinfo), from_hostname(&hostname)].into_iter().flatten().collect()
}

/// By the source of what is mounted at `/etc/hostname`: `…/containers/<id>/hostname`. Mount points elsewhere prove
/// nothing, since the engine's own host sees those of all its containers.
fn from_mounts(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        // proc(5): id, parent, device, root within the file system, mount point.
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let (_, rest) = root.split_once("/containers/").filter(|_| MOUNTED.contains(&point))?;
        let id = rest.split('/').next()?;
        (id.len() == 64 && is_hex(id)).then(|| id.to_string())
    })
}

/// By the host name that a container has unless somebody chose another: the first 12 digits of its id.
fn from_hostname(hostname: &str) -> Option<String> {
    let name = hostname.trim();
    (name.len() == 12 && is_hex(name)).then(|| name.to_string())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_id_stands_in_the_source_of_mounted_files() {
        let line = format!(
            "563 540 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw"
        );
        assert_eq!(from_mounts(&line).as_deref(), Some(ID));
        // A data root on a file system of its own.
        let line = format!("563 540 254:1 /docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vdb rw");
        assert_eq!(from_mounts(&line).as_deref(), Some(ID));
    }

    #[test]
    fn the_hosts_view_of_its_containers_is_no_proof() {
        let line = format!("90 25 0:45 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw");
        assert_eq!(from_mounts(&line), None);
        let line = format!("90 25 0:45 /var/lib/docker/containers/{ID}/x /data rw - ext4 /dev/vda1 rw");
        assert_eq!(from_mounts(&line), None);
        assert_eq!(from_mounts("563 540 254:1 /containers/short/hostname /etc/hostname rw - ext4 x rw"), None);
    }

    #[test]
    fn a_host_name_counts_only_as_an_id() {
        assert_eq!(from_hostname("0123456789ab\n").as_deref(), Some("0123456789ab"));
        assert_eq!(from_hostname("web"), None);
        assert_eq!(from_hostname("0123456789AB"), None);
    }
}
