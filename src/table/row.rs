//! The candidates at one place of one host, which only their terms tell apart.
//!
//! ```text
//! RequestView ─▶ those under the values that it has ─┬─▶ the smallest position whose checks hold
//!             └▶ those under no value, in order     ─┘
//! ```
//! A thousand routes for a thousand values of one header cost one look at that header, not a thousand.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::HeaderName;

use super::path::Candidate;
use super::predicate::RequestView;

/// Positions among the host's candidates, each list in ascending order.
#[derive(Debug, Default)]
pub(super) struct Row {
    plain: Box<[u32]>,
    keyed: Box<[Keyed]>,
}

/// Candidates that ask for one value each of the same header or parameter.
#[derive(Debug)]
struct Keyed {
    key: Key,
    by_value: HashMap<Box<[u8]>, Box<[u32]>, RandomState>,
}

/// What a candidate is filed under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Header(HeaderName),
    Query(Arc<str>),
}

/// A value, and who asks for it.
type Filed = (Box<[u8]>, u32);

impl Row {
    /// `positions` ascend, and point into `candidates`.
    pub fn new(positions: &[u32], candidates: &[Candidate]) -> Row {
        let mut plain = Vec::new();
        let mut filed: HashMap<Key, Vec<Filed>, RandomState> = HashMap::default();
        for &position in positions {
            match candidates[position as usize].checks.key() {
                Some((key, value)) => filed.entry(key).or_default().push((value.into(), position)),
                None => plain.push(position),
            }
        }
        let mut keyed = Vec::new();
        for (key, entries) in filed {
            if entries.len() == 1 {
                plain.extend(entries.into_iter().map(|(_, position)| position));
                continue;
            }
            let mut lists: HashMap<Box<[u8]>, Vec<u32>, RandomState> = HashMap::default();
            for (value, position) in entries {
                lists.entry(value).or_default().push(position);
            }
            let by_value = lists.into_iter().map(|(value, positions)| (value, positions.into())).collect();
            keyed.push(Keyed { key, by_value });
        }
        plain.sort_unstable();
        Row { plain: plain.into(), keyed: keyed.into() }
    }

    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.keyed.is_empty()
    }

    /// The first candidate whose checks hold, or `best` where that comes before.
    pub fn earlier(&self, candidates: &[Candidate], request: &RequestView<'_>, best: Option<u32>) -> Option<u32> {
        let mut best = first(&self.plain, candidates, request, best);
        for Keyed { key, by_value } in &self.keyed {
            let mut look = |value: &[u8]| {
                if let Some(positions) = by_value.get(value) {
                    best = first(positions, candidates, request, best);
                }
            };
            match key {
                Key::Header(name) => request.header_values(name).for_each(&mut look),
                Key::Query(name) => request.query_values(name).for_each(&mut look),
            }
        }
        best
    }
}

fn first(positions: &[u32], candidates: &[Candidate], request: &RequestView<'_>, best: Option<u32>) -> Option<u32> {
    let mut ahead = positions.iter().copied().take_while(|position| best.is_none_or(|best| *position < best));
    ahead.find(|position| candidates[*position as usize].checks.hold(request)).or(best)
}
