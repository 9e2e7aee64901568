//! Hosts to the candidates that may answer for them: one hash of the host, and its bucket decides.

use std::collections::HashMap;

use compact_str::CompactString;
use foldhash::fast::RandomState;

use crate::model::host::{HostPattern, parent};

use super::RouteIndex;
use super::path::PathIndex;
use super::predicate::RequestView;

/// Every bucket already holds the wildcard, regex and any-host routes that can match its host. A regex that a bucket's
/// only host decides was tried at compile time; in the others it is a candidate's check like any other.
///
/// Most names stand in the table itself: comparing one costs no further cache line.
#[derive(Debug, Default)]
pub(super) struct HostIndex {
    exact: HashMap<CompactString, PathIndex, RandomState>,
    wildcard: HashMap<CompactString, PathIndex, RandomState>,
    any: PathIndex,
}

impl HostIndex {
    pub fn insert(&mut self, host: &HostPattern, paths: PathIndex) {
        match host {
            HostPattern::Exact(name) => {
                self.exact.insert(CompactString::from(&**name), paths);
            }
            HostPattern::Wildcard(suffix) => {
                self.wildcard.insert(CompactString::from(&**suffix), paths);
            }
            HostPattern::Any => self.any = paths,
        }
    }

    pub fn lookup(&self, request: &RequestView<'_>) -> Option<RouteIndex> {
        let host = request.host;
        if let Some(paths) = self.exact.get(host) {
            return paths.lookup(request);
        }
        if let Some(paths) = parent(host).and_then(|suffix| self.wildcard.get(suffix)) {
            return paths.lookup(request);
        }
        self.any.lookup(request)
    }
}
