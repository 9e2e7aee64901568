//! One endpoint being asked, again and again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::model::health::{HealthCheck, Target};

/// Asks an endpoint over the network: who does knows its connections. Whoever wires the house brings it.
pub trait Dialer: Send + Sync {
    /// In time or not is seen to by the caller. The error is for people, and the same for the same cause.
    fn dial(&self, target: Target) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
}

/// What a probe tells: its number, and the outcome.
pub(super) type Outcome = (u64, Result<(), String>);

/// Ends when dropped.
#[derive(Debug)]
pub(super) struct Probe(JoinHandle<()>);

impl Probe {
    pub fn start(
        number: u64,
        target: Target,
        check: &HealthCheck,
        dialer: Arc<dyn Dialer>,
        tell: UnboundedSender<Outcome>,
    ) -> Probe {
        let (interval, limit) = (check.interval.0, check.timeout);
        Probe(tokio::spawn(async move {
            loop {
                let started = Instant::now();
                let asked = timeout(limit.0, dialer.dial(target.clone())).await;
                let outcome = asked.unwrap_or_else(|_| Err(format!("no answer within {limit}")));
                if tell.send((number, outcome)).is_err() {
                    return;
                }
                sleep_until(started + jittered(interval)).await;
            }
        }))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A tenth more or less: what was started together does not stay together.
fn jittered(interval: Duration) -> Duration {
    // Keys of a `RandomState` differ each time; that is random enough.
    let random = RandomState::new().build_hasher().finish();
    let tenths = (random >> 11) as f64 / (1u64 << 53) as f64;
    interval.mul_f64(0.9 + 0.2 * tenths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_tenth_at_most_and_not_always_the_same() {
        let all: Vec<_> = (0..100).map(|_| jittered(Duration::from_secs(10)).as_millis()).collect();
        assert!(all.iter().all(|ms| (9000..=11_000).contains(ms)), "{all:?}");
        assert!(all.iter().any(|ms| *ms < 9800) && all.iter().any(|ms| *ms > 10_200), "{all:?}");
    }
}
