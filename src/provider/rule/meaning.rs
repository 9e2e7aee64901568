//! Random rules mean what the grammar says: an independent reading of their meaning, compared with the matches that the
//! text comes to.
//!
//! ```text
//! Rule ──written in any legal spelling──▶ text ──matches──▶ RouteMatches ──holds──▶ bool ─┐
//!   └──────────────────────────── wants (plain comparisons of strings) ───────────▶ bool ─┴─ equal on every Request
//! ```

use std::net::IpAddr;

use proptest::prelude::*;

use super::matches;
use crate::model::host::HostPattern;
use crate::model::path::{PathMatch, match_key};
use crate::model::predicate::Test;
use crate::model::route::RouteMatch;

#[derive(Debug, Clone)]
enum Rule {
    Leaf(Leaf),
    Not(Box<Rule>),
    And(Vec<Rule>),
    Or(Vec<Rule>),
}

#[derive(Debug, Clone)]
enum Leaf {
    Host(String),
    HostRegexp(Found),
    Path(String),
    PathPrefix(String),
    PathRegexp(Found),
    Method(String),
    ClientIp(&'static str, u8),
    Header(String, String),
    HeaderRegexp(String, Found),
    Query(String, Option<String>),
    QueryRegexp(String, Option<Found>),
}

/// A regular expression of which it is plain what it finds.
#[derive(Debug, Clone)]
enum Found {
    AtStart(String),
    AtEnd(String),
    Within(String),
}

#[derive(Debug, Clone)]
struct Request {
    host: String,
    /// Decoded, except for what stays encoded.
    path: String,
    /// As a client might spell it.
    raw: String,
    method: String,
    peer: IpAddr,
    headers: Vec<(String, String)>,
    query: Vec<(String, String)>,
}

// The independent reading.

impl Rule {
    fn wants(&self, request: &Request) -> bool {
        match self {
            Rule::Leaf(leaf) => leaf.wants(request),
            Rule::Not(rule) => !rule.wants(request),
            Rule::And(rules) => rules.iter().all(|rule| rule.wants(request)),
            Rule::Or(rules) => rules.iter().any(|rule| rule.wants(request)),
        }
    }
}

impl Leaf {
    fn wants(&self, request: &Request) -> bool {
        let among = |pairs: &[(String, String)], name: &str, holds: &dyn Fn(&str) -> bool| {
            pairs.iter().any(|(key, value)| key == name && holds(value))
        };
        match self {
            Leaf::Host(written) => {
                let wanted = written.to_lowercase();
                let wanted = wanted.trim_end_matches('.');
                match wanted.strip_prefix('*') {
                    Some("") => true,
                    Some(end) => match request.host.strip_suffix(end) {
                        Some(label) => !label.is_empty() && !label.contains('.'),
                        None => false,
                    },
                    None => request.host == wanted,
                }
            }
            Leaf::HostRegexp(found) => found.wants(&request.host),
            Leaf::Path(path) => request.path == *path,
            Leaf::PathPrefix(path) => {
                request.path.len() >= path.len() && request.path.as_bytes()[..path.len()] == *path.as_bytes()
            }
            Leaf::PathRegexp(found) => found.wants(&request.path),
            Leaf::Method(method) => request.method == method.to_uppercase(),
            Leaf::ClientIp(address, length) => {
                let bits = |address: IpAddr| match address {
                    IpAddr::V4(v4) => (4, u128::from(u32::from(v4)) << 96),
                    IpAddr::V6(v6) => (6, u128::from(v6)),
                };
                let (family, net) = bits(address.parse().expect("an address"));
                let (peers, peer) = bits(request.peer);
                family == peers && (0..u32::from(*length)).all(|bit| (net ^ peer) >> (127 - bit) & 1 == 0)
            }
            Leaf::Header(name, value) => among(&request.headers, &name.to_lowercase(), &|found| found == value),
            Leaf::HeaderRegexp(name, found) => {
                among(&request.headers, &name.to_lowercase(), &|value| found.wants(value))
            }
            Leaf::Query(name, value) => among(&request.query, name, &|found| found == value.as_deref().unwrap_or("")),
            Leaf::QueryRegexp(name, Some(found)) => among(&request.query, name, &|value| found.wants(value)),
            Leaf::QueryRegexp(name, None) => among(&request.query, name, &str::is_empty),
        }
    }
}

impl Found {
    fn wants(&self, subject: &str) -> bool {
        match self {
            Found::AtStart(text) => subject.starts_with(text),
            Found::AtEnd(text) => subject.ends_with(text),
            Found::Within(text) => subject.contains(text),
        }
    }

