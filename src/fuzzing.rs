//! What must hold whatever comes in: one check a door at which bytes of strangers arrive.
//!
//! ```text
//! bytes ─▶ labels · rule · head · settings · certificates ─▶ returns, or panics with what does not hold
//! ```
//! The fuzz targets in `fuzz/` call these, and so does the test below with the kept corpus. Each check compares what the
//! code says with a slow reading, a round trip, or itself said twice; that nothing panics is the least of it.

pub use crate::config::fuzzing::check as settings;
pub use crate::provider::labels_fuzzing::check as labels;
pub use crate::provider::rule::fuzzing::check as rule;
pub use crate::proxy::fuzzing::check as head;
pub use crate::table::fuzzing::check as certificates;

/// Choices that follow from a seed: a linear congruence, so that a finding can be shrunk and run again.
#[derive(Debug)]
pub(crate) struct Picks(u64);

impl Picks {
    pub fn of(data: &[u8]) -> Picks {
        Picks(
            data.iter()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)),
        )
    }

    pub fn pick<'i, T>(&mut self, items: &'i [T]) -> Option<&'i T> {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.get((self.0 >> 33) as usize % items.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 5] =
        [("labels", labels), ("rule", rule), ("head", head), ("settings", settings), ("certificates", certificates)];

    /// What libFuzzer kept because it reached something new, and what it once found.
    #[test]
    fn the_kept_corpus_holds() {
        for (target, check) in TARGETS {
            let dir = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
            let files: Vec<_> =
                std::fs::read_dir(&dir).expect(&dir).map(|entry| entry.expect("an entry").path()).collect();
            assert!(files.len() > 10, "{dir} holds {} files", files.len());
            for file in files {
                let data = std::fs::read(&file).expect("readable");
                let held = std::panic::catch_unwind(|| check(&data));
                assert!(held.is_ok(), "{} does not hold", file.display());
            }
        }
    }
}
