//! Exchanges that go on after their head: tunnels, and bodies on their way. At a swap of tables each is asked again
//! whether it may.
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

use foldhash::fast::RandomState;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::table::{RouteEntry, Standing, Table};

use super::authorize;
use super::connection::Connection;
use super::error::ErrorKind;

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
}

impl Held {
    /// Takes up what a new table says of the routes of all that is under way.
    pub fn review(&self, table: &Table) {
        let members = self.members.borrow();
        let mut standings: HashMap<*const RouteEntry, Standing<'_>, RandomState> = HashMap::default();
        for member in members.places.iter().flatten() {
            let entry = member.entry.borrow().clone();
            let standing = standings.entry(Arc::as_ptr(&entry)).or_insert_with(|| table.standing(&entry));
            member.judge(&entry, standing);
        }
    }
}

impl Member {
    fn judge(&self, entry: &RouteEntry, standing: &Standing<'_>) {
        let now = match standing {
            Standing::Same => return,
            Standing::Gone => None,
            Standing::Other(now) => Some(*now),
        };
        let verdict = match now.map(|now| authorize::still(now, &self.connection)) {
            Some(Err(refused)) => Verdict::Refused(refused.kind),
            Some(Ok(())) if now.is_some_and(|now| now.serves_as(entry)) => Verdict::Stands,
            _ => {
                let deadline = Instant::now() + self.connection.worker.manners.deadline();
                match self.verdict.get() {
                    // A second change gives no second time.
                    Verdict::Leaves(before) => Verdict::Leaves(before.min(deadline)),
                    _ => Verdict::Leaves(deadline),
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
}

impl Hold {
    pub fn begin(connection: &Rc<Connection>, entry: &Arc<RouteEntry>) -> Hold {
        let member = Rc::new(Member {
            connection: connection.clone(),
            entry: RefCell::new(entry.clone()),
            verdict: Cell::new(Verdict::Stands),
            waker: RefCell::default(),
        });
        let worker = &connection.worker;
        // A table may have come since the request was let in, and nobody has asked this one yet.
        member.judge(entry, &worker.generation().table.standing(entry));
        let mut members = worker.held.members.borrow_mut();
        let place = members.free.pop().unwrap_or_else(|| {
            members.places.push(None);
            members.places.len() - 1
        });
        members.places[place] = Some(member.clone());
        Hold { member, place, timer: None }
    }

    /// Ready, with the reason, when the exchange has to end.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<ErrorKind> {
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
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut members = self.member.connection.worker.held.members.borrow_mut();
        members.places[self.place] = None;
        members.free.push(self.place);
    }
}
