//! `portolan ca` as people and their tools use it: openssl and NSS judge what it makes.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use portolan::control::ca::{self, DenyList, InternalCa};

use crate::support::backend::Backend;
use crate::support::engine::PORTOLAN;
use crate::support::port;
use crate::support::portolan::command;
use crate::support::wait::eventually;
use crate::support::{announce, output_of, run};

/// A state directory with nobody at work in it, and a place to run commands.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ca(&self) -> PathBuf {
        self.path("state/issuers/corp")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = command(self.dir.path(), &line.split(' ').collect::<Vec<_>>());
        command.env("PORTOLAN_STATE_DIR", self.path("state"));
        command
    }

    fn cli(&self, line: &str) -> String {
        output_of(&mut self.command(line))
    }

    /// The whole lines of the CA's log that are of these events.
    fn events(&self, events: &[&str]) -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(self.ca().join("log")).unwrap_or_default();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter(|line| events.contains(&line["event"].as_str().unwrap())).collect()
    }

    fn openssl(&self, line: &str) -> Output {
        run(Command::new("openssl").args(line.split(' ')).current_dir(self.dir.path()))
    }

    /// What openssl says of a chain for a purpose.
    fn verifies(&self, out: &str, options: &str) -> bool {
        let line =
            format!("verify -x509_strict -CAfile {out}/root.pem -untrusted {out}/cert.pem {options} {out}/cert.pem");
        self.openssl(&line).status.success()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_certificate_for_a_client_is_one_to_openssl() {
    let place = Place::new();
    let said = place.cli("ca issue --uri spiffe://example.org/alice --out alice");
    assert!(
        said.starts_with("issued: serial ") && said.contains("for clients (URI:spiffe://example.org/alice)"),
        "{said}"
    );
    assert!(said.contains("alice/key.pem, alice/cert.pem, alice/root.pem"), "{said}");
    assert!(place.verifies("alice", "-purpose sslclient"));
    assert!(!place.verifies("alice", "-purpose sslserver"));
    assert_eq!([mode(&place.path("alice/key.pem")), mode(&place.path("alice/cert.pem"))], [0o600, 0o644]);
    assert_eq!(mode(&place.path("alice")), 0o700);
    let text =
        output_of(Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(place.path("alice/cert.pem")));
    assert!(
        text.contains("URI:spiffe://example.org/alice") && text.contains("CN = spiffe://example.org/alice"),
        "{text}"
    );
    assert_eq!(place.cli("ca root"), std::fs::read_to_string(place.path("alice/root.pem")).unwrap().trim_end());
    // The key is the certificate's, and no other.
    let of = |line: &str| String::from_utf8(place.openssl(line).stdout).unwrap();
    assert_eq!(of("x509 -noout -pubkey -in alice/cert.pem"), of("pkey -pubout -in alice/key.pem"));

    let said =
        place.cli("ca issue --dns db.example.org --ip 10.0.0.7 --ip ::1 --email dba@example.org --cn db --out db");
    assert!(said.contains("for clients and servers"), "{said}");
    for options in ["-purpose sslclient", "-purpose sslserver -verify_hostname db.example.org", "-verify_ip 10.0.0.7"] {
        assert!(place.verifies("db", options), "{options}");
    }
    assert!(!place.verifies("db", "-verify_hostname other.example.org"));
    place.cli("ca issue --dns db.example.org --server --out server");
    assert!(place.verifies("server", "-purpose sslserver") && !place.verifies("server", "-purpose sslclient"));
    place.cli("ca issue --cn alice --out cn");
    assert!(place.verifies("cn", "-purpose sslclient"));
}

#[test]
fn a_life_is_a_day_or_what_was_asked_for() {
    let place = Place::new();
    let ends = |line: &str| -> (String, i64) {
        let said = place.cli(&format!("ca issue --cn a --out a{line}"));
        let until = said.split("valid until ").nth(1).unwrap();
        let until: Timestamp = until.split(['\n', ':', ' ']).next().map(|_| &until[..20]).unwrap().parse().unwrap();
        let left = until.as_second() - Timestamp::now().as_second();
        (said, left)
    };
    let near = |left: i64, hours: i64| (hours * 3600 - 60..=hours * 3600).contains(&left);
    assert!(near(ends("").1, 24));
    assert!(near(ends(" --ttl 1h").1, 1));
    let (said, left) = ends(" --ttl 99999h");
    assert!(near(left, 365 * 24) && said.contains("shorter than asked for"), "{said}");
    // Each is another.
    let serials: BTreeSet<String> =
        place.events(&["issued"]).iter().map(|line| line["serial"].as_str().unwrap().to_string()).collect();
    assert_eq!(serials.len(), 3);
}

#[test]
fn a_pkcs12_file_is_read_by_openssl_and_nss() {
    let place = Place::new();
    std::fs::write(place.path("p"), "s3cret wörd\n").unwrap();
    let said = place.cli("ca issue --email anna@example.org --out anna --pkcs12 --password-file p");
    assert!(said.contains("anna/cert.p12"), "{said}");
    assert_eq!(mode(&place.path("anna/cert.p12")), 0o600);
    let read = |password: &str, options: &[&str]| {
        run(Command::new("openssl")
            .args(["pkcs12", "-in", "anna/cert.p12", "-passin", &format!("pass:{password}")])
            .args(options)
            .current_dir(place.dir.path()))
    };
    let all = read("s3cret wörd", &["-nodes", "-info"]);
    let (text, info) = (String::from_utf8_lossy(&all.stdout), String::from_utf8_lossy(&all.stderr));
    assert!(all.status.success(), "{info}");
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 3, "{text}");
    assert_eq!(text.matches("BEGIN PRIVATE KEY").count(), 1);
    assert!(info.contains("AES-256-CBC") && info.contains("MAC: sha256, Iteration 100000"), "{info}");
    assert!(text.contains("friendlyName: anna@example.org"), "{text}");
    assert!(!read("wrong", &["-nodes"]).status.success());
    let own = read("s3cret wörd", &["-nokeys", "-clcerts"]);
    assert!(String::from_utf8_lossy(&own.stdout).contains("subject=CN = anna@example.org"));

    let nss = |program: &str, args: &[&str]| {
        output_of(Command::new(program).args(args).args(["-d", "sql:nss"]).current_dir(place.dir.path()))
    };
    std::fs::create_dir(place.path("nss")).unwrap();
    nss("certutil", &["-N", "--empty-password"]);
    nss("pk12util", &["-i", "anna/cert.p12", "-w", "p"]);
    assert!(nss("certutil", &["-L"]).contains("anna@example.org"));
    assert!(nss("certutil", &["-K"]).contains("anna@example.org"));

    // To standard output, the password from standard input.
    let mut child = place.command("ca issue --cn a --out - --pkcs12 --password-file /dev/stdin");
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"word").unwrap();
    let output = child.wait_with_output().unwrap();
    std::fs::write(place.path("anna/cert.p12"), &output.stdout).unwrap();
    assert!(read("word", &["-nodes"]).status.success(), "{output:?}");
}

