//! Routes that no request can reach because others that win cover all their matches.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::diagnostic::{Diagnostic, Reason};
use crate::model::host::{HostPattern, parent};
use crate::model::id::{Name, ObjectId};
use crate::model::path::PathMatch;

use super::desired::{Claim, Desired, DesiredRoute};
use super::precedence::{Rank, Standing};

/// The claims of one host by the path they are keyed by, so that a claim meets only those that can cover it.
#[derive(Default)]
struct Paths<'d> {
    claims: BTreeMap<&'d PathMatch, Vec<(&'d DesiredRoute, &'d Claim)>>,
    /// The lengths of the prefixes by characters: the only places at which one can end.
    by_characters: BTreeSet<usize>,
}

pub(super) fn find(desired: &Desired, findings: &mut Vec<Diagnostic>) {
    let mut by_host: BTreeMap<(&Name, &HostPattern), Paths<'_>> = BTreeMap::new();
    for route in desired.routes.values() {
        for claim in &route.claims {
            by_host.entry((&claim.listener, &claim.matched.host)).or_default().push(route, claim);
        }
    }
    for route in desired.routes.values().filter(|route| !route.claims.is_empty()) {
        let mut by: Option<ObjectId> = None;
        let shadowed = route.claims.iter().all(|claim| {
            let mut wider = vec![claim.matched.host.clone()];
            if claim.matched.host != HostPattern::Any {
                wider.push(HostPattern::Any);
            }
            if let HostPattern::Exact(name) = &claim.matched.host
                && let Some(parent) = parent(name)
            {
                wider.push(HostPattern::Wildcard(parent.into()));
            }
            let mine = standing_rank(desired, route, claim, &claim.matched.host);
            let winner = wider.iter().find_map(|host| {
                by_host.get(&(&claim.listener, host))?.covering(&claim.matched.path).find(|(other, wide)| {
                    other.id != route.id
                        && wide.matched.covers(&claim.matched)
                        && standing_rank(desired, other, wide, &claim.matched.host) < mine
                })
            });
            by = by.take().or_else(|| winner.map(|(other, _)| other.id.clone()));
            winner.is_some()
        });
        if shadowed && let Some(by) = by {
            let stranger = |claim: &Claim| {
                desired.hosts.get(&claim.matched.host).is_some_and(|facts| facts.is_stranger(&route.source))
            };
            let remedy = match route.claims.iter().any(stranger) {
                true => "Give it a path of its own, or another host",
                false => "Change a priority or a path",
            };
            let detail = format!("no request reaches it: {by} wins wherever it matches. {remedy}");
            findings.push(
                Diagnostic::warning(route.id.clone(), Reason::Shadowed, route.origin.clone(), detail).relating(by),
            );
        }
    }
}

impl<'d> Paths<'d> {
    fn push(&mut self, route: &'d DesiredRoute, claim: &'d Claim) {
        let path = &claim.matched.path;
        if let PathMatch::StringPrefix(prefix) = path {
            self.by_characters.insert(prefix.len());
        }
        self.claims.entry(path).or_default().push((route, claim));
    }

    /// Every claim whose path covers this one.
    fn covering(&self, path: &PathMatch) -> impl Iterator<Item = &(&'d DesiredRoute, &'d Claim)> {
        let (PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::StringPrefix(text)) = path;
        let segments = text.match_indices('/').map(|(at, _)| &text[..at.max(1)]).chain([&**text]);
        let characters = self.by_characters.iter().filter_map(|length| text.get(..*length));
        let mut keys: Vec<PathMatch> = segments.map(|prefix| PathMatch::Prefix(prefix.into())).collect();
        keys.extend(characters.map(|prefix| PathMatch::StringPrefix(prefix.into())));
        keys.push(PathMatch::Exact(text.clone()));
        keys.sort();
        keys.dedup();
        keys.into_iter().filter_map(|key| self.claims.get(&key)).flatten()
    }
}

/// The rank of a claim among those for requests to `host`.
pub fn standing_rank<'d>(
    desired: &'d Desired,
    route: &'d DesiredRoute,
    claim: &'d Claim,
    host: &HostPattern,
) -> Rank<'d> {
    let facts = desired.hosts.get(host);
    let holder = facts.is_some_and(|facts| facts.held_by(&route.source));
    let stranger = facts.is_some_and(|facts| facts.is_stranger(&route.source));
    let standing = Standing { id: &route.id, priority: route.priority, created: route.created, holder, stranger };
    Rank::of(&claim.matched, standing)
}
