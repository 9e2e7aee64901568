//! Regular expressions as users write them, compiled once.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// A regular expression in RE2's syntax that has been compiled: linear in its subject, whatever it says. Two patterns
/// are equal where their texts are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: Arc<str>,
    regex: Regex,
}

/// What one expression may compile to; counted repetitions of repetitions grow without end.
const SIZE: usize = 1 << 20;

impl Pattern {
    /// Matches anywhere in its subject, unless the text itself says `^` or `$`.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let regex = RegexBuilder::new(text).size_limit(SIZE).build().map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("\"{text}\" grows too large; write it with fewer repetitions"),
            error => format!("\"{text}\" is not a regular expression: {}", last_line(&error.to_string())),
        })?;
        Ok(Pattern { text: text.into(), regex })
    }

    /// Matches its subject from end to end.
    pub fn anchored(text: &str) -> Result<Pattern, String> {
        // Alone first: "a)(b" is no expression, though it would be one within the brackets.
        Pattern::new(text)?;
        Pattern::new(&format!("^(?:{text})$"))
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_match(&self, subject: &[u8]) -> bool {
        self.regex.is_match(subject)
    }
}

/// The library draws the place with lines of carets; the last line says what is wrong.
fn last_line(error: &str) -> &str {
    error.lines().last().unwrap_or(error).trim_start_matches("error: ")
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Pattern, String> {
        Pattern::new(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.text.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchored_pattern_matches_the_whole_and_no_part() {
        let pattern = Pattern::anchored("/a|/b").expect("valid");
        assert!(pattern.is_match(b"/a") && pattern.is_match(b"/b"));
        assert!(!pattern.is_match(b"/ab") && !pattern.is_match(b"x/b"));
        assert!(Pattern::new("/a").expect("valid").is_match(b"x/ab"));
    }

    #[test]
    fn what_is_no_expression_says_why() {
        for text in ["a(", "a)(b", "(?=x)", "x{1000}{1000}{1000}"] {
            let why = Pattern::anchored(text).expect_err(text);
            assert!(why.starts_with(&format!("\"{text}\"")) && !why.contains('\n'), "{why}");
        }
    }
}
