//! A request's body on its way in: how much has come, whether it is too much or too slow, and whether that still matters.
//!
//! ```text
//! RequestBody ─▶ Pace: is the client late? ─▶ Upload ◀── Exchange: what the log says, what the answer is
//! ```

use std::cell::{Cell, OnceCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;
use super::body::UploadError;
use super::error::{ErrorKind, ProxyError};

/// Shared by a request's body and its exchange; the request is over when both are.
#[derive(Debug)]
pub struct Upload {
    activity: Arc<Activity>,
    bytes: Cell<u64>,
    fault: OnceCell<ProxyError>,
    answered: Cell<bool>,
    responded: Cell<bool>,
    /// When the body's last byte was handed on, or nobody wanted more of it.
    over: Cell<Option<Instant>>,
}

impl Upload {
    pub fn begin(activity: &Arc<Activity>) -> Upload {
        activity.begin();
        Upload {
            activity: activity.clone(),
            bytes: Cell::new(0),
            fault: OnceCell::new(),
            answered: Cell::new(false),
            responded: Cell::new(false),
            over: Cell::new(None),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Returns how many there are now.
    pub fn received(&self, bytes: usize) -> u64 {
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.bytes.get()
    }

    /// Why the body broke off or was broken off, where it was. Whatever else came of it, an endpoint that saw half a
    /// request has done nothing wrong, and what is left of the request is good for no other.
    pub fn fault(&self) -> Option<&ProxyError> {
        self.fault.get()
    }

    pub fn fail(&self, kind: ErrorKind, why: &UploadError) {
        self.fault.get_or_init(|| ProxyError::new(kind, why.to_string()));
    }

    /// The endpoint's head is here. From now on the two talk at their own pace, and a silent client is no late one.
    pub fn answered(&self) {
        self.answered.set(true);
    }

    pub fn has_answer(&self) -> bool {
        self.answered.get()
    }

    /// There is an answer for the client, an endpoint's or our own.
    pub fn responded(&self) {
        self.responded.set(true);
    }

    /// The body is over; `whole` where it was read to its end.
    pub fn over(&self, whole: bool) {
        self.over.set(Some(Instant::now()));
        if !whole {
            self.activity.leave_unread();
        }
    }

    /// When an answer is late that has `limit` from the body's last byte on, as far as is known by now: a long upload is
    /// no slow answer.
    pub fn answer_due(&self, limit: Duration) -> Instant {
        self.over.get().unwrap_or_else(Instant::now) + limit
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.activity.end(self.responded.get());
    }
}

/// Holds a client to a rate while an endpoint waits for its bytes. Time in which nobody asks for them does not count.
#[derive(Debug)]
pub struct Pace {
    window: Window,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub fn new(bytes_per_second: u64, span: Duration) -> Pace {
        Pace { window: Window::new(bytes_per_second, span), timer: None }
    }

    pub fn received(&mut self, bytes: usize) {
        self.window.received(bytes, Instant::now());
    }

    /// To be asked when there is nothing to read: ready when the client is too slow.
    pub fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut look = match self.window.ask(Instant::now()) {
            Ok(again) => again,
            Err(Late) => return Poll::Ready(()),
        };
        // Left running while bytes come: it looks again when it fires, and too early is no harm.
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(look)));
        while timer.as_mut().poll(cx).is_ready() {
            look = match self.window.ask(Instant::now()) {
                Ok(again) => again,
                Err(Late) => return Poll::Ready(()),
            };
            timer.as_mut().reset(look);
        }
        Poll::Pending
    }
}

/// What came in how much time of waiting.
#[derive(Debug)]
struct Window {
    span: Duration,
    /// In `span`.
    least: u64,
    /// Up to `asked`.
    waited: Duration,
    received: u64,
    asked: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
struct Late;

impl Window {
    fn new(bytes_per_second: u64, span: Duration) -> Window {
        let least = u128::from(bytes_per_second) * span.as_millis() / 1000;
        let least = u64::try_from(least).unwrap_or(u64::MAX).max(1);
        Window { span, least, waited: Duration::ZERO, received: 0, asked: None }
    }

    fn received(&mut self, bytes: usize, now: Instant) {
        self.received = self.received.saturating_add(bytes as u64);
        if let Some(asked) = self.asked.take() {
            self.waited += now - asked;
        }
    }

    /// Somebody waits for bytes now. When to look again, unless the client is late.
    fn ask(&mut self, now: Instant) -> Result<Instant, Late> {
        let waited = self.waited + (now - *self.asked.get_or_insert(now));
        if waited < self.span {
            return Ok(now + (self.span - waited));
        }
        if self.received < self.least {
            return Err(Late);
        }
        (self.received, self.waited, self.asked) = (0, Duration::ZERO, Some(now));
        Ok(now + self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// 100 bytes a second over 10 s.
    fn window() -> (Window, Instant) {
        (Window::new(100, seconds(10)), Instant::now())
    }

    #[test]
    fn a_client_below_the_rate_is_late_when_the_window_is_over_and_not_before() {
        let (mut window, start) = window();
        assert_eq!(window.ask(start), Ok(start + seconds(10)));
        window.received(999, start + seconds(9));
        assert_eq!(window.ask(start + seconds(9)), Ok(start + seconds(10)));
        assert_eq!(window.ask(start + seconds(10)), Err(Late));
    }

    #[test]
    fn a_client_at_the_rate_is_never_late() {
        let (mut window, start) = window();
        for second in 0..100 {
            assert!(window.ask(start + seconds(second)).is_ok(), "after {second} s");
            window.received(100, start + seconds(second + 1));
        }
    }

    #[test]
    fn a_window_is_judged_on_its_own() {
        let (mut window, start) = window();
        window.received(1_000_000, start);
        assert!(window.ask(start).is_ok());
        assert_eq!(window.ask(start + seconds(10)), Ok(start + seconds(20)));
        assert_eq!(window.ask(start + seconds(20)), Err(Late), "what came before is no credit");
    }

    #[test]
    fn time_in_which_nobody_asks_does_not_count() {
        let (mut window, mut now) = window();
        for _ in 0..9 {
            assert!(window.ask(now).is_ok());
            now += seconds(1);
            window.received(1, now);
            // Back-pressure: the endpoint takes nothing for a while.
            now += seconds(60);
        }
        assert_eq!(window.ask(now), Ok(now + seconds(1)));
        assert_eq!(window.ask(now + seconds(1)), Err(Late));
    }

    #[test]
    fn the_time_for_an_answer_begins_when_the_body_is_over() {
        let upload = Upload::begin(&Arc::new(Activity::new(false, 1, Instant::now())));
        let (limit, began) = (seconds(10), Instant::now());
        let while_it_comes = upload.answer_due(limit);
        assert!(while_it_comes >= began + limit && while_it_comes <= Instant::now() + limit);
        std::thread::sleep(Duration::from_millis(20));
        assert!(upload.answer_due(limit) > while_it_comes, "it moves on with the upload");
        upload.over(true);
        let due = upload.answer_due(limit);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(upload.answer_due(limit), due, "it stands once the last byte is gone");
    }

    #[test]
    fn the_first_fault_is_the_cause() {
        let upload = Upload::begin(&Arc::new(Activity::new(false, 1, Instant::now())));
        assert_eq!(upload.fault(), None);
        upload.fail(ErrorKind::BodyTooLarge, &UploadError::TooLarge);
        upload.fail(ErrorKind::BodyTooSlow, &UploadError::TooSlow);
        assert_eq!(upload.fault().map(|fault| fault.kind), Some(ErrorKind::BodyTooLarge));
    }
}
