//! docs/sidecar.md as it stands there: its blocks are pasted into one shell, on a system of the test's own, and a browser
//! opens what comes of them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::support::engine::PORTOLAN;
use crate::support::system::System;
use crate::support::{announce, run};

/// For one block. A busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A shell into which blocks are pasted. It goes with all that it started.
struct Shell {
    process: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Shell {
    fn on(system: &System, dir: &Path, path: &str) -> Shell {
        // A group of its own, so that what it leaves in the background can be ended with it.
        let mut command = system.command("setsid");
        command.args(["bash", "-e"]).env("HOME", dir).env("PATH", path);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = mpsc::channel();
        let readers: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(process.stdout.take().unwrap()), Box::new(process.stderr.take().unwrap())];
        for reader in readers {
            let tell = tell.clone();
            std::thread::spawn(move || {
                BufReader::new(reader).lines().map_while(Result::ok).all(|line| tell.send(line).is_ok())
            });
        }
        let input = process.stdin.take().unwrap();
        let mut shell = Shell { process, input, lines };
        // Who enters a system stands at its root.
        shell.paste("cd");
        shell
    }

    /// What the block printed, to either side.
    fn paste(&mut self, block: &str) -> String {
        const END: &str = "--- the end of a block";
        let _ = write!(self.input, "{block}\necho '{END}'\n");
        let mut said = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line == END => return said,
                Ok(line) => said += &(line + "\n"),
                Err(why) => panic!("{why} in:\n{block}\nwhich said:\n{said}"),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.process.id())]).output();
        let _ = self.process.wait();
    }
}

/// The shell blocks of a document, by the headings they stand under.
fn blocks(text: &str) -> Vec<(&str, String)> {
    let (mut heading, mut blocks, mut open) = ("", Vec::new(), None::<String>);
    for line in text.lines() {
        match &mut open {
            Some(block) if line == "```" => {
                blocks.push((heading, std::mem::take(block)));
                open = None;
            }
            Some(block) => *block += &format!("{line}\n"),
            None if line == "```sh" => open = Some(String::new()),
            None => heading = line.strip_prefix("## ").unwrap_or(heading),
        }
    }
    blocks
}

/// A browser without a head, with the store of this home, and what it shows.
fn browse(system: &System, home: &Path, url: &str) -> String {
    let profile = format!("--user-data-dir={}", home.join("profile").display());
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--dump-dom",
    ];
    let mut command = system.command("timeout");
    command.args(["-k", "1", "30", "chromium"]).args(flags).arg(profile).arg(url).env("HOME", home);
    let output = run(&mut command);
    // Why a page is not there, it says on the other side.
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_sidecar_of_the_docs_works_as_it_is_pasted() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sidecar.md");
    let text = std::fs::read_to_string(document).unwrap();
    let blocks = blocks(&text);
    let steps: Vec<char> = blocks.iter().map(|(heading, _)| heading.chars().next().unwrap()).collect();
    assert_eq!(steps, ['1', '2', '3', '4', '4', '5']);

    let system = System::new();
    let dir = tempfile::Builder::new().prefix("sidecar-").tempdir().unwrap();
    // Who runs it is root already.
    let tools = dir.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    std::os::unix::fs::symlink(PORTOLAN, tools.join("portolan")).unwrap();
    std::fs::write(tools.join("sudo"), "#!/bin/sh\nexec \"$@\"\n").unwrap();
    std::fs::set_permissions(tools.join("sudo"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let mut shell = Shell::on(&system, dir.path(), &path);
    let mut said = blocks.iter().map(|(heading, block)| {
        let said = shell.paste(block);
        announce(&format!("{heading}: {} lines", said.lines().count()));
        said
    });

    let mut next = || said.next().unwrap();
    let plain = next();
    assert!(plain.contains("Name: kuard") && plain.contains("GET /healthy"), "{plain}");
    let secure = next();
    assert!(secure.contains("Name: kuard") && secure.contains("X-Forwarded-Proto: https"), "{secure}");
    let trusted = next();
    assert!(trusted.contains("installed: ") && trusted.contains("Name: kuard"), "{trusted}");
    let known = next();
    assert!(known.contains("Name: kuard") && known.contains("Subject=\"CN=anna@example.org\""), "{known}");
    next();

    // The browser, before the second service comes: with the store of the docs, and with one that has the root alone.
    let url = "https://kuard.localhost:8443/";
    system.sh(&format!(
        "mkdir -p /etc/chromium/policies/managed && echo '{{ \"AutoSelectCertificateForUrls\": \
         [\"{{\\\"pattern\\\":\\\"{url}\\\",\\\"filter\\\":{{}}}}\"] }}' >/etc/chromium/policies/managed/portolan.json"
    ));
    let shown = browse(&system, dir.path(), url);
    assert!(shown.contains("Name: kuard") && shown.contains("CN=anna@example.org"), "{shown}");
    let stranger: PathBuf = dir.path().join("stranger");
    let store = format!("sql:{}/.pki/nssdb", stranger.display());
    system.sh(&format!("mkdir -p {}/.pki/nssdb && certutil -d {store} -N --empty-password", stranger.display()));
    let root = dir.path().join("kuard/root.pem");
    system.sh(&format!("certutil -d {store} -A -t C,, -n kuard -i {}", root.display()));
    let refused = browse(&system, &stranger, url);
    assert!(!refused.contains("Name: kuard") && refused.contains("Page load failed: net::ERR_"), "{refused}");
    // And the proxy knows why.
    let metrics = system.sh("curl --silent http://127.0.0.1:9181/metrics");
    assert!(
        metrics.contains("portolan_tls_handshake_failures_total{reason=\"client_certificate_required\"}"),
        "{metrics}"
    );

    let both = next();
    let answers: Vec<&str> = both.split("Name: ").skip(1).collect();
    assert_eq!(answers.len(), 2, "{both}");
    for (answer, name, caller) in [(answers[0], "kuard", "orders"), (answers[1], "orders", "kuard")] {
        assert!(answer.starts_with(name), "{both}");
        assert!(answer.contains(&format!("URI=spiffe://lab.example/{caller}")), "{both}");
    }
    // Nobody else gets in.
    let (mut curl, root) = (system.command("curl"), dir.path().join("orders/root.pem"));
    curl.args(["--disable", "--silent", "--show-error", "https://orders.localhost:8444/", "--cacert"]).arg(root);
    let output = run(&mut curl);
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && why.contains("certificate required"), "{why}");
}
