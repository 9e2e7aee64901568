//! What a candidate asks of a request beside its place in the index.
//!
//! ```text
//! BTreeSet<Term> ──Checks::of──▶ Checks (the cheapest first) ──hold──▶ bool
//!                                            RequestView ──┘
//! ```
//! A request whose candidates have no terms pays for none: what has to be decoded is decoded when first asked for.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, Method};
use ipnet::IpNet;

use crate::model::host::HostPattern;
use crate::model::path::{PathMatch, regex_subject};
use crate::model::pattern::Pattern;
use crate::model::predicate::{Term, Test};

use super::query::Parameters;
use super::row::Key;

/// A request as matching sees it: borrowed, in the spellings that routes are written in.
#[derive(Debug)]
pub struct RequestView<'r> {
    /// Lower-case, without port and trailing dot.
    pub host: &'r str,
    /// As `model::path::match_key` spells it.
    pub path: &'r str,
    pub method: &'r Method,
    /// The value of `Host` or `:authority`: a test of the header `host` reads it here, in every protocol alike.
    pub authority: &'r str,
    pub headers: &'r HeaderMap,
    /// As it was received, without `?`.
    pub query: Option<&'r str>,
    /// The peer's own address, an IPv4-mapped one as IPv4.
    pub client: IpAddr,
    decoded: Decoded<'r>,
}

#[derive(Debug, Default)]
struct Decoded<'r> {
    parameters: OnceCell<Parameters<'r>>,
    regex_path: OnceCell<std::borrow::Cow<'r, [u8]>>,
}

impl<'r> RequestView<'r> {
    pub fn new(
        host: &'r str,
        path: &'r str,
        method: &'r Method,
        authority: &'r str,
        headers: &'r HeaderMap,
        query: Option<&'r str>,
        client: IpAddr,
    ) -> RequestView<'r> {
        let client = client.to_canonical();
        RequestView { host, path, method, authority, headers, query, client, decoded: Decoded::default() }
    }

    /// The same request for another path.
    pub fn at<'p>(&self, path: &'p str) -> RequestView<'p>
    where
        'r: 'p,
    {
        RequestView::new(self.host, path, self.method, self.authority, self.headers, self.query, self.client)
    }

    fn parameters(&self) -> &Parameters<'r> {
        self.decoded.parameters.get_or_init(|| Parameters::of(self.query.unwrap_or_default()))
    }

    fn regex_path(&self) -> &[u8] {
        self.decoded.regex_path.get_or_init(|| regex_subject(self.path))
    }

    pub(super) fn header_values(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let authority = (*name == HOST).then_some(self.authority.as_bytes());
        let fields = authority.is_none().then(|| self.headers.get_all(name).iter().map(|value| value.as_bytes()));
        authority.into_iter().chain(fields.into_iter().flatten())
    }

    pub(super) fn query_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.parameters().values(name)
    }
}

/// A conjunction, the cheapest check first.
#[derive(Debug, Default)]
pub(super) struct Checks(Box<[Check]>);

#[derive(Debug)]
struct Check {
    negated: bool,
    test: Tested,
}

/// A test as it is evaluated. The order is that of their cost.
#[derive(Debug)]
enum Tested {
    Method(Box<[Arc<str>]>),
    Host(HostPattern),
    Path(PathMatch),
    Clients(Box<[IpNet]>),
    Header(HeaderName, Arc<str>),
    Query(Arc<str>, Arc<str>),
    HostRegex(Pattern),
    PathRegex(Pattern),
    HeaderRegex(HeaderName, Pattern),
    QueryRegex(Arc<str>, Pattern),
    /// Of a header whose name is none: no request has it.
    Never,
}

