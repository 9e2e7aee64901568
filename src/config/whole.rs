//! Whether a text may be taken for the whole of a file: one rule for all files that are read anew while they are in
//! force. Half a file must never be believed, since what is missing may be its policy.

/// Why it is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    Empty,
    CutOff,
}

/// `last` is what the file said when it was believed.
pub fn doubt(text: &str, last: Option<&str>) -> Option<Doubt> {
    if text.trim().is_empty() {
        return Some(Doubt::Empty);
    }
    let cut = |last: &str| text.len() < last.len() && last.starts_with(text) && last.trim_end() != text.trim_end();
    last.is_some_and(cut).then_some(Doubt::CutOff)
}

/// What to say of a file that is [`Doubt::CutOff`].
pub const CUT_OFF: &str = "it ends in the middle of what it said last, as a file does that is still being written; if \
                           that is meant, change something else in it as well";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_doubted_and_a_lost_last_newline_is_not() {
        let last = "a: 1\nb: 2\n";
        for (text, expected) in [
            ("", Some(Doubt::Empty)),
            (" \n", Some(Doubt::Empty)),
            ("a: 1\n", Some(Doubt::CutOff)),
            ("a: 1\nb", Some(Doubt::CutOff)),
            ("a: 1\nb: 2", None),
            (last, None),
            ("b: 2\n", None),
            ("a: 1\nb: 2\nc: 3\n", None),
        ] {
            assert_eq!(doubt(text, Some(last)), expected, "{text:?}");
        }
        assert_eq!(doubt("a: 1\n", None), None);
    }
}
