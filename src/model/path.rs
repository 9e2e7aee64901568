//! Paths: what a route claims, and the one spelling in which claims and requests are compared.
//!
//! ```text
//! request target ─▶ resolve_dots ─▶ forwarded as it is ─▶ match_key ─▶ compared with PathMatch
//!                                                            └─▶ regex_subject ─▶ Test::PathRegex
//! ```
//! RFC 3986 §5.2.4 (dot segments), §6.2.2 (equivalent spellings).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A claim on paths, in the spelling of [`match_key`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    Exact(Arc<str>),
    /// By whole segments: `/foo` matches `/foo`, `/foo/` and `/foo/x`, never `/foobar`. No trailing slash; `/` is the
    /// empty prefix.
    Prefix(Arc<str>),
    /// By characters, as Traefik's `PathPrefix` has it: `/foo` matches `/foobar` too.
    StringPrefix(Arc<str>),
}

impl PathMatch {
    pub fn everything() -> PathMatch {
        PathMatch::Prefix("/".into())
    }

    pub fn prefix(raw: &str) -> Result<PathMatch, String> {
        let path = configured(raw)?;
        let trimmed = path.trim_end_matches('/');
        Ok(PathMatch::Prefix(if trimmed.is_empty() { "/".into() } else { trimmed.into() }))
    }

    pub fn exact(raw: &str) -> Result<PathMatch, String> {
        configured(raw).map(|path| PathMatch::Exact(path.into()))
    }

    /// By characters, so the last segment may be any beginning of one, dots included.
    pub fn string_prefix(raw: &str) -> Result<PathMatch, String> {
        check(raw)?;
        if let Some((whole, _)) = raw.rsplit_once('/')
            && whole.split('/').any(|segment| dots(segment) > 0)
        {
            return Err(format!("\"{raw}\" has a dot segment, which no request has left when it is matched"));
        }
        let broken = raw.bytes().enumerate().any(|(i, b)| b == b'%' && escape(raw.as_bytes(), i).is_none());
        if broken {
            return Err(format!("\"{raw}\" ends within an escape, or has one that is none; write % itself as %25"));
        }
        Ok(PathMatch::StringPrefix(match_key(raw).into()))
    }

    /// Whether every path that `other` matches is matched by this claim.
    pub fn covers(&self, other: &PathMatch) -> bool {
        if self.is_everything() {
            return true;
        }
        match (self, other) {
            (PathMatch::Prefix(a), PathMatch::Prefix(b) | PathMatch::Exact(b)) => prefix_matches(a, b),
            (PathMatch::StringPrefix(a), PathMatch::StringPrefix(b) | PathMatch::Prefix(b) | PathMatch::Exact(b)) => {
                b.starts_with(&**a)
            }
            (a, b) => a == b,
        }
    }

    pub fn matches(&self, key: &str) -> bool {
        match self {
            PathMatch::Exact(path) => **path == *key,
            PathMatch::Prefix(path) => prefix_matches(path, key),
            PathMatch::StringPrefix(path) => key.starts_with(&**path),
        }
    }

    /// A claim on everything below the root says nothing about the path.
    pub fn is_everything(&self) -> bool {
        matches!(self, PathMatch::Prefix(path) | PathMatch::StringPrefix(path) if &**path == "/")
    }
}

fn prefix_matches(prefix: &str, path: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathMatch::Exact(path) => write!(f, "={path}"),
            PathMatch::Prefix(path) => f.write_str(path),
            PathMatch::StringPrefix(path) => write!(f, "{path}*"),
        }
    }
}

fn configured(raw: &str) -> Result<String, String> {
    check(raw)?;
    let resolved = resolve_dots(raw).ok_or_else(|| format!("\"{raw}\" climbs above the root"))?;
    Ok(match_key(&resolved).into_owned())
}

fn check(raw: &str) -> Result<(), String> {
    if !raw.starts_with('/') {
        return Err(format!("\"{raw}\" is not a path: it must start with /"));
    }
    if let Some(bad) = raw.chars().find(|c| matches!(c, '?' | '#') || c.is_control()) {
        return Err(format!("\"{raw}\" is not a path: {bad:?} cannot stand in one"));
    }
    Ok(())
}

