//! How many retries are allowed: a share of the requests, and a few a second whatever their number.
//!
//! Only requests that may have arrived are charged: when everything fails at once, trying everything again would double
//! the load that made it fail.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Always allowed, each second.
const FLOOR: f64 = 10.0;
/// What can be saved up of the share: retries.
const SAVED: f64 = 1000.0;

/// Looked at by retries alone, never by a request that succeeds.
#[derive(Debug, Default)]
pub(super) struct Budget(Mutex<Account>);

#[derive(Debug, Default)]
struct Account {
    /// When it was looked at last, and how many requests there had been.
    last: Option<(Instant, usize)>,
    floor: f64,
    share: f64,
}

impl Budget {
    /// Takes one retry out, if there is one. `requests` counts up and may wrap round.
    pub fn take(&self, percent: u32, requests: usize, now: Instant) -> bool {
        let mut account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (elapsed, new) = match account.last {
            Some((then, before)) => (now.saturating_duration_since(then).as_secs_f64(), requests.wrapping_sub(before)),
            None => (1.0, requests),
        };
        account.last = Some((now, requests));
        account.floor = (account.floor + elapsed * FLOOR).min(FLOOR);
        account.share = (account.share + new as f64 * f64::from(percent) / 100.0).min(SAVED);
        let Account { floor, share, .. } = &mut *account;
        for purse in [share, floor] {
            if *purse >= 1.0 {
                *purse -= 1.0;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn retries_are_a_share_of_the_requests_and_a_few_a_second() {
        let budget = Budget::default();
        let start = Instant::now();
        let taken = |requests, seconds| {
            (0..1000).take_while(|_| budget.take(20, requests, start + Duration::from_secs(seconds))).count()
        };
        assert_eq!(taken(0, 0), 10, "the floor alone");
        assert_eq!(taken(0, 0), 0);
        assert_eq!(taken(100, 0), 20);
        assert_eq!(taken(100, 5), 10, "the floor does not pile up");
        assert_eq!(taken(1_000_000, 5), 1000, "nor does the share without end");
    }

    #[test]
    fn a_budget_of_nothing_leaves_the_floor() {
        let budget = Budget::default();
        let now = Instant::now();
        assert_eq!((0..1000).filter(|n| budget.take(0, *n, now)).count(), 10);
    }
}