    fn written(&self) -> String {
        match self {
            Found::AtStart(text) => format!("^{text}"),
            Found::AtEnd(text) => format!("{text}$"),
            Found::Within(text) => text.clone(),
        }
    }
}

// The matches, evaluated one by one.

fn holds(one: &RouteMatch, request: &Request) -> bool {
    host_holds(&one.host, request)
        && path_holds(&one.path, request)
        && one.terms.iter().all(|term| test_holds(&term.test, request) != term.negated)
}

fn host_holds(host: &HostPattern, request: &Request) -> bool {
    host.covers(&HostPattern::Exact(request.host.as_str().into()))
}

fn path_holds(path: &PathMatch, request: &Request) -> bool {
    path.matches(&match_key(&request.raw))
}

fn test_holds(test: &Test, request: &Request) -> bool {
    let among = |pairs: &[(String, String)], name: &str, holds: &dyn Fn(&str) -> bool| {
        pairs.iter().any(|(key, value)| key == name && holds(value))
    };
    match test {
        Test::Host(host) => host_holds(host, request),
        Test::HostRegex(pattern) => pattern.is_match(request.host.as_bytes()),
        Test::Path(path) => path_holds(path, request),
        Test::PathRegex(pattern) => pattern.is_match(request.path.as_bytes()),
        Test::Method(methods) => methods.contains(request.method.as_str()),
        Test::Header { name, value } => among(&request.headers, name, &|found| *found == **value),
        Test::HeaderRegex { name, value } => among(&request.headers, name, &|found| value.is_match(found.as_bytes())),
        Test::Query { name, value } => among(&request.query, name, &|found| *found == **value),
        Test::QueryRegex { name, value } => among(&request.query, name, &|found| value.is_match(found.as_bytes())),
        Test::Clients(nets) => nets.iter().any(|net| net.contains(&request.peer)),
    }
}

// Rules as text, in any spelling that is legal.

/// Picks spellings: a linear congruence, so that a failing case can be shrunk and run again.
struct Picks(u64);

impl Picks {
    fn pick(&mut self, of: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % of
    }

    fn space(&mut self) -> &'static str {
        ["", "", " ", "\t", "\n  "][self.pick(5) as usize]
    }
}

impl Rule {
    fn written(&self, picks: &mut Picks) -> String {
        let text = match self {
            Rule::Leaf(leaf) => leaf.written(picks),
            Rule::Not(rule) => {
                let inner = match &**rule {
                    Rule::And(_) | Rule::Or(_) => parenthesised(&rule.written(picks), picks),
                    Rule::Leaf(_) | Rule::Not(_) => rule.written(picks),
                };
                format!("!{}{inner}", picks.space())
            }
            Rule::And(rules) => {
                let parts: Vec<String> = rules
                    .iter()
                    .map(|rule| match rule {
                        Rule::Or(_) => parenthesised(&rule.written(picks), picks),
                        rule => rule.written(picks),
                    })
                    .collect();
                parts.join(&format!("{}&&{}", picks.space(), picks.space()))
            }
            Rule::Or(rules) => {
                let parts: Vec<String> = rules.iter().map(|rule| rule.written(picks)).collect();
                parts.join(&format!("{}||{}", picks.space(), picks.space()))
            }
        };
        match (self, picks.pick(8)) {
            (_, 0) => parenthesised(&text, picks),
            (Rule::Leaf(_), 1) => format!("!!{text}"),
            _ => text,
        }
    }
}