/// Resolves `.` and `..` segments, literal or percent-encoded. `None` where the path climbs above the root.
pub fn resolve_dots(path: &str) -> Option<Cow<'_, str>> {
    if !path.split('/').any(|segment| dots(segment) > 0) {
        return Some(Cow::Borrowed(path));
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut directory = false;
    for segment in path.split('/').skip(1) {
        directory = false;
        match dots(segment) {
            0 => segments.push(segment),
            1 => directory = true,
            _ => {
                segments.pop()?;
                directory = true;
            }
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &segments {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if directory || resolved.is_empty() {
        resolved.push('/');
    }
    Some(Cow::Owned(resolved))
}

/// 1 for a `.` segment, 2 for `..`, 0 for any other.
fn dots(segment: &str) -> usize {
    if segment.len() > 6 {
        return 0;
    }
    let mut rest = segment;
    let mut count = 0;
    while !rest.is_empty() {
        rest = match rest.strip_prefix('.').or_else(|| rest.strip_prefix("%2e")).or_else(|| rest.strip_prefix("%2E")) {
            Some(rest) => rest,
            None => return 0,
        };
        count += 1;
    }
    if count > 2 { 0 } else { count }
}

/// Brings a path to the one spelling used for matching: unreserved characters decoded, bytes that cannot stand in a URI
/// encoded, hex digits upper-case. `%2F` stays what it is and is no separator.
pub fn match_key(path: &str) -> Cow<'_, str> {
    if !path.bytes().any(|b| b == b'%' || !stands_in_uri(b)) {
        return Cow::Borrowed(path);
    }
    let bytes = path.as_bytes();
    let mut key = String::with_capacity(path.len() + 8);
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' => match escape(bytes, i) {
                Some(byte) if is_unreserved(byte) => {
                    key.push(byte as char);
                    i += 3;
                }
                Some(byte) => {
                    push_escape(&mut key, byte);
                    i += 3;
                }
                // Said as what it is read as: left bare it would make an escape of what is decoded behind it.
                None => {
                    push_escape(&mut key, b'%');
                    i += 1;
                }
            },
            byte if stands_in_uri(byte) => {
                key.push(byte as char);
                i += 1;
            }
            byte => {
                push_escape(&mut key, byte);
                i += 1;
            }
        }
    }
    Cow::Owned(key)
}

/// What a path regex is tried on: a [`match_key`] with every character decoded that is neither reserved (RFC 3986 §2.2)
/// nor `%`. Bytes, since what is decoded need not be UTF-8.
pub fn regex_subject(key: &str) -> Cow<'_, [u8]> {
    let bytes = key.as_bytes();
    let decodes = |at: usize| escape(bytes, at).filter(|byte| !is_reserved(*byte) && *byte != b'%');
    if !(0..bytes.len()).any(|at| bytes[at] == b'%' && decodes(at).is_some()) {
        return Cow::Borrowed(bytes);
    }
    let mut subject = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%'
            && let Some(byte) = decodes(at)
        {
            subject.push(byte);
            at += 3;
        } else {
            subject.push(bytes[at]);
            at += 1;
        }
    }
    Cow::Owned(subject)
}

/// The path as lenient backends might read it, each in the spelling of [`match_key`]: decoded once, `\` as `/`, `;params`
/// dropped, `//` merged, dots resolved, or any of these in any order. `None` where there are too many such readings;
/// empty where no reader could see more than the path itself says. A climb above the root ends at the root, as lenient
/// readers do.
pub fn lenient_keys(path: &str) -> Option<Vec<String>> {
    if !path.contains(['%', '\\', ';']) && !path.contains("//") {
        return Some(Vec::new());
    }
    let mut readings = vec![Reading { bytes: path.as_bytes().to_vec(), decoded: false }];
    let mut next = 0;
    while let Some(reading) = readings.get(next).cloned() {
        for liberty in [Reading::decode, Reading::backslashes, Reading::parameters, Reading::slashes, Reading::dots] {
            let read = liberty(&reading);
            if !readings.contains(&read) {
                readings.push(read);
            }
        }
        if readings.len() > MOST_READINGS {
            return None;
        }
        next += 1;
    }
    let mut keys: Vec<String> = readings[1..].iter().map(Reading::key).collect();
    keys.sort_unstable();
    keys.dedup();
    Some(keys)
}

