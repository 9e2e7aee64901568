//! Any text as a rule: what its matches accept is what its expression accepts.
//!
//! ```text
//! text ──parser──▶ Expr ──a slow reading──▶ bool ─┐
//!   └────matches──▶ RouteMatches, one by one ─▶ bool ─┴─ equal on requests made of the rule's own words
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::fuzzing::Picks;
use crate::model::host::HostPattern;
use crate::model::path::regex_subject;
use crate::model::predicate::Test;
use crate::model::route::RouteMatch;

use super::parser::{self, Expr};
use super::{LENGTH, literal_hosts, matches, normal};

/// How many requests a rule is asked about.
const REQUESTS: usize = 48;

pub fn check(data: &[u8]) {
    let Ok(rule) = std::str::from_utf8(data) else { return };
    // Never fails, whatever the rule is.
    let hosts = literal_hosts(rule);
    let found = match matches(rule) {
        Ok(found) => found,
        Err(why) => {
            assert!(!why.is_empty(), "it says why");
            return;
        }
    };
    assert!(!found.is_empty() && found.len() <= normal::LIMIT, "{} matches", found.len());
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "sorted, and each of them once");
    for one in &found {
        let asked_for = one.host == HostPattern::Any || hosts.contains(&one.host);
        assert!(asked_for, "{} is no literal host of the rule", one.host);
    }
    said_otherwise(rule, &found);
    let parsed = parser::parse(rule);
    assert!(parsed.is_ok(), "{parsed:?}");
    let Ok(expr) = parsed else { return };
    let words = Words::of(&expr);
    let mut picks = Picks::of(data);
    for _ in 0..REQUESTS {
        let asked = words.asked(&mut picks);
        let slow = wants(&expr, &asked);
        let fast = found.iter().any(|one| holds(one, &asked));
        assert_eq!(fast, slow, "{rule} on {asked:?} as {found:?}");
    }
}

/// Ways to say the same.
fn said_otherwise(rule: &str, found: &[RouteMatch]) {
    if rule.len() + 6 > LENGTH {
        return;
    }
    for same in [format!("({rule})"), format!(" ! !(\n{rule})")] {
        match matches(&same) {
            Ok(again) => assert_eq!(again, found, "{same}"),
            // One parenthesis more may be one too many.
            Err(why) => assert!(why.contains("deep"), "{same}: {why}"),
        }
    }
    if let Ok(twice) = matches(&format!("({rule})||({rule})")) {
        assert_eq!(twice, found, "{rule}, or itself");
    }
}

#[derive(Debug)]
struct Asked {
    host: String,
    path: String,
    method: String,
    header: (String, String),
    query: (String, String),
    client: IpAddr,
}

/// What stands in a rule, and something else of each kind.
struct Words {
    hosts: Vec<String>,
    paths: Vec<String>,
    methods: Vec<String>,
    headers: Vec<(String, String)>,
    queries: Vec<(String, String)>,
    clients: Vec<IpAddr>,
}

impl Words {
    fn of(expr: &Expr) -> Words {
        let other = || ("other".to_string(), "1".to_string());
        let mut words = Words {
            hosts: vec!["other.example".into()],
            paths: vec!["/".into(), "/other".into()],
            methods: vec!["GET".into(), "OTHER".into()],
            headers: vec![other()],
            queries: vec![other()],
            clients: vec![IpAddr::from([192, 0, 2, 9])],
        };
        words.gather(expr);
        words
    }

    fn gather(&mut self, expr: &Expr) {
        match expr {
            Expr::Test(test) => self.add(test),
            Expr::Not(inner) => self.gather(inner),
            Expr::All(items) | Expr::Any(items) => items.iter().for_each(|item| self.gather(item)),
        }
    }

    fn add(&mut self, test: &Test) {
        // Of an expression the letters: some of them match themselves.
        let letters =
            |text: &str| text.chars().filter(|c| c.is_alphanumeric() || "/-_. ".contains(*c)).collect::<String>();
        match test {
            Test::Host(HostPattern::Exact(name)) => self.hosts.extend([name.to_string(), format!("www.{name}")]),
            Test::Host(HostPattern::Wildcard(suffix)) => {
                self.hosts.extend([suffix.to_string(), format!("www.{suffix}"), format!("a.b.{suffix}")]);
            }
            Test::Host(HostPattern::Any) => {}
            Test::HostRegex(pattern) => self.hosts.push(letters(pattern.as_str()).to_lowercase()),
            Test::Path(path) => {
                let text = path.to_string();
                let text = text.trim_start_matches('=').trim_end_matches('*');
                self.paths.extend([text.to_string(), format!("{text}x"), format!("{text}/x")]);
            }
            Test::PathRegex(pattern) => self.paths.push(letters(pattern.as_str())),
            Test::Method(methods) => self.methods.extend(methods.iter().map(ToString::to_string)),
            Test::Header { name, value } => self.headers.push((name.to_string(), value.to_string())),
            Test::HeaderRegex { name, value } => self.headers.push((name.to_string(), letters(value.as_str()))),
            Test::Query { name, value } => self.queries.push((name.to_string(), value.to_string())),
            Test::QueryRegex { name, value } => self.queries.push((name.to_string(), letters(value.as_str()))),
            Test::Clients(nets) => self.clients.extend(nets.iter().map(|net| net.addr())),
        }
    }

    fn asked(&self, picks: &mut Picks) -> Asked {
        let text = |found: Option<&String>| found.cloned().unwrap_or_default();
        Asked {
            host: text(picks.pick(&self.hosts)),
            path: text(picks.pick(&self.paths)),
            method: text(picks.pick(&self.methods)),
            header: picks.pick(&self.headers).cloned().unwrap_or_default(),
            query: picks.pick(&self.queries).cloned().unwrap_or_default(),
            client: picks.pick(&self.clients).copied().unwrap_or(IpAddr::from([0; 4])),
        }
    }
}

fn wants(expr: &Expr, asked: &Asked) -> bool {
    match expr {
        Expr::Test(test) => says(test, asked),
        Expr::Not(inner) => !wants(inner, asked),
        Expr::All(items) => items.iter().all(|item| wants(item, asked)),
        Expr::Any(items) => items.iter().any(|item| wants(item, asked)),
    }
}

fn holds(one: &RouteMatch, asked: &Asked) -> bool {
    one.host.matches(&asked.host)
        && one.path.matches(&asked.path)
        && one.terms.iter().all(|term| says(&term.test, asked) != term.negated)
}

fn says(test: &Test, asked: &Asked) -> bool {
    let (header, query) = (&asked.header, &asked.query);
    match test {
        Test::Host(host) => host.matches(&asked.host),
        Test::HostRegex(pattern) => pattern.is_match(asked.host.as_bytes()),
        Test::Path(path) => path.matches(&asked.path),
        Test::PathRegex(pattern) => pattern.is_match(&regex_subject(&asked.path)),
        Test::Method(methods) => {
            methods.iter().map(|method| &**method).collect::<BTreeSet<_>>().contains(&*asked.method)
        }
        Test::Header { name, value } => header.0 == **name && header.1 == **value,
        Test::HeaderRegex { name, value } => header.0 == **name && value.is_match(header.1.as_bytes()),
        Test::Query { name, value } => query.0 == **name && query.1 == **value,
        Test::QueryRegex { name, value } => query.0 == **name && value.is_match(query.1.as_bytes()),
        Test::Clients(nets) => nets.iter().any(|net| net.contains(&asked.client)),
    }
}