#[test]
fn one_file_with_everything_is_what_curl_takes() {
    let place = Place::new();
    let output = run(&mut place.command("ca issue --cn a --out -"));
    std::fs::write(place.path("a.pem"), &output.stdout).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("portolan: there was no CA in"));
    for line in ["x509 -noout -in a.pem", "pkey -noout -in a.pem"] {
        assert!(place.openssl(line).status.success(), "{line}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("BEGIN").count(), 4);
}

#[test]
fn what_cannot_be_is_said_with_what_to_do() {
    let place = Place::new();
    std::fs::write(place.path("empty"), "\n").unwrap();
    std::fs::write(place.path("two"), "a\nb\n").unwrap();
    std::fs::write(place.path("file"), "").unwrap();
    for (line, code, said) in [
        ("ca revoke 01", 1, "there is no internal CA \"corp\" in"),
        ("ca issue --out x", 1, "at least one name; give it a --dns"),
        ("ca issue --uri urn:a --server --out x", 1, "give the certificate a --dns or --ip name"),
        ("ca issue --dns a..b --out x", 1, "no certificate can carry the name \"a..b\""),
        ("ca issue --dns 10.0.0.1 --out x", 1, "write --ip"),
        ("ca issue --uri web --out x", 1, "write it like spiffe://example.org/web"),
        ("ca issue --cn a --ttl 0 --out x", 1, "give it a life with --ttl"),
        ("ca issue --cn a --ttl soon --out x", 2, "write it like"),
        ("ca issue --cn a", 2, "--out"),
        ("ca issue --cn a --pkcs12 --out x", 2, "--password-file"),
        ("ca issue --cn a --out x --pkcs12 --password-file none", 1, "the password file none"),
        ("ca issue --cn a --out x --pkcs12 --password-file empty", 1, "is empty"),
        ("ca issue --cn a --out x --pkcs12 --password-file two", 1, "more than one line"),
        ("ca issue --cn a --issuer other --out x", 1, "there is no internal issuer \"other\"; issuers: names corp"),
    ] {
        let output = run(&mut place.command(line));
        let told = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(code), "{line}: {told}");
        assert!(told.contains(said), "{line}: {told}");
        assert!(!place.path("x").exists() && place.events(&["issued"]).is_empty(), "{line}");
    }
    // What is issued and cannot be written down is on record.
    let output = run(&mut place.command("ca issue --cn a --out file/x"));
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("file/x"), "{output:?}");
}

