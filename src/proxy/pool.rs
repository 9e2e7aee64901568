//! Connections to endpoints, kept by the worker that made them.
//!
//! LIFO by address: the warmest connection is used first, and a burst's surplus ages out.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hyper::client::conn::http1::SendRequest;

use super::body::RequestBody;

pub type Sender = SendRequest<RequestBody>;

/// Longer than most clients pause, shorter than most servers keep an idle connection.
const MAX_IDLE: Duration = Duration::from_secs(45);
/// Per endpoint and worker.
const MAX_KEPT: usize = 256;

#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>, RandomState>>,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Instant,
}

impl Pool {
    /// A connection that is open and free, if there is one.
    pub fn checkout(&self, address: SocketAddr) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&address)?;
        // A connection whose last exchange is not quite wound up is passed over, and stays for the next one.
        let mut at = kept.len();
        while at > 0 {
            at -= 1;
            if kept[at].sender.is_closed() {
                kept.swap_remove(at);
            } else if kept[at].sender.is_ready() {
                return Some(kept.remove(at).sender);
            }
        }
        None
    }

    /// Takes back a connection whose last response was read to its end.
    pub fn checkin(&self, address: SocketAddr, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(address).or_default();
        if kept.len() < MAX_KEPT {
            kept.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Drops what is old, closed, or goes to an address that no table names any more.
    pub fn prune(&self, named: &HashSet<SocketAddr>) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|address, kept| {
            kept.retain(|idle| !idle.sender.is_closed() && now.duration_since(idle.since) < MAX_IDLE);
            named.contains(address) && !kept.is_empty()
        });
    }
}
