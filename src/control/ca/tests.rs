use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use tempfile::TempDir;
use x509_parser::extensions::ParsedExtension;
use x509_parser::parse_x509_certificate;

use super::*;

mod constrained;
mod rotation;
mod sealing;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    "2026-03-01T12:00:00.5Z".parse().expect("a time")
}

fn days(count: u32) -> Timestamp {
    certificate::later(now(), DAY * count)
}

fn dns(name: &str) -> LeafName {
    LeafName::Dns(name.into())
}

fn open(dir: &TempDir) -> InternalCa {
    InternalCa::open_at(dir.path(), "corp", now()).expect("opened")
}

fn damage(dir: &TempDir, file: &str, change: impl Fn(String) -> String) {
    let path = dir.path().join(file);
    let text = fs::read_to_string(&path).expect("read");
    let changed = change(text.clone());
    assert_ne!(text, changed);
    fs::write(&path, changed).expect("written");
}

/// The error names the file and what to do, and no file was touched by the refusal.
fn refused(dir: &TempDir, file: &str, why: &str) {
    let before = content(dir);
    let error = InternalCa::open_at(dir.path(), "corp", now()).expect_err(why).to_string();
    let path = dir.path().join(file).display().to_string();
    assert!(error.contains(&path) && error.contains(why) && error.contains("restore it"), "{error}");
    assert_eq!(content(dir), before);
}

fn content(dir: &TempDir) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir.path())
        .expect("listed")
        .map(|entry| entry.expect("listed"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("read")))
        .collect();
    files.sort();
    files
}

fn openssl(ca: &InternalCa, chain: &[CertificateDer<'_>], at: Timestamp, more: &[&str]) -> Output {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let root = file("root.pem", ca.root_pem());
    let leaf = file("leaf.pem", certificate::pem_text("CERTIFICATE", &chain[0]));
    let intermediate = file("intermediate.pem", certificate::pem_text("CERTIFICATE", &chain[1]));
    Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-attime", &at.as_second().to_string()])
        .args(more)
        .arg("-CAfile")
        .arg(root)
        .arg("-untrusted")
        .arg(intermediate)
        .arg(leaf)
        .output()
        .expect("openssl is installed")
}

fn verified(ca: &InternalCa, issued: &Issued, at: Timestamp, more: &[&str]) {
    let output = openssl(ca, &issued.chain, at, more);
    assert!(output.status.success(), "{more:?}: {output:?}");
}

#[test]
fn a_chain_is_what_openssl_takes_for_each_of_its_names() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let names =
        [dns("shop.example.com"), dns("*.wild.example"), dns("my_app.example"), LeafName::Ip([127, 0, 0, 1].into())];
    let names = [&names[..], &[LeafName::Ip("::1".parse().expect("an address"))]].concat();
    let issued = ca.issue_server_at(&names, LEAF_LIFE, now()).expect("issued");
    for host in ["shop.example.com", "a.wild.example", "my_app.example"] {
        verified(&ca, &issued, now(), &["-verify_hostname", host]);
    }
    for address in ["127.0.0.1", "::1"] {
        verified(&ca, &issued, now(), &["-verify_ip", address]);
    }
    let other = openssl(&ca, &issued.chain, now(), &["-verify_hostname", "other.example"]);
    assert!(!other.status.success());
    // Half an hour behind, and to the last second of the day.
    verified(&ca, &issued, certificate::later(now(), DAY - Duration::from_secs(1)), &[]);
    verified(&ca, &issued, now() - jiff::SignedDuration::from_mins(30), &[]);
    assert!(!openssl(&ca, &issued.chain, certificate::later(now(), DAY + DAY), &[]).status.success());
}

#[test]
fn a_name_too_long_for_a_common_name_still_has_its_certificate() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let name = format!("{}.{}.example", "a".repeat(63), "b".repeat(63));
    let issued = ca.issue_server_at(&[dns(&name)], LEAF_LIFE, now()).expect("issued");
    verified(&ca, &issued, now(), &["-verify_hostname", &name]);
    let (_, leaf) = parse_x509_certificate(&issued.chain[0]).expect("a certificate");
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(leaf.subject_alternative_name().expect("one").expect("present").critical, "RFC 5280 §4.2.1.6");
}

