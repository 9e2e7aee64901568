//! A second machine, as far as networks go: a network namespace with a cable to the bridge of a swarm's manager.
//!
//! `create` ─▶ `inside` (a command there) · `engine` (one that sees its links in /sys as well, as engines want them)

use std::process::Command;

use super::output_of;

const NAME: &str = "portolan-node";
/// On the manager's bridge, where the engine does not reach for it soon.
pub const ADDRESS: &str = "10.222.0.250";

pub fn create(managers_bridge: &str) {
    let ip = |args: &[&str]| output_of(Command::new("ip").args(args));
    ip(&["netns", "add", NAME]);
    ip(&["link", "add", "portolan-cable", "type", "veth", "peer", "name", "eth0", "netns", NAME]);
    ip(&["link", "set", "portolan-cable", "master", managers_bridge, "up"]);
    let there = |args: &[&str]| output_of(inside("ip").args(args));
    there(&["link", "set", "lo", "up"]);
    there(&["address", "add", &format!("{ADDRESS}/24"), "dev", "eth0"]);
    there(&["link", "set", "eth0", "up"]);
    // No way beyond the bridge: its engine asks registries first, and is to hear at once that there is none.
}

pub fn inside(program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{NAME}")).arg("--").arg(program);
    command
}

/// As `enclose` does it for the first one: sysfs shows the namespace in which it is mounted, and the control groups come
/// along.
pub fn engine(program: &str) -> Command {
    let mounts = "mkdir -p /run/node-cgroup; mount --rbind /sys/fs/cgroup /run/node-cgroup; mount -t sysfs sysfs /sys; \
                  mount --rbind /run/node-cgroup /sys/fs/cgroup; umount -l /run/node-cgroup; exec \"$@\"";
    let mut command = inside("unshare");
    command.args(["--mount", "sh", "-ec", mounts, "sh", program]);
    command
}
