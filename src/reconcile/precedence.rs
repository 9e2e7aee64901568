//! Decides which of two claims to the same request wins. One `Ord`, used by reconcile, the table and reports alike.
//!
//! Explicit priority > exact host > longer wildcard > host regex > any host > exact path > longest prefix > path regex >
//! method > more headers > more query > clients > provider rank > holder > older > id. Ties end at the match itself:
//! never at arrival order. The smaller rank wins.

use std::cmp::Reverse;

use jiff::Timestamp;

use crate::model::host::HostPattern;
use crate::model::id::{ObjectId, Provider};
use crate::model::path::PathMatch;
use crate::model::predicate::Test;
use crate::model::route::RouteMatch;

/// Where one claim stands among those for one host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank<'a> {
    /// A tenant's route without a literal path, on a host that another source holds: after every route of the holder.
    demoted: bool,
    priority: Reverse<i64>,
    host: HostRank,
    path: PathRank,
    /// On equal hosts and paths no further term may be a way around rule (c): the holder's route comes first.
    stranger: bool,
    /// `/a` by whole segments is narrower than `/a` by characters.
    by_characters: bool,
    predicates: Predicates,
    provider: Provider,
    holder: Reverse<bool>,
    created: Timestamp,
    id: &'a ObjectId,
    matched: &'a RouteMatch,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Exact,
    Wildcard(Reverse<usize>),
    Regex,
    Any,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact,
    Prefix(Reverse<usize>),
    Regex,
    /// `/` says nothing about the path.
    None,
}

/// What narrows a claim beside the host and path that it is keyed by. Negated terms add nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Predicates {
    /// What cannot be read might have been any of these.
    unread: Reverse<bool>,
    /// A regex beside a literal.
    host_regex: Reverse<bool>,
    path_regex: Reverse<bool>,
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    clients: Reverse<bool>,
}

/// What ranks a claim beside its match. `stranger` is a tenant on a host that another source holds.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    pub id: &'a ObjectId,
    pub priority: i64,
    pub created: Timestamp,
    pub holder: bool,
    pub stranger: bool,
}

impl<'a> Rank<'a> {
    pub fn of(matched: &'a RouteMatch, standing: Standing<'a>) -> Rank<'a> {
        let Standing { id, priority, created, holder, stranger } = standing;
        let mut rank = Rank {
            demoted: stranger && !has_literal_path(matched),
            priority: Reverse(if stranger { 0 } else { priority }),
            host: match &matched.host {
                HostPattern::Exact(_) => HostRank::Exact,
                HostPattern::Wildcard(suffix) => HostRank::Wildcard(Reverse(suffix.len())),
                HostPattern::Any => HostRank::Any,
            },
            path: match &matched.path {
                PathMatch::Exact(_) => PathRank::Exact,
                path if path.is_everything() => PathRank::None,
                PathMatch::Prefix(prefix) | PathMatch::StringPrefix(prefix) => PathRank::Prefix(Reverse(prefix.len())),
            },
            stranger,
            by_characters: matches!(&matched.path, path @ PathMatch::StringPrefix(_) if !path.is_everything()),
            predicates: Predicates { unread: Reverse(matched.unread.is_some()), ..Predicates::default() },
            provider: id.provider,
            holder: Reverse(holder),
            created,
            id,
            matched,
        };
        for term in matched.terms.iter().filter(|term| !term.negated) {
            match &term.test {
                // Beside the literal that the table is keyed by, another one makes no difference.
                Test::Host(_) | Test::Path(_) => {}
                Test::HostRegex(_) if rank.host >= HostRank::Regex => rank.host = HostRank::Regex,
                Test::HostRegex(_) => rank.predicates.host_regex = Reverse(true),
                Test::PathRegex(_) if rank.path >= PathRank::Regex => rank.path = PathRank::Regex,
                Test::PathRegex(_) => rank.predicates.path_regex = Reverse(true),
                Test::Method(_) => rank.predicates.method = Reverse(true),
                Test::Header { .. } | Test::HeaderRegex { .. } => rank.predicates.headers.0 += 1,
                Test::Query { .. } | Test::QueryRegex { .. } => rank.predicates.query.0 += 1,
                Test::Clients(_) => rank.predicates.clients = Reverse(true),
            }
        }
        rank
    }
}

