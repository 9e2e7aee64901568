//! Expression ─▶ disjunctive normal form: the fewest matches that say the same and rank the same.
//!
//! Negations are pushed down to the tests, conjunctions multiplied out, and what cannot hold is dropped on the way. A
//! match that another one covers is dropped only where it would rank no higher: `Host(a) || Host(a) && Path(/x)` keeps
//! both, because the second stands before other routes on `/x`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::host::HostPattern;
use crate::model::nets;
use crate::model::path::PathMatch;
use crate::model::predicate::{Term, Test};
use crate::model::route::RouteMatch;

use super::parser::Expr;

type Alternatives = BTreeSet<RouteMatch>;

/// How many matches a rule may come to.
pub(super) const LIMIT: usize = 64;
/// How many may be there before those that cannot hold, or say nothing new, are gone: per step and in all.
const STEP: usize = 256;
const WORK: usize = 4096;

pub(super) fn alternatives(expr: &Expr) -> Result<Vec<RouteMatch>, String> {
    let found = Normaliser { work: 0 }.alternatives(expr, false).ok_or_else(|| too_many("more"))?;
    if found.is_empty() {
        return Err("no request can match the rule: what it joins with && excludes itself".into());
    }
    if found.len() > LIMIT {
        return Err(too_many(&found.len().to_string()));
    }
    Ok(found.into_iter().collect())
}

fn too_many(found: &str) -> String {
    format!(
        "multiplied out, the rule has {found} alternatives where {LIMIT} are allowed; write a regular expression, or \
         several routes with one service"
    )
}

struct Normaliser {
    work: usize,
}

impl Normaliser {
    /// `None` where they are too many.
    fn alternatives(&mut self, expr: &Expr, negated: bool) -> Option<Alternatives> {
        match expr {
            Expr::Test(test) => Some(literal(test, negated).into_iter().collect()),
            Expr::Not(inner) => self.alternatives(inner, !negated),
            Expr::Any(items) if !negated => self.sum(items, negated),
            Expr::All(items) if negated => self.sum(items, negated),
            Expr::Any(items) | Expr::All(items) => self.product(items, negated),
        }
    }

    fn sum(&mut self, items: &[Expr], negated: bool) -> Option<Alternatives> {
        let mut all = Alternatives::new();
        for item in items {
            all.extend(self.alternatives(item, negated)?);
        }
        tidied(all)
    }

    fn product(&mut self, items: &[Expr], negated: bool) -> Option<Alternatives> {
        let mut factors = items.iter().map(|item| self.alternatives(item, negated)).collect::<Option<Vec<_>>>()?;
        if factors.iter().any(BTreeSet::is_empty) {
            return Some(Alternatives::new());
        }
        // Single ones first, and at once: what they exclude is not multiplied.
        factors.sort_by_key(BTreeSet::len);
        let several = factors.split_off(factors.partition_point(|factor| factor.len() == 1));
        let mut all: Alternatives = together(factors.iter().flatten()).into_iter().collect();
        for factor in several {
            self.work += all.len() * factor.len();
            if self.work > WORK {
                return None;
            }
            let pairs = all.iter().flat_map(|a| factor.iter().map(move |b| (a, b)));
            all = tidied(pairs.filter_map(|(a, b)| together([a, b])).collect())?;
        }
        Some(all)
    }
}

fn everything() -> RouteMatch {
    RouteMatch::new(HostPattern::Any, PathMatch::everything())
}

fn literal(test: &Test, negated: bool) -> Option<RouteMatch> {
    let mut one = everything();
    match (test, negated) {
        (Test::Host(host), false) => one.host = host.clone(),
        (Test::Path(path), false) if path.is_everything() => {}
        (Test::Path(path), false) => one.path = path.clone(),
        (test, _) => {
            one.terms.insert(Term { negated, test: test.clone() });
        }
    }
    settled(one)
}

/// What all of them ask, or nothing where no request can be all.
fn together<'m>(matches: impl IntoIterator<Item = &'m RouteMatch>) -> Option<RouteMatch> {
    let mut one = everything();
    for other in matches {
        // Exact names and wildcards of one label, exact paths and prefixes by characters: either nested or apart.
        if one.host.covers(&other.host) {
            one.host = other.host.clone();
        } else if !other.host.covers(&one.host) {
            return None;
        }
        if one.path.covers(&other.path) {
            one.path = other.path.clone();
        } else if !other.path.covers(&one.path) {
            return None;
        }
        one.terms.extend(other.terms.iter().cloned());
    }
    settled(one)
}

