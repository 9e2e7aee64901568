//! Handshakes of a client that does everything wrong, and what each must come to.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use super::{Stage, python, table};

const CASES: &str = include_str!("hostile.txt");
/// The columns of the table, and where their cases are played: at a listener without client certificates, and at a host
/// whose policy requires one.
const PLACES: [&str; 2] = ["alone", "required"];

#[test]
fn a_hostile_handshake_gets_its_alert_and_the_next_client_is_served() {
    let stage = Stage::start();
    let mut wanted: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for row in table(CASES) {
        let [case, outcomes @ .., clause] = row.as_slice() else { panic!("{row:?}") };
        assert_eq!(outcomes.len(), PLACES.len(), "{row:?}");
        assert!(!clause.is_empty(), "{case} has no clause");
        for (place, outcome) in PLACES.into_iter().zip(outcomes).filter(|(_, outcome)| **outcome != "-") {
            assert!(wanted.insert((case, place), outcome).is_none(), "{case} stands twice");
        }
    }
    assert!(wanted.len() > 30, "only {} cases", wanted.len());
    let mut found = BTreeMap::new();
    for (case, place, outcome) in play(&stage, wanted.keys()) {
        found.insert((case, place), outcome);
    }
    let mut wrong: Vec<String> = Vec::new();
    for (&(case, place), outcome) in &wanted {
        let key = (case.to_string(), place.to_string());
        let said = found.remove(&key).unwrap_or_else(|| "was not played".into());
        // More than one where the specification leaves it open.
        if !outcome.split(" or ").any(|one| one == said) {
            wrong.push(format!("{case} at {place}: {said}, not {outcome}"));
        }
    }
    wrong.extend(found.into_iter().map(|((case, place), said)| format!("{case} at {place}: {said}, in no table")));
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), stage.portolan.log());
    let log = std::fs::read_to_string(stage.portolan.dir().join("stderr.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(stage.portolan.ready(), Ok(()));
}

/// What each case came to.
fn play<'c>(stage: &Stage, cases: impl Iterator<Item = &'c (&'c str, &'c str)>) -> Vec<(String, String, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy/tls_scan/hostile");
    let (https, guarded) = (stage.portolan.https, stage.guarded);
    let mut player = Command::new(python())
        // No compiled files beside the sources.
        .arg("-B")
        .arg(script)
        .arg(stage.dir.path())
        .arg(format!("alone={https}:open.test:"))
        .arg(format!("open={guarded}:open.test:"))
        .arg(format!("required={guarded}:required.test:web"))
        .arg(format!("other={guarded}:other.test:stranger"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = cases.map(|(case, place)| format!("{case} {place}\n")).collect();
    let mut input = player.stdin.take().unwrap();
    let writer = thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = player.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}\n{}", String::from_utf8_lossy(&output.stdout), stage.portolan.log());
    writer.join().unwrap().unwrap();
    let played = String::from_utf8(output.stdout).unwrap();
    let played = played.lines().map(|line| line.splitn(3, '\t').map(str::to_string).collect::<Vec<_>>());
    played.map(|row| <[String; 3]>::try_from(row).unwrap().into()).collect()
}
