//! How connections are asked to go.
//!
//! ```text
//! serving ──soft──▶ answers say Connection: close, h2 sends GOAWAY ──GRACE──▶ the idle are closed ──hard──▶ cut off
//! ```

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
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

    /// Of an h1 connection: `closing` is set as soon as every answer has to be the last.
    pub fn of_h1<'d>(&'d self, closing: &'d Cell<bool>) -> Course<'d> {
        Course { drain: self, closing: Some(closing), stage: Stage::Serving }
    }

    /// Of an h2 connection, which can be told at any time.
    pub fn of_h2(&self) -> Course<'_> {
        Course { drain: self, closing: None, stage: Stage::Serving }
    }
}

/// What is to be done with a connection next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It ends when what is under way is finished.
    ShutDown,
    CutOff,
}

/// How far one connection has come on its way out.
#[derive(Debug)]
pub struct Course<'d> {
    drain: &'d Drain,
    closing: Option<&'d Cell<bool>>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Serving,
    /// Until then, whoever asks is answered and told.
    LastAnswers(Instant),
    Told,
}

impl Course<'_> {
    /// Each step once, in their order. To be dropped and called again at will.
    pub async fn next(&mut self) -> Step {
        loop {
            match self.stage {
                Stage::Serving => {
                    self.drain.soft.cancelled().await;
                    let Some(closing) = self.closing else { return self.shut_down() };
                    closing.set(true);
                    self.stage = Stage::LastAnswers(Instant::now() + GRACE);
                }
                Stage::LastAnswers(until) => {
                    sleep_until(until).await;
                    return self.shut_down();
                }
                Stage::Told => {
                    self.drain.hard.cancelled().await;
                    tracing::debug!("the deadline is over; a connection of a listener that is gone is cut off");
                    return Step::CutOff;
                }
            }
        }
    }

    /// Until the time to finish is over.
    pub async fn cut_off(mut self) {
        while self.next().await != Step::CutOff {}
    }

    fn shut_down(&mut self) -> Step {
        self.stage = Stage::Told;
        Step::ShutDown
    }
}
