//! The sockets of one worker, kept in step with the listeners that the table names.
//!
//! ```text
//! table's listeners ─▶ compare with what is open ─▶ keep · hand over · open ─▶ then close what is left
//! ```
//! New ones are opened before old ones are closed. A socket is told by its address, not by its name: a listener that is
//! renamed, or gets other terms, keeps it, and its connections come back under the new ones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::model::id::Name;
use crate::model::listener::{ListenAddress, Listener, ListenerLimits};
use crate::table::TableListener;

use super::accept;
use super::bind::bind;
use super::drain::Drain;
use super::manners::Manners;
use super::threads::Bound;
use super::worker::Worker;

pub struct Sockets {
    worker: Rc<Worker>,
    id: usize,
    manners: Arc<Manners>,
    stop: CancellationToken,
    bound: mpsc::UnboundedSender<Bound>,
    open: Vec<Socket>,
    /// What was said of each listener last.
    said: BTreeMap<Name, Result<ListenAddress, String>>,
}

/// A socket that is being accepted from.
struct Socket {
    name: Name,
    address: ListenAddress,
    serving: Rc<RefCell<Serving>>,
    /// Cancelled: no more connections.
    closing: CancellationToken,
}

/// What the next connection is taken in under.
#[derive(Clone)]
pub struct Serving {
    /// As of the last table that named it.
    pub listener: Arc<TableListener>,
    pub drain: Drain,
}

impl Sockets {
    pub fn new(
        id: usize,
        worker: Rc<Worker>,
        manners: Arc<Manners>,
        stop: CancellationToken,
        bound: mpsc::UnboundedSender<Bound>,
    ) -> Sockets {
        Sockets { worker, id, manners, stop, bound, open: Vec::new(), said: BTreeMap::new() }
    }

    /// Whether a listener that could not be opened is to be tried again.
    pub fn lacks(&self) -> bool {
        self.said.values().any(Result::is_err)
    }

    pub fn compare(&mut self) {
        let generation = self.worker.generation();
        let wanted = &generation.table.listeners;
        let mut before = std::mem::take(&mut self.open);
        let mut missing = Vec::new();
        // By name first: with port 0, two sockets may have one address.
        for (name, listener) in wanted {
            let same = |socket: &Socket| socket.name == *name && socket.address == listener.listener.address;
            match before.iter().position(same) {
                Some(at) => self.keep(before.swap_remove(at), name, listener),
                None => missing.push((name, listener)),
            }
        }
        missing.retain(|(name, listener)| {
            let there = before.iter().position(|socket| socket.address == listener.listener.address);
            there.map(|at| self.keep(before.swap_remove(at), name, listener)).is_none()
        });
        for (name, listener) in missing {
            if let Err(mut why) = self.open(name, listener) {
                // Where the new address cannot be had, the old one is better than none.
                if let Some(at) = before.iter().position(|socket| socket.name == *name) {
                    let socket = before.swap_remove(at);
                    self.refit(&socket, name, listener);
                    why = format!("{why}; until then it stays at {}", socket.address);
                    self.open.push(socket);
                }
                self.say(name, Err(why));
            }
        }
        self.said.retain(|name, _| wanted.contains_key(name));
        for socket in before {
            socket.closing.cancel();
            socket.serving.borrow().drain.start(self.manners.deadline());
        }
    }

    fn keep(&mut self, mut socket: Socket, name: &Name, listener: &Arc<TableListener>) {
        self.refit(&socket, name, listener);
        socket.name = name.clone();
        self.say(name, Ok(socket.address));
        self.open.push(socket);
    }

    /// Connections took these terms in when they were accepted: under others they have to come again.
    fn refit(&self, socket: &Socket, name: &Name, listener: &Arc<TableListener>) {
        let mut serving = socket.serving.borrow_mut();
        if socket.name != *name || !same_terms(&serving.listener.listener, &listener.listener) {
            serving.drain.start(self.manners.deadline());
            serving.drain = Drain::under(&self.stop);
        }
        serving.listener = listener.clone();
    }

    fn open(&mut self, name: &Name, listener: &Arc<TableListener>) -> Result<(), String> {
        let address = listener.listener.address;
        let bound = bind(address)?;
        let serving = Serving { listener: listener.clone(), drain: Drain::under(&self.stop) };
        let serving = Rc::new(RefCell::new(serving));
        let closing = self.stop.child_token();
        tokio::task::spawn_local(accept::run(self.worker.clone(), bound, serving.clone(), closing.clone()));
        self.say(name, Ok(address));
        self.open.push(Socket { name: name.clone(), address, serving, closing });
        Ok(())
    }

    /// Only what is new: each word costs control a turn.
    fn say(&mut self, name: &Name, result: Result<ListenAddress, String>) {
        if self.said.get(name) == Some(&result) {
            return;
        }
        self.said.insert(name.clone(), result.clone());
        let _ = self.bound.send(Bound { worker: self.id, listener: name.clone(), result });
    }
}

/// What a connection takes in when it is accepted. The rest is read from the table with each request.
fn same_terms(a: &Listener, b: &Listener) -> bool {
    let terms = |listener: &Listener| {
        let Listener {
            id: _,
            name: _,
            origin: _,
            address: _,
            tls,
            redirect: _,
            public_port,
            trusted_proxies,
            underscore_headers: _,
            limits,
            timeouts,
        } = listener.clone();
        // Numbers of connections are asked only when one comes.
        let limits = ListenerLimits { connections: None, client_connections: None, ..limits };
        (tls, public_port, trusted_proxies, limits, timeouts)
    };
    terms(a) == terms(b)
}
