//! Who is let in: connections are counted over all workers, by listener and by client address.
//!
//! ```text
//! accept ─▶ admit ─▶ Admitted (counts until it is dropped)
//!             └────▶ Refused: closed, counted, told
//! ```
//! Touched when a connection opens and when it ends, never for a request.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::model::Listener;
use crate::model::id::Name;

/// Kept for what is no client's: listeners, the status and admin addresses, providers, files.
const OWN_FILES: u64 = 256;
/// A power of two: workers seldom meet in one.
const SHARDS: usize = 16;
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Shared by all workers.
#[derive(Debug)]
pub struct Admission {
    /// Connections in all: the rest of the open files is for connections to endpoints, of which an idle client has none.
    most: usize,
    open: AtomicUsize,
    gates: Mutex<BTreeMap<Name, Arc<Gate>>>,
}

/// The connections of one listener.
#[derive(Debug, Default)]
struct Gate {
    open: AtomicUsize,
    hasher: RandomState,
    clients: [Mutex<HashMap<IpAddr, u32, RandomState>>; SHARDS],
    refused: Mutex<Refusals>,
}

#[derive(Debug, Default)]
struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

/// A connection that counts for as long as this lives.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    gate: Arc<Gate>,
    client: Option<IpAddr>,
}

/// The limit that keeps a client out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    TooManyConnections,
    TooManyClientConnections,
}

impl Refused {
    /// The word for log and metric.
    pub fn reason(self) -> &'static str {
        match self {
            Refused::TooManyConnections => "TooManyConnections",
            Refused::TooManyClientConnections => "TooManyClientConnections",
        }
    }
}

impl Admission {
    /// `open_files` is how many this process may have.
    pub fn new(open_files: u64) -> Arc<Admission> {
        let most = usize::try_from(open_files.saturating_sub(OWN_FILES) / 4 * 3).unwrap_or(usize::MAX).max(1);
        Arc::new(Admission { most, open: AtomicUsize::new(0), gates: Mutex::default() })
    }

    pub fn admit(self: &Arc<Self>, listener: &Listener, client: IpAddr) -> Result<Admitted, Refused> {
        let gate = self.gate(&listener.name);
        let refuse = |refused: Refused| {
            gate.warn(listener, client, refused);
            refused
        };
        let most = listener.limits.connections.map_or(usize::MAX, |most| most as usize);
        if !step_in(&gate.open, most) {
            return Err(refuse(Refused::TooManyConnections));
        }
        if !step_in(&self.open, self.most) {
            gate.open.fetch_sub(1, Ordering::Relaxed);
            return Err(refuse(Refused::TooManyConnections));
        }
        let mut admitted = Admitted { admission: self.clone(), gate: gate.clone(), client: None };
        // A trusted proxy speaks for many.
        let counted = |most: &u32| *most > 0 && !listener.trusted_proxies.iter().any(|net| net.contains(&client));
        if let Some(most) = listener.limits.client_connections.filter(counted) {
            let client = household(client);
            let mut clients = gate.clients(client);
            let open = clients.entry(client).or_insert(0);
            if *open >= most {
                drop(clients);
                return Err(refuse(Refused::TooManyClientConnections));
            }
            *open += 1;
            admitted.client = Some(client);
        }
        Ok(admitted)
    }

    fn gate(&self, name: &Name) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(name) {
            return gate.clone();
        }
        // Those of listeners that are gone, once their last connection is.
        gates.retain(|_, gate| Arc::strong_count(gate) > 1 || gate.open.load(Ordering::Relaxed) > 0);
        gates.entry(name.clone()).or_default().clone()
    }
}

impl Gate {
    fn clients(&self, client: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, u32, RandomState>> {
        let shard = self.hasher.hash_one(client) as usize % SHARDS;
        self.clients[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A flood must not become a flood of lines.
    fn warn(&self, listener: &Listener, client: IpAddr, refused: Refused) {
        let mut refusals = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.untold += 1;
        if refusals.told.is_some_and(|told| told.elapsed() < WARN_EVERY) {
            return;
        }
        let count = std::mem::take(&mut refusals.untold);
        refusals.told = Some(Instant::now());
        drop(refusals);
        tracing::warn!(
            listener = %listener.name, reason = refused.reason(), %client, count,
            "connections are refused; see listeners.{}.limits", listener.name
        );
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        let mut clients = self.gate.clients(client);
        if let Some(open) = clients.get_mut(&client) {
            *open -= 1;
            if *open == 0 {
                clients.remove(&client);
            }
        }
    }
}

/// Counts one more, unless that were more than `most`.
fn step_in(open: &AtomicUsize, most: usize) -> bool {
    open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < most).then_some(now + 1)).is_ok()
}

/// Whoever has IPv6 has a /64 at least: its addresses are one client's.
fn household(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::listener::{ListenAddress, ListenerLimits, ListenerTimeouts, UnderscoreHeaders};
    use crate::model::{Kind, ObjectId, Origin, Provider, Source};

    fn listener(name: &str, connections: Option<u32>, client_connections: Option<u32>) -> Listener {
        let name = Name::normalised(name);
        Listener {
            id: ObjectId::new(&Source::new(Provider::Settings, None), Kind::Listener, name.as_str()),
            name,
            origin: Origin::Default,
            address: ListenAddress::everywhere(80),
            tls: false,
            redirect: None,
            public_port: None,
            trusted_proxies: Vec::new(),
            underscore_headers: UnderscoreHeaders::default(),
            limits: ListenerLimits { connections, client_connections, ..ListenerLimits::default() },
            timeouts: ListenerTimeouts::default(),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn whoever_leaves_makes_room() {
        let admission = Admission::new(1024);
        let listener = listener("http", Some(2), None);
        let admit = || admission.admit(&listener, ip("192.0.2.1"));
        let (first, _second) = (admit().expect("room"), admit().expect("room"));
        assert_eq!(admit().err(), Some(Refused::TooManyConnections));
        drop(first);
        let _third = admit().expect("room again");
        assert_eq!(admit().err(), Some(Refused::TooManyConnections), "the refused ones took nothing away");
    }

    #[test]
    fn all_listeners_together_stay_within_the_open_files() {
        let admission = Admission::new(OWN_FILES + 4);
        let (one, two) = (listener("one", None, None), listener("two", None, None));
        let admit = |listener: &Listener| admission.admit(listener, ip("192.0.2.1"));
        let _open = [admit(&one).expect("room"), admit(&one).expect("room"), admit(&two).expect("room")];
        assert_eq!(admit(&one).err(), Some(Refused::TooManyConnections));
        assert_eq!(admit(&two).err(), Some(Refused::TooManyConnections));
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_64_bits() {
        let admission = Admission::new(1024);
        let listener = listener("http", Some(5), Some(1));
        let admit = |client: &str| admission.admit(&listener, ip(client));
        let first = admit("2001:db8:0:1::1").expect("room");
        assert_eq!(admit("2001:db8:0:1:ffff::2").err(), Some(Refused::TooManyClientConnections));
        let _other = admit("2001:db8:0:2::1").expect("another network");
        let _v4 = admit("192.0.2.1").expect("another client");
        assert_eq!(admit("::ffff:192.0.2.1").err(), Some(Refused::TooManyClientConnections), "the same in other words");
        drop(first);
        let _again = admit("2001:db8:0:1:ffff::2").expect("room again");
        let _last = [admit("192.0.2.2").expect("room"), admit("192.0.2.3").expect("the refused ones took no place")];
    }
}
