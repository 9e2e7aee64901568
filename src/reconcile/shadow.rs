//! Routes that no request can reach because others that win cover all their matches.

use std::collections::BTreeMap;

use crate::model::diagnostic::{Diagnostic, Reason};
use crate::model::host::{HostPattern, parent};
use crate::model::id::{Name, ObjectId};

use super::desired::{Claim, Desired, DesiredRoute};
use super::precedence::{Rank, Standing};

pub(super) fn find(desired: &Desired, findings: &mut Vec<Diagnostic>) {
    // Without an explicit priority a wider claim never wins over a narrower one, so there is nothing to look for.
    if desired.routes.values().all(|route| route.priority == 0) {
        return;
    }
    let mut by_host: BTreeMap<(&Name, &HostPattern), Vec<(&DesiredRoute, &Claim)>> = BTreeMap::new();
    for route in desired.routes.values() {
        for claim in &route.claims {
            by_host.entry((&claim.listener, &claim.matched.host)).or_default().push((route, claim));
        }
    }
    let rank = |route: &DesiredRoute, claim: &Claim| standing_rank(desired, route, claim, &claim.matched.host);
    for route in desired.routes.values().filter(|route| !route.claims.is_empty()) {
        let mut by: Option<ObjectId> = None;
        let shadowed = route.claims.iter().all(|claim| {
            let mut wider = vec![claim.matched.host.clone(), HostPattern::Any];
            if let HostPattern::Exact(name) = &claim.matched.host
                && let Some(parent) = parent(name)
            {
                wider.push(HostPattern::Wildcard(parent.into()));
            }
            let mine = rank(route, claim);
            let winner = wider.iter().find_map(|host| {
                by_host.get(&(&claim.listener, host))?.iter().find(|(other, wide)| {
                    other.id != route.id
                        && wide.matched.covers(&claim.matched)
                        && standing_rank(desired, other, wide, &claim.matched.host) < mine
                })
            });
            by = by.take().or_else(|| winner.map(|(other, _)| other.id.clone()));
            winner.is_some()
        });
        if shadowed && let Some(by) = by {
            let detail = format!("no request reaches it: {by} wins wherever it matches. Change a priority or a path");
            findings.push(
                Diagnostic::warning(route.id.clone(), Reason::Shadowed, route.origin.clone(), detail).relating(by),
            );
        }
    }
}

/// The rank of a claim among those for requests to `host`.
pub fn standing_rank(desired: &Desired, route: &DesiredRoute, claim: &Claim, host: &HostPattern) -> Rank {
    let facts = desired.hosts.get(host);
    let holder = facts.is_some_and(|facts| facts.held_by(&route.source));
    let held = facts.is_some_and(|facts| !facts.holders.is_empty());
    let stranger = held && !holder && !route.source.is_operator();
    let standing = Standing { id: &route.id, priority: route.priority, created: route.created, holder, stranger };
    Rank::of(&claim.matched, standing)
}
