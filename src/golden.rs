//! Golden cases, for tests alone: `tests/golden/<stage>/<case>/in.yaml` must give `out.yaml`, in any order of its input.
//!
//! `PORTOLAN_GOLDEN=write` writes the outputs anew; what changed in them is then to be read before it is committed.

use std::path::{Path, PathBuf};

/// Runs every case of a stage. `print` makes the output of an input file, with the input's lists reversed or not.
pub fn check(stage: &str, at_least: usize, print: impl Fn(&Path, bool) -> String) {
    let cases = cases(stage);
    assert!(cases.len() >= at_least, "the cases are not where they should be: {cases:?}");
    let write = std::env::var("PORTOLAN_GOLDEN").is_ok_and(|mode| mode == "write");
    let mut differ = Vec::new();
    for case in &cases {
        let input = case.join("in.yaml");
        let out = print(&input, false);
        assert_eq!(out, print(&input, true), "{}: the order of the input matters", case.display());
        let expected = case.join("out.yaml");
        if write {
            std::fs::write(&expected, &out).expect("writable");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != out {
            differ.push(format!("{}:\n{out}", case.display()));
        }
    }
    assert!(differ.is_empty(), "not as golden (PORTOLAN_GOLDEN=write writes them anew):\n{}", differ.join("\n"));
}

/// The cases of a stage, sorted.
pub fn cases(stage: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(stage);
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(&root).expect("cases").map(|entry| entry.expect("entry").path()).collect();
    cases.sort();
    cases
}
