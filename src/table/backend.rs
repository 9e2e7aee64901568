//! Where a route's requests go: one upstream, or several that share them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use smallvec::SmallVec;

use super::balance::Spread;
use super::upstream::{Affinity, Upstream};

/// At least one share.
#[derive(Debug)]
pub struct Backend {
    shares: SmallVec<[(Arc<Upstream>, u32); 1]>,
    split: Option<Box<Split>>,
}

/// Turns by weight among the shares that have a ready endpoint: a share without one leaves its requests to the others.
#[derive(Debug)]
struct Split {
    ready: Vec<usize>,
    spread: Spread,
    turn: Arc<AtomicUsize>,
}

/// The upstream that a request goes to.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'b> {
    pub upstream: &'b Arc<Upstream>,
    /// Index into the route's shares.
    pub share: usize,
    pub affinity: Affinity,
}

impl PartialEq for Backend {
    fn eq(&self, other: &Backend) -> bool {
        self.shares.len() == other.shares.len()
            && self.shares.iter().zip(&other.shares).all(|(a, b)| Arc::ptr_eq(&a.0, &b.0) && a.1 == b.1)
    }
}

impl Backend {
    /// `turn` is carried across tables.
    pub(super) fn new(shares: impl IntoIterator<Item = (Arc<Upstream>, u32)>, turn: Arc<AtomicUsize>) -> Backend {
        let shares: SmallVec<[_; 1]> = shares.into_iter().collect();
        let split = (shares.len() > 1).then(|| {
            let ready: Vec<usize> =
                (0..shares.len()).filter(|at| shares[*at].1 > 0 && shares[*at].0.is_ready()).collect();
            let spread = Spread::new(ready.iter().map(|at| shares[*at].1));
            Box::new(Split { ready, spread, turn })
        });
        Backend { shares, split }
    }

    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.shares.iter().map(|(upstream, _)| upstream)
    }

    pub fn share(&self, index: usize) -> Option<&Arc<Upstream>> {
        self.shares.get(index).map(|(upstream, _)| upstream)
    }

    /// A client with a sticky cookie of one share stays there.
    pub fn choose(&self, headers: &HeaderMap, client: impl Fn() -> IpAddr) -> Chosen<'_> {
        let chosen = |share: usize| {
            let upstream = &self.shares[share].0;
            Chosen { upstream, share, affinity: upstream.affinity(headers, &client) }
        };
        let Some(Split { ready, spread, turn }) = self.split.as_deref() else { return chosen(0) };
        let sticky = |at: &usize| self.shares[*at].1 > 0 && self.shares[*at].0.traffic.sticky.is_some();
        for at in (0..self.shares.len()).filter(sticky) {
            let candidate = chosen(at);
            if candidate.upstream.knows(&candidate.affinity) {
                return candidate;
            }
        }
        if ready.is_empty() {
            // Whoever has a share says why it is not there.
            return chosen(self.shares.iter().position(|(_, weight)| *weight > 0).unwrap_or(0));
        }
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        chosen(ready[spread.at(turn as u64)])
    }
}