#[test]
fn a_leaf_says_what_it_is_for() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let issued = ca.issue_server_at(&[dns("shop.example.com")], LEAF_LIFE, now()).expect("issued");
    let (_, leaf) = parse_x509_certificate(&issued.chain[0]).expect("a certificate");
    let (_, intermediate) = parse_x509_certificate(&issued.chain[1]).expect("a certificate");

    let usage = leaf.key_usage().expect("one").expect("present");
    assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_cert_sign());
    let extended = leaf.extended_key_usage().expect("one").expect("present").value;
    assert!(extended.server_auth && !extended.client_auth && !extended.any);
    assert!(!leaf.is_ca());
    let constraints = intermediate.basic_constraints().expect("one").expect("present").value;
    assert_eq!((constraints.ca, constraints.path_len_constraint), (true, Some(0)));
    let root = ca.root_der();
    let (_, root) = parse_x509_certificate(&root).expect("a certificate");
    assert_eq!(root.basic_constraints().expect("one").expect("present").value.path_len_constraint, Some(2));

    let subject_key = |certificate: &x509_parser::certificate::X509Certificate<'_>| {
        certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
    };
    let authority_key = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    });
    assert!(subject_key(&leaf).is_some());
    assert_eq!(authority_key, subject_key(&intermediate));

    assert_eq!(leaf.validity().not_before.timestamp(), issued.not_before.as_second());
    assert_eq!(leaf.validity().not_after.timestamp(), issued.not_after.as_second());
    assert_eq!(issued.not_after.as_second(), now().as_second() + 24 * 3600);
    assert_eq!(issued.not_before.as_second(), now().as_second() - 3600);
}

#[test]
fn serials_are_positive_long_and_never_the_same() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let issued = ca.issue_server_at(&[dns("a.example")], LEAF_LIFE, now()).expect("issued");
        let (_, leaf) = parse_x509_certificate(&issued.chain[0]).expect("a certificate");
        assert_eq!(leaf.raw_serial().len(), 16);
        assert!(leaf.raw_serial()[0] & 0x80 == 0);
        assert_eq!(crate::model::certificate::hex(leaf.raw_serial()), issued.serial);
        assert!(seen.insert(issued.serial));
    }
}

#[test]
fn names_that_no_certificate_can_carry_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    assert_eq!(long.len(), 253);
    ca.issue_server_at(&[dns(&long)], LEAF_LIFE, now()).expect("just fits");
    let wild = format!("*.{}", &long[1..]);
    for name in
        [&format!("a{long}"), &wild, "*", "", "a..b", "a b", "bücher.example", "*.*.example", "https://a.example"]
    {
        let error = ca.issue_server_at(&[dns(name)], LEAF_LIFE, now()).expect_err(name);
        assert!(matches!(error, CaError::Name { .. }), "{name}: {error}");
    }
    assert!(matches!(ca.issue_server_at(&[], LEAF_LIFE, now()), Err(CaError::NoName)));
}

#[test]
fn a_ca_is_made_once_and_loaded_ever_after() {
    let dir = tempfile::tempdir().expect("tempdir");
    let first = open(&dir);
    let before = content(&dir);
    let second = open(&dir);
    assert_eq!(first.root_pem(), second.root_pem());
    assert_eq!(content(&dir), before);
    let subject = parse_x509_certificate(&first.root_der()).expect("a certificate").1.subject().to_string();
    assert!(subject.starts_with("CN=Portolan corp Root CA "), "{subject}");
    assert_eq!(fs::read_to_string(dir.path().join("root.pem")).expect("read"), first.root_pem());
    assert!(!first.root_pem().contains("PRIVATE"));

    for (file, mode) in [("root-key.pem", 0o600), ("intermediate-key.pem", 0o600), ("root.pem", 0o644)] {
        let found = fs::metadata(dir.path().join(file)).expect(file).permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
}

#[test]
fn those_who_open_it_first_at_once_agree_on_one_root() {
    let dir = tempfile::tempdir().expect("tempdir");
    let roots: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let openers: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&dir).root_pem())).collect();
        openers.into_iter().map(|opener| opener.join().expect("opened")).collect()
    });
    assert_eq!(roots.len(), 1);
}

