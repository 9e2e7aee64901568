use super::*;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn turned(dir: &TempDir, overlap: Duration, at: Timestamp) -> Rotation {
    rotate(dir.path(), "corp", &CaOptions::default(), overlap, at).expect("rotated")
}

fn serial(root: &[u8]) -> String {
    Known::of(root).expect("a certificate").serial
}

/// What openssl, which knows these roots alone, says of a chain at a moment. As strict as it can be.
fn accepted(root: &[u8], chain: &[CertificateDer<'_>], at: Timestamp) -> bool {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = |name: &str, certificates: &[&[u8]]| {
        let path = dir.path().join(name);
        let text: String = certificates.iter().map(|der| pem_text("CERTIFICATE", der)).collect();
        fs::write(&path, text).expect("written");
        path
    };
    let rest: Vec<&[u8]> = chain[1..].iter().map(|der| &**der).collect();
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-attime", &at.as_second().to_string(), "-CAfile"])
        .arg(file("root.pem", &[root]))
        .arg("-untrusted")
        .arg(file("rest.pem", &rest))
        .arg(file("leaf.pem", &[&chain[0]]))
        .output()
        .expect("openssl is installed");
    output.status.success()
}

#[test]
fn who_knows_either_root_alone_verifies_what_the_new_one_signs_until_the_overlap_ends() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let old = ca.root_der();
    let before = ca.issue(&client("spiffe://a/before"), DAY * 30, now()).expect("issued");
    let rotation = turned(&dir, WEEK, days(1));
    let (new, until) = (open(&dir).root_der(), days(8));
    assert_eq!((&rotation.old.serial, &rotation.new.serial), (&serial(&old), &serial(&new)));
    assert_eq!((rotation.until, ca.root_der()), (until, old.clone()), "not seen yet");
    assert_eq!(rotation.cut_short.iter().map(|known| known.serial.clone()).collect::<Vec<_>>(), [before.serial]);

    let counted = ca.roots();
    ca.follow(days(1)).expect("followed");
    assert!(ca.roots() > counted);
    assert_eq!(ca.trusted(days(1)), [new.clone(), old.clone()]);
    assert_eq!(ca.trusted_pem(days(8)), ca.root_pem());
    assert_eq!([days(1), days(8)].map(|at| ca.next_end(at)), [Some(until), None]);
    let after = ca.issue_server_at(&[dns("a.example")], DAY * 30, days(2)).expect("issued");
    assert_eq!(after.chain.len(), 3);
    assert_eq!(after.renewal, until, "its chain is another from then on");
    assert!(accepted(&old, &after.chain, days(3)) && accepted(&new, &after.chain, days(3)));
    // A client whose certificate was made before.
    assert!(accepted(&old, &before.chain, days(3)) && !accepted(&new, &before.chain, days(3)));
    assert!(!accepted(&old, &after.chain, days(9)) && accepted(&new, &after.chain, days(9)));
    let late = ca.issue_server_at(&[dns("a.example")], DAY, days(9)).expect("issued");
    assert_eq!(late.chain.len(), 2);
    assert!(accepted(&new, &late.chain, days(9)));
}

#[test]
fn a_cross_is_the_new_root_in_name_and_key_and_no_longer_than_the_path_allows() {
    let dir = tempfile::tempdir().expect("tempdir");
    let old = open(&dir).root_der();
    turned(&dir, WEEK, now());
    let ca = open(&dir);
    let (new, issued) = (ca.root_der(), ca.issue_server_at(&[dns("a.example")], DAY, now()).expect("issued"));
    let read = |der| parse_x509_certificate(der).expect("a certificate").1;
    let (old, new, cross) = (read(&old), read(&new), read(&issued.chain[2]));
    assert_eq!(cross.subject().as_raw(), new.subject().as_raw());
    assert_eq!(cross.public_key().raw, new.public_key().raw);
    assert_eq!(cross.issuer().as_raw(), old.subject().as_raw());
    assert_eq!(cross.basic_constraints().expect("one").expect("present").value.path_len_constraint, Some(1));
    assert_eq!(cross.validity().not_after.timestamp(), certificate::later(now(), WEEK).as_second());
}

#[test]
fn a_second_rotation_waits_for_the_first_or_ends_all_overlaps() {
    let dir = tempfile::tempdir().expect("tempdir");
    let first = open(&dir).root_der();
    turned(&dir, WEEK, now());
    let error = rotate(dir.path(), "corp", &CaOptions::default(), DAY, days(1)).expect_err("too early").to_string();
    assert!(error.contains("--overlap 0s") && error.contains(&days(7).to_string()), "{error}");
    let second = open(&dir).root_der();
    turned(&dir, Duration::ZERO, days(1));
    let ca = open(&dir);
    assert_eq!(ca.trusted(days(1)), [ca.root_der()]);
    assert!(ca.root_der() != second && second != first);
    let issued = ca.issue_server_at(&[dns("a.example")], DAY, days(1)).expect("issued");
    assert_eq!(issued.chain.len(), 2);
    for root in [&first, &second] {
        assert!(!accepted(root, &issued.chain, days(1)));
    }
    // And from then on as ever.
    turned(&dir, WEEK, days(2));
    assert_eq!(open(&dir).trusted(days(3)).len(), 2);
}

#[test]
fn a_root_that_has_ended_gives_way_without_an_overlap() {
    let dir = tempfile::tempdir().expect("tempdir");
    open(&dir);
    let late = days(3700);
    let error = InternalCa::open_at(dir.path(), "corp", late).expect_err("expired").to_string();
    assert!(error.contains("portolan ca rotate"), "{error}");
    turned(&dir, WEEK, late);
    let ca = InternalCa::open_at(dir.path(), "corp", late).expect("opened");
    assert_eq!(ca.trusted(late), [ca.root_der()]);
    assert_eq!(ca.issue_server_at(&[dns("a.example")], DAY, late).expect("issued").chain.len(), 2);
}