impl Checks {
    /// `host` is the only one that will be asked for, where there is one: what it decides is decided here. `None` where
    /// no request for it can match.
    pub fn of<'t>(terms: impl IntoIterator<Item = &'t Term>, host: Option<&str>) -> Option<Checks> {
        let mut checks = Vec::new();
        for Term { negated, test } in terms {
            let decided = host.and_then(|host| match test {
                Test::Host(pattern) => Some(pattern.matches(host)),
                Test::HostRegex(pattern) => Some(pattern.is_match(host.as_bytes())),
                _ => None,
            });
            match decided {
                Some(holds) if holds == *negated => return None,
                Some(_) => {}
                None => checks.push(Check { negated: *negated, test: Tested::of(test) }),
            }
        }
        checks.sort_by_key(|check| check.test.cost());
        Some(Checks(checks.into()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One value of a header or parameter without which they do not hold.
    pub fn key(&self) -> Option<(Key, &[u8])> {
        self.0.iter().filter(|check| !check.negated).find_map(|check| match &check.test {
            Tested::Header(name, value) => Some((Key::Header(name.clone()), value.as_bytes())),
            Tested::Query(name, value) => Some((Key::Query(name.clone()), value.as_bytes())),
            _ => None,
        })
    }

    pub fn hold(&self, request: &RequestView<'_>) -> bool {
        self.0.iter().all(|check| check.test.holds(request) != check.negated)
    }
}

impl Tested {
    fn of(test: &Test) -> Tested {
        let header = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
        match test {
            Test::Host(pattern) => Tested::Host(pattern.clone()),
            Test::HostRegex(pattern) => Tested::HostRegex(pattern.clone()),
            Test::Path(path) => Tested::Path(path.clone()),
            Test::PathRegex(pattern) => Tested::PathRegex(pattern.clone()),
            Test::Method(methods) => Tested::Method(methods.iter().cloned().collect()),
            Test::Header { name, value } => {
                header(name).map_or(Tested::Never, |name| Tested::Header(name, value.clone()))
            }
            Test::HeaderRegex { name, value } => {
                header(name).map_or(Tested::Never, |name| Tested::HeaderRegex(name, value.clone()))
            }
            Test::Query { name, value } => Tested::Query(name.clone(), value.clone()),
            Test::QueryRegex { name, value } => Tested::QueryRegex(name.clone(), value.clone()),
            Test::Clients(nets) => Tested::Clients(nets.iter().copied().collect()),
        }
    }

    fn cost(&self) -> u8 {
        match self {
            Tested::Never | Tested::Method(_) | Tested::Host(_) | Tested::Path(_) => 0,
            Tested::Clients(_) => 1,
            Tested::Header(..) => 2,
            Tested::Query(..) => 3,
            Tested::HostRegex(_) | Tested::PathRegex(_) => 4,
            Tested::HeaderRegex(..) | Tested::QueryRegex(..) => 5,
        }
    }

    fn holds(&self, request: &RequestView<'_>) -> bool {
        match self {
            Tested::Method(methods) => methods.iter().any(|method| **method == *request.method.as_str()),
            Tested::Host(pattern) => pattern.matches(request.host),
            Tested::Path(path) => path.matches(request.path),
            Tested::Clients(nets) => nets.iter().any(|net| net.contains(&request.client)),
            Tested::Header(name, value) => request.header_values(name).any(|found| found == value.as_bytes()),
            Tested::Query(name, value) => request.parameters().has(name, value),
            Tested::HostRegex(pattern) => pattern.is_match(request.host.as_bytes()),
            Tested::PathRegex(pattern) => pattern.is_match(request.regex_path()),
            Tested::HeaderRegex(name, value) => request.header_values(name).any(|found| value.is_match(found)),
            Tested::QueryRegex(name, value) => request.query_values(name).any(|found| value.is_match(found)),
            Tested::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn holds(test: Test, request: &RequestView<'_>) -> bool {
        Checks::of([&Term::is(test)], None).is_some_and(|checks| checks.hold(request))
    }

    fn header(name: &str, value: &str) -> Test {
        Test::Header { name: name.into(), value: value.into() }
    }

    #[test]
    fn an_ipv4_client_of_a_dual_stack_socket_is_one() {
        let (method, headers) = (Method::GET, HeaderMap::new());
        let client = "::ffff:10.0.0.1".parse().expect("an address");
        let request = RequestView::new("a", "/", &method, "a", &headers, None, client);
        let clients = |net: &str| Test::Clients(BTreeSet::from([net.parse().expect("a network")]));
        assert!(holds(clients("10.0.0.0/8"), &request));
        assert!(!holds(clients("::/0"), &request));
    }

    #[test]
    fn the_header_host_is_the_authority_in_every_protocol() {
        let (method, mut headers) = (Method::GET, HeaderMap::new());
        let client = "10.0.0.1".parse().expect("an address");
        assert!(holds(header("host", "a:443"), &RequestView::new("a", "/", &method, "a:443", &headers, None, client)));
        headers.insert(HOST, http::HeaderValue::from_static("b"));
        assert!(!holds(header("host", "b"), &RequestView::new("a", "/", &method, "a", &headers, None, client)));
    }

    #[test]
    fn no_request_has_a_header_of_an_impossible_name() {
        let (method, headers) = (Method::GET, HeaderMap::new());
        let request = RequestView::new("a", "/", &method, "a", &headers, None, "::1".parse().expect("an address"));
        assert!(!holds(header("a b", ""), &request));
    }

    #[test]
    fn what_the_only_host_decides_is_decided_at_once() {
        let regex = |text: &str| Test::HostRegex(Pattern::new(text).expect("valid"));
        let decided = |term: Term| Checks::of([&term], Some("a.example")).map(|checks| checks.is_empty());
        assert_eq!(decided(Term::is(regex("^a"))), Some(true));
        assert_eq!(decided(Term::is(regex("^b"))), None);
        assert_eq!(decided(Term::not(regex("^b"))), Some(true));
        assert_eq!(decided(Term::not(Test::Host(HostPattern::Exact("a.example".into())))), None);
        assert_eq!(decided(Term::is(Test::Path(PathMatch::everything()))), Some(false));
    }
}