#[test]
fn damaged_files_are_named_and_never_replaced() {
    let fresh = || {
        let dir = tempfile::tempdir().expect("tempdir");
        open(&dir);
        dir
    };
    let other = fresh();
    let foreign = |file: &str| fs::read_to_string(other.path().join(file)).expect("read");

    let dir = fresh();
    damage(&dir, "root-key.pem", |_| String::new());
    refused(&dir, "root-key.pem", "no readable key");

    let dir = fresh();
    damage(&dir, "root-key.pem", |text| text.split_inclusive("-----END PRIVATE KEY-----\n").take(1).collect());
    refused(&dir, "root-key.pem", "no readable certificate");

    // One character in the middle of the signature.
    let dir = fresh();
    damage(&dir, "root-key.pem", |text| {
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len() - 2];
        let flipped = if last.starts_with('A') { "B" } else { "A" };
        text.replace(last, &format!("{flipped}{}", &last[1..]))
    });
    refused(&dir, "root-key.pem", "did not sign");

    let dir = fresh();
    damage(&dir, "root-key.pem", |text| {
        let key = foreign("root-key.pem");
        let key = key.split_inclusive("-----END PRIVATE KEY-----\n").next().expect("a key").to_string();
        key + text.split_once("-----END PRIVATE KEY-----\n").expect("a certificate").1
    });
    refused(&dir, "root-key.pem", "do not belong together");

    let dir = fresh();
    damage(&dir, "root.pem", |_| foreign("root.pem"));
    refused(&dir, "root.pem", "is not the certificate");

    let dir = fresh();
    damage(&dir, "intermediate-key.pem", |_| foreign("intermediate-key.pem"));
    refused(&dir, "intermediate-key.pem", "root of this CA did not sign");

    let dir = fresh();
    fs::remove_file(dir.path().join("root-key.pem")).expect("removed");
    refused(&dir, "root-key.pem", "is missing");
}

#[test]
fn what_can_be_made_again_under_the_same_root_is() {
    let dir = tempfile::tempdir().expect("tempdir");
    let root = open(&dir).root_pem();
    fs::remove_file(dir.path().join("root.pem")).expect("removed");
    fs::remove_file(dir.path().join("intermediate-key.pem")).expect("removed");
    let ca = open(&dir);
    assert_eq!(ca.root_pem(), root);
    assert_eq!(fs::read_to_string(dir.path().join("root.pem")).expect("read"), root);
    let issued = ca.issue_server_at(&[dns("a.example")], LEAF_LIFE, now()).expect("issued");
    verified(&ca, &issued, now(), &["-verify_hostname", "a.example"]);
}

#[test]
fn an_intermediate_is_made_anew_when_two_thirds_of_its_life_are_over() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let first = ca.intermediate_not_after();
    assert_eq!(first.as_second(), days(365).as_second());
    ca.renew(days(243)).expect("renewed");
    assert_eq!(ca.intermediate_not_after(), first);

    let late = ca.issue_server_at(&[dns("a.example")], LEAF_LIFE, days(244)).expect("issued");
    assert_eq!(ca.intermediate_not_after().as_second(), days(244 + 365).as_second());
    verified(&ca, &late, days(244), &[]);
    let reopened = InternalCa::open_at(dir.path(), "corp", days(244)).expect("opened");
    assert_eq!(reopened.intermediate_not_after(), ca.intermediate_not_after());
}

#[test]
fn an_intermediate_outlives_what_it_signs() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let issued = ca.issue_server_at(&[dns("a.example")], DAY * 200, days(200)).expect("issued");
    assert_eq!(issued.not_after.as_second(), days(400).as_second());
    assert!(ca.intermediate_not_after() >= issued.not_after);
}

#[test]
fn a_leaf_that_asks_for_more_than_any_intermediate_lives_costs_no_new_one() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let held = ca.intermediate_not_after();
    let hour = certificate::later(now(), Duration::from_secs(3600));
    let issued = ca.issue_server_at(&[dns("a.example")], DAY * 1000, hour).expect("issued");
    assert_eq!((ca.intermediate_not_after(), issued.not_after), (held, held));
}