/// Nobody needs a path of which more can be made, and each costs a look-up.
const MOST_READINGS: usize = 64;

/// One way to read a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reading {
    bytes: Vec<u8>,
    /// Nobody is thought of who decodes twice.
    decoded: bool,
}

impl Reading {
    fn with(&self, bytes: Vec<u8>) -> Reading {
        Reading { bytes, decoded: self.decoded }
    }

    fn decode(&self) -> Reading {
        if self.decoded {
            return self.clone();
        }
        let mut decoded = Vec::with_capacity(self.bytes.len());
        let mut at = 0;
        while at < self.bytes.len() {
            let escaped = (self.bytes[at] == b'%').then(|| escape(&self.bytes, at)).flatten();
            decoded.push(escaped.unwrap_or(self.bytes[at]));
            at += if escaped.is_some() { 3 } else { 1 };
        }
        Reading { bytes: decoded, decoded: true }
    }

    fn backslashes(&self) -> Reading {
        self.with(self.bytes.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect())
    }

    fn parameters(&self) -> Reading {
        let bare = |segment: &[u8]| segment.split(|byte| *byte == b';').next().unwrap_or_default().to_vec();
        self.with(self.bytes.split(|byte| *byte == b'/').map(bare).collect::<Vec<_>>().join(&b'/'))
    }

    fn slashes(&self) -> Reading {
        let mut merged = self.bytes.clone();
        merged.dedup_by(|a, b| *a == b'/' && *b == b'/');
        self.with(merged)
    }

    fn dots(&self) -> Reading {
        let mut segments: Vec<&[u8]> = Vec::new();
        let mut directory = false;
        for segment in self.bytes.split(|byte| *byte == b'/').skip(1) {
            directory = matches!(segment, b"." | b"..");
            match segment {
                b"." => {}
                b".." => {
                    segments.pop();
                }
                other => segments.push(other),
            }
        }
        let mut resolved = Vec::with_capacity(self.bytes.len());
        for segment in &segments {
            resolved.push(b'/');
            resolved.extend_from_slice(segment);
        }
        if directory || resolved.is_empty() {
            resolved.push(b'/');
        }
        self.with(resolved)
    }

    /// A reader who has not decoded yet does it in the end, which [`match_key`] stands for.
    fn key(&self) -> String {
        if !self.decoded
            && let Ok(text) = std::str::from_utf8(&self.bytes)
        {
            return match_key(text).into_owned();
        }
        let mut key = String::with_capacity(self.bytes.len() + 8);
        for &byte in &self.bytes {
            if stands_in_uri(byte) && byte != b'?' && byte != b'#' {
                key.push(byte as char);
            } else {
                push_escape(&mut key, byte);
            }
        }
        key
    }
}

fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |i: usize| bytes.get(i).and_then(|b| (*b as char).to_digit(16));
    Some((digit(at + 1)? * 16 + digit(at + 2)?) as u8)
}

fn push_escape(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(HEX[usize::from(byte >> 4)] as char);
    out.push(HEX[usize::from(byte & 15)] as char);
}

/// RFC 3986 §2: unreserved and reserved characters. Clients send some of the others as they are (`{`, `|`, `"`).
fn stands_in_uri(byte: u8) -> bool {
    IN_URI[usize::from(byte)]
}

