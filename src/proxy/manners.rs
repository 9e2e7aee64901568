//! What the operator may change about the workers while they run, and what is no part of the table.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Shared by all workers. Each value stands for itself, so that no order between them matters.
#[derive(Debug)]
pub struct Manners {
    reason_header: AtomicBool,
    /// Milliseconds.
    deadline: AtomicU64,
}

impl Manners {
    /// `deadline` is for what is under way on a listener that is taken away.
    pub fn new(reason_header: bool, deadline: Duration) -> Manners {
        let manners = Manners { reason_header: AtomicBool::default(), deadline: AtomicU64::default() };
        manners.set(reason_header, deadline);
        manners
    }

    pub fn set(&self, reason_header: bool, deadline: Duration) {
        self.reason_header.store(reason_header, Ordering::Relaxed);
        self.deadline.store(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether Portolan's own answers name their reason to clients.
    pub fn reason_header(&self) -> bool {
        self.reason_header.load(Ordering::Relaxed)
    }

    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline.load(Ordering::Relaxed))
    }
}
