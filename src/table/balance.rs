//! Whose turn it is, among the endpoints that are ready.
//!
//! `turn or key ─▶ Balancer ─▶ index of a candidate`. Nothing here locks or allocates; what counts is shared by all
//! workers, so that shares are right whichever worker a client lands on.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use crate::model::service::Balance;

use super::upstream::Member;

/// How candidates are chosen. Candidates are indexes into the upstream's members: ready, with a weight above 0.
#[derive(Debug)]
pub(super) enum Balancer {
    RoundRobin,
    Random,
    Weighted(Spread),
    LeastRequest,
    ConsistentHash(Slots),
}

impl Balancer {
    pub fn new(balance: &Balance, members: &[Member], candidates: &[u32]) -> Balancer {
        let chosen = || candidates.iter().map(|index| &members[*index as usize]);
        match balance {
            Balance::RoundRobin => Balancer::RoundRobin,
            Balance::Random => Balancer::Random,
            Balance::Weighted => Balancer::Weighted(Spread::new(chosen().map(|member| member.weight))),
            Balance::LeastRequest => Balancer::LeastRequest,
            Balance::ConsistentHash(_) => {
                Balancer::ConsistentHash(Slots::new(chosen().map(|member| (member.endpoint.hash, member.weight))))
            }
        }
    }

    /// An index into `candidates`. `taken` says which of them have failed this request already.
    pub fn pick(
        &self,
        turn: usize,
        key: u64,
        members: &[Member],
        candidates: &[u32],
        taken: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let count = candidates.len();
        if count == 0 {
            return None;
        }
        let first = match self {
            Balancer::RoundRobin => turn % count,
            Balancer::Random => below(count),
            Balancer::Weighted(spread) => spread.at(turn as u64),
            Balancer::LeastRequest => {
                let one = below(count);
                // Another one: drawn from those that are left.
                let other = (one + 1 + if count > 2 { below(count - 1) } else { 0 }) % count;
                let load = |at: usize| (taken(at), members[candidates[at] as usize].endpoint.in_flight());
                if load(other) < load(one) { other } else { one }
            }
            Balancer::ConsistentHash(slots) => return slots.pick(key, count, taken),
        };
        (0..count).map(|step| (first + step) % count).find(|at| !taken(*at))
    }
}

/// Turns by weight: exact over as many turns as the weights' sum, and evenly spread.
///
/// The turns walk round `0..total` in strides of nearly the golden section of it. A stride without a common divisor
/// visits every number once a round, so shares are exact; the golden section keeps each share's visits apart.
#[derive(Debug)]
pub(super) struct Spread {
    /// Where each share ends in `0..total`.
    ends: Box<[u64]>,
    total: u64,
    stride: u64,
}

impl Spread {
    pub fn new(weights: impl Iterator<Item = u32>) -> Spread {
        let weights: Vec<u64> = weights.map(u64::from).collect();
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        let ends: Box<[u64]> = weights
            .iter()
            .scan(0, |end, weight| {
                *end += weight / divisor;
                Some(*end)
            })
            .collect();
        let total = ends.last().copied().unwrap_or(0).max(1);
        Spread { ends, total, stride: stride(total) }
    }

    pub fn at(&self, turn: u64) -> usize {
        let place = u128::from(turn % self.total) * u128::from(self.stride) % u128::from(self.total);
        self.ends.partition_point(|end| u128::from(*end) <= place)
    }
}

/// Near the golden section of `total`, without a common divisor, and as far from any simple fraction of it as may be:
/// near one, turns would come in clusters.
fn stride(total: u64) -> u64 {
    let golden = (total as f64 * 0.618_033_988_749_895) as u64;
    let near = (golden.saturating_sub(32).max(1)..=golden.saturating_add(32)).filter(|s| *s < total.max(2));
    near.filter(|stride| gcd(*stride, total) == 1)
        .min_by_key(|stride| (simplicity(total, *stride), stride.abs_diff(golden)))
        .unwrap_or(1)
}

/// The largest term of the continued fraction of `a / b`.
fn simplicity(a: u64, b: u64) -> u64 {
    a.checked_div(b).map_or(0, |term| term.max(simplicity(b, a % b)))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Keys go to slots, and each slot to the candidate that draws the best lot for it (rendezvous hashing): looking up a
/// key costs the same whatever the number of endpoints, and one that is added takes over the slots that it wins and no
/// others.
#[derive(Debug)]
pub(super) struct Slots(Box<[u32]>);

/// Enough for 100 endpoints to get their shares to within a few per cent. Fixed, so that slots never move.
const SLOTS: usize = 1 << 14;
/// How many slots are tried before whoever is left is taken.
const PROBES: u64 = 64;

impl Slots {
    /// Candidates by their hash and weight. Their order does not matter: their hashes draw.
    pub fn new(candidates: impl Iterator<Item = (u64, u32)>) -> Slots {
        let candidates: Vec<(u64, u32)> = candidates.collect();
        let Some((_, weight)) = candidates.first() else { return Slots(Box::default()) };
        let alike = candidates.iter().all(|(_, other)| other == weight);
        let owner = |slot: u64| {
            let lots = candidates.iter().map(|(hash, weight)| (mix(hash ^ mix(slot)), *hash, *weight)).enumerate();
            let best = if alike {
                lots.max_by_key(|(_, (lot, hash, _))| (*lot, *hash))
            } else {
                lots.max_by(|(_, a), (_, b)| weighted(a).total_cmp(&weighted(b)).then(a.1.cmp(&b.1)))
            };
            best.map_or(0, |(index, _)| index as u32)
        };
        Slots((0..SLOTS as u64).map(owner).collect())
    }

    fn pick(&self, key: u64, count: usize, taken: impl Fn(usize) -> bool) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        // The slots of the other tries depend on the key: what one endpoint leaves behind is shared by the rest.
        let stride = mix(key) | 1;
        let slot = |try_: u64| self.0[key.wrapping_add(stride.wrapping_mul(try_)) as usize % SLOTS] as usize;
        (0..PROBES).map(slot).find(|at| !taken(*at)).or_else(|| (0..count).find(|at| !taken(*at)))
    }
}