/// Every byte of every request's path is asked.
const IN_URI: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_unreserved(byte as u8)
            || matches!(byte as u8, b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@')
            || matches!(byte as u8, b'!' | b'$' | b'&'..=b',' | b';' | b'=');
        byte += 1;
    }
    table
};

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §2.2.
fn is_reserved(byte: u8) -> bool {
    b":/?#[]@!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_whole_segments_only() {
        let foo = PathMatch::prefix("/foo/").expect("valid");
        for (path, expected) in [("/foo", true), ("/foo/", true), ("/foo/x", true), ("/foobar", false), ("/", false)] {
            assert_eq!(foo.matches(path), expected, "{path}");
        }
        assert!(PathMatch::everything().matches("/anything"));
    }

    #[test]
    fn an_exact_path_minds_its_trailing_slash() {
        let exact = PathMatch::exact("/foo").expect("valid");
        assert!(exact.matches("/foo"));
        assert!(!exact.matches("/foo/"));
    }

    #[test]
    fn dot_segments_are_resolved_literal_or_encoded() {
        for (raw, resolved) in [
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a/...", "/a/..."),
            ("/a//b", "/a//b"),
        ] {
            assert_eq!(resolve_dots(raw).as_deref(), Some(resolved), "{raw}");
        }
        assert_eq!(resolve_dots("/.."), None);
        assert_eq!(resolve_dots("/a/../../b"), None);
    }

    #[test]
    fn equivalent_spellings_share_one_key() {
        assert_eq!(match_key("/%61%2d%c3%a9%2fb"), "/a-%C3%A9%2Fb");
        assert_eq!(match_key("/é"), "/%C3%A9");
        assert_eq!(match_key("/100%"), "/100%25");
        assert_eq!(match_key("/{a b}|\"c\"%7b"), "/%7Ba%20b%7D%7C%22c%22%7B");
        assert_eq!(match_key("/:@!$&'()*+,;=[x]"), "/:@!$&'()*+,;=[x]");
    }

    /// The bare `%` and the decoded `61` made one escape more, which path regexes then saw decoded.
    #[test]
    fn a_bare_percent_sign_makes_no_escape_of_what_follows() {
        for raw in ["/%%361dmin", "/%c%319a", "/%%%32%35", "/%", "/a%2"] {
            let key = match_key(raw);
            assert_eq!(match_key(&key), key, "{raw}");
        }
        assert_eq!(match_key("/%%361dmin"), "/%2561dmin");
        assert_eq!(&*regex_subject(&match_key("/%%361dmin")), b"/%2561dmin");
    }

    #[test]
    fn a_string_prefix_ends_anywhere() {
        for (raw, key) in [("/a b", "/a%20b*"), ("/é", "/%C3%A9*"), ("/a/.", "/a/.*"), ("/a/..", "/a/..*"), ("/", "/*")]
        {
            assert_eq!(PathMatch::string_prefix(raw).map(|p| p.to_string()).as_deref(), Ok(key), "{raw}");
        }
        for raw in ["a", "/a?b", "/../b", "/a/%2e/b", "/a%2", "/a%", "/a%zz"] {
            assert!(PathMatch::string_prefix(raw).is_err(), "{raw}");
        }
        let products = PathMatch::string_prefix("/products").expect("valid");
        assert!(
            products.matches("/products") && products.matches("/products-for-sale") && !products.matches("/produce")
        );
    }

    #[test]
    fn a_path_regex_sees_what_is_not_reserved_decoded() {
        for (key, subject) in [
            ("/a%20b", "/a b"),
            ("/%C3%A9", "/é"),
            ("/a%2Fb%3F%25", "/a%2Fb%3F%25"),
            ("/100%", "/100%"),
            ("/%22%5C", "/\"\\"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(&*regex_subject(key), subject.as_bytes(), "{key}");
        }
        assert_eq!(&*regex_subject("/%FF"), b"/\xff");
    }

    #[test]
    fn a_lenient_reader_sees_through_escapes_backslashes_and_parameters() {
        for (raw, key) in [
            ("/a%2fb", "/a/b"),
            ("/x;y/admin", "/x/admin"),
            ("/x/..;/admin", "/admin"),
            ("//admin", "/admin"),
            ("/x\\..\\admin", "/admin"),
            ("/x%5c..%5cadmin/", "/admin/"),
            ("/a%252fb", "/a%252fb"),
            ("/x%7b%2fy", "/x%7B/y"),
            ("/a/%3b%2f..%2fb", "/b"),
            ("/a/%3b%2f..%2fb", "/a/b"),
        ] {
            let keys = lenient_keys(raw).expect("few");
            assert!(keys.iter().any(|read| read == key), "{raw}: {keys:?}");
        }
        assert_eq!(lenient_keys("/plain/path"), Some(Vec::new()));
        assert_eq!(lenient_keys("/a%20b"), Some(vec!["/a%20b".into()]));
    }

    #[test]
    fn paths_that_are_none_say_why() {
        for raw in ["api", "/a?b", "/../etc"] {
            assert!(PathMatch::prefix(raw).is_err(), "{raw}");
        }
    }
}