#[test]
fn named_cas_have_nothing_in_common() {
    let place = Place::new();
    let settings = serde_json::json!({
        "state_dir": place.path("state"), "issuers": { "corp": { "internal": {} }, "partners": { "internal": {} } },
    });
    std::fs::write(place.path("portolan.yaml"), settings.to_string()).unwrap();
    place.cli("ca issue --cn a --out corp");
    place.cli("ca issue --cn a --issuer partners --out partners");
    for out in ["corp", "partners"] {
        assert!(place.verifies(out, "-purpose sslclient"));
        let issuer =
            String::from_utf8(place.openssl(&format!("x509 -noout -issuer -in {out}/cert.pem")).stdout).unwrap();
        assert!(issuer.contains(&format!("Portolan {out} Intermediate CA")), "{issuer}");
    }
    let line = "verify -CAfile corp/root.pem -untrusted partners/cert.pem partners/cert.pem";
    assert!(!place.openssl(line).status.success());
    let output = run(&mut place.command("ca revoke partners/cert.pem"));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("was not issued by the internal CA \"corp\""),
        "{output:?}"
    );
    assert!(place.cli("ca --issuer partners revoke partners/cert.pem").starts_with("revoked: serial "));
}

#[test]
fn a_rotation_says_what_it_did_and_whom_it_cuts_short() {
    let place = Place::new();
    let settings = serde_json::json!({
        "state_dir": place.path("state"), "issuers": { "corp": { "internal": {} }, "partners": { "internal": { "ttl": "2h" } } },
    });
    std::fs::write(place.path("portolan.yaml"), settings.to_string()).unwrap();
    let roots = || place.cli("ca root --issuer partners").matches("BEGIN CERTIFICATE").count();
    let other = place.cli("ca root");
    assert_eq!(roots(), 1);
    let said = place.cli("ca issue --cn alice --issuer partners --out alice");
    let until: Timestamp = said.split("valid until ").nth(1).unwrap()[..20].parse().unwrap();
    assert!((7000..=7200).contains(&(until.as_second() - Timestamp::now().as_second())), "the issuer's ttl: {said}");
    place.cli("ca issue --cn bob --issuer partners --ttl 48h --out bob");

    let said = place.cli("ca rotate --issuer partners --overlap 24h");
    assert!(said.starts_with("rotated: CN=Portolan partners Root CA "), "{said}");
    assert!(said.contains("trusted beside it until ") && said.contains("(CN=bob), valid until "), "{said}");
    assert!(!said.contains("CN=alice"), "{said}");
    assert_eq!((roots(), place.cli("ca root")), (2, other), "of one issuer alone");
    // Old and new certificates verify by what `ca root` prints now.
    std::fs::write(place.path("both.pem"), place.cli("ca root --issuer partners")).unwrap();
    place.cli("ca issue --cn carol --issuer partners --out carol");
    for out in ["alice", "carol"] {
        let line = format!("verify -x509_strict -CAfile both.pem -untrusted {out}/cert.pem {out}/cert.pem");
        assert!(place.openssl(&line).status.success(), "{out}");
    }
    let again = run(&mut place.command("ca rotate --issuer partners"));
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("--overlap 0s"), "{again:?}");
    let said = place.cli("ca rotate --issuer partners --overlap 0s");
    assert!(said.contains("refused from now on"), "{said}");
    assert_eq!(roots(), 1);
    let none = run(place.command("ca rotate").env("PORTOLAN_STATE_DIR", place.path("other")));
    assert!(String::from_utf8_lossy(&none.stderr).contains("there is no internal CA"), "{none:?}");
}