fn parenthesised(text: &str, picks: &mut Picks) -> String {
    format!("({}{text}{})", picks.space(), picks.space())
}

impl Leaf {
    fn written(&self, picks: &mut Picks) -> String {
        let (name, values) = match self {
            Leaf::Host(host) => ("Host", vec![host.clone()]),
            Leaf::HostRegexp(found) => ("HostRegexp", vec![found.written()]),
            Leaf::Path(path) => ("Path", vec![path.clone()]),
            Leaf::PathPrefix(path) => ("PathPrefix", vec![path.clone()]),
            Leaf::PathRegexp(found) => ("PathRegexp", vec![found.written()]),
            Leaf::Method(method) => ("Method", vec![method.clone()]),
            Leaf::ClientIp(address, length) if matches!((address.contains(':'), length), (false, 32) | (true, 128)) => {
                ("ClientIP", vec![(*address).to_string()])
            }
            Leaf::ClientIp(address, length) => ("ClientIP", vec![format!("{address}/{length}")]),
            Leaf::Header(name, value) => ("Header", vec![name.clone(), value.clone()]),
            Leaf::HeaderRegexp(name, found) => ("HeaderRegexp", vec![name.clone(), found.written()]),
            Leaf::Query(name, value) => ("Query", std::iter::once(name.clone()).chain(value.clone()).collect()),
            Leaf::QueryRegexp(name, found) => {
                ("QueryRegexp", std::iter::once(name.clone()).chain(found.as_ref().map(Found::written)).collect())
            }
        };
        let name = match picks.pick(4) {
            0 => name.to_lowercase(),
            1 => name.to_uppercase(),
            2 => format!("{}{}", &name[..1], name[1..].to_lowercase()),
            _ => name.to_string(),
        };
        let values: Vec<String> = values.iter().map(|value| quoted(value, picks)).collect();
        let comma = if picks.pick(6) == 0 { "," } else { "" };
        format!("{name}{}({}{comma})", picks.space(), values.join(&format!("{},{}", picks.space(), picks.space())))
    }
}

fn quoted(value: &str, picks: &mut Picks) -> String {
    if picks.pick(2) == 0 {
        return format!("`{value}`");
    }
    let escaped: String = value
        .chars()
        .map(|c| match (c, picks.pick(6)) {
            ('"' | '\\', _) => format!("\\{c}"),
            (c, 0) if c.is_ascii() => format!("\\x{:02x}", c as u32),
            (c, 1) if c.is_ascii() => format!("\\{:03o}", c as u32),
            (c, 0 | 1) => c.to_string().bytes().map(|byte| format!("\\x{byte:02X}")).collect(),
            (c, 2) => format!("\\u{:04x}", c as u32),
            (c, 3) => format!("\\U{:08X}", c as u32),
            (c, _) => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

// What the rules and the requests are made of: few words, so that they meet.

const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const SEGMENTS: [&str; 6] = ["", "a", "ab", "a b", "\u{e9}{", "a%2Fb"];

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab"]).prop_map(String::from)
}

fn any_case(text: &'static [&'static str]) -> impl Strategy<Value = String> {
    (prop::sample::select(text), any::<bool>())
        .prop_map(|(text, upper)| if upper { text.to_uppercase() } else { text.into() })
}

fn found() -> impl Strategy<Value = Found> {
    prop_oneof![word().prop_map(Found::AtStart), word().prop_map(Found::AtEnd), word().prop_map(Found::Within)]
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&SEGMENTS), 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn leaf() -> impl Strategy<Value = Leaf> {
    let hosts = &["a.x", "b.x", "a.b.x", "x", "a.y", "a.x.", "*.x", "*.b.x", "*.y", "*"];
    let nets: &[(&str, u8)] = &[
        ("10.0.0.0", 8),
        ("10.1.0.0", 16),
        ("10.1.0.1", 32),
        ("10.1.7.7", 14),
        ("0.0.0.0", 0),
        ("::", 0),
        ("::1", 128),
    ];
    prop_oneof![
        4 => any_case(hosts).prop_map(Leaf::Host),
        1 => found().prop_map(|found| Leaf::HostRegexp(match found {
            Found::AtStart(text) => Found::AtStart(text),
            Found::AtEnd(_) => Found::AtEnd("x".into()),
            Found::Within(text) => Found::Within(text),
        })),
        2 => path().prop_map(Leaf::Path),
        3 => path().prop_map(Leaf::PathPrefix),
        1 => found().prop_map(|found| Leaf::PathRegexp(match found {
            Found::AtStart(text) => Found::AtStart(format!("/{text}")),
            other => other,
        })),
        2 => any_case(&METHODS).prop_map(Leaf::Method),
        2 => prop::sample::select(nets).prop_map(|(address, length)| Leaf::ClientIp(address, length)),
        1 => (any_case(&["x-a", "x-b"]), word()).prop_map(|(name, value)| Leaf::Header(name, value)),
        1 => (any_case(&["x-a", "x-b"]), found()).prop_map(|(name, found)| Leaf::HeaderRegexp(name, found)),
        1 => (word(), prop::option::of(word())).prop_map(|(name, value)| Leaf::Query(name, value)),
        1 => (word(), prop::option::of(found())).prop_map(|(name, found)| Leaf::QueryRegexp(name, found)),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    leaf().prop_map(Rule::Leaf).prop_recursive(4, 14, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|rule| Rule::Not(Box::new(rule))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Rule::And),
            prop::collection::vec(inner, 2..4).prop_map(Rule::Or),
        ]
    })
}