/// Equal weights give the order of the lots themselves.
fn weighted((lot, _, weight): &(u64, u64, u32)) -> f64 {
    // In (0, 1): 53 bits of it, and never 0.
    let unit = ((lot >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    unit.ln() / f64::from(*weight)
}

/// SplitMix64's finaliser: every bit of the input reaches every bit of the output.
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A random number below `count`, which is not 0. Good enough to spread requests, and no more than that.
fn below(count: usize) -> usize {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
    }
    let random = STATE.with(|state| {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        mix(state.get())
    });
    ((u128::from(random) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(picks: impl Iterator<Item = usize>, of: usize) -> Vec<usize> {
        let mut counts = vec![0; of];
        picks.for_each(|at| counts[at] += 1);
        counts
    }

    proptest! {
        #[test]
        fn weighted_turns_are_exact_over_a_round_and_even_within_it(weights in prop::collection::vec(0u32..50, 1..12), from in 0u64..1000) {
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            prop_assume!(total > 0);
            let spread = Spread::new(weights.iter().copied());
            let round = counts((from..from + total).map(|turn| spread.at(turn)), weights.len());
            prop_assert_eq!(&round, &weights.iter().map(|w| *w as usize).collect::<Vec<_>>());
            // At no moment is anybody ahead of or behind its share by more than five turns.
            let mut seen = vec![0f64; weights.len()];
            for turn in 0..total {
                seen[spread.at(turn)] += 1.0;
                for (at, weight) in weights.iter().enumerate() {
                    let due = f64::from(*weight) * (turn + 1) as f64 / total as f64;
                    prop_assert!((seen[at] - due).abs() <= 5.0, "{weights:?}: {at} at turn {turn}");
                }
            }
        }

        #[test]
        fn an_endpoint_that_is_added_takes_only_what_becomes_its_own(hashes in prop::collection::hash_set(any::<u64>(), 2..24)) {
            let after: Vec<u64> = hashes.into_iter().collect();
            let before = &after[1..];
            let slots = |of: &[u64]| Slots::new(of.iter().map(|hash| (*hash, 1)));
            let (old, new) = (slots(before), slots(&after));
            let mut moved = 0;
            for slot in 0..SLOTS {
                let (was, is) = (before[old.0[slot] as usize], after[new.0[slot] as usize]);
                if was != is {
                    prop_assert_eq!(is, after[0], "a key moved between two that stayed");
                    moved += 1;
                }
            }
            let share = moved as f64 / SLOTS as f64;
            prop_assert!(share <= 1.0 / after.len() as f64 + 0.05, "{share} of 1/{}", after.len());
        }
    }

    #[test]
    fn weights_of_any_size_are_kept_apart() {
        let spread = Spread::new([u32::MAX, u32::MAX - 1, 1].into_iter());
        let counts = counts((0..100_000).map(|turn| spread.at(turn)), 3);
        assert!(counts[0].abs_diff(50_000) < 100 && counts[2] <= 1, "{counts:?}");
    }

    #[test]
    fn slots_do_not_depend_on_the_order_and_honour_weights() {
        let all: Vec<(u64, u32)> = (0..6).map(|n| (mix(n + 99), if n == 0 { 3 } else { 1 })).collect();
        let one = Slots::new(all.iter().copied());
        let other = Slots::new(all.iter().rev().copied());
        assert!(one.0.iter().zip(&other.0).all(|(a, b)| all[*a as usize] == all[5 - *b as usize]));
        let counts = counts(one.0.iter().map(|at| *at as usize), 6);
        let share = |n: usize| counts[n] as f64 / SLOTS as f64;
        assert!((share(0) - 3.0 / 8.0).abs() < 0.02, "{counts:?}");
        assert!((1..6).all(|n| (share(n) - 1.0 / 8.0).abs() < 0.02), "{counts:?}");
    }

    #[test]
    fn keys_of_an_endpoint_that_failed_are_shared_by_all_others() {
        let slots = Slots::new((0..5).map(|n| (mix(n + 7), 1)));
        let mine = (0..100_000).map(mix).filter(|key| slots.pick(*key, 5, |_| false) == Some(0));
        let counts = counts(mine.filter_map(|key| slots.pick(key, 5, |at| at == 0)), 5);
        assert_eq!(counts[0], 0);
        let rest: usize = counts.iter().sum();
        assert!(counts[1..].iter().all(|count| count.abs_diff(rest / 4) < rest / 20), "{counts:?}");
        assert_eq!(slots.pick(1, 5, |at| at != 3), Some(3));
        assert_eq!(slots.pick(1, 5, |_| true), None);
    }

    #[test]
    fn random_numbers_are_below_and_spread() {
        let counts = counts((0..60_000).map(|_| below(6)), 6);
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 500), "{counts:?}");
    }
}
