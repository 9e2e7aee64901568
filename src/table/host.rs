//! Hosts to the candidates that may answer for them: one hash of the host, and its bucket decides.

use std::collections::HashMap;

use compact_str::CompactString;
use foldhash::fast::RandomState;

use crate::model::host::{HostPattern, parent};

use super::RouteIndex;
use super::path::{PathIndex, Tree};
use super::predicate::RequestView;

/// Every bucket already holds the wildcard, regex and any-host routes that can match its host. A regex that a bucket's
/// only host decides was tried at compile time; in the others it is a candidate's check like any other.
///
/// Most names stand in the table itself, and an entry is 32 bytes: looking one up costs one cache line, and never two.
#[derive(Debug, Default)]
pub(super) struct HostIndex {
    exact: HashMap<CompactString, Bucket, RandomState>,
    wildcard: HashMap<CompactString, Bucket, RandomState>,
    any: Bucket,
    trees: Vec<Tree>,
}

const _: () = assert!(size_of::<(CompactString, Bucket)>() == 32);

/// What answers for a host: a [`PathIndex`] in 8 bytes.
#[derive(Debug, Clone, Copy, Default)]
enum Bucket {
    #[default]
    Nothing,
    Everything(RouteIndex),
    /// An index into [`HostIndex::trees`].
    Tree(u32),
}

impl HostIndex {
    /// Once for each host.
    pub fn insert(&mut self, host: &HostPattern, paths: PathIndex) {
        let bucket = match paths {
            PathIndex::Nothing => Bucket::Nothing,
            PathIndex::Everything(route) => Bucket::Everything(route),
            PathIndex::Tree(tree) => {
                self.trees.push(tree);
                Bucket::Tree(self.trees.len() as u32 - 1)
            }
        };
        match host {
            HostPattern::Exact(name) => {
                self.exact.insert(CompactString::from(&**name), bucket);
            }
            HostPattern::Wildcard(suffix) => {
                self.wildcard.insert(CompactString::from(&**suffix), bucket);
            }
            HostPattern::Any => self.any = bucket,
        }
    }

    pub fn lookup(&self, request: &RequestView<'_>) -> Option<RouteIndex> {
        let host = request.host;
        let named = self.exact.get(host).or_else(|| self.wildcard.get(parent(host)?));
        match named.copied().unwrap_or(self.any) {
            Bucket::Nothing => None,
            Bucket::Everything(route) => Some(route),
            Bucket::Tree(tree) => self.trees[tree as usize].lookup(request),
        }
    }
}