#[test]
fn a_renewal_by_another_process_is_taken_over() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (one, other) = (open(&dir), open(&dir));
    one.renew(days(250)).expect("renewed");
    let renewed = fs::read(dir.path().join("intermediate-key.pem")).expect("read");
    other.renew(days(251)).expect("renewed");
    assert_eq!(fs::read(dir.path().join("intermediate-key.pem")).expect("read"), renewed);
    assert_eq!(other.intermediate_not_after(), one.intermediate_not_after());
}

#[test]
fn an_aging_intermediate_goes_on_signing_while_it_cannot_be_replaced() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    fs::write(dir.path().join("intermediate-key.pem"), "damaged").expect("written");
    let issued = ca.issue_server_at(&[dns("a.example")], DAY * 2, days(364)).expect("issued");
    assert_eq!(issued.not_after, ca.intermediate_not_after());
    assert_eq!(fs::read(dir.path().join("intermediate-key.pem")).expect("read"), b"damaged");
    assert!(ca.issue_server_at(&[dns("a.example")], DAY, days(366)).is_err());
}

#[test]
fn nothing_outlives_the_root_and_an_expired_one_is_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let end = ca.root_not_after();
    let issued = ca.issue_server_at(&[dns("a.example")], DAY * 30, days(3650)).expect("issued");
    assert_eq!((issued.not_after, ca.intermediate_not_after()), (end, end));
    let held = fs::read(dir.path().join("intermediate-key.pem")).expect("read");
    ca.issue_server_at(&[dns("b.example")], DAY * 30, days(3651)).expect("issued");
    assert_eq!(fs::read(dir.path().join("intermediate-key.pem")).expect("read"), held, "made anew to no end");

    let error = ca.issue_server_at(&[dns("a.example")], DAY, days(3653)).expect_err("expired").to_string();
    assert!(error.contains("root.pem") && error.contains("expired"), "{error}");
    assert!(InternalCa::open_at(dir.path(), "corp", days(3653)).is_err());
}

#[test]
fn host_patterns_become_names() {
    let name = |raw: &str| LeafName::of(&raw.parse().expect(raw));
    assert_eq!(name("10.0.0.7"), Some(LeafName::Ip([10, 0, 0, 7].into())));
    assert_eq!(name("[::1]"), Some(LeafName::Ip("::1".parse().expect("an address"))));
    assert_eq!(name("*.Example.com"), Some(dns("*.example.com")));
    assert_eq!(name("*"), None);
}

#[test]
fn nothing_prints_a_key() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let issued = ca.issue_server_at(&[dns("a.example")], LEAF_LIFE, now()).expect("issued");
    for printed in [format!("{ca:?}"), format!("{:?}", issued.key)] {
        assert!(printed.contains("redacted") || printed.contains("elided"), "{printed}");
    }
}

fn client(uri: &str) -> LeafRequest {
    LeafRequest {
        names: vec![San::uri(uri).expect(uri)],
        common_name: None,
        purposes: Purposes { client: true, server: false },
    }
}

fn listed(dir: &TempDir) -> Vec<String> {
    let bytes = fs::read(dir.path().join("revoked.json")).expect("read");
    let list = DenyList::parse(&bytes).expect("a list");
    list.entries.into_iter().map(|entry| entry.certificate.serial).collect()
}

fn logged(dir: &TempDir) -> Vec<(log::Event, String)> {
    let bytes = fs::read(dir.path().join("log")).unwrap_or_default();
    let leaf = |line: &log::Line| matches!(line.event, log::Event::Issued | log::Event::Revoked);
    log::lines(&bytes).filter(leaf).map(|line| (line.event, line.certificate.serial)).collect()
}

