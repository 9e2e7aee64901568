//! Text ─▶ tokens. Strings are Go's: `"…"` with escapes, or raw between backquotes.

use super::RuleError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lexeme<'r> {
    Name(&'r str),
    Text(String),
    Not,
    And,
    Or,
    Open,
    Close,
    Comma,
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token<'r> {
    /// The byte it starts at.
    pub at: usize,
    pub lexeme: Lexeme<'r>,
}

pub(super) struct Lexer<'r> {
    rule: &'r str,
    at: usize,
}

impl<'r> Lexer<'r> {
    pub fn new(rule: &'r str) -> Lexer<'r> {
        Lexer { rule, at: 0 }
    }

    pub fn next(&mut self) -> Result<Token<'r>, RuleError> {
        let rest = &self.rule[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        let at = self.at;
        let rest = &self.rule[at..];
        let Some(first) = rest.chars().next() else { return Ok(Token { at, lexeme: Lexeme::End }) };
        let (lexeme, length) = match first {
            '!' => (Lexeme::Not, 1),
            '(' => (Lexeme::Open, 1),
            ')' => (Lexeme::Close, 1),
            ',' => (Lexeme::Comma, 1),
            '&' if rest.starts_with("&&") => (Lexeme::And, 2),
            '|' if rest.starts_with("||") => (Lexeme::Or, 2),
            '&' | '|' => return Err(RuleError::new(at, format!("\"{first}\" is written twice: {first}{first}"))),
            '`' | '"' => {
                let (text, end) = string(self.rule, at)?;
                (Lexeme::Text(text), end - at)
            }
            '\'' | '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' | '\u{b4}' => {
                let why = format!("{first} quotes nothing in a rule; write the value as `…` or \"…\"");
                return Err(RuleError::new(at, why));
            }
            _ => match name(rest) {
                "" => return Err(RuleError::new(at, format!("{first:?} has no meaning in a rule"))),
                name => (Lexeme::Name(name), name.len()),
            },
        };
        self.at += length;
        Ok(Token { at, lexeme })
    }
}

/// The name that the text starts with, or nothing.
pub(super) fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}

/// The Go string that starts at byte `at`, and the byte after it.
pub(super) fn string(rule: &str, at: usize) -> Result<(String, usize), RuleError> {
    let unclosed = |quote: char| RuleError::new(at, format!("the value that starts here lacks its closing {quote}"));
    let rest = &rule[at + 1..];
    if rule.as_bytes()[at] == b'`' {
        let end = rest.find('`').ok_or_else(|| unclosed('`'))?;
        // Go drops carriage returns from raw strings.
        return Ok((rest[..end].replace('\r', ""), at + end + 2));
    }
    let mut value: Vec<u8> = Vec::new();
    let mut chars = rest.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => {
                let text = String::from_utf8(value)
                    .map_err(|_| RuleError::new(at, "the escapes of this value make no UTF-8 text"))?;
                return Ok((text, at + i + 2));
            }
            '\\' => {
                let length = escape(&rest[i + 1..], &mut value).ok_or_else(|| {
                    let why = "this is no escape; write \\\\ for a backslash, or put the value in backquotes";
                    RuleError::new(at + 1 + i, why)
                })?;
                // Every escape is ASCII: one character a byte.
                for _ in 0..length {
                    chars.next();
                }
            }
            '\n' => return Err(unclosed('"')),
            c => value.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Err(unclosed('"'))
}

/// Appends what an escape stands for; its length after the backslash.
fn escape(rest: &str, value: &mut Vec<u8>) -> Option<usize> {
    let digits = |from: usize, count: usize, radix: u32| {
        let digits = rest.get(from..from + count)?;
        digits.chars().all(|c| c.is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok())?
    };
    let first = *rest.as_bytes().first()?;
    let byte = match first {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => first,
        b'x' => {
            value.push(u8::try_from(digits(1, 2, 16)?).ok()?);
            return Some(3);
        }
        b'0'..=b'7' => {
            value.push(u8::try_from(digits(0, 3, 8)?).ok()?);
            return Some(3);
        }
        b'u' | b'U' => {
            let count = if first == b'u' { 4 } else { 8 };
            let c = char::from_u32(digits(1, count, 16)?)?;
            value.extend(c.encode_utf8(&mut [0; 4]).bytes());
            return Some(1 + count);
        }
        _ => return None,
    };
    value.push(byte);
    Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_strings_are_unquoted_as_go_does() {
        for (written, value) in [
            (r#""a\tb\\\"\x41\101\u00e9\U0001F600""#, "a\tb\\\"AA\u{e9}\u{1F600}"),
            (r#""\xc3\xa9""#, "\u{e9}"),
            (r"`^/\d+\.html$`", r"^/\d+\.html$"),
            ("`a\r\nb`", "a\nb"),
            ("\"\"", ""),
            ("\"é\"", "é"),
        ] {
            assert_eq!(string(written, 0).map_err(|e| e.why), Ok((value.to_string(), written.len())), "{written}");
        }
    }

    #[test]
    fn what_is_no_go_string_says_why() {
        for (written, at, why) in [
            (r#""a\d""#, 2, "no escape"),
            (r#""\'""#, 1, "no escape"),
            (r#""\xé""#, 1, "no escape"),
            (r#""\x4""#, 1, "no escape"),
            (r#""\400""#, 1, "no escape"),
            (r#""\uD800""#, 1, "no escape"),
            (r#""\xff""#, 0, "UTF-8"),
            ("\"a\nb\"", 0, "closing \""),
            ("\"a", 0, "closing \""),
            ("\"a\\", 2, "no escape"),
            ("`a", 0, "closing `"),
        ] {
            let error = string(written, 0).expect_err(written);
            assert!(error.at == at && error.why.contains(why), "{written}: {error:?}");
        }
    }
}
