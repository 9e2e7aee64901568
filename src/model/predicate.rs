//! What a route asks of a request beside its host and path: the literals of one conjunction.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::host::HostPattern;
use super::path::PathMatch;
use super::pattern::Pattern;

/// One literal: a test, or its negation. Terms are sorted and unique within a match, so that two spellings of one
/// conjunction are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term {
    pub negated: bool,
    pub test: Test,
}

/// A test of a request. A host or path stands here only where it is negated, or where the conjunction has another
/// positive one that the table's index is keyed by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    Host(HostPattern),
    /// On the host in lower case, without port and trailing dot.
    HostRegex(Pattern),
    Path(PathMatch),
    /// On the path with every character decoded that is not reserved (RFC 3986 §2.2) and not `%`.
    PathRegex(Pattern),
    /// One of these, in upper case.
    Method(BTreeSet<Arc<str>>),
    /// Any of the header's values equals; the name is in lower case.
    Header {
        name: Arc<str>,
        value: Arc<str>,
    },
    HeaderRegex {
        name: Arc<str>,
        value: Pattern,
    },
    /// Any of the parameter's values equals, both decoded.
    Query {
        name: Arc<str>,
        value: Arc<str>,
    },
    /// Any of the parameter's values matches.
    QueryRegex {
        name: Arc<str>,
        value: Pattern,
    },
    /// The peer's own address is in one of these: never what a header says of it.
    Clients(BTreeSet<IpNet>),
}

impl Term {
    pub fn is(test: Test) -> Term {
        Term { negated: false, test }
    }

    pub fn not(test: Test) -> Term {
        Term { negated: true, test }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negated { write!(f, "!{}", self.test) } else { self.test.fmt(f) }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Host(host) => write!(f, "host={host}"),
            Test::HostRegex(pattern) => write!(f, "host~{pattern}"),
            Test::Path(path) => write!(f, "path={path}"),
            Test::PathRegex(pattern) => write!(f, "path~{pattern}"),
            Test::Method(methods) => write!(f, "method={}", list(methods)),
            Test::Header { name, value } => write!(f, "header {name}={value}"),
            Test::HeaderRegex { name, value } => write!(f, "header {name}~{value}"),
            Test::Query { name, value } => write!(f, "query {name}={value}"),
            Test::QueryRegex { name, value } => write!(f, "query {name}~{value}"),
            Test::Clients(nets) => write!(f, "client={}", list(nets)),
        }
    }
}

fn list<T: fmt::Display>(items: &BTreeSet<T>) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}
