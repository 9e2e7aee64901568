//! When to list: at once after an event, again while an engine may still be behind its own events, and now and then.
//!
//! `event ─hear─▶ Rhythm ─is_due, wake─▶ list ─begin─▶ Rhythm`

use std::time::Duration;

use tokio::time::Instant;

use crate::provider::heard::Heard;

/// An engine of 20.10 announces a network connect, and now and then a start, before its list shows it. Soon for the
/// usual case, later for an engine that is busy.
const CONFIRM: [Duration; 2] = [Duration::from_millis(40), Duration::from_millis(250)];
/// What no event told of.
const SAFETY: Duration = Duration::from_secs(30);

/// Where the engine could not say all of a container.
const AGAIN: Duration = Duration::from_secs(5);

/// Why a list is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Something was heard, or confirms what was.
    Told,
    /// It is only time.
    Safety,
}

/// When to list next.
pub struct Rhythm {
    heard: Heard,
    safety: Instant,
}

impl Rhythm {
    pub fn start(now: Instant) -> Rhythm {
        // The engine accepts an event stream a moment before it subscribes it.
        Rhythm { heard: Heard::start(now, &CONFIRM), safety: now + SAFETY }
    }

    /// Something happened that a list may show.
    pub fn hear(&mut self, now: Instant) {
        self.heard.hear(now);
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.heard.is_asked() || self.wake() <= now
    }

    pub fn wake(&self) -> Instant {
        self.heard.next().map_or(self.safety, |next| next.min(self.safety))
    }

    /// A list begins: it answers what was heard up to now, save what has to be confirmed.
    pub fn begin(&mut self, now: Instant) -> Occasion {
        self.safety = now + SAFETY;
        if self.heard.begin(now) { Occasion::Told } else { Occasion::Safety }
    }

    /// The list that began then has left something open.
    pub fn again(&mut self, began: Instant) {
        self.safety = self.safety.min(began + AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_acted_on_at_once_and_confirmed_after_the_last() {
        let start = Instant::now();
        let mut rhythm = Rhythm::start(start);
        rhythm.begin(start);
        assert!(!rhythm.is_due(start));
        assert!(rhythm.is_due(start + CONFIRM[0]), "the first list is confirmed");
        rhythm.begin(start + CONFIRM[0]);
        let confirmed = start + CONFIRM[1];
        assert!(rhythm.is_due(confirmed), "and once more");
        rhythm.begin(confirmed);
        assert!(!rhythm.is_due(confirmed));
        assert_eq!(rhythm.wake(), confirmed + SAFETY);

        rhythm.hear(confirmed);
        assert!(rhythm.is_due(confirmed));
        rhythm.begin(confirmed);
        let later = confirmed + CONFIRM[0] / 2;
        assert!(!rhythm.is_due(later));
        rhythm.hear(later);
        rhythm.begin(later);
        assert_eq!(rhythm.wake(), later + CONFIRM[0], "after the last event, not the first");
        let busy = later + CONFIRM[1];
        assert_eq!(rhythm.begin(busy), Occasion::Told);
        assert_eq!(rhythm.wake(), busy + SAFETY, "a list that began after both confirms both");
        assert_eq!(rhythm.begin(busy + SAFETY), Occasion::Safety);
        rhythm.again(busy + SAFETY);
        assert_eq!(rhythm.wake(), busy + SAFETY + AGAIN, "what was left open is asked again soon");
    }
}