fn request() -> impl Strategy<Value = Request> {
    let pairs = |names: &'static [&'static str]| {
        let value = prop_oneof![word(), Just(String::new())];
        prop::collection::vec((prop::sample::select(names).prop_map(String::from), value), 0..3)
    };
    let peers = ["10.1.0.1", "10.1.2.3", "10.3.0.1", "10.9.0.1", "192.0.2.7", "::1", "fd00::1"];
    (
        prop::sample::select(vec!["a.x", "b.x", "a.b.x", "x", "a.y", "b.b.x"]),
        path(),
        any::<u64>(),
        prop::sample::select(&METHODS),
        prop::sample::select(peers.to_vec()),
        pairs(&["x-a", "x-b"]),
        pairs(&["a", "b", "ab"]),
    )
        .prop_map(|(host, path, seed, method, peer, headers, query)| Request {
            host: host.into(),
            raw: sent(&path, &mut Picks(seed)),
            path,
            method: method.into(),
            peer: peer.parse().expect("an address"),
            headers,
            query,
        })
}

/// The path in one of its spellings on the wire: what need not be encoded may be, and in either case.
fn sent(path: &str, picks: &mut Picks) -> String {
    let mut raw = String::new();
    for c in path.chars() {
        let must = c == ' ' || (!c.is_ascii() && picks.pick(2) == 0);
        let may = (c.is_ascii_alphanumeric() || c == '{') && picks.pick(4) == 0;
        if must || may {
            let upper = picks.pick(2) == 0;
            let escape = |byte: u8| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
            raw.extend(c.to_string().bytes().map(escape));
        } else {
            raw.push(c);
        }
    }
    // Encoding the digits of an escape would make another path of it.
    if path.contains('%') { path.replace(' ', "%20") } else { raw }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_means_what_the_grammar_says(
        rule in rule(),
        seed in any::<u64>(),
        requests in prop::collection::vec(request(), 48),
    ) {
        let text = rule.written(&mut Picks(seed));
        let found = match matches(&text) {
            Ok(found) => found,
            Err(why) if why.starts_with("no request can match") => Vec::new(),
            Err(why) if why.starts_with("multiplied out") => return Err(TestCaseError::reject(why)),
            Err(why) => return Err(TestCaseError::fail(format!("{text}: {why}"))),
        };
        prop_assert!(found.len() <= 64 && found.is_sorted());
        for request in &requests {
            let wanted = rule.wants(request);
            let held = found.iter().any(|one| holds(one, request));
            prop_assert_eq!(held, wanted, "{}\n{:?}\n{:?}", text, found, request);
        }
    }
}
