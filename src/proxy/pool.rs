//! What one worker has with each endpoint: kept connections, and the requests that wait for it.
//!
//! ```text
//! a new table ─compare─▶ Slot of an endpoint that it names:      open, or draining (nothing is kept)
//!                        Slot of one that it names no more:      gone: kept connections dropped, who waits is woken
//! ```
//! Connections for one request at a time are used LIFO: the warmest first, and a burst's surplus ages out. Of those that
//! many share there is one for as long as it has room.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::model::service::Phase;
use crate::table::{LiveEndpoint, Table};

use super::connect::{Connected, Exclusive};
use super::opening::Opening;
use super::shared::{Place, Shared};

/// Longer than most clients pause, shorter than most servers keep an idle connection.
const MAX_IDLE: Duration = Duration::from_secs(45);
/// Per endpoint and worker.
const MAX_KEPT: usize = 256;

/// The slots in use, by the endpoints' numbers.
#[derive(Debug, Default)]
pub struct Pool {
    slots: RefCell<HashMap<u64, Rc<Slot>, RandomState>>,
}

/// An endpoint as one worker uses it.
#[derive(Debug)]
pub struct Slot {
    pub endpoint: Arc<LiveEndpoint>,
    standing: Cell<Standing>,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Shared>>>,
    pub opening: Opening,
    waiting: RefCell<Waiting>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    /// What is under way is finished; nothing is kept for later.
    Draining,
    /// No table names it any more. For good: should it come back, it has another number.
    Gone,
}

#[derive(Debug)]
struct Idle {
    connection: Exclusive,
    since: Instant,
}

/// Who is to be woken when the endpoint departs. Woken on this thread by this thread: nothing is synchronised.
#[derive(Debug, Default)]
struct Waiting {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Pool {
    /// The slot of an endpoint. One that `table`, which is in force, does not name is gone from the beginning.
    pub fn slot(&self, endpoint: &Arc<LiveEndpoint>, table: &Table) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get(&endpoint.id) {
            return slot.clone();
        }
        let standing = Standing::of(table.endpoints.phase(endpoint.id));
        let slot = Rc::new(Slot {
            endpoint: endpoint.clone(),
            standing: Cell::new(standing),
            idle: RefCell::default(),
            shared: RefCell::default(),
            opening: Opening::by(endpoint.scheme),
            waiting: RefCell::default(),
        });
        if standing != Standing::Gone {
            slots.insert(endpoint.id, slot.clone());
        }
        slot
    }

    /// Takes up what a new table says of the endpoints that this worker has to do with.
    pub fn compare(&self, table: &Table) {
        self.slots.borrow_mut().retain(|id, slot| {
            slot.become_(Standing::of(table.endpoints.phase(*id)));
            !slot.is_gone()
        });
    }

    /// Drops connections that are old or closed.
    pub fn prune(&self) {
        let now = Instant::now();
        self.slots.borrow_mut().retain(|_, slot| {
            let mut idle = slot.idle.borrow_mut();
            idle.retain(|idle| !idle.connection.sender.is_closed() && now.duration_since(idle.since) < MAX_IDLE);
            let mut shared = slot.shared.borrow_mut();
            let is_old = |since: Instant| now.duration_since(since) >= MAX_IDLE;
            shared.retain(|shared| !shared.is_over() && !shared.idle_since().is_some_and(is_old));
            !idle.is_empty() || !shared.is_empty() || Rc::strong_count(slot) > 1
        });
    }
}

impl Standing {
    fn of(phase: Option<Phase>) -> Standing {
        match phase {
            Some(Phase::Ready) => Standing::Open,
            Some(Phase::Draining | Phase::Unhealthy) => Standing::Draining,
            None => Standing::Gone,
        }
    }
}

impl Slot {
    fn become_(&self, standing: Standing) {
        self.standing.set(standing);
        if standing != Standing::Open {
            self.idle.borrow_mut().clear();
            // Who has a place on one keeps it.
            self.shared.borrow_mut().clear();
        }
        if standing == Standing::Gone {
            // A waker that is called may come back here at once: nothing is borrowed meanwhile.
            let wakers = std::mem::take(&mut self.waiting.borrow_mut().wakers);
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    pub fn is_gone(&self) -> bool {
        self.standing.get() == Standing::Gone
    }

    pub fn is_draining(&self) -> bool {
        self.standing.get() == Standing::Draining
    }

    /// A connection that is open and free, if there is one.
    pub fn checkout(&self) -> Option<Connected> {
        if let Some(place) = self.place() {
            return Some(Connected::H2(place));
        }
        let mut kept = self.idle.borrow_mut();
        // A connection whose last exchange is not quite wound up is passed over, and stays for the next one.
        let mut at = kept.len();
        while at > 0 {
            at -= 1;
            if kept[at].connection.sender.is_closed() {
                kept.swap_remove(at);
            } else if kept[at].connection.sender.is_ready() {
                return Some(Connected::H1(kept.remove(at).connection));
            }
        }
        None
    }

    /// A place on a connection that is open already, where one has room.
    pub fn place(&self) -> Option<Place> {
        let mut shared = self.shared.borrow_mut();
        if shared.is_empty() {
            return None;
        }
        shared.retain(|shared| !shared.is_over());
        shared.iter().find_map(Shared::place)
    }

    /// From now on whoever comes may have a place on it.
    pub fn share(&self, connection: Rc<Shared>) {
        if self.standing.get() == Standing::Open {
            self.shared.borrow_mut().push(connection);
        }
    }

    /// Takes back a connection whose last response was read to its end.
    pub fn checkin(&self, connection: Connected) {
        // A place is given back when it is dropped.
        let Connected::H1(connection) = connection else { return };
        if connection.sender.is_closed() || self.standing.get() != Standing::Open {
            return;
        }
        let mut kept = self.idle.borrow_mut();
        if kept.len() < MAX_KEPT {
            kept.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Until no table names the endpoint any more.
    pub fn departed(&self) -> Departed<'_> {
        Departed { slot: self, place: None }
    }
}

pub struct Departed<'s> {
    slot: &'s Slot,
    /// Among those that wait.
    place: Option<usize>,
}

impl Future for Departed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.slot.is_gone() {
            return Poll::Ready(());
        }
        let slot = self.slot;
        let mut waiting = slot.waiting.borrow_mut();
        let Waiting { wakers, free } = &mut *waiting;
        let place = *self.place.get_or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                wakers.push(None);
                wakers.len() - 1
            })
        });
        match &mut wakers[place] {
            Some(waker) => waker.clone_from(cx.waker()),
            empty => *empty = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Departed<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut waiting = self.slot.waiting.borrow_mut();
        // They are taken away together when the endpoint departs.
        if let Some(waker) = waiting.wakers.get_mut(place) {
            *waker = None;
            waiting.free.push(place);
        }
    }
}

/// A request under way at an endpoint, for those that balance by their number.
#[derive(Debug)]
pub struct InFlight(Rc<Slot>);

impl InFlight {
    pub fn at(slot: &Rc<Slot>) -> InFlight {
        slot.endpoint.enter();
        InFlight(slot.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.endpoint.leave();
    }
}