#[test]
fn every_issue_to_a_person_is_on_record() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let request = LeafRequest {
        names: [San::dns("a.example"), San::ip("::1"), San::uri("spiffe://a/b"), San::email("a@b.example")]
            .map(|name| name.expect("valid"))
            .into(),
        common_name: Some("alice".into()),
        purposes: Purposes { client: true, server: true },
    };
    let issued = ca.issue(&request, DAY, now()).expect("issued");
    verified(&ca, &issued, now(), &["-purpose", "sslclient", "-verify_email", "a@b.example"]);
    verified(&ca, &issued, now(), &["-purpose", "sslserver", "-verify_hostname", "a.example"]);
    let bytes = fs::read(dir.path().join("log")).expect("read");
    let known = log::lines(&bytes).find(|line| line.event == log::Event::Issued).expect("a line").certificate;
    assert_eq!(known, Known::of(&issued.chain[0]).expect("a certificate"));
    assert_eq!((&known.serial, known.subject.as_str()), (&issued.serial, "CN=alice"));
    assert_eq!(known.names, ["DNS:a.example", "IP:::1", "URI:spiffe://a/b", "email:a@b.example"]);
    assert_eq!(known.not_after.as_second(), now().as_second() + 24 * 3600);
    // Those that a handshake asks for are not.
    ca.issue_server_at(&[dns("a.example")], DAY, now()).expect("issued");
    assert_eq!(logged(&dir), [(log::Event::Issued, issued.serial)]);
    assert_eq!(fs::metadata(dir.path().join("log")).expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_certificate_for_one_side_is_none_for_the_other() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let issued = ca.issue(&client("spiffe://a/b"), DAY, now()).expect("issued");
    verified(&ca, &issued, now(), &["-purpose", "sslclient"]);
    assert!(!openssl(&ca, &issued.chain, now(), &["-purpose", "sslserver"]).status.success());
    let error = ca.issue(&client("spiffe://a/b"), Duration::ZERO, now()).expect_err("no life");
    assert!(matches!(error, CaError::NoLife));
}

#[test]
fn what_cannot_be_recorded_is_not_issued() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    fs::remove_file(dir.path().join("log")).expect("removed");
    fs::create_dir(dir.path().join("log")).expect("made");
    let error = ca.issue(&client("spiffe://a/b"), DAY, now()).expect_err("no record").to_string();
    assert!(error.contains(&dir.path().join("log").display().to_string()), "{error}");
}

#[test]
fn a_certificate_is_revoked_by_serial_fingerprint_and_file_as_tools_show_them() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    assert_eq!(listed(&dir), [""; 0]);
    let colons = |hex: &str| {
        let pairs: Vec<&str> = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]).collect();
        pairs.join(":").to_uppercase()
    };
    let mut revoked = Vec::new();
    for (n, spelt) in ["serial", "SERIAL", "fingerprint", "file"].into_iter().enumerate() {
        let issued = ca.issue(&client(&format!("spiffe://a/{n}")), DAY, now()).expect("issued");
        let known = Known::of(&issued.chain[0]).expect("a certificate");
        let file = dir.path().join("x.pem");
        fs::write(&file, pem_text("CERTIFICATE", &issued.chain[0])).expect("written");
        let wanted = match spelt {
            "serial" => known.serial.clone(),
            "SERIAL" => format!("0x{}", known.serial.to_uppercase()),
            "fingerprint" => colons(&known.fingerprint),
            _ => file.display().to_string(),
        };
        let done = revoke(dir.path(), "corp", &wanted, now()).expect(&wanted);
        assert_eq!(done, Revocation { certificate: known, new: true });
        assert!(!revoke(dir.path(), "corp", &wanted, now()).expect(&wanted).new);
        revoked.push(issued.serial);
    }
    assert_eq!(listed(&dir), revoked);
    let events: Vec<String> =
        logged(&dir).into_iter().filter(|line| line.0 == log::Event::Revoked).map(|line| line.1).collect();
    assert_eq!(events, revoked);
}

