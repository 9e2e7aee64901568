//! A system of the test's own: the machine's programs, but `/etc` and `/usr/local/share` as copies that nobody else sees.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::engine::PORTOLAN;
use super::run;
use super::wait::eventually;

/// A mount namespace. Gone when dropped, with all that was done in it.
pub struct System {
    dir: tempfile::TempDir,
    holder: Child,
}

impl System {
    pub fn new() -> System {
        let dir = tempfile::Builder::new().prefix("system-").tempdir().unwrap();
        // Copies and not overlays: the kernel stacks those no deeper than two, and the enclosure has one there.
        let script = "set -e
            mount -t tmpfs own \"$0\"
            for dir in /etc /usr/local/share; do
              mkdir -p \"$0$dir\" && cp -a \"$dir/.\" \"$0$dir/\" && mount --bind \"$0$dir\" \"$dir\"
            done
            touch \"$0/ready\" && exec sleep infinity";
        let holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(dir.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let system = System { dir, holder };
        let ready = system.dir.path().join("ready");
        eventually("the system is there", || match system.try_sh(&format!("test -e {}", ready.display())) {
            output if output.status.success() => Ok(()),
            output => Err(output),
        });
        system
    }

    /// A program in it, without the words by which the machine's CAs are found elsewhere, and without settings.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg(program).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("PORTOLAN_") || name.starts_with("SSL_CERT_") || name == "CURL_CA_BUNDLE" {
                command.env_remove(&*name);
            }
        }
        command
    }

    /// `portolan ca …` of the CA in this state directory.
    pub fn ca(&self, state: &Path, words: &[&str]) -> Command {
        let mut command = self.command(PORTOLAN);
        command.arg("ca").args(words).env("PORTOLAN_STATE_DIR", state);
        command
    }

    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_string()
    }

    pub fn try_sh(&self, script: &str) -> Output {
        run(self.command("sh").args(["-c", script]))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Both fail harmlessly where it has ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
