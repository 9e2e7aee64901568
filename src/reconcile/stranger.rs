//! Rule (d) said aloud: what counts for nothing on a host that another source holds.
//!
//! The order itself is [`super::precedence`]'s. Here a route learns that its priority, or its lack of a path, leaves it
//! behind the holder's routes, and that its wildcard, regex or any-host claims never meet a protected host.

use crate::model::diagnostic::{Diagnostic, Reason, Severity};
use crate::model::host::HostPattern;
use crate::model::id::{ObjectId, Source};
use crate::model::predicate::Test;
use crate::model::route::RouteMatch;

use super::desired::{Desired, DesiredRoute, HostFacts};
use super::precedence::has_literal_path;

pub(super) fn find(desired: &Desired, findings: &mut Vec<Diagnostic>) {
    for route in desired.routes.values().filter(|route| !route.source.is_operator()) {
        findings.extend(outranked(desired, route));
        findings.extend(kept_out(desired, route));
    }
}

/// Once a route, about the first host in order: a list of all would change with every container.
fn outranked(desired: &Desired, route: &DesiredRoute) -> Option<Diagnostic> {
    let behind = |matched: &RouteMatch| route.priority > 0 || !has_literal_path(matched);
    let (matched, host, facts) = first(desired, route, &behind, &|facts| !facts.protected)?;
    let holders = names(facts);
    let wide = matched.host != *host;
    let why = match (route.priority > 0, wide) {
        (true, _) => format!("its priority counts as 0 on {host}, which {holders} holds"),
        (false, false) => {
            format!("{host} is held by {holders}: without a path of its own it ranks after every route of the holder")
        }
        (false, true) => format!("on {host}, which {holders} holds, it ranks after every route of the holder"),
    };
    let others = if wide { ", and likewise wherever others hold a host that it matches" } else { "" };
    // What is named expressly and does not hold is a warning; that a wide route comes last is only good to know.
    let severity = if route.priority > 0 || !wide { Severity::Warning } else { Severity::Info };
    Some(finding(desired, route, Reason::Outranked, severity, host, facts, format!("{why}{others}")))
}

/// Rule (e): the wildcard, regex and any-host claims that a protected host never sees.
fn kept_out(desired: &Desired, route: &DesiredRoute) -> Option<Diagnostic> {
    let (_, host, facts) = first(desired, route, &|_| true, &|facts| facts.protected)?;
    let detail = format!(
        "{host} is under a policy of {} and that source's alone: requests for it never come here",
        names(facts)
    );
    Some(finding(desired, route, Reason::HostProtected, Severity::Info, host, facts, detail))
}

fn finding(
    desired: &Desired,
    route: &DesiredRoute,
    reason: Reason,
    severity: Severity,
    host: &HostPattern,
    facts: &HostFacts,
    detail: String,
) -> Diagnostic {
    let finding = Diagnostic::warning(route.id.clone(), reason, route.origin.clone(), detail);
    let mut finding = Diagnostic { severity, ..finding };
    finding.related.extend(holders_route(desired, host, facts));
    finding
}

/// The first claim and the first host that it meets as a stranger.
fn first<'d>(
    desired: &'d Desired,
    route: &'d DesiredRoute,
    claims: &dyn Fn(&RouteMatch) -> bool,
    hosts: &dyn Fn(&HostFacts) -> bool,
) -> Option<(&'d RouteMatch, &'d HostPattern, &'d HostFacts)> {
    let strange = |facts: &HostFacts| facts.is_stranger(&route.source) && hosts(facts);
    route.claims.iter().map(|claim| &claim.matched).filter(|matched| claims(matched)).find_map(|matched| {
        // Its own host first: that is where it was meant to stand.
        let own = desired.hosts.get_key_value(&matched.host).filter(|(_, facts)| strange(facts));
        let wider = || match &matched.host {
            HostPattern::Exact(_) => None,
            _ => desired
                .hosts
                .iter()
                .find(|(host, facts)| **host != matched.host && strange(facts) && meets(matched, host)),
        };
        own.or_else(wider).map(|(host, facts)| (matched, host, facts))
    })
}

/// Whether requests for `host` may match, as far as can be told from the host alone.
fn meets(matched: &RouteMatch, host: &HostPattern) -> bool {
    let HostPattern::Exact(name) = host else { return matched.host.covers(host) };
    matched.host.covers(host)
        && matched.terms.iter().all(|term| match &term.test {
            Test::Host(pattern) => pattern.matches(name) != term.negated,
            Test::HostRegex(pattern) => pattern.is_match(name.as_bytes()) != term.negated,
            _ => true,
        })
}

fn names(facts: &HostFacts) -> String {
    facts.holders.iter().map(Source::to_string).collect::<Vec<_>>().join(" and ")
}

fn holders_route(desired: &Desired, host: &HostPattern, facts: &HostFacts) -> Option<ObjectId> {
    let mut routes = desired.routes.values();
    let holds = |route: &&DesiredRoute| {
        facts.held_by(&route.source) && route.claims.iter().any(|claim| claim.matched.host == *host)
    };
    routes.find(holds).map(|route| route.id.clone())
}
