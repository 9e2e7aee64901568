//! When an endpoint that failed its requests may be tried again. Pure: times are handed in.
//!
//! `failure after failure ─▶ Out until … ─▶ tried again ─┬─ fails: out again, for longer`
//! `                                                     └─ answers for as long as it was out: forgotten`

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::model::health::Ejection;

/// An endpoint's last ejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub since: Timestamp,
    pub until: Instant,
    pub why: Arc<str>,
    /// How long this one is.
    length: Duration,
    /// In a row.
    count: u32,
}

impl Record {
    pub fn new(
        before: Option<&Record>,
        ejection: &Ejection,
        why: impl Into<Arc<str>>,
        now: (Instant, Timestamp),
    ) -> Record {
        let (instant, since) = now;
        let count = before.filter(|before| !before.is_forgotten(instant)).map_or(0, |before| before.count) + 1;
        let length = ejection.time.0.saturating_mul(count).min(Ejection::LONGEST.0);
        Record { since, until: instant + length, why: why.into(), length, count }
    }

    pub fn is_out(&self, now: Instant) -> bool {
        now < self.until
    }

    pub fn is_forgotten(&self, now: Instant) -> bool {
        now >= self.until + self.length
    }
}

/// Whether one more of `count` endpoints may be out beside `out` of them, where `open` others would be left to answer.
pub(super) fn may_go(ejection: &Ejection, count: usize, out: usize, open: usize) -> bool {
    let share = count as u64 * u64::from(ejection.most_percent) / 100;
    let most = if ejection.most_percent == 0 { 0 } else { share.max(1) };
    open > 0 && (out as u64) < most
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::units::Span;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_one_in_a_row_is_longer_and_time_forgives() {
        let ejection = Ejection { time: Span::seconds(10), ..Ejection::default() };
        let start = Instant::now();
        let at = |s: u64| (start + seconds(s), Timestamp::UNIX_EPOCH);
        let first = Record::new(None, &ejection, "refused", at(0));
        assert_eq!((first.is_out(at(9).0), first.is_out(at(10).0)), (true, false));
        let second = Record::new(Some(&first), &ejection, "refused", at(12));
        assert_eq!(second.until, at(32).0);
        let third = Record::new(Some(&second), &ejection, "refused", at(51));
        assert_eq!(third.until, at(81).0, "30 s: it had answered for 19 s, and was out for 20");
        let forgiven = Record::new(Some(&third), &ejection, "refused", at(111));
        assert_eq!(forgiven.until, at(121).0);
        let mut record = forgiven;
        for _ in 0..100 {
            record = Record::new(Some(&record), &ejection, "refused", (record.until, record.since));
        }
        assert_eq!(record.length, Ejection::LONGEST.0);
    }

    proptest! {
        #[test]
        fn somebody_is_always_left(percent in 0u32..=100, count in 0usize..40) {
            let ejection = Ejection { most_percent: percent, ..Ejection::default() };
            let mut out = 0;
            while out < count && may_go(&ejection, count, out, count - out - 1) {
                out += 1;
            }
            let share = count * percent as usize / 100;
            let expected = match (percent, count) {
                (0, _) | (_, 0 | 1) => 0,
                _ => share.max(1).min(count - 1),
            };
            prop_assert_eq!(out, expected);
        }
    }
}
