//! `portolan ca trust` on a system of its own: curl with the system's CAs says what it did.

use std::process::Output;

use serde_json::json;

use crate::support::backend::Backend;
use crate::support::portolan::Portolan;
use crate::support::run;
use crate::support::system::System;

const STORE: &str = "/usr/local/share/ca-certificates";

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Everything that is in the store and that comes of it.
fn picture(system: &System) -> String {
    system.sh(&format!("ls -1 {STORE} /etc/ssl/certs; sha256sum /etc/ssl/certs/ca-certificates.crt"))
}

#[test]
fn curl_accepts_what_is_trusted_and_refuses_it_again() {
    let backend = Backend::named("s");
    let portolan = Portolan::serving(json!({
        "routes": { "r": { "host": "r.test", "service": "s" } }, "services": { "s": { "endpoints": [backend.url()] } },
    }));
    let machine = std::fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap();
    let system = System::new();
    let state = portolan.dir().join("state");
    // 60: the issuer is not known.
    let curl = || {
        let to = format!("::{}", portolan.https);
        let words = ["--disable", "--noproxy", "*", "--silent", "--show-error", "--connect-to", &to, "https://r.test/"];
        run(system.command("curl").args(words)).status.code()
    };
    let ca = |words: &[&str]| {
        let output = run(&mut system.ca(&state, words));
        assert!(output.status.success(), "{words:?}: {output:?}");
        said(&output)
    };
    system.sh("update-ca-certificates");
    let before = picture(&system);
    assert_eq!(curl(), Some(60));
    for _ in 0..2 {
        let told = ca(&["trust"]);
        assert!(told.contains(&format!("installed: {STORE}/portolan-corp-")) && told.contains("\"corp\""), "{told}");
        assert_eq!(curl(), Some(0), "{told}");
    }
    let mode = system.sh(&format!("stat -c %a {STORE}/portolan-corp-*.crt"));
    assert_eq!(mode, "644");
    // What is there of another issuer, or by hand, stays.
    system.sh(&format!("cp {STORE}/portolan-corp-*.crt {STORE}/portolan-corp-other-0123abcd.crt"));
    let told = ca(&["trust", "--uninstall"]);
    assert!(told.contains(&format!("taken out: {STORE}/portolan-corp-")), "{told}");
    assert_eq!(curl(), Some(0), "trusted by another file");
    system.sh(&format!("rm {STORE}/portolan-corp-other-0123abcd.crt"));
    let told = ca(&["trust", "--uninstall"]);
    assert!(told.contains("nothing of the internal CA \"corp\""), "{told}");
    assert_eq!(curl(), Some(60));
    assert_eq!(picture(&system), before);
    assert_eq!(std::fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap(), machine, "the machine's own");
}

#[test]
fn what_hinders_trust_is_said_before_anything_is_touched() {
    let (system, dir) = (System::new(), tempfile::tempdir().unwrap());
    let state = dir.path().join("state");
    let refused = |output: Output, words: &[&str]| {
        let told = said(&output);
        assert!(output.status.code() == Some(1) && words.iter().all(|word| told.contains(word)), "{words:?}: {told}");
    };
    let store = || system.sh(&format!("ls -1 {STORE}"));
    let before = store();
    refused(run(&mut system.ca(&state, &["trust"])), &["there is no internal CA \"corp\" in", "PORTOLAN_STATE_DIR"]);
    refused(run(&mut system.ca(&state, &["trust", "--issuer", "other"])), &["no internal issuer \"other\""]);
    assert!(!state.exists(), "none was made for it");
    run(&mut system.ca(&state, &["root"]));

    for words in [&["trust"][..], &["trust", "--uninstall"]] {
        let mut command = system.command("setpriv");
        command.args(["--reuid", "65534", "--clear-groups", crate::support::engine::PORTOLAN, "ca"]).args(words);
        refused(run(command.env("PORTOLAN_STATE_DIR", &state)), &["belongs to root", "sudo"]);
    }
    let tool = system.sh("command -v update-ca-certificates");
    system.sh(&format!("mount --bind /dev/null {tool}"));
    refused(
        run(&mut system.ca(&state, &["trust"])),
        &["there is no update-ca-certificates", "install the package ca-certificates"],
    );
    assert_eq!(store(), before);
    system.sh(&format!(
        "umount {tool} && printf '#!/bin/sh\\necho full >&2; exit 3\\n' >/etc/broken && chmod 755 /etc/broken"
    ));
    system.sh(&format!("mount --bind /etc/broken {tool}"));
    refused(run(&mut system.ca(&state, &["trust"])), &["exit status: 3", "full", "run it again"]);
    system.sh(&format!("umount {tool}"));
    assert!(run(&mut system.ca(&state, &["trust", "--uninstall"])).status.success());
    assert_eq!(store(), before);
}

#[test]
fn fedora_has_its_own_place_and_tool_and_elsewhere_it_is_told() {
    let (system, dir) = (System::new(), tempfile::tempdir().unwrap());
    let state = dir.path().join("state");
    run(&mut system.ca(&state, &["root"]));
    let anchors = "/etc/pki/ca-trust/source/anchors";
    system.sh(&format!("mkdir -p {anchors} /etc/tools"));
    system.sh(&format!(
        "printf '#!/bin/sh\\necho \"$@\" $(ls {anchors} | wc -l) >>/etc/told\\n' >/etc/tools/update-ca-trust"
    ));
    system.sh("chmod 755 /etc/tools/update-ca-trust");
    let path = format!("/etc/tools:{}", std::env::var("PATH").unwrap());
    // In an overlap both roots, and one after it. No key is asked for.
    for (words, installed, gone) in [
        (&["trust"][..], 1, 0),
        (&["rotate", "--overlap", "1h"], 0, 0),
        (&["trust"], 2, 0),
        (&["rotate", "--overlap", "0s"], 0, 0),
        (&["trust"], 1, 2),
        (&["trust", "--uninstall"], 0, 1),
    ] {
        let output = run(system.ca(&state, words).env("PATH", &path));
        let told = said(&output);
        let count = |what: &str| told.matches(&format!("{what}{anchors}/portolan-corp-")).count();
        assert!(output.status.success(), "{output:?}");
        assert_eq!((count("installed: "), count("taken out: ")), (installed, gone), "{words:?}: {told}");
    }
    assert_eq!(system.sh("cat /etc/told"), "extract 1\nextract 2\nextract 1\nextract 0");

    system.sh(&format!("rm -rf /etc/pki /etc/debian_version {STORE}"));
    let output = run(&mut system.ca(&state, &["trust"]));
    let told = said(&output);
    let root = state.join("issuers/corp/root.pem").display().to_string();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("nothing is installed") && told.contains(&format!("trust anchor --store {root}")), "{told}");
    let output = run(&mut system.ca(&state, &["trust", "--uninstall"]));
    assert!(output.status.code() == Some(1) && said(&output).contains("by hand"), "{output:?}");
}
