//! How connections are asked to go.
//!
//! ```text
//! serving ──soft──▶ answers say Connection: close, h2 sends GOAWAY ──GRACE──▶ the idle are closed ──hard──▶ cut off
//! ```

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// For a request or a handshake that is on its way already, and for the next request of a client that keeps its
/// connection: it is answered, and told that this was the last one. Closing at once would lose it (RFC 9112 §9.6).
pub const GRACE: Duration = Duration::from_secs(1);

/// The signals to the connections of one listener.
#[derive(Debug, Clone)]
pub struct Drain {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Drain {
    /// Soft with `stop` as well; the end of the process is hard enough.
    pub fn under(stop: &CancellationToken) -> Drain {
        Drain { soft: stop.child_token(), hard: CancellationToken::new() }
    }

    /// Softly now, hard after `deadline`. On the local set of the worker.
    pub fn start(&self, deadline: Duration) {
        self.soft.cancel();
        let hard = self.hard.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(deadline).await;
            hard.cancel();
        });
    }

    /// Until what has not begun by now is not waited for any more.
    pub async fn patience(&self) {
        self.soft.cancelled().await;
        tokio::time::sleep(GRACE).await;
    }

    /// Serves an h1 connection to its end. `closing` is set as soon as every answer has to be the last.
    pub async fn end_h1<C, E>(
        &self,
        served: C,
        closing: &Cell<bool>,
        shut_down: impl FnOnce(Pin<&mut C>),
    ) -> Result<(), E>
    where
        C: Future<Output = Result<(), E>>,
    {
        let mut served = pin!(served);
        tokio::select! {
            ended = served.as_mut() => return ended,
            () = self.soft.cancelled() => closing.set(true),
        }
        tokio::select! {
            ended = served.as_mut() => return ended,
            () = tokio::time::sleep(GRACE) => shut_down(served.as_mut()),
        }
        self.finish(served).await
    }

    /// Serves an h2 connection to its end.
    pub async fn end_h2<C, E>(&self, served: C, shut_down: impl FnOnce(Pin<&mut C>)) -> Result<(), E>
    where
        C: Future<Output = Result<(), E>>,
    {
        let mut served = pin!(served);
        tokio::select! {
            ended = served.as_mut() => return ended,
            () = self.soft.cancelled() => shut_down(served.as_mut()),
        }
        self.finish(served).await
    }

    async fn finish<C, E>(&self, served: Pin<&mut C>) -> Result<(), E>
    where
        C: Future<Output = Result<(), E>>,
    {
        tokio::select! {
            ended = served => ended,
            () = self.hard.cancelled() => {
                tracing::debug!("the deadline is over; a connection of a listener that is gone is cut off");
                Ok(())
            }
        }
    }
}