#[test]
fn every_root_and_intermediate_is_a_line_of_the_log() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let first = serial(&ca.root_der());
    ca.renew(days(300)).expect("renewed");
    let rotation = turned(&dir, WEEK, days(301));
    let bytes = fs::read(dir.path().join("log")).expect("read");
    let lines: Vec<log::Line> = log::lines(&bytes).collect();
    use log::Event::{IntermediateCreated, RootCreated, RootRotated};
    let events: Vec<log::Event> = lines.iter().map(|line| line.event).collect();
    assert_eq!(events, [RootCreated, IntermediateCreated, IntermediateCreated, RootRotated, IntermediateCreated]);
    assert_eq!(lines[0].certificate.serial, first);
    let turn = &lines[3];
    assert_eq!(
        (&turn.certificate.serial, turn.replaces.as_ref(), turn.until),
        (&rotation.new.serial, Some(&first), Some(days(308)))
    );
    // They are nothing to be revoked by number.
    for line in &lines {
        let error = super::super::revoke(dir.path(), "corp", &line.certificate.serial, days(301)).expect_err("no leaf");
        assert!(matches!(error, CaError::NotIssued { .. }), "{error}");
    }
}

/// Wherever a crash comes, the files say either root, and the next who opens the CA makes the rest anew.
#[test]
fn a_rotation_that_was_cut_short_is_taken_back_or_ended() {
    let files = ["retired.json", "root-key.pem", "intermediate-key.pem", "root.pem"];
    for done in 0..=files.len() {
        let dir = tempfile::tempdir().expect("tempdir");
        let old = open(&dir).root_der();
        let before = content(&dir);
        turned(&dir, WEEK, now());
        let new = Known::of(&open(&dir).root_der()).expect("a certificate");
        for (file, bytes) in before.iter().filter(|(file, _)| files[done..].contains(&file.as_str())) {
            fs::write(dir.path().join(file), bytes).expect("written");
        }
        let ca = open(&dir);
        let wanted = if done < 2 { serial(&old) } else { new.serial };
        assert_eq!(serial(&ca.root_der()), wanted, "{done}");
        let issued = ca.issue_server_at(&[dns("a.example")], DAY, now()).expect("issued");
        assert!(accepted(&old, &issued.chain, now()) && accepted(&ca.root_der(), &issued.chain, now()), "{done}");
        assert_eq!(ca.trusted(now()).len(), if done < 2 { 1 } else { 2 });
        assert_eq!(fs::read_to_string(dir.path().join("root.pem")).expect("read"), ca.root_pem());
        let settled = content(&dir);
        open(&dir);
        assert_eq!(content(&dir), settled, "{done}: nothing is left to be done");
        if done < 2 {
            turned(&dir, WEEK, now());
        }
    }
}

#[test]
fn what_was_revoked_stays_so_and_old_certificates_can_be_revoked() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = open(&dir);
    let early = ca.issue(&client("spiffe://a/early"), DAY * 30, now()).expect("issued");
    let late = ca.issue(&client("spiffe://a/late"), DAY * 30, now()).expect("issued");
    let unrecorded = ca.issue_server_at(&[dns("a.example")], DAY * 30, now()).expect("issued");
    super::super::revoke(dir.path(), "corp", &early.serial, now()).expect("revoked");
    turned(&dir, WEEK, now());
    super::super::revoke(dir.path(), "corp", &late.serial, now()).expect("revoked");
    // On no record, and signed by an intermediate that is gone: the file proves it.
    let file = dir.path().join("x.pem");
    let chain: String = unrecorded.chain.iter().map(|der| pem_text("CERTIFICATE", der)).collect();
    fs::write(&file, &chain).expect("written");
    super::super::revoke(dir.path(), "corp", &file.display().to_string(), now()).expect("revoked");
    assert_eq!(listed(&dir), [early.serial, late.serial, unrecorded.serial]);
    let stranger = tempfile::tempdir().expect("tempdir");
    let foreign = open(&stranger).issue_server_at(&[dns("a.example")], DAY, now()).expect("issued");
    let chain: String = foreign.chain.iter().map(|der| pem_text("CERTIFICATE", der)).collect();
    fs::write(&file, chain).expect("written");
    assert!(super::super::revoke(dir.path(), "corp", &file.display().to_string(), now()).is_err());
}

#[test]
fn an_intermediate_lives_as_long_as_the_settings_say() {
    let dir = tempfile::tempdir().expect("tempdir");
    let hours = |count: u64| certificate::later(now(), Duration::from_secs(3600 * count));
    let options = CaOptions { leaf_life: DAY / 24, intermediate_life: DAY / 4, ..CaOptions::default() };
    let with = |options: &CaOptions, at| InternalCa::open_with(dir.path(), "corp", options, at).expect("opened");
    let ca = with(&options, now());
    assert_eq!(ca.intermediate_not_after().as_second(), hours(6).as_second());
    ca.renew(hours(3)).expect("renewed");
    assert_eq!(ca.intermediate_not_after().as_second(), hours(6).as_second());
    ca.renew(hours(4)).expect("renewed");
    assert_eq!(ca.intermediate_not_after().as_second(), hours(10).as_second());
    let issued = ca.issue_server_at(&[dns("a.example")], DAY, hours(5)).expect("issued");
    assert!(issued.not_after <= ca.intermediate_not_after());
    // Longer from now on.
    assert_eq!(
        with(&CaOptions::default(), hours(5)).intermediate_not_after().as_second(),
        hours(5 + 365 * 24).as_second()
    );
}
