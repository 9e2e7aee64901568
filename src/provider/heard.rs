//! What an engine has told, and the lists that have to answer it: one at once, and some more while the engine may still be
//! behind its own events.

use std::time::Duration;

use tokio::time::Instant;

pub struct Heard {
    asked: bool,
    /// When the last event came, and how often the list after it has been confirmed.
    last: Option<(Instant, usize)>,
    /// After an event, in ascending order.
    confirm: &'static [Duration],
}

impl Heard {
    /// As if an event had come that was answered already, and is to be confirmed.
    pub fn start(now: Instant, confirm: &'static [Duration]) -> Heard {
        Heard { asked: false, last: Some((now, 0)), confirm }
    }

    pub fn hear(&mut self, now: Instant) {
        self.asked = true;
        self.last = Some((now, 0));
    }

    /// Whether an event has not been answered at all.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// When the next list confirms what was heard.
    pub fn next(&self) -> Option<Instant> {
        self.last.map(|(heard, confirmed)| heard + self.confirm[confirmed])
    }

    /// A list begins: it answers what was heard up to now, save what has to be confirmed. Whether there was anything.
    pub fn begin(&mut self, now: Instant) -> bool {
        let told = self.asked || self.last.is_some();
        self.asked = false;
        self.last = self.last.and_then(|(heard, confirmed)| {
            let left = (confirmed..self.confirm.len()).find(|step| heard + self.confirm[*step] > now)?;
            Some((heard, left))
        });
        told
    }

    #[cfg(test)]
    pub fn forget(&mut self) {
        self.last = None;
    }
}
