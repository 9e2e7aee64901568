//! Where a route's requests go: one upstream, or several that share them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;

use super::balance::Spread;
use super::upstream::{Affinity, Upstream};

/// Sixteen bytes, so that what a request reads of its route fits a cache line.
#[derive(Debug)]
pub enum Backend {
    One(Arc<Upstream>),
    Split(Box<Split>),
}

/// Turns by weight among the shares that have a ready endpoint: a share without one leaves its requests to the others.
#[derive(Debug)]
pub struct Split {
    /// More than one, each with its weight.
    shares: Box<[(Arc<Upstream>, u32)]>,
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
        match (self, other) {
            (Backend::One(one), Backend::One(other)) => Arc::ptr_eq(one, other),
            (Backend::Split(one), Backend::Split(other)) => {
                one.shares.len() == other.shares.len()
                    && one.shares.iter().zip(&*other.shares).all(|(a, b)| Arc::ptr_eq(&a.0, &b.0) && a.1 == b.1)
            }
            _ => false,
        }
    }
}

impl Backend {
    /// `turn` is carried across tables.
    pub(super) fn split(shares: impl IntoIterator<Item = (Arc<Upstream>, u32)>, turn: Arc<AtomicUsize>) -> Backend {
        let shares: Box<[_]> = shares.into_iter().collect();
        let ready: Vec<usize> = (0..shares.len()).filter(|at| shares[*at].1 > 0 && shares[*at].0.is_ready()).collect();
        let spread = Spread::new(ready.iter().map(|at| shares[*at].1));
        Backend::Split(Box::new(Split { shares, ready, spread, turn }))
    }

    /// The same with other upstreams in the places of those that `replaced` knows; `None` where it knows none of them.
    pub(super) fn with(&self, replaced: impl Fn(&Arc<Upstream>) -> Option<Arc<Upstream>>) -> Option<Backend> {
        let Split { shares, turn, .. } = match self {
            Backend::One(upstream) => return replaced(upstream).map(Backend::One),
            Backend::Split(split) => &**split,
        };
        let found: Vec<_> = shares.iter().map(|(upstream, _)| replaced(upstream)).collect();
        if found.iter().all(Option::is_none) {
            return None;
        }
        let kept = shares.iter().zip(found);
        let shares = kept.map(|((upstream, weight), other)| (other.unwrap_or_else(|| upstream.clone()), *weight));
        Some(Backend::split(shares, turn.clone()))
    }

    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        let (one, several) = match self {
            Backend::One(upstream) => (Some(upstream), None),
            Backend::Split(split) => (None, Some(&split.shares)),
        };
        one.into_iter().chain(several.into_iter().flatten().map(|(upstream, _)| upstream))
    }

    pub fn share(&self, index: usize) -> Option<&Arc<Upstream>> {
        match self {
            Backend::One(upstream) => (index == 0).then_some(upstream),
            Backend::Split(split) => split.shares.get(index).map(|(upstream, _)| upstream),
        }
    }

    /// A client with a sticky cookie of one share stays there.
    pub fn choose(&self, headers: &HeaderMap, client: impl Fn() -> IpAddr) -> Chosen<'_> {
        match self {
            Backend::One(upstream) => Chosen { upstream, share: 0, affinity: upstream.affinity(headers, client) },
            Backend::Split(split) => split.choose(headers, client),
        }
    }
}

impl Split {
    fn choose(&self, headers: &HeaderMap, client: impl Fn() -> IpAddr) -> Chosen<'_> {
        let Split { shares, ready, spread, turn } = self;
        let chosen = |share: usize| {
            let upstream = &shares[share].0;
            Chosen { upstream, share, affinity: upstream.affinity(headers, &client) }
        };
        let sticky = |at: &usize| shares[*at].1 > 0 && shares[*at].0.traffic.sticky.is_some();
        for at in (0..shares.len()).filter(sticky) {
            let candidate = chosen(at);
            if candidate.upstream.knows(&candidate.affinity) {
                return candidate;
            }
        }
        if ready.is_empty() {
            // Whoever has a share says why it is not there.
            return chosen(shares.iter().position(|(_, weight)| *weight > 0).unwrap_or(0));
        }
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        chosen(ready[spread.at(turn as u64)])
    }
}
