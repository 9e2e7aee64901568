//! Decides which of two claims to the same request wins. One `Ord`, used by reconcile, the table and reports alike.
//!
//! Explicit priority > exact host > longer wildcard > any host > exact path > longest prefix > further predicates >
//! provider rank > holder > older > id. Ties end at `ObjectId`: never at arrival order. The smaller rank wins.

use std::cmp::Reverse;

use jiff::Timestamp;

use crate::model::host::HostPattern;
use crate::model::id::{ObjectId, Provider};
use crate::model::path::PathMatch;
use crate::model::route::RouteMatch;

/// Where one claim stands among those for one host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// A tenant's route without a literal path, on a host that another source holds: after every route of the holder.
    demoted: bool,
    priority: Reverse<i64>,
    host: HostRank,
    path: PathRank,
    /// More predicates first.
    predicates: Reverse<bool>,
    provider: Provider,
    holder: Reverse<bool>,
    created: Timestamp,
    id: ObjectId,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Exact,
    Wildcard(Reverse<usize>),
    Any,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact,
    Prefix(Reverse<usize>),
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

impl Rank {
    pub fn of(matched: &RouteMatch, standing: Standing<'_>) -> Rank {
        let Standing { id, priority, created, holder, stranger } = standing;
        Rank {
            demoted: stranger && matched.path.is_everything(),
            priority: Reverse(if stranger { 0 } else { priority }),
            host: match &matched.host {
                HostPattern::Exact(_) => HostRank::Exact,
                HostPattern::Wildcard(suffix) => HostRank::Wildcard(Reverse(suffix.len())),
                HostPattern::Any => HostRank::Any,
            },
            path: match &matched.path {
                PathMatch::Exact(_) => PathRank::Exact,
                PathMatch::Prefix(prefix) | PathMatch::StringPrefix(prefix) => PathRank::Prefix(Reverse(prefix.len())),
            },
            predicates: Reverse(matched.unread.is_some()),
            provider: id.provider,
            holder: Reverse(holder),
            created,
            id: id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{Kind, Source};

    fn rank(host: &str, path: PathMatch, priority: i64, stranger: bool) -> Rank {
        let id = ObjectId::new(&Source::new(Provider::Docker, Some("p".into())), Kind::Route, "r");
        let matched = RouteMatch::new(host.parse().expect("valid"), path);
        let created = Timestamp::UNIX_EPOCH;
        Rank::of(&matched, Standing { id: &id, priority, created, holder: !stranger, stranger })
    }

    #[test]
    fn the_documented_order_holds() {
        let prefix = |p: &str| PathMatch::prefix(p).expect("valid");
        let exact = PathMatch::exact("/a").expect("valid");
        let order = [
            rank("*", prefix("/"), 1, false),
            rank("a.example.com", exact, 0, false),
            rank("a.example.com", prefix("/abc"), 0, false),
            rank("a.example.com", prefix("/a"), 0, false),
            rank("*.example.com", prefix("/abc"), 0, false),
            rank("*", prefix("/abc"), 0, false),
            rank("a.example.com", prefix("/"), 99, true),
        ];
        for pair in order.windows(2) {
            assert!(pair[0] < pair[1], "{:?} before {:?}", pair[0], pair[1]);
        }
    }

    #[test]
    fn a_stranger_cannot_outrank_by_priority() {
        let path = PathMatch::prefix("/a").expect("valid");
        assert!(rank("a.example", path.clone(), 0, false) < rank("a.example", path, 1_000, true));
    }
}