/// Joins what several terms say of one thing and leaves out what the others imply; nothing where they exclude each
/// other.
fn settled(one: RouteMatch) -> Option<RouteMatch> {
    let RouteMatch { host, path, terms, unread } = one;
    let mut rest = BTreeSet::new();
    let (mut methods, mut not_methods) = (None::<BTreeSet<_>>, BTreeSet::new());
    let (mut clients, mut not_clients) = (None::<BTreeSet<_>>, BTreeSet::new());
    for Term { negated, test } in terms {
        match (test, negated) {
            (Test::Host(other), true) if other.covers(&host) => return None,
            (Test::Host(other), true) if !host.covers(&other) => {}
            (Test::Path(other), true) if other.covers(&path) => return None,
            (Test::Path(other), true) if !path.covers(&other) => {}
            (Test::Method(these), false) => {
                methods = Some(methods.map_or(these.clone(), |methods| &methods & &these));
            }
            (Test::Method(these), true) => not_methods.extend(these),
            (Test::Clients(these), false) => {
                clients = Some(clients.map_or(these.clone(), |clients| nets::intersection(&clients, &these)));
            }
            (Test::Clients(these), true) => not_clients = nets::union(&not_clients, &these),
            (test, negated) => {
                let opposite = Term { negated: !negated, test };
                if rest.contains(&opposite) {
                    return None;
                }
                rest.insert(Term { negated, test: opposite.test });
            }
        }
    }
    if let Some(methods) = &mut methods {
        *methods = &*methods - &not_methods;
        not_methods.clear();
    }
    if let Some(clients) = &mut clients {
        clients.retain(|net| !not_clients.iter().any(|other| other.contains(net)));
        not_clients.retain(|net| clients.iter().any(|other| other.contains(net)));
    }
    if methods.as_ref().is_some_and(BTreeSet::is_empty) || clients.as_ref().is_some_and(BTreeSet::is_empty) {
        return None;
    }
    rest.extend(methods.map(Test::Method).map(Term::is));
    rest.extend(clients.map(Test::Clients).map(Term::is));
    rest.extend((!not_methods.is_empty()).then(|| Term::not(Test::Method(not_methods))));
    rest.extend((!not_clients.is_empty()).then(|| Term::not(Test::Clients(not_clients))));
    Some(RouteMatch { host, path, terms: rest, unread })
}

/// Alternatives that differ in their methods alone are one, and so are those that differ in their clients; and what
/// says nothing new is gone.
fn tidied(all: Alternatives) -> Option<Alternatives> {
    let all = joined(all, |test| matches!(test, Test::Method(_)));
    let all = joined(all, |test| matches!(test, Test::Clients(_)));
    if all.len() > STEP {
        return None;
    }
    let new = all.iter().filter(|one| !all.iter().any(|other| other != *one && adds_nothing(one, other)));
    Some(new.cloned().collect())
}

/// Whether `other` matches all that `one` does and ranks the same: negated terms add nothing to a rank.
fn adds_nothing(one: &RouteMatch, other: &RouteMatch) -> bool {
    other.terms.len() < one.terms.len()
        && (&one.host, &one.path) == (&other.host, &other.path)
        && other.terms.is_subset(&one.terms)
        && one.terms.difference(&other.terms).all(|term| term.negated)
}

fn joined(all: Alternatives, joins: fn(&Test) -> bool) -> Alternatives {
    let mut done = Alternatives::new();
    let mut groups: BTreeMap<RouteMatch, Test> = BTreeMap::new();
    for mut one in all {
        let Some(term) = one.terms.iter().find(|term| !term.negated && joins(&term.test)).cloned() else {
            done.insert(one);
            continue;
        };
        one.terms.remove(&term);
        match (groups.get_mut(&one), term.test) {
            (Some(Test::Method(methods)), Test::Method(more)) => methods.extend(more),
            (Some(Test::Clients(clients)), Test::Clients(more)) => *clients = nets::union(clients, &more),
            (_, test) => {
                groups.insert(one, test);
            }
        }
    }
    done.extend(groups.into_iter().map(|(mut one, test)| {
        one.terms.insert(Term::is(test));
        one
    }));
    done
}
