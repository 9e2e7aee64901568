//! The candidates of one host, by their paths: a radix tree over bytes.
//!
//! ```text
//! path ─▶ down the tree, as far as it spells the path ─▶ up again: exact, prefix, string prefix at each node
//!                                                        ─▶ the smallest position whose checks hold
//! ```
//! Candidates stand in order of precedence, so that positions are compared and never ranks. The cost is bounded by the
//! path's length and by the candidates that stand at the very paths on the way (see [`Row`]); those behind one without
//! terms are not even kept.

use std::collections::BTreeMap;

use crate::model::path::PathMatch;

use super::RouteIndex;
use super::predicate::{Checks, RequestView};
use super::row::Row;

/// What answers for one host.
#[derive(Debug)]
pub(super) enum PathIndex {
    Nothing,
    /// One route for all that is asked, as most hosts have it: nothing further is read, and no cache line missed for it.
    Everything(RouteIndex),
    Tree(Tree),
}

#[derive(Debug)]
pub(super) struct Tree {
    /// The winner first.
    candidates: Box<[Candidate]>,
    /// The root first.
    nodes: Vec<Node>,
}

/// A route that may answer, where its further terms hold.
#[derive(Debug)]
pub(super) struct Candidate {
    pub route: RouteIndex,
    pub checks: Checks,
}

/// One place of the tree: a path, or what several have in common.
#[derive(Debug, Default)]
struct Node {
    /// What is read on the way from the node's parent.
    label: Box<[u8]>,
    /// The length of the path from the root to here.
    end: usize,
    /// The nearest node towards the root at which claims stand. No recursion: how deep the tree is, labels decide.
    above: Option<u32>,
    /// By the first byte of their labels.
    children: Vec<(u8, u32)>,
    claims: Claims,
}

/// Up to the first without terms each.
#[derive(Debug, Default)]
struct Claims {
    exact: Row,
    prefix: Row,
    string: Row,
}

impl PathIndex {
    /// `candidates` come sorted, the winner first.
    pub fn new<'c>(candidates: impl IntoIterator<Item = (&'c PathMatch, Candidate)>) -> PathIndex {
        let mut places: BTreeMap<&'c str, [Vec<u32>; 3]> = BTreeMap::new();
        let mut kept: Vec<Candidate> = Vec::new();
        for (path, candidate) in candidates {
            let (text, kind) = match path {
                path if path.is_everything() => ("", 1),
                PathMatch::Exact(text) => (&**text, 0),
                PathMatch::Prefix(text) => (&**text, 1),
                PathMatch::StringPrefix(text) => (&**text, 2),
            };
            let positions = &mut places.entry(text).or_default()[kind];
            let last = positions.last().and_then(|last| kept.get(*last as usize));
            if !last.is_some_and(|last| last.checks.is_empty()) {
                positions.push(kept.len() as u32);
                kept.push(candidate);
            }
        }
        match &kept[..] {
            [] => return PathIndex::Nothing,
            [one] if one.checks.is_empty() && places.get("").is_some_and(|[_, prefix, _]| !prefix.is_empty()) => {
                return PathIndex::Everything(one.route);
            }
            _ => {}
        }
        let mut tree = Tree { candidates: kept.into(), nodes: vec![Node::default()] };
        for (text, [exact, prefix, string]) in places {
            let at = tree.place(text.as_bytes());
            let [exact, prefix, string] = [exact, prefix, string].map(|row| Row::new(&row, &tree.candidates));
            tree.nodes[at].claims = Claims { exact, prefix, string };
        }
        tree.settle();
        PathIndex::Tree(tree)
    }
}

impl Tree {
    pub fn lookup(&self, request: &RequestView<'_>) -> Option<RouteIndex> {
        let path = request.path.as_bytes();
        let mut node = self.nodes.first()?;
        let mut rest = path;
        while let Some(child) = rest.first().and_then(|first| node.child(*first)).map(|at| &self.nodes[at])
            && let Some(after) = rest.strip_prefix(&*child.label)
        {
            (node, rest) = (child, after);
        }
        // Upwards, since the longer path mostly wins: what stands behind it is then not even looked at.
        let mut best: Option<u32> = None;
        let mut next = Some(node);
        while let Some(node) = next {
            let Claims { exact, prefix, string } = &node.claims;
            let tail = &path[node.end..];
            if tail.is_empty() {
                best = exact.earlier(&self.candidates, request, best);
            }
            if tail.first().is_none_or(|first| *first == b'/') || node.end == 0 {
                best = prefix.earlier(&self.candidates, request, best);
            }
            best = string.earlier(&self.candidates, request, best);
            next = node.above.map(|above| &self.nodes[above as usize]);
        }
        best.map(|position| self.candidates[position as usize].route)
    }
}

