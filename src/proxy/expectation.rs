//! `Expect: 100-continue`: a client's body waits for its endpoint's word (RFC 9110 §10.1.1).
//!
//! ```text
//! head sent ─▶ Waiting ─┬─ 100, or 1 s without a word ─▶ Open: the body is asked for, and the client told to go on
//!                       └─ the final answer ───────────▶ Unasked: the body never is, and the connections end with it
//! ```
//! The library below tells a client to go on when its body is read for the first time: not reading it is the whole gate.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{Request, StatusCode};
use tokio::time::{Sleep, sleep};

/// For an endpoint that does not know the expectation, or is in no hurry to say so.
const PATIENCE: Duration = Duration::from_secs(1);

const WAITING: u8 = 0;
const OPEN: u8 = 1;
const UNASKED: u8 = 2;
/// The answer that came instead has been read.
const OVER: u8 = 3;

/// Shared by the body, the exchange and the library's word of interim answers, which has to be `Sync`; all on one thread.
#[derive(Debug, Default)]
pub struct Expectation {
    stage: AtomicU8,
    waker: AtomicWaker,
}

/// Before a body that has not been asked for yet.
#[derive(Debug)]
pub struct Gate {
    expectation: Arc<Expectation>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The body was never asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Unasked;

impl Expectation {
    /// Has a 100 in answer to `request` open the gate.
    pub fn listen<B>(self: &Arc<Self>, request: &mut Request<B>) {
        let expectation = self.clone();
        hyper::ext::on_informational(request, move |interim| {
            if interim.status() == StatusCode::CONTINUE {
                expectation.pass(WAITING, OPEN);
            }
        });
    }

    /// The final answer is here. Whether the body was not asked for, and now never will be.
    pub fn answered(&self) -> bool {
        self.pass(WAITING, UNASKED)
    }

    /// The final answer has been read, or nobody wants it: whoever still waits for the body is told that none comes.
    pub fn over(&self) {
        self.pass(UNASKED, OVER);
    }

    fn pass(&self, from: u8, to: u8) -> bool {
        let passed = self.stage.compare_exchange(from, to, Relaxed, Relaxed).is_ok();
        if passed {
            self.waker.wake();
        }
        passed
    }
}

impl Gate {
    pub fn new(expectation: Arc<Expectation>) -> Gate {
        Gate { expectation, timer: None }
    }

    /// Nobody is waited for.
    pub fn open(self) {
        self.expectation.pass(WAITING, OPEN);
    }

    /// The time for the endpoint's word begins when this is asked first: when its head is sent.
    pub fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unasked>> {
        self.expectation.waker.register(cx.waker());
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        if self.expectation.stage.load(Relaxed) == WAITING && timer.as_mut().poll(cx).is_ready() {
            self.expectation.pass(WAITING, OPEN);
        }
        match self.expectation.stage.load(Relaxed) {
            OPEN => Poll::Ready(Ok(())),
            OVER => Poll::Ready(Err(Unasked)),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(gate: &mut Gate) -> Poll<Result<(), Unasked>> {
        gate.poll_open(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn what_was_answered_without_its_body_never_asks_for_it() {
        let expectation = Arc::<Expectation>::default();
        let mut gate = Gate::new(expectation.clone());
        assert!(poll(&mut gate).is_pending());
        assert!(expectation.answered());
        assert!(poll(&mut gate).is_pending(), "the endpoint's answer is still being read");
        expectation.over();
        assert_eq!(poll(&mut gate), Poll::Ready(Err(Unasked)));
    }

    #[tokio::test]
    async fn an_answer_after_the_word_to_go_on_changes_nothing() {
        let expectation = Arc::<Expectation>::default();
        let mut gate = Gate::new(expectation.clone());
        expectation.pass(WAITING, OPEN);
        assert!(!expectation.answered());
        assert_eq!(poll(&mut gate), Poll::Ready(Ok(())));
    }
}
