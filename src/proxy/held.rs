//! Exchanges that go on after their head: tunnels, and bodies on their way. At a swap of tables each is asked again
//! whether it may, and when what its client was let in by ends by itself.
//!
//! ```text
//! swap ─▶ review ─▶ the same entry: nothing              ┌─▶ Stands
//!                   another one ─▶ authorize::still ─────┼─▶ Refused: ends now
//!                   none ────────────────────────────────┴─▶ Leaves: ends within the time that a drain has
//! ```
//! One registry a worker. An exchange comes into it when it waits for the first time, so that an answer that is whole at
//! once pays nothing. It keeps its route's entry, never the table.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::table::{RouteEntry, Standing, Table};

use super::authorize;
use super::connection::Connection;
use super::error::{ErrorKind, ProxyError};

/// All of one worker.
#[derive(Debug, Default)]
pub struct Held {
    members: RefCell<Members>,
}

#[derive(Debug, Default)]
struct Members {
    places: Vec<Option<Rc<Member>>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Member {
    connection: Rc<Connection>,
    /// As of the last review that it passed.
    entry: RefCell<Arc<RouteEntry>>,
    verdict: Cell<Verdict>,
    /// When what let it in is to be asked again.
    until: Cell<Timestamp>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Stands,
    /// Its route is gone or leads elsewhere.
    Leaves(Instant),
    Refused(ErrorKind),
}

/// An exchange's place in the registry, for as long as it lasts.
#[derive(Debug)]
pub struct Hold {
    member: Rc<Member>,
    place: usize,
    timer: Option<Pin<Box<Sleep>>>,
    /// For a verdict until then.
    lapse: Option<(Timestamp, Pin<Box<Sleep>>)>,
}

/// The longest that a clock which is set is not noticed.
const LOOK: Duration = Duration::from_secs(60);
/// A moment at which something still holds is over when it is.
const JUST_AFTER: Duration = Duration::from_millis(2);

impl Held {
    /// Takes up what a new table says of the routes of all that is under way.
    pub fn review(&self, table: &Table) {
        let members = self.members.borrow();
        let mut standings: HashMap<*const RouteEntry, Standing<'_>, RandomState> = HashMap::default();
        for member in members.places.iter().flatten() {
            let entry = member.entry.borrow().clone();
            let standing = standings.entry(Arc::as_ptr(&entry)).or_insert_with(|| table.standing(&entry));
            if *standing != Standing::Same {
                member.judge(&entry, standing, table);
            }
        }
    }

    /// Whether an exchange that began on `entry` may go on under the table in force.
    pub fn ask(connection: &Connection, entry: &Arc<RouteEntry>) -> Result<(), ProxyError> {
        let generation = connection.worker.generation();
        match generation.table.standing(entry) {
            Standing::Same => authorize::still(entry, connection.tls.as_ref()),
            Standing::Other(now) => authorize::still(now, connection.tls.as_ref()),
            Standing::Gone => authorize::outliving(entry, &generation.table, connection.tls.as_ref()),
        }
        .map(drop)
    }
}

impl Member {
    fn judge(&self, entry: &RouteEntry, standing: &Standing<'_>, table: &Table) {
        let tls = self.connection.tls.as_ref();
        let (admitted, now) = match standing {
            Standing::Same => (authorize::still(entry, tls), None),
            Standing::Other(now) => (authorize::still(now, tls), Some(*now)),
            Standing::Gone => (authorize::outliving(entry, table, tls), None),
        };
        let verdict = match admitted {
            Err(refused) => Verdict::Refused(refused.kind),
            Ok(until) => {
                self.until.set(until);
                let stands = *standing == Standing::Same || now.is_some_and(|now| now.serves_as(entry));
                match self.verdict.get() {
                    _ if stands => Verdict::Stands,
                    // A second change gives no second time.
                    Verdict::Leaves(before) => Verdict::Leaves(before.min(self.leave())),
                    _ => Verdict::Leaves(self.leave()),
                }
            }
        };
        if verdict == Verdict::Stands
            && let Some(now) = now
        {
            self.entry.replace(now.clone());
        }
        if self.verdict.replace(verdict) != verdict
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    fn leave(&self) -> Instant {
        Instant::now() + self.connection.worker.manners.deadline()
    }

    /// By the table in force, whether or not it is another one.
    fn judge_now(&self) {
        let generation = self.connection.worker.generation();
        let entry = self.entry.borrow().clone();
        self.judge(&entry, &generation.table.standing(&entry), &generation.table);
    }
}

impl Hold {
    pub fn begin(connection: &Rc<Connection>, entry: &Arc<RouteEntry>) -> Hold {
        let member = Rc::new(Member {
            connection: connection.clone(),
            entry: RefCell::new(entry.clone()),
            verdict: Cell::new(Verdict::Stands),
            until: Cell::new(Timestamp::MAX),
            waker: RefCell::default(),
        });
        // A table may have come since the request was let in, and nobody has asked this one yet.
        member.judge_now();
        let mut members = connection.worker.held.members.borrow_mut();
        let place = members.free.pop().unwrap_or_else(|| {
            members.places.push(None);
            members.places.len() - 1
        });
        members.places[place] = Some(member.clone());
        Hold { member, place, timer: None, lapse: None }
    }

    /// Ready, with the reason, when the exchange has to end.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        self.poll_lapse(cx);
        match self.member.verdict.get() {
            Verdict::Refused(kind) => return Poll::Ready(kind),
            Verdict::Leaves(deadline) => {
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                if timer.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(ErrorKind::RouteWithdrawn);
                }
            }
            // It came back, or back to what it was.
            Verdict::Stands => self.timer = None,
        }
        let mut waker = self.member.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            empty => *empty = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Asks again when what let it in is over by itself: a certificate has ended, or a list is overdue.
    fn poll_lapse(&mut self, cx: &mut Context<'_>) {
        loop {
            let until = self.member.until.get();
            if until == Timestamp::MAX {
                self.lapse = None;
                return;
            }
            let lapse = match &mut self.lapse {
                Some((of, lapse)) if *of == until => lapse,
                lapse => {
                    let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
                    let next = left.min(LOOK).saturating_add(JUST_AFTER);
                    &mut lapse.insert((until, Box::pin(sleep(next)))).1
                }
            };
            if lapse.as_mut().poll(cx).is_pending() {
                return;
            }
            self.lapse = None;
            if until < Timestamp::now() {
                self.member.judge_now();
                if let Verdict::Refused(_) = self.member.verdict.get() {
                    return;
                }
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut members = self.member.connection.worker.held.members.borrow_mut();
        members.places[self.place] = None;
        members.free.push(self.place);
    }
}