impl Node {
    fn child(&self, first: u8) -> Option<usize> {
        let slot = self.children.binary_search_by_key(&first, |(byte, _)| *byte).ok()?;
        Some(self.children[slot].1 as usize)
    }

    fn stands(&self) -> bool {
        let Claims { exact, prefix, string } = &self.claims;
        !(exact.is_empty() && prefix.is_empty() && string.is_empty())
    }
}

/// How it is put together.
impl Tree {
    /// The node of a path, made where it is not there.
    fn place(&mut self, path: &[u8]) -> usize {
        let (mut at, mut rest) = (0, path);
        while let Some(&first) = rest.first() {
            let slot = match self.nodes[at].children.binary_search_by_key(&first, |(byte, _)| *byte) {
                Ok(slot) => slot,
                Err(slot) => {
                    let leaf = self.add(Node { label: rest.into(), ..Node::default() });
                    self.nodes[at].children.insert(slot, (first, leaf));
                    return leaf as usize;
                }
            };
            let child = self.nodes[at].children[slot].1;
            let label = std::mem::take(&mut self.nodes[child as usize].label);
            let shared = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if shared == label.len() {
                self.nodes[child as usize].label = label;
                at = child as usize;
            } else {
                self.nodes[child as usize].label = label[shared..].into();
                let children = vec![(label[shared], child)];
                let fork = self.add(Node { label: label[..shared].into(), children, ..Node::default() });
                self.nodes[at].children[slot].1 = fork;
                at = fork as usize;
            }
            rest = &rest[shared..];
        }
        at
    }

    fn add(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    /// Tells every node how long its path is and what stands above it.
    fn settle(&mut self) {
        self.nodes.shrink_to_fit();
        let mut open: Vec<u32> = vec![0];
        while let Some(at) = open.pop() {
            let node = &mut self.nodes[at as usize];
            node.children.shrink_to_fit();
            let (end, above) = (node.end, if node.stands() { Some(at) } else { node.above });
            for (_, child) in std::mem::take(&mut node.children) {
                let below = &mut self.nodes[child as usize];
                (below.end, below.above) = (end + below.label.len(), above);
                open.push(child);
                let first = below.label[0];
                self.nodes[at as usize].children.push((first, child));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::{HeaderMap, Method};
    use proptest::prelude::*;

    use super::super::host::HostIndex;
    use super::*;
    use crate::model::host::HostPattern;

    fn claim() -> impl Strategy<Value = PathMatch> {
        let path = proptest::collection::vec("[ab]{0,2}", 0..4).prop_map(|segments| format!("/{}", segments.join("/")));
        (path, 0..3).prop_map(|(path, kind)| match kind {
            0 => PathMatch::exact(&path).expect("valid"),
            1 => PathMatch::prefix(&path).expect("valid"),
            _ => PathMatch::StringPrefix(path.into()),
        })
    }

    fn index(claims: &[PathMatch]) -> HostIndex {
        let candidate = |route| Candidate { route: RouteIndex(route as u32), checks: Checks::default() };
        let mut index = HostIndex::default();
        index.insert(
            &HostPattern::Any,
            PathIndex::new(claims.iter().enumerate().map(|(at, claim)| (claim, candidate(at)))),
        );
        index
    }

    fn lookup(index: &HostIndex, path: &str) -> Option<RouteIndex> {
        let (method, headers) = (Method::GET, HeaderMap::new());
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        index.lookup(&RequestView::new("a", path, &method, "a", &headers, None, client))
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_a_linear_search(
            claims in proptest::collection::vec(claim(), 0..12),
            segments in proptest::collection::vec("[ab]{0,2}", 0..5),
        ) {
            let path = format!("/{}", segments.join("/"));
            let linear = claims.iter().position(|claim| claim.matches(&path)).map(|i| RouteIndex(i as u32));
            prop_assert_eq!(lookup(&index(&claims), &path), linear, "{:?} on {}", claims, path);
        }
    }

    #[test]
    fn a_very_deep_tree_needs_no_stack() {
        let texts: Vec<String> = (1..6_000).map(|length| format!("/{}", "a".repeat(length))).collect();
        let claims: Vec<PathMatch> =
            texts.iter().rev().map(|text| PathMatch::StringPrefix(text.as_str().into())).collect();
        let index = index(&claims);
        assert_eq!(lookup(&index, &texts[texts.len() - 1]), Some(RouteIndex(0)));
        assert_eq!(lookup(&index, "/a"), Some(RouteIndex(claims.len() as u32 - 1)));
    }
}