/// Whether a claim names a path longer than `/`: without one it ranks after every route of the holder on a host that
/// another source holds. A path regex or a method is not enough, nor is the root alone.
pub(super) fn has_literal_path(matched: &RouteMatch) -> bool {
    match &matched.path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) | PathMatch::StringPrefix(path) => path.len() > 1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::id::{Kind, Source};
    use crate::model::pattern::Pattern;
    use crate::model::predicate::Term;

    fn matched(host: &str, path: PathMatch, terms: &[Term]) -> RouteMatch {
        let terms = terms.iter().cloned().collect();
        RouteMatch { terms, ..RouteMatch::new(host.parse().expect("valid"), path) }
    }

    fn prefix(path: &str) -> PathMatch {
        PathMatch::prefix(path).expect("valid")
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).expect("valid")
    }

    fn method() -> Term {
        Term::is(Test::Method(BTreeSet::from(["GET".into()])))
    }

    fn header(name: &str) -> Term {
        Term::is(Test::Header { name: name.into(), value: "v".into() })
    }

    fn query(name: &str) -> Term {
        Term::is(Test::Query { name: name.into(), value: "v".into() })
    }

    fn clients() -> Term {
        Term::is(Test::Clients(BTreeSet::from(["10.0.0.0/8".parse().expect("valid")])))
    }

    fn host_regex() -> Term {
        Term::is(Test::HostRegex(pattern("")))
    }

    fn path_regex() -> Term {
        Term::is(Test::PathRegex(pattern("^/abcdef")))
    }

    /// Each before the next, though the later one has everything in its favour that ranks behind the match.
    #[track_caller]
    fn assert_order(order: &[(RouteMatch, i64, bool)]) {
        let source = Source::new(Provider::Docker, Some("p".into()));
        let [late, early] = ["z", "a"].map(|name| ObjectId::new(&source, Kind::Route, name));
        for pair in order.windows(2) {
            let [(winner, winner_priority, winner_strange), (loser, loser_priority, loser_strange)] = pair else {
                continue;
            };
            let first = Standing {
                id: &late,
                priority: *winner_priority,
                created: Timestamp::from_second(9).expect("a time"),
                holder: false,
                stranger: *winner_strange,
            };
            let second = Standing {
                id: &early,
                priority: *loser_priority,
                created: Timestamp::from_second(1).expect("a time"),
                holder: !loser_strange,
                stranger: *loser_strange,
            };
            assert!(Rank::of(winner, first) < Rank::of(loser, second), "{winner} before {loser}");
        }
    }

    #[test]
    fn the_documented_order_holds() {
        let exact = || PathMatch::exact("/a").expect("valid");
        let order = [
            (matched("*", prefix("/"), &[]), 1, false),
            (matched("a.example.com", exact(), &[]), 0, false),
            (matched("a.example.com", prefix("/abc"), &[]), 0, false),
            (matched("a.example.com", PathMatch::StringPrefix("/ab".into()), &[method()]), 0, false),
            (matched("a.example.com", prefix("/a"), &[path_regex()]), 0, false),
            (matched("a.example.com", prefix("/a"), &[method(), header("a")]), 0, false),
            (matched("a.example.com", prefix("/a"), &[method()]), 0, false),
            (matched("a.example.com", prefix("/a"), &[header("a"), header("b")]), 0, false),
            (matched("a.example.com", prefix("/a"), &[header("a"), query("a"), query("b")]), 0, false),
            (matched("a.example.com", prefix("/a"), &[header("a"), query("a"), clients()]), 0, false),
            (matched("a.example.com", prefix("/a"), &[header("a"), query("a")]), 0, false),
            (matched("a.example.com", prefix("/a"), &[query("a")]), 0, false),
            (matched("a.example.com", prefix("/a"), &[clients()]), 0, false),
            (matched("a.example.com", prefix("/a"), &[]), 0, false),
            (matched("a.example.com", PathMatch::StringPrefix("/a".into()), &[method()]), 0, false),
            (matched("a.example.com", PathMatch::everything(), &[path_regex()]), 0, false),
            (matched("a.example.com", PathMatch::everything(), &[method(), header("a")]), 0, false),
            (matched("a.example.com", PathMatch::everything(), &[]), 0, false),
            (matched("*.example.com", prefix("/abc"), &[]), 0, false),
            (matched("*.com", exact(), &[method()]), 0, false),
            (matched("*", prefix("/"), &[host_regex()]), 0, false),
            (matched("*", exact(), &[method()]), 0, false),
            (matched("*", prefix("/abc"), &[]), 0, false),
            (matched("a.example.com", prefix("/"), &[]), 99, true),
        ];
        assert_order(&order);
    }

    #[test]
    fn what_cannot_be_read_stands_before_all_that_can() {
        let unread = RouteMatch { unread: Some("rule=…".into()), ..matched("a.example", prefix("/a"), &[]) };
        assert_order(&[
            (unread, 0, false),
            (matched("a.example", prefix("/a"), &[method(), header("a"), query("a")]), 0, false),
        ]);
    }

    #[test]
    fn a_negated_term_adds_nothing() {
        let not = Term { negated: true, ..method() };
        assert_order(&[
            (matched("a.example", prefix("/a"), &[clients()]), 0, false),
            (matched("a.example", prefix("/a"), &[not, Term { negated: true, ..header("a") }]), 0, false),
        ]);
    }

    #[test]
    fn a_stranger_gains_nothing_by_priority_or_a_term() {
        let regex = PathMatch::everything();
        let root = PathMatch::exact("/").expect("valid");
        assert_order(&[
            (matched("a.example", prefix("/a"), &[]), 0, false),
            (matched("a.example", prefix("/a"), &[host_regex(), path_regex(), method(), header("a")]), 1_000, true),
        ]);
        assert_order(&[
            (matched("a.example", prefix("/ab"), &[]), 0, false),
            (matched("a.example", prefix("/a"), &[host_regex()]), 0, true),
        ]);
        assert_order(&[
            (matched("a.example", PathMatch::StringPrefix("/a".into()), &[]), 0, false),
            (matched("a.example", prefix("/a"), &[]), 0, true),
        ]);
        for (path, term) in [(regex.clone(), path_regex()), (regex, method()), (root, header("a"))] {
            assert_order(&[
                (matched("a.example", PathMatch::everything(), &[]), -1, false),
                (matched("a.example", path, &[term]), 1_000, true),
            ]);
        }
    }

    #[test]
    fn two_claims_of_one_route_are_never_equal() {
        let id = ObjectId::new(&Source::new(Provider::File, None), Kind::Route, "r");
        let standing =
            Standing { id: &id, priority: 0, created: Timestamp::UNIX_EPOCH, holder: false, stranger: false };
        let (a, b) =
            (matched("a.example", prefix("/a"), &[header("a")]), matched("a.example", prefix("/a"), &[header("b")]));
        assert!(Rank::of(&a, standing) < Rank::of(&b, standing));
    }
}
