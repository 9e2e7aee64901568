//! Paths of one host, as a trie of segments.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::model::path::PathMatch;

use super::RouteIndex;

/// Candidates in order of precedence: the first of them that matches wins, so a node keeps the smallest position.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    routes: Vec<RouteIndex>,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    prefix: Option<u32>,
    exact: Option<u32>,
    children: HashMap<Box<str>, Node, RandomState>,
}

impl PathIndex {
    /// `candidates` come sorted, the winner first.
    pub fn new<'c>(candidates: impl IntoIterator<Item = (&'c PathMatch, RouteIndex)>) -> PathIndex {
        let mut index = PathIndex::default();
        for (path, route) in candidates {
            let position = index.routes.len() as u32;
            index.routes.push(route);
            let (text, exact) = match path {
                PathMatch::Exact(text) => (&**text, true),
                PathMatch::Prefix(text) if &**text == "/" => ("", false),
                PathMatch::Prefix(text) | PathMatch::StringPrefix(text) => (&**text, false),
            };
            let mut node = &mut index.root;
            for segment in segments(text) {
                node = node.children.entry(segment.into()).or_default();
            }
            let slot = if exact { &mut node.exact } else { &mut node.prefix };
            slot.get_or_insert(position);
        }
        index
    }

    pub fn lookup(&self, path: &str) -> Option<RouteIndex> {
        let mut node = &self.root;
        let mut best = node.prefix;
        let mut whole = true;
        for segment in segments(path) {
            if node.children.is_empty() {
                whole = false;
                break;
            }
            match node.children.get(segment) {
                Some(child) => node = child,
                None => {
                    whole = false;
                    break;
                }
            }
            best = earlier(best, node.prefix);
        }
        if whole {
            best = earlier(best, node.exact);
        }
        best.and_then(|position| self.routes.get(position as usize).copied())
    }
}

fn earlier(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// `/a/b/` is `a`, `b` and an empty last one, so that a trailing slash is told apart.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim() -> impl Strategy<Value = PathMatch> {
        let path = proptest::collection::vec("[ab]{0,2}", 0..4).prop_map(|segments| format!("/{}", segments.join("/")));
        (path, any::<bool>()).prop_map(|(path, exact)| {
            if exact { PathMatch::exact(&path) } else { PathMatch::prefix(&path) }.expect("valid")
        })
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_a_linear_search(
            claims in proptest::collection::vec(claim(), 0..12),
            segments in proptest::collection::vec("[ab]{0,2}", 0..5),
        ) {
            let path = format!("/{}", segments.join("/"));
            let index = PathIndex::new(claims.iter().enumerate().map(|(i, c)| (c, RouteIndex(i as u32))));
            let linear = claims.iter().position(|claim| claim.matches(&path)).map(|i| RouteIndex(i as u32));
            prop_assert_eq!(index.lookup(&path), linear, "{:?} on {}", claims, path);
        }
    }
}
