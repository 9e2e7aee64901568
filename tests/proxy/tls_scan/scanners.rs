//! What testssl.sh and sslyze say of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{Stage, python, table};
use crate::support::run;

const FINDINGS: &str = include_str!("testssl.txt");

/// What is found out of each part, whatever it is: without these it was not looked at.
const LOOKED_AT: [&str; 36] = [
    "SSLv2",
    "SSLv3",
    "TLS1",
    "TLS1_1",
    "TLS1_2",
    "TLS1_3",
    "ALPN_HTTP2",
    "cipherlist_NULL",
    "cipherlist_aNULL",
    "cipherlist_EXPORT",
    "cipherlist_LOW",
    "cipherlist_3DES_IDEA",
    "cipherlist_AVERAGE",
    "cipherlist_STRONG",
    "PFS",
    "PFS_ciphers",
    "PFS_ECDHE_curves",
    "heartbleed",
    "CCS",
    "ticketbleed",
    "ROBOT",
    "secure_renego",
    "secure_client_renego",
    "CRIME_TLS",
    "BREACH",
    "POODLE_SSL",
    "fallback_SCSV",
    "SWEET32",
    "FREAK",
    "DROWN",
    "LOGJAM",
    "BEAST",
    "LUCKY13",
    "RC4",
    "cert_trust",
    "cert_chain_of_trust",
];

#[test]
fn testssl_finds_nothing_above_low_that_has_no_reason() {
    let stage = Stage::start();
    let report = stage.file("testssl.json");
    let output = run(Command::new("testssl")
        // Protocols, ciphers, forward secrecy, vulnerabilities; the certificate and the headers.
        .args(["-p", "-s", "-f", "-U", "-S", "-h"])
        .args(["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--ip", "127.0.0.1"])
        .args(["--openssl-timeout", "60", "--add-ca"])
        .arg(stage.file("root.pem"))
        .arg("--jsonfile")
        .arg(&report)
        .arg(format!("https://open.test:{}/", stage.portolan.https.port()))
        .current_dir(stage.dir.path())
        .stdin(Stdio::null()));
    let said = text(&output);
    let findings = std::fs::read_to_string(&report).unwrap_or_else(|e| panic!("{e}:\n{said}"));
    let findings: Vec<Value> = serde_json::from_str(&findings).unwrap_or_else(|e| panic!("{e}: {findings}\n{said}"));
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_string();
    let found: BTreeMap<String, (String, String)> = findings
        .iter()
        .map(|finding| (word(finding, "id"), (word(finding, "severity"), word(finding, "finding"))))
        .collect();
    for id in LOOKED_AT {
        assert!(found.contains_key(id), "{id} was not looked at:\n{said}");
    }
    assert_eq!(found["cert_chain_of_trust"].0, "OK", "{found:?}");

    let grave: BTreeMap<&str, &str> = found
        .iter()
        .filter(|(id, (severity, _))| match severity.as_str() {
            "OK" | "INFO" | "LOW" => false,
            // It could not tell. Its openssl has no GOST, say; and it hangs up without waiting for the tickets of TLS 1.3.
            "WARN" => LOOKED_AT.contains(&id.as_str()),
            _ => true,
        })
        .map(|(id, (severity, _))| (id.as_str(), severity.as_str()))
        .collect();
    let expected: BTreeMap<&str, &str> = table(FINDINGS).map(|row| (row[0], row[1])).collect();
    for row in table(FINDINGS) {
        assert!(row[2].len() > 20, "{} has no reason", row[0]);
        let of_the_site = ["cert_", "security_headers"].iter().any(|part| row[0].starts_with(part));
        assert!(of_the_site, "{} is no finding on certificates or headers", row[0]);
    }
    assert_eq!(grave, expected, "{said}");
}

/// Its judgement of one host by one of Mozilla's profiles: none, or what it holds against it.
fn judged(stage: &Stage, profile: &str, at: SocketAddr, host: &str, root: &Path, client: Option<&str>) -> Vec<String> {
    let mut command = Command::new(python().with_file_name("sslyze"));
    command.arg(format!("--mozilla_config={profile}")).args(["--sni", host, "--certinfo_ca_file"]).arg(root);
    if let Some(name) = client {
        command.arg("--cert").arg(stage.file(&format!("{name}.pem")));
        command.arg("--key").arg(stage.file(&format!("{name}.key")));
    }
    let output = run(command.arg(at.to_string()).stdin(Stdio::null()));
    let said = text(&output);
    let judgement = said.split("COMPLIANCE AGAINST TLS CONFIGURATION").nth(1).unwrap_or_else(|| panic!("{said}"));
    let held_against = judgement.lines().filter_map(|line| line.trim().strip_prefix("* ")).map(str::to_string);
    let held_against: Vec<String> = held_against.collect();
    let compliant = judgement.contains("OK - Compliant.");
    assert_eq!(compliant, output.status.success(), "{said}");
    assert_eq!(compliant, held_against.is_empty(), "{said}");
    held_against
}

#[test]
fn sslyze_holds_nothing_against_mozillas_intermediate_profile() {
    let stage = Stage::start();
    let (https, guarded) = (stage.portolan.https, stage.guarded);
    let internal = stage.file("root.pem");
    for (at, host, root, client) in [
        (https, "open.test", &internal, None),
        (https, "rsa.test", &stage.file("servers.pem"), None),
        (guarded, "open.test", &internal, None),
        (guarded, "required.test", &internal, Some("web")),
    ] {
        assert_eq!(judged(&stage, "intermediate", at, host, root, client), [] as [&str; 0], "{host} at {at}");
    }
    // And it can find something: TLS 1.2 is too old for the next profile.
    let held_against = judged(&stage, "modern", https, "open.test", &internal, None);
    assert!(held_against.iter().any(|issue| issue.starts_with("tls_versions:")), "{held_against:?}");
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
