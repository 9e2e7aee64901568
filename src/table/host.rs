//! Hosts to the routes that may answer for them.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::model::host::{HostPattern, parent};

use super::RouteIndex;
use super::path::PathIndex;

/// Every bucket already holds the wildcard and any-host routes that can match its host, so one look decides.
#[derive(Debug, Default)]
pub(super) struct HostIndex {
    exact: HashMap<Arc<str>, PathIndex, RandomState>,
    wildcard: HashMap<Arc<str>, PathIndex, RandomState>,
    any: PathIndex,
}

impl HostIndex {
    pub fn insert(&mut self, host: &HostPattern, paths: PathIndex) {
        match host {
            HostPattern::Exact(name) => {
                self.exact.insert(name.clone(), paths);
            }
            HostPattern::Wildcard(suffix) => {
                self.wildcard.insert(suffix.clone(), paths);
            }
            HostPattern::Any => self.any = paths,
        }
    }

    pub fn lookup(&self, host: &str, path: &str) -> Option<RouteIndex> {
        if let Some(paths) = self.exact.get(host) {
            return paths.lookup(path);
        }
        if let Some(paths) = parent(host).and_then(|suffix| self.wildcard.get(suffix)) {
            return paths.lookup(path);
        }
        self.any.lookup(path)
    }
}
