//! The matchers of the grammar: their names, how many values each takes, and the test that each stands for.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::host::HostPattern;
use crate::model::nets;
use crate::model::path::PathMatch;
use crate::model::pattern::Pattern;
use crate::model::predicate::Test;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matcher {
    Host,
    HostRegexp,
    Path,
    PathPrefix,
    PathRegexp,
    Method,
    ClientIp,
    Header,
    HeaderRegexp,
    Query,
    QueryRegexp,
}

const MATCHERS: [(&str, Matcher); 11] = [
    ("Host", Matcher::Host),
    ("HostRegexp", Matcher::HostRegexp),
    ("Path", Matcher::Path),
    ("PathPrefix", Matcher::PathPrefix),
    ("PathRegexp", Matcher::PathRegexp),
    ("Method", Matcher::Method),
    ("ClientIP", Matcher::ClientIp),
    ("Header", Matcher::Header),
    ("HeaderRegexp", Matcher::HeaderRegexp),
    ("Query", Matcher::Query),
    ("QueryRegexp", Matcher::QueryRegexp),
];

impl Matcher {
    /// Canonical, all lower, all upper, or the first letter alone upper.
    pub fn named(written: &str) -> Result<Matcher, String> {
        let spelt = |canonical: &str| {
            let title = written.get(1..).is_some_and(|rest| rest == &canonical.to_ascii_lowercase()[1..]);
            written == canonical
                || written == canonical.to_ascii_lowercase()
                || written == canonical.to_ascii_uppercase()
                || (title && written[..1] == canonical[..1])
        };
        if let Some((_, matcher)) = MATCHERS.iter().find(|(canonical, _)| spelt(canonical)) {
            return Ok(*matcher);
        }
        Err(match written.to_ascii_lowercase().as_str() {
            "hostsni" => format!("{written} is for tcp_routes; a rule for HTTP says Host(`…`)"),
            "hostsniregexp" => format!("{written} is for tcp_routes; a rule for HTTP says HostRegexp(`…`)"),
            "alpn" => format!("{written} is for tcp_routes; there is nothing like it in a rule for HTTP"),
            "hostheader" => format!("{written} was Traefik v2's; v3 says Host(`…`)"),
            "headers" => format!("{written} was Traefik v2's; v3 says Header(`name`, `value`)"),
            "headersregexp" => format!("{written} was Traefik v2's; v3 says HeaderRegexp(`name`, `expression`)"),
            "and" => format!("{written} is no matcher; \"and\" is written &&"),
            "or" => format!("{written} is no matcher; \"or\" is written ||"),
            "not" => format!("{written} is no matcher; \"not\" is written !"),
            lower => match nearest(lower) {
                Some(near) => format!("there is no matcher {written}; did you mean {near}?"),
                None => format!("there is no matcher {written}; known are {}", known().join(", ")),
            },
        })
    }

    pub fn is_pattern(self) -> bool {
        matches!(self, Matcher::HostRegexp | Matcher::PathRegexp | Matcher::HeaderRegexp | Matcher::QueryRegexp)
    }

    pub fn test(self, values: &[String]) -> Result<Test, String> {
        let name = self.name();
        let (least, most) = self.arity();
        if values.len() > most && most == 1 && values.len() <= 16 {
            let each: Vec<String> = values.iter().map(|value| format!("{name}(`{value}`)")).collect();
            return Err(format!("{name} takes one value since Traefik v3; write ({})", each.join(" || ")));
        }
        if values.len() < least || values.len() > most {
            let wanted = match (least, most) {
                (1, 1) => "one value",
                (2, 2) => "two values, a name and what it is compared with",
                _ => "a name, and perhaps what it is compared with",
            };
            return Err(format!("{name} takes {wanted}; here are {}", values.len()));
        }
        if values.iter().any(String::is_empty) {
            return Err(format!("a value of {name} is empty, and nothing would match it"));
        }
        match (self, values) {
            (Matcher::Host, [host]) => self::host(host).map(Test::Host),
            (Matcher::HostRegexp, [text]) if !text.is_ascii() => {
                Err(format!("\"{text}\" has letters that no host has; write an international name in its xn-- form"))
            }
            (Matcher::HostRegexp, [text]) => pattern(text).map(Test::HostRegex),
            (Matcher::Path, [path]) => PathMatch::exact(path).map(Test::Path),
            (Matcher::PathPrefix, [path]) => PathMatch::string_prefix(path).map(Test::Path),
            (Matcher::PathRegexp, [text]) => pattern(text).map(Test::PathRegex),
            (Matcher::Method, [method]) => self::method(method).map(|method| Test::Method(BTreeSet::from([method]))),
            (Matcher::ClientIp, [client]) => nets::parse(client).map(|net| Test::Clients(BTreeSet::from([net]))),
            (Matcher::Header, [name, value]) => {
                header_name(name).map(|name| Test::Header { name, value: value.as_str().into() })
            }
            (Matcher::HeaderRegexp, [name, text]) => {
                header_name(name).and_then(|name| Ok(Test::HeaderRegex { name, value: pattern(text)? }))
            }
            (Matcher::QueryRegexp, [name, text]) => {
                pattern(text).map(|value| Test::QueryRegex { name: name.as_str().into(), value })
            }
            // Traefik reads both with a name alone as "given with an empty value".
            (Matcher::Query | Matcher::QueryRegexp, [name, rest @ ..]) => {
                let value = rest.first().map(String::as_str).unwrap_or_default().into();
                Ok(Test::Query { name: name.as_str().into(), value })
            }
            _ => Err(format!("{name} does not take these values")),
        }
    }

    fn name(self) -> &'static str {
        MATCHERS.iter().find(|(_, matcher)| *matcher == self).map_or("", |(name, _)| name)
    }

    fn arity(self) -> (usize, usize) {
        match self {
            Matcher::Header | Matcher::HeaderRegexp => (2, 2),
            Matcher::Query | Matcher::QueryRegexp => (1, 2),
            _ => (1, 1),
        }
    }
}

/// The known matcher that a misspelt one, in lower case, most likely meant.
pub(super) fn nearest(lower: &str) -> Option<&'static str> {
    known()
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(lower, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

fn known() -> [&'static str; 11] {
    MATCHERS.map(|(name, _)| name)
}

fn host(raw: &str) -> Result<HostPattern, String> {
    let host: HostPattern = raw.parse()?;
    if host == HostPattern::Any && raw != "*" {
        return Err(format!("\"{raw}\" is not a host name; any host is written Host(`*`)"));
    }
    Ok(host)
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|why| match text.contains('{') && text.contains(':') {
        true => format!("{why}; Traefik v2's {{name:expression}} is the expression alone in v3"),
        false => why,
    })
}

/// A method in upper case.
pub(in crate::provider) fn method(raw: &str) -> Result<Arc<str>, String> {
    if !is_token(raw) {
        return Err(format!("\"{raw}\" is no method; write one, such as GET or POST"));
    }
    Ok(raw.to_ascii_uppercase().into())
}

/// A header's name in lower case.
pub(in crate::provider) fn header_name(raw: &str) -> Result<Arc<str>, String> {
    if !is_token(raw) {
        return Err(format!("\"{raw}\" is no header name: letters, digits and hyphens"));
    }
    if raw.eq_ignore_ascii_case("host") {
        return Err("Host is no header like the others: h2 has none; say it with host, or Host(`…`) in a rule".into());
    }
    Ok(raw.to_ascii_lowercase().into())
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
