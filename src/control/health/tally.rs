//! What one check has found so far. Pure: outcomes and times are handed in.
//!
//! ```text
//!            first outcome decides            unhealthy bad ones in a row
//! Unchecked ───────────────────────▶ Healthy ────────────────────────────▶ Unhealthy
//!     └──────────────────────────────────────────────────────────────────────▶ │
//!                                       ▲ ───── healthy good ones in a row ─────┘
//! ```

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::health::{HealthCheck, HealthState};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    pub state: HealthState,
    pub since: Timestamp,
    /// Why the state is not a good one.
    pub why: Option<Arc<str>>,
    /// Outcomes in a row that speak against the state.
    against: u32,
}

impl Tally {
    pub fn new(now: Timestamp) -> Tally {
        Tally { state: HealthState::Unchecked, since: now, why: None, against: 0 }
    }

    /// Whether the state is another one now.
    pub fn hear(&mut self, check: &HealthCheck, outcome: Result<(), String>, now: Timestamp) -> bool {
        let good = outcome.is_ok();
        let needed = match self.state {
            HealthState::Healthy if !good => check.unhealthy,
            HealthState::Unhealthy if good => check.healthy,
            // There is nothing yet that an outcome could be an exception to.
            HealthState::Unchecked | HealthState::Ejected => 1,
            HealthState::Healthy | HealthState::Unhealthy => {
                self.against = 0;
                return false;
            }
        };
        self.against += 1;
        if self.against < needed {
            return false;
        }
        let state = if good { HealthState::Healthy } else { HealthState::Unhealthy };
        *self = Tally { state, since: now, why: outcome.err().map(Into::into), against: 0 };
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::health::Ask;

    fn check(healthy: u32, unhealthy: u32) -> HealthCheck {
        let (interval, timeout) = (HealthCheck::INTERVAL, HealthCheck::TIMEOUT);
        HealthCheck { ask: Ask::Connect, port: None, interval, timeout, healthy, unhealthy }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn outcome(good: bool) -> Result<(), String> {
        if good { Ok(()) } else { Err("503".into()) }
    }

    #[test]
    fn the_first_outcome_decides_and_then_it_takes_some_in_a_row() {
        let check = check(2, 3);
        let mut tally = Tally::new(at(0));
        let mut hear = |second, good| tally.hear(&check, outcome(good), at(second)).then(|| tally.clone());
        let first = hear(1, false).expect("decides");
        assert_eq!((first.state, first.since, first.why.as_deref()), (HealthState::Unhealthy, at(1), Some("503")));
        assert_eq!(hear(2, true), None);
        assert_eq!(hear(3, false), None, "flapping is no recovery");
        assert_eq!(hear(4, true), None);
        let back = hear(5, true).expect("two in a row");
        assert_eq!((back.state, back.since, back.why.as_deref()), (HealthState::Healthy, at(5), None));
        assert_eq!(
            [hear(6, false), hear(7, false), hear(8, true), hear(9, false), hear(10, false)],
            [const { None }; 5]
        );
        assert_eq!(hear(11, false).map(|tally| tally.state), Some(HealthState::Unhealthy));
    }

    proptest! {
        /// Against a naive one, which looks at the whole history each time.
        #[test]
        fn the_state_is_that_of_the_last_run_long_enough(
            healthy in 1u32..4, unhealthy in 1u32..4, history in prop::collection::vec(any::<bool>(), 1..40),
        ) {
            let check = check(healthy, unhealthy);
            let mut tally = Tally::new(at(0));
            let mut state = history[0];
            for end in 1..=history.len() {
                let changed = tally.hear(&check, outcome(history[end - 1]), at(end as i64));
                let run = history[..end].iter().rev().take_while(|good| **good != state).count() as u32;
                let flips = run >= if state { unhealthy } else { healthy };
                if flips {
                    state = !state;
                }
                prop_assert_eq!(changed, flips || end == 1);
                let expected = if state { HealthState::Healthy } else { HealthState::Unhealthy };
                prop_assert_eq!(tally.state, expected);
                prop_assert_eq!(tally.why.is_some(), !state);
            }
        }
    }
}