#[test]
fn only_what_the_ca_has_issued_is_revoked() {
    let (dir, other) = (tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir"));
    let (ca, stranger) = (open(&dir), open(&other));
    let file = dir.path().join("x.pem");
    let write = |chain: &CertificateDer<'_>| fs::write(&file, pem_text("CERTIFICATE", chain)).expect("written");
    // On no record, but signed by the intermediate.
    let issued = ca.issue_server_at(&[dns("a.example")], DAY, now()).expect("issued");
    let path = file.display().to_string();
    write(&issued.chain[0]);
    assert!(revoke(dir.path(), "corp", &path, now()).expect("revoked").new);
    assert!(revoke(dir.path(), "corp", &issued.serial, now()).is_ok(), "on record now");
    write(&stranger.issue_server_at(&[dns("a.example")], DAY, now()).expect("issued").chain[0]);
    for (wanted, why) in [
        (path.as_str(), "was not issued by the internal CA \"corp\""),
        ("0123abcd", "no certificate 0123abcd in its log"),
        ("no-such-file", "cannot be read"),
        ("", "cannot be read"),
    ] {
        let error = revoke(dir.path(), "corp", wanted, now()).expect_err(wanted).to_string();
        assert!(error.contains(why), "{error}");
    }
    fs::write(&file, "garbage").expect("written");
    assert!(
        revoke(dir.path(), "corp", &path, now()).expect_err("garbage").to_string().contains("holds no certificate")
    );
    let nowhere = dir.path().join("nowhere");
    assert!(matches!(revoke(&nowhere, "corp", "01", now()), Err(CaError::NoCa { .. })));
    assert!(!nowhere.exists());
    assert_eq!(listed(&dir), [issued.serial]);
}

#[test]
fn a_revocation_is_kept_until_its_certificate_has_ended() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let short = ca.issue(&client("spiffe://a/short"), DAY, now()).expect("issued");
    let long = ca.issue(&client("spiffe://a/long"), DAY * 30, now()).expect("issued");
    revoke(dir.path(), "corp", &short.serial, now()).expect("revoked");
    revoke(dir.path(), "corp", &long.serial, days(1)).expect("revoked");
    assert_eq!(listed(&dir), [short.serial.clone(), long.serial.clone()], "a clock may be behind");
    let another = ca.issue(&client("spiffe://a/another"), DAY, days(3)).expect("issued");
    revoke(dir.path(), "corp", &another.serial, days(3)).expect("revoked");
    assert_eq!(listed(&dir), [long.serial, another.serial]);
}

#[test]
fn a_lost_list_is_made_anew_from_the_log_and_a_broken_one_is_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let issued = ca.issue(&client("spiffe://a/b"), DAY, now()).expect("issued");
    revoke(dir.path(), "corp", &issued.serial, now()).expect("revoked");
    let list = dir.path().join("revoked.json");
    fs::remove_file(&list).expect("removed");
    open(&dir);
    assert_eq!(listed(&dir), std::slice::from_ref(&issued.serial));
    fs::remove_file(&list).expect("removed");
    assert!(!revoke(dir.path(), "corp", &issued.serial, now()).expect("known").new);
    assert_eq!(listed(&dir), std::slice::from_ref(&issued.serial));

    for (text, why) in
        [("", "damaged"), ("{}", "damaged"), ("{\"version\":1}", "damaged"), ("{\"version\":2}", "version 2")]
    {
        fs::write(&list, text).expect("written");
        let error = revoke(dir.path(), "corp", &issued.serial, now()).expect_err(text).to_string();
        assert!(error.contains(&list.display().to_string()) && error.contains(why), "{error}");
        assert_eq!(fs::read_to_string(&list).expect("read"), text, "left alone");
    }
}

#[test]
fn a_revocation_needs_no_key() {
    let dir = tempfile::tempdir().expect("tempdir");
    let issued = open(&dir).issue(&client("spiffe://a/b"), DAY, now()).expect("issued");
    for file in ["root-key.pem", "intermediate-key.pem"] {
        fs::remove_file(dir.path().join(file)).expect("removed");
    }
    assert!(revoke(dir.path(), "corp", &issued.serial, now()).expect("revoked").new);
    assert_eq!(listed(&dir), [issued.serial]);
}

#[test]
fn those_who_write_at_once_lose_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let serials: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let one = |n: usize| {
            let issued = open(&dir).issue(&client(&format!("spiffe://a/{n}")), DAY, now()).expect("issued");
            revoke(dir.path(), "corp", &issued.serial, now()).expect("revoked");
            issued.serial
        };
        let writers: Vec<_> = (0..12).map(|n| scope.spawn(move || one(n))).collect();
        writers.into_iter().map(|writer| writer.join().expect("done")).collect()
    });
    assert_eq!(serials.len(), 12);
    assert_eq!(listed(&dir).into_iter().collect::<std::collections::BTreeSet<_>>(), serials);
    assert_eq!(logged(&dir).len(), 24);
}
