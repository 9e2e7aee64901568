//! The hosts that a rule names although it cannot be read: what is closed in its place.
//!
//! Only what stands for itself counts. A host below a `!` is one that the rule does not want: to close that one would
//! leave open whatever the rule was meant for.

use std::collections::BTreeSet;

use crate::model::host::HostPattern;

use super::{LENGTH, lexer, matcher};

/// Sorted. Empty where nothing surely is a host: then its author closes everything that is theirs.
pub fn literal_hosts(rule: &str) -> Vec<HostPattern> {
    if rule.len() > LENGTH {
        return Vec::new();
    }
    let mut found = Found::default();
    let mut groups: Vec<bool> = Vec::new();
    let (mut negated, mut pending) = (false, false);
    let mut at = 0;
    while let Some(first) = rule[at..].chars().next() {
        let name = lexer::name(&rule[at..]);
        if !name.is_empty() {
            at += name.len();
            let gap = rule[at..].len() - rule[at..].trim_start().len();
            if rule[at + gap..].starts_with('(') {
                let (values, end) = values(rule, at + gap + 1);
                if negated == pending {
                    found.call(name, &values);
                }
                at = end;
            }
            pending = false;
            continue;
        }
        match first {
            '!' => pending = !pending,
            '(' => {
                groups.push(negated);
                negated ^= pending;
                pending = false;
            }
            ')' => {
                negated = groups.pop().unwrap_or(false);
                pending = false;
            }
            first if first.is_whitespace() => {}
            _ => pending = false,
        }
        at = match first {
            '`' | '"' => lexer::string(rule, at).map_or(at + 1, |(_, end)| end),
            first => at + first.len_utf8(),
        };
    }
    found.hosts()
}

/// What stands between the parentheses of a call, however it is quoted, and where the call ends.
fn values(rule: &str, from: usize) -> (Vec<String>, usize) {
    let mut values = Vec::new();
    let mut bare = String::new();
    let mut at = from;
    while let Some(c) = rule[at..].chars().next() {
        if c == ')' {
            at += 1;
            break;
        }
        if matches!(c, '`' | '"')
            && let Ok((value, end)) = lexer::string(rule, at)
        {
            values.extend([std::mem::take(&mut bare), value]);
            at = end;
            continue;
        }
        // The next call: this one was never closed.
        if c == '(' && !bare.is_empty() {
            return (values, at - bare.len());
        }
        if c == '!' {
            break;
        }
        at += c.len_utf8();
        if c.is_alphanumeric() || "-_.*:/[]".contains(c) {
            bare.push(c);
        } else {
            values.push(std::mem::take(&mut bare));
        }
    }
    values.push(bare);
    (values, at)
}

#[derive(Default)]
struct Found {
    sure: BTreeSet<HostPattern>,
    /// Values of matchers that nobody knows: they are closed too where the rule has a host besides.
    perhaps: BTreeSet<HostPattern>,
}

impl Found {
    fn call(&mut self, name: &str, values: &[String]) {
        let name = name.to_ascii_lowercase();
        if name.contains("regex") {
            return;
        }
        let sure = name.starts_with("host") || matcher::nearest(&name) == Some("Host");
        if !sure && matcher::nearest(&name).is_some() {
            return;
        }
        let set = if sure { &mut self.sure } else { &mut self.perhaps };
        for value in values {
            match value.parse() {
                Ok(host) => {
                    set.insert(host);
                }
                // A host with a port, a scheme or a path; several in one value.
                Err(_) => set.extend(
                    value
                        .split([' ', ',', ';', ':', '/'])
                        .filter(|part| part.contains('.'))
                        .filter_map(|part| part.parse().ok()),
                ),
            }
        }
    }

    fn hosts(self) -> Vec<HostPattern> {
        if self.sure.is_empty() {
            return Vec::new();
        }
        self.sure.union(&self.perhaps).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_however_they_are_written() {
        for (rule, hosts) in [
            ("Host(`a.example`) && Bad(", "a.example"),
            ("HOST ( \"A.example\" ) &", "a.example"),
            ("hOsT(`a.example`)", "a.example"),
            ("Host(`a.example`,`b.example`)", "a.example b.example"),
            ("Host('a.example')", "a.example"),
            ("Host(a.example)", "a.example"),
            ("Host(`a.example)", "a.example"),
            ("Host(\u{201c}a.example\u{201d})", "a.example"),
            (r#"Host("\x61.example") && Nope"#, "a.example"),
            // Rather one too many than none.
            (r#"Host("a.ex\dample", "b.example")"#, "a.ex b.example dample"),
            ("Host(`a.example` && Host(`b.example`)", "a.example b.example"),
            ("Host(`a.example` && !Host(`b.example`)", "a.example"),
            ("HostSNI(`a.example`)", "a.example"),
            ("HostHeader(`a.example`)", "a.example"),
            ("Hots(`a.example`)", "a.example"),
            ("Host(`https://a.example/x`)", "a.example"),
            ("Host(`a.example:8443`)", "a.example"),
            ("Host(`a.example, b.example`)", "a.example b.example"),
            ("Host(`*.a.example`) && Header(`x`)", "*.a.example"),
            ("Host(`localhost`) &&", "localhost"),
            ("Host(`a.example`) || Domain(`b.example`)", "a.example b.example"),
            ("PathPrefix(`Host(x.example)`) && Host(`a.example`", "a.example"),
        ] {
            let found: Vec<String> = literal_hosts(rule).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), hosts, "{rule}");
        }
    }

    #[test]
    fn a_host_that_the_rule_does_not_want_is_none_that_it_names() {
        for (rule, hosts) in [
            ("!Host(`a.example`) && Bad(", ""),
            ("! ( Host(`a.example`) || Host(`b.example`) && Bad", ""),
            ("!!Host(`a.example`) && Bad", "a.example"),
            ("!(!Host(`a.example`)) && Host(`b.example`, `c.example`)", "a.example b.example c.example"),
            ("!PathPrefix(`/x`) && Host(`a.example`", "a.example"),
            ("!(Path(`/x`)) && Host(`a.example`", "a.example"),
        ] {
            let found: Vec<String> = literal_hosts(rule).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), hosts, "{rule}");
        }
    }

    #[test]
    fn what_is_no_host_is_not_taken_for_one() {
        for rule in [
            "",
            "Path(`/a`)",
            "Method(`GET`) && Pth(`/a.b`)",
            "HostRegexp(`a.example`) &&",
            "Header(`X-Host`, `a.example`) &",
            "Host(`b\u{fc}cher.example`)",
            "Domain(`b.example`)",
            "a.example",
            "Host(``)",
        ] {
            assert_eq!(literal_hosts(rule), [], "{rule}");
        }
    }
}
