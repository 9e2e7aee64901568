//! What a connection is doing, and how long it may.
//!
//! ```text
//! fresh ─▶ head ─▶ busy ─▶ idle ─▶ head …        h2: fresh ─▶ idle ─▶ busy ─▶ idle …
//!   │header   │header  │send    │idle
//!   └─────────┴────────┴────────┴──▶ Expiry
//! ```
//! One timer a connection, which fires seldom and looks then: a request costs a few plain stores, no timer of its own.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::model::listener::ListenerTimeouts;

/// For a client that is told that the connection ends, to end its side of it.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Which limit of time or behaviour is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// The head of a request is not there in time.
    Header,
    /// Nothing was asked for long enough.
    Idle,
    /// The client takes no bytes.
    Send,
    /// An h2 client gives up what it asks, again and again.
    Resets,
    /// The client was told that the connection ends, and does not end it.
    Told,
}

impl Expiry {
    /// The word for log and metric.
    pub fn reason(self) -> &'static str {
        match self {
            Expiry::Header => "HeaderTimeout",
            Expiry::Idle => "IdleTimeout",
            Expiry::Send => "SendTimeout",
            Expiry::Resets => "TooManyResets",
            Expiry::Told => "NotClosed",
        }
    }
}

const FRESH: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;
const IDLE: u8 = 3;

/// Written by its connection's own thread alone. Atomic all the same, because whatever carries a connection's bytes must
/// be `Send` to be handed over in an upgrade; relaxed loads and stores cost what plain ones do.
#[derive(Debug)]
pub struct Activity {
    born: Instant,
    h2: bool,
    /// Of h2 requests given up.
    most_resets: u64,
    phase: AtomicU8,
    /// When the phase began, in ms after `born`.
    since: AtomicU64,
    under_way: AtomicU32,
    requests: AtomicU64,
    given_up: AtomicU64,
    /// Nothing that was written waits in a buffer of ours.
    flushed: AtomicBool,
    /// Since when the socket takes no bytes, in ms after `born`, plus 1; 0 where it does.
    blocked: AtomicU64,
    /// When the client was told that the connection ends, likewise.
    told: AtomicU64,
    unread: AtomicBool,
}

impl Activity {
    /// `born` is when the client's first request could begin.
    pub fn new(h2: bool, most_resets: u32, born: Instant) -> Activity {
        Activity {
            born,
            h2,
            most_resets: most_resets.into(),
            phase: AtomicU8::new(FRESH),
            since: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            flushed: AtomicBool::new(true),
            blocked: AtomicU64::new(0),
            told: AtomicU64::new(0),
            unread: AtomicBool::new(false),
        }
    }

    /// Bytes came from the client. Those of h2 tell nothing about requests: pings may come for ever.
    pub fn received(&self) {
        match (self.phase.load(Relaxed), self.h2) {
            (FRESH, false) => self.phase.store(HEAD, Relaxed),
            (IDLE, false) => self.enter(HEAD),
            (FRESH, true) => self.enter(IDLE),
            _ => {}
        }
    }

    /// The socket took bytes.
    pub fn sent(&self) {
        self.flushed.store(false, Relaxed);
        self.blocked.store(0, Relaxed);
    }

    /// The socket takes no more for now.
    pub fn blocked(&self) {
        self.flushed.store(false, Relaxed);
        if self.blocked.load(Relaxed) == 0 {
            self.blocked.store(self.now() + 1, Relaxed);
        }
    }

    pub fn flushed(&self) {
        self.flushed.store(true, Relaxed);
        self.blocked.store(0, Relaxed);
    }

    /// A request's head is read.
    pub fn begin(&self) {
        self.under_way.store(self.under_way.load(Relaxed) + 1, Relaxed);
        self.requests.store(self.requests.load(Relaxed) + 1, Relaxed);
        self.phase.store(BUSY, Relaxed);
    }

    /// A request's body and its answer are both over.
    pub fn end(&self, answered: bool) {
        if !answered {
            self.given_up.store(self.given_up.load(Relaxed) + 1, Relaxed);
        }
        let left = self.under_way.load(Relaxed).saturating_sub(1);
        self.under_way.store(left, Relaxed);
        if left == 0 {
            self.enter(IDLE);
        }
    }

    /// The client was told that the connection ends with what is under way.
    pub fn tell(&self) {
        self.told.store(self.now() + 1, Relaxed);
    }

    /// Part of a request's body will never be read.
    pub fn leave_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// Whether bytes of the client's may be on their way that nobody reads: closing at once would answer them with a
    /// reset, which takes our own last answer with it.
    pub fn lingers(&self) -> bool {
        !self.h2 && (self.unread.load(Relaxed) || self.phase.load(Relaxed) == HEAD)
    }

    /// Nothing was written that the socket has not taken.
    pub fn is_flushed(&self) -> bool {
        self.flushed.load(Relaxed)
    }

    /// Until a limit is over.
    pub async fn expired(&self, timeouts: &ListenerTimeouts) -> Expiry {
        // No phase ends sooner than this after it begins, so that whoever looks this often is never late.
        let ListenerTimeouts { header, idle, send, .. } = timeouts;
        let often = header.0.min(idle.0).min(send.0);
        let often = if self.told.load(Relaxed) > 0 { often.min(LAST_WORDS) } else { often };
        let mut timer = pin!(sleep_until(Instant::now()));
        std::future::poll_fn(|cx| {
            if self.given_up_too_often() {
                return Poll::Ready(Expiry::Resets);
            }
            while timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                match self.due(timeouts) {
                    Some((expiry, at)) if at <= now => return Poll::Ready(expiry),
                    Some((_, at)) => timer.as_mut().reset(at.min(now + often)),
                    None => timer.as_mut().reset(now + often),
                }
            }
            Poll::Pending
        })
        .await
    }

    fn given_up_too_often(&self) -> bool {
        let given_up = self.given_up.load(Relaxed);
        self.h2 && given_up > self.most_resets && given_up * 2 > self.requests.load(Relaxed)
    }

    /// What comes next if nothing happens, and when.
    fn due(&self, timeouts: &ListenerTimeouts) -> Option<(Expiry, Instant)> {
        let after = |millis: u64, span: Duration| self.born + Duration::from_millis(millis) + span;
        let blocked = self.blocked.load(Relaxed);
        if blocked > 0 {
            return Some((Expiry::Send, after(blocked - 1, timeouts.send.0)));
        }
        let since = self.since.load(Relaxed);
        let told = self.told.load(Relaxed);
        match self.phase.load(Relaxed) {
            FRESH if told > 0 => Some((Expiry::Told, after(told - 1, LAST_WORDS))),
            FRESH | HEAD => Some((Expiry::Header, after(since, timeouts.header.0))),
            // The end of an answer may still be on its way to a slow client.
            IDLE if !self.is_flushed() => None,
            IDLE if told > 0 => Some((Expiry::Told, after(since.max(told - 1), LAST_WORDS))),
            IDLE => Some((Expiry::Idle, after(since, timeouts.idle.0))),
            _ => None,
        }
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Relaxed);
        self.since.store(self.now(), Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