#[test]
fn a_passphrase_and_constraints_of_the_settings_hold_for_every_command() {
    let place = Place::new();
    let settings = |internal: serde_json::Value| {
        let all =
            serde_json::json!({ "state_dir": place.path("state"), "issuers": { "corp": { "internal": internal } } });
        std::fs::write(place.path("portolan.yaml"), all.to_string()).unwrap();
    };
    let refused = |line: &str, words: &[&str]| {
        let output = run(&mut place.command(line));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.iter().all(|word| told.contains(word)), "{line}: {told}");
    };
    std::fs::write(place.path("p"), "s3cret\n").unwrap();
    settings(serde_json::json!({ "passphrase_file": "p", "name_constraints": { "dns": ["corp.example"] } }));
    place.cli("ca issue --dns a.corp.example --out a");
    assert!(place.verifies("a", "-purpose sslserver -verify_hostname a.corp.example"));
    refused("ca issue --dns a.example --out b", &["may not sign DNS:a.example", "permit dns: corp.example"]);
    assert!(!place.path("b").exists());
    place.cli("ca rotate");
    place.cli("ca issue --dns a.corp.example --out a");
    place.cli("ca revoke a/cert.pem");
    for key in ["root-key.pem", "intermediate-key.pem"] {
        assert!(std::fs::read_to_string(place.ca().join(key)).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY"));
    }
    settings(serde_json::json!({}));
    for line in ["ca root", "ca issue --cn a --out b", "ca rotate --overlap 0s"] {
        refused(line, &["is encrypted", "issuers.corp.internal.passphrase_file"]);
    }
}

#[test]
fn a_revocation_is_told_once_more_and_is_on_record() {
    let place = Place::new();
    place.cli("ca issue --cn alice --out a");
    let serial = String::from_utf8(place.openssl("x509 -noout -serial -in a/cert.pem").stdout).unwrap();
    let serial = serial.trim().strip_prefix("serial=").unwrap();
    let said = place.cli(&format!("ca revoke {serial}"));
    assert!(
        said.starts_with(&format!("revoked: serial {} (CN=alice), on the list until it ends", serial.to_lowercase())),
        "{said}"
    );
    let print = String::from_utf8(place.openssl("x509 -noout -fingerprint -sha256 -in a/cert.pem").stdout).unwrap();
    let said = place.cli(&format!("ca revoke {}", print.trim().split_once('=').unwrap().1));
    assert!(said.starts_with("revoked already: serial "), "{said}");
    let events = place.events(&["issued", "revoked"]);
    assert_eq!(events.iter().map(|line| line["event"].as_str().unwrap()).collect::<Vec<_>>(), ["issued", "revoked"]);
    assert!(events.iter().all(|line| line["serial"] == serial.to_lowercase() && line["subject"] == "CN=alice"));
    let output = run(&mut place.command("ca revoke 0123"));
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("give the file"),
        "{output:?}"
    );
}

/// In the README's own words, but for the ports.
#[test]
fn mutual_tls_takes_the_three_commands_of_the_readme() {
    struct Running(std::process::Child);
    impl Drop for Running {
        fn drop(&mut self) {
            // It fails harmlessly where it has ended already.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let readme = include_str!("../../README.md");
    let section = readme.split("## Mutual TLS in three commands").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks: Vec<&str> = section.split("```").skip(1).step_by(2).collect();
    let (settings, commands) = (blocks[0].strip_prefix("yaml\n").unwrap(), blocks[1].trim());
    let backend = Backend::named("s");
    let [https, status, admin] = std::array::from_fn(|_| port::free_port().to_string());
    let ported = |text: &str| text.replace("8443", &https).replace("8080", &backend.address.port().to_string());
    let place = Place::new();
    std::fs::write(place.path("portolan.yaml"), ported(settings)).unwrap();
    std::os::unix::fs::symlink(PORTOLAN, place.path("portolan")).unwrap();
    let paths = format!("{}:{}", place.dir.path().display(), std::env::var("PATH").unwrap());
    let pasted = |line: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {}", ported(line).trim_end_matches(" &"))]).current_dir(place.dir.path());
        shell.env("PATH", &paths).env("PORTOLAN_STATUS__ADDRESS", format!("127.0.0.1:{status}"));
        shell.env("PORTOLAN_ADMIN__ADDRESS", format!("127.0.0.1:{admin}")).env("PORTOLAN_PROVIDERS__DOCKER", "off");
        shell
    };
    let [start, issue, ask] = commands.lines().collect::<Vec<_>>()[..] else { panic!("three commands: {commands}") };
    assert!(start.ends_with(" &"));
    let log = std::fs::File::create(place.path("log")).unwrap();
    let _running = Running(pasted(start).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    output_of(&mut pasted(issue));
    let answered = |line: &str| run(&mut pasted(line)).status.success();
    eventually("the answer comes", || match run(&mut pasted(ask)) {
        output if output.status.success() => Ok(output),
        output => Err((output, std::fs::read_to_string(place.path("log")).unwrap())),
    });
    let without = ask.replace("--cert anna/cert.pem --key anna/key.pem ", "");
    assert!(without != ask && !answered(&without));
    assert!(section.contains("portolan ca revoke anna/cert.pem"));
    output_of(&mut pasted("portolan ca revoke anna/cert.pem"));
    let ask = ask.replace("curl", "curl --fail");
    eventually("it is taken back", || if answered(&ask) { Err("answered") } else { Ok(()) });
}

const KILLS: u64 = 100;

/// Issues, revokes and rotates as fast as it can, and notes what it was told is done. It begins with the step that it is
/// given, so that each is met early, while the commands start, and late.
const AT_WORK: &str = r#"
  step() {
    case $1 in
      0) said=$("$PORTOLAN" ca issue --uri spiffe://example.org/a --out out) && said=${said#issued: serial } &&
           echo "issued ${said%% *}" >>done ;;
      1) serial=$(sed -n 's/^issued //p' done | tail -n 1)
         "$PORTOLAN" ca revoke "$serial" >/dev/null && echo "revoked $serial" >>done ;;
      2) "$PORTOLAN" ca rotate --overlap "$(($2 % 2))s" >/dev/null && echo "rotated" >>done ;;
    esac
  }
  n=$0
  while :; do step $((n % 3)) $n; n=$((n + 1)); done
