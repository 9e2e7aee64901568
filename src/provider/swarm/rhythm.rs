//! When to look at a swarm: a manager tells of services and nodes, but of tasks nobody does.
//!
//! `event ─hear─▶ Rhythm ─is_due, wake─▶ list ─begin, settle─▶ Rhythm`

use std::time::Duration;

use tokio::time::Instant;

use crate::provider::heard::Heard;

/// After an event: what a change leads to is not there yet when the change is told. A manager hears of a container that has
/// started a good 100 ms later.
const CONFIRM: [Duration; 4] =
    [Duration::from_millis(40), Duration::from_millis(120), Duration::from_millis(200), Duration::from_millis(300)];
/// While an update is in progress, or tasks come and go.
const MOVING: Duration = Duration::from_millis(250);
/// Otherwise: a task on another node may end, and its manager tells nobody.
const RESTING: Duration = Duration::from_secs(1);
/// A task that could not be placed for so long is nothing that moves.
const STUCK: Duration = Duration::from_secs(60);
/// The share of its time that a manager is asked for at most: one in so many.
const SHARE: u32 = 4;

pub struct Rhythm {
    heard: Heard,
    began: Instant,
    /// From the beginning of one look to the next.
    interval: Duration,
    /// When what is looked at was last seen to be another than before.
    changed: Instant,
}

/// What the last look saw.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    pub settled: bool,
    pub updating: bool,
    /// Something is another than at the look before.
    pub changed: bool,
}

impl Rhythm {
    pub fn start(now: Instant) -> Rhythm {
        Rhythm { heard: Heard::start(now, &CONFIRM), began: now, interval: RESTING, changed: now }
    }

    pub fn hear(&mut self, now: Instant) {
        self.heard.hear(now);
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.heard.is_asked() || self.wake() <= now
    }

    pub fn wake(&self) -> Instant {
        let next = self.began + self.interval;
        self.heard.next().map_or(next, |confirm| confirm.min(next))
    }

    /// A look begins: it answers what was heard up to now, save what has to be confirmed.
    pub fn begin(&mut self, now: Instant) {
        self.heard.begin(now);
        self.began = now;
    }

    /// And ends.
    pub fn settle(&mut self, looked: Looked, now: Instant) {
        if looked.changed {
            self.changed = now;
        }
        let moving = looked.updating || (!looked.settled && now - self.changed < STUCK);
        let wanted = if moving { MOVING } else { RESTING };
        // A swarm of very many tasks is not kept busy by being looked at.
        self.interval = wanted.max((now - self.began) * SHARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Looked = Looked { settled: true, updating: false, changed: false };

    fn looked_at(begun: Instant, took: Duration, looked: Looked) -> Rhythm {
        let mut rhythm = Rhythm::start(begun);
        rhythm.heard.forget();
        rhythm.begin(begun);
        rhythm.settle(looked, begun + took);
        rhythm
    }

    #[test]
    fn what_moves_is_looked_at_four_times_a_second() {
        let (start, quick) = (Instant::now(), Duration::from_millis(5));
        for (looked, interval) in
            [(REST, RESTING), (Looked { settled: false, ..REST }, MOVING), (Looked { updating: true, ..REST }, MOVING)]
        {
            assert_eq!(looked_at(start, quick, looked).wake(), start + interval, "{looked:?}");
        }
        assert_eq!(looked_at(start, Duration::from_secs(2), REST).wake(), start + Duration::from_secs(8));
    }

    #[test]
    fn what_is_stuck_rests_until_something_changes() {
        let start = Instant::now();
        let stuck = Looked { settled: false, ..REST };
        let mut rhythm = looked_at(start, Duration::ZERO, stuck);
        let later = start + STUCK;
        rhythm.begin(later);
        rhythm.settle(stuck, later);
        assert_eq!(rhythm.wake(), later + RESTING);
        rhythm.settle(Looked { updating: true, ..stuck }, later);
        assert_eq!(rhythm.wake(), later + MOVING, "an update may be waiting for its delay");
        rhythm.settle(Looked { changed: true, ..stuck }, later);
        assert_eq!(rhythm.wake(), later + MOVING);
    }

    #[test]
    fn an_event_is_looked_after_at_once_and_a_few_times_more() {
        let start = Instant::now();
        let mut rhythm = looked_at(start, Duration::ZERO, REST);
        let told = start + Duration::from_millis(500);
        assert!(!rhythm.is_due(told));
        rhythm.hear(told);
        assert!(rhythm.is_due(told));
        rhythm.begin(told);
        for confirm in CONFIRM {
            assert_eq!(rhythm.wake(), told + confirm);
            rhythm.begin(told + confirm);
        }
        assert_eq!(rhythm.wake(), told + CONFIRM[3] + RESTING);
    }
}