"#;

#[test]
fn a_hundred_kills_lose_no_revocation_and_use_no_serial_twice() {
    let place = Place::new();
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap_or_default();
    place.cli("ca root");
    let started = Instant::now();
    let made = |events: &[&str]| -> Vec<String> {
        place.events(events).iter().map(|line| line["serial"].as_str().unwrap().to_string()).collect()
    };
    for kill in 0..KILLS {
        let before = read("done").len();
        let mut worker = Command::new("sh")
            .args(["-c", AT_WORK, &(kill + kill / 3).to_string()])
            .env("PORTOLAN", PORTOLAN)
            .env("PORTOLAN_STATE_DIR", place.path("state"))
            .current_dir(place.dir.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Some while the first command is under way, the others after it.
        if kill % 4 != 0 {
            let done = || read("done").len();
            eventually("a step is done", || if done() > before { Ok(()) } else { Err(worker.try_wait()) });
        }
        std::thread::sleep(Duration::from_micros(kill * 7919 * 31 % 100_000));
        assert!(worker.try_wait().unwrap().is_none(), "it ended by itself");
        output_of(Command::new("kill").args(["-KILL", "--", &format!("-{}", worker.id())]));
        worker.wait().unwrap();

        let ca = InternalCa::open(&place.ca(), "corp").unwrap();
        let issued = ca.issue_server(&["a.example".parse().unwrap()], Duration::from_secs(60)).unwrap();
        let signer = ca::Known::of(&issued.chain[1]).unwrap().serial;
        let root = ca::Known::of(&ca.root_der()).unwrap().serial;
        let known = made(&["root_created", "root_rotated", "intermediate_created"]);
        assert!(known.contains(&signer) && known.contains(&root), "who signs is on no record");
    }
    let done = read("done");
    // A kill may have cut a line short: only whole ones were told.
    let told = |what: &str| -> BTreeSet<String> {
        let serials = done.lines().filter_map(|line| line.strip_prefix(what));
        serials.filter(|serial| serial.len() == 32).map(String::from).collect()
    };
    let (issued, revoked) = (told("issued "), told("revoked "));
    let rotated = done.lines().filter(|line| *line == "rotated").count();
    let all = made(&["issued", "root_created", "root_rotated", "intermediate_created"]);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "a serial was used twice");
    let on_record: BTreeSet<String> = made(&["issued"]).into_iter().collect();
    assert!(issued.is_subset(&on_record), "one was handed out that is on no record");
    let list = DenyList::parse(&std::fs::read(place.ca().join("revoked.json")).unwrap()).unwrap();
    let listed: BTreeSet<String> = list.entries.into_iter().map(|entry| entry.certificate.serial).collect();
    assert!(revoked.is_subset(&listed), "a revocation was lost");
    let rotations = made(&["root_rotated"]).len();
    announce(&format!(
        "{KILLS} kills in {:?}: {} issued ({} more on record), {} revoked ({} more on the list), {rotated} rotated ({} more begun)",
        started.elapsed(),
        issued.len(),
        on_record.len() - issued.len(),
        revoked.len(),
        listed.len() - revoked.len(),
        rotations - rotated,
    ));
    assert!(issued.len() >= 20 && revoked.len() >= 10 && rotated >= 10, "too little was under way");
    // And it is a CA still.
    place.cli("ca issue --cn a --out last");
    assert!(place.verifies("last", "-purpose sslclient"));
}
