//! The leaves of one issuer: made when first asked for, renewed before they end, forgotten when nobody asks any more.
//!
//! ```text
//! handshake ─leaf(name)─▶ LeafStore ─issue_server─▶ InternalCa
//! endpoint ─client(names)─▶ │  └────issue────────────▶ │
//! control ─renew(now), once a minute─▶ │   follow(files), when the CA's files change: a new root
//!                                      └─report─▶ View (certificates)
//! ```
//!
//! Which names may be asked for is the table's business: it asks for hosts of routes, for local addresses and for what
//! services show to their endpoints only, so the store needs no bound of its own. Nothing is kept on disk but a line in the
//! CA's log; a restart issues anew in a fraction of a millisecond. The line of what is for clients is there before it is
//! shown, so that it can be revoked at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use crate::model::service::ClientNames;
use crate::table::tls::Issuer;

use super::ca::{CaError, InternalCa, Issued, Known, LeafName, LeafRequest, Purposes, San, later};
use crate::material::file::Content;

/// Lifetimes without a handshake after which a leaf is forgotten.
const FORGOTTEN_AFTER: u32 = 2;

#[derive(Debug)]
pub struct LeafStore {
    ca: Arc<InternalCa>,
    slots: RwLock<BTreeMap<Wanted, Arc<Slot>>>,
    /// What was issued and is on no record yet.
    unrecorded: Mutex<Vec<(Timestamp, Known)>>,
}

/// What a leaf is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Server(LeafName),
    Client(ClientNames),
}

/// One name. Handshakes read `leaf` without waiting for anybody, except for the very first.
#[derive(Debug)]
struct Slot {
    leaf: ArcSwapOption<Leaf>,
    /// Held by the one who issues.
    issuing: Mutex<()>,
    /// Unix seconds.
    used: AtomicI64,
}

#[derive(Debug)]
struct Leaf {
    key: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
    renewal: Timestamp,
    serial: String,
    /// [`InternalCa::roots`] when it was issued.
    roots: u64,
}

/// A leaf as the certificates view shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeafReport {
    pub name: String,
    pub issuer: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Lower-case hex.
    pub serial: String,
}

impl Issuer for LeafStore {
    fn leaf(&self, name: &LeafName) -> Result<Arc<CertifiedKey>, String> {
        LeafStore::leaf(self, name).map_err(|error| error.to_string())
    }

    fn client(&self, names: &ClientNames) -> Result<Arc<CertifiedKey>, String> {
        self.client_at(names, Timestamp::now()).map_err(|error| error.to_string())
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.ca.trusted(Timestamp::now())
    }

    fn refuses(&self, name: &LeafName) -> Option<String> {
        self.ca.permits(name).err().map(|error| error.to_string())
    }
}

impl LeafStore {
    /// Leaves live as long as the CA's options say.
    pub fn new(ca: Arc<InternalCa>) -> LeafStore {
        LeafStore { ca, slots: RwLock::default(), unrecorded: Mutex::default() }
    }

    /// Takes over a root that another process has made, where the two files, of the root and of those before it, say
    /// something else than what is in force here.
    pub fn follow(&self, root: &Content, retired: &Content, now: Timestamp) -> Result<(), CaError> {
        match (root, retired) {
            (Ok(root), Ok(retired)) if self.ca.agrees_with(root, retired) => Ok(()),
            _ => self.ca.follow(now),
        }
    }

    fn ttl(&self) -> Duration {
        self.ca.options().leaf_life
    }

    pub fn ca(&self) -> &Arc<InternalCa> {
        &self.ca
    }

    /// Blocks for as long as one signature takes where the name is new or its leaf is due. Callers for one name at the
    /// same time wait for one issue, or go on with the leaf that is about to be replaced.
    pub fn leaf(&self, name: &LeafName) -> Result<Arc<CertifiedKey>, CaError> {
        self.leaf_at(name, Timestamp::now())
    }

    pub fn leaf_at(&self, name: &LeafName, now: Timestamp) -> Result<Arc<CertifiedKey>, CaError> {
        self.wanted_at(&Wanted::Server(name.clone()), now)
    }

    /// The same for what services show to their endpoints.
    pub fn client_at(&self, names: &ClientNames, now: Timestamp) -> Result<Arc<CertifiedKey>, CaError> {
        self.wanted_at(&Wanted::Client(names.clone()), now)
    }

    fn wanted_at(&self, wanted: &Wanted, now: Timestamp) -> Result<Arc<CertifiedKey>, CaError> {
        let slot = self.slot(wanted);
        slot.used.fetch_max(now.as_second(), Ordering::Relaxed);
        self.current(wanted, &slot, now)
    }

    /// Renews what is due, so that a quiet host is never caught with an expired leaf, and forgets what nobody has asked
    /// for in two lifetimes. The first failure is returned after every name was tried; the leaves that could not be
    /// renewed stay in use until they end.
    pub fn renew(&self, now: Timestamp) -> Result<(), CaError> {
        let mut outcome = self.ca.renew(now);
        self.forget(now);
        // A name without a leaf is one that was refused, or is being asked for right now.
        for (name, slot) in self.held().into_iter().filter(|(_, slot)| slot.leaf.load().is_some()) {
            let renewed = slot.renew(&slot.issuing(), now, self.ca.roots(), || self.issue(&name, now));
            outcome = outcome.and(renewed.map(drop));
        }
        outcome.and(self.record())
    }

    /// Puts on record what was issued since the last time.
    pub fn record(&self) -> Result<(), CaError> {
        let issued = std::mem::take(&mut *self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner));
        self.ca.record_on_demand(issued)
    }

    /// Sorted by name.
    pub fn report(&self) -> Vec<LeafReport> {
        let leaf = |(name, slot): (Wanted, Arc<Slot>)| {
            let leaf = slot.leaf.load_full()?;
            Some(LeafReport {
                name: name.to_string(),
                issuer: self.ca.name().into(),
                not_before: leaf.not_before,
                not_after: leaf.not_after,
                serial: leaf.serial.clone(),
            })
        };
        self.held().into_iter().filter_map(leaf).collect()
    }

    fn current(&self, name: &Wanted, slot: &Slot, now: Timestamp) -> Result<Arc<CertifiedKey>, CaError> {
        let held = slot.leaf.load_full();
        let issuing = match held {
            Some(leaf) if leaf.is_fresh(now, self.ca.roots()) => return Ok(leaf.key.clone()),
            Some(leaf) if leaf.is_valid(now) => match slot.try_issuing() {
                None => return Ok(leaf.key.clone()),
                Some(issuing) => issuing,
            },
            _ => slot.issuing(),
        };
        let renewed = slot.renew(&issuing, now, self.ca.roots(), || self.issue(name, now));
        match (renewed, slot.leaf.load_full()) {
            (Ok(leaf), _) => Ok(leaf.key.clone()),
            (Err(error), Some(leaf)) if leaf.is_valid(now) => {
                tracing::warn!(issuer = self.ca.name(), %name, %error, "a certificate is not renewed");
                Ok(leaf.key.clone())
            }
            (Err(error), _) => Err(error),
        }
    }

    fn issue(&self, wanted: &Wanted, now: Timestamp) -> Result<Leaf, CaError> {
        // Before, so that a root that comes meanwhile is not missed.
        let roots = self.ca.roots();
        let issued = match wanted {
            Wanted::Server(name) => self.ca.issue_server_at(std::slice::from_ref(name), self.ttl(), now),
            Wanted::Client(names) => self.ca.issue(&request(names)?, self.ttl(), now),
        };
        let Issued { chain, key, not_before, not_after, renewal, serial } = issued?;
        let broken = |why: String| CaError::Crypto { issuer: self.ca.name().into(), why };
        let key = any_supported_type(&key).map_err(|error| broken(error.to_string()))?;
        if let Wanted::Server(_) = wanted {
            let known = Known::of(&chain[0]).map_err(broken)?;
            self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).push((now, known));
        }
        Ok(Leaf { key: Arc::new(CertifiedKey::new(chain, key)), not_before, not_after, renewal, serial, roots })
    }

    fn slot(&self, name: &Wanted) -> Arc<Slot> {
        if let Some(slot) = self.slots.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return slot.clone();
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.entry(name.clone()).or_default().clone()
    }

    fn held(&self) -> Vec<(Wanted, Arc<Slot>)> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().map(|(name, slot)| (name.clone(), slot.clone())).collect()
    }

    fn forget(&self, now: Timestamp) {
        let patience = self.ttl().saturating_mul(FORGOTTEN_AFTER);
        let wanted = |slot: &Slot| {
            let used = Timestamp::from_second(slot.used.load(Ordering::Relaxed)).unwrap_or(Timestamp::MAX);
            now <= later(used, patience)
        };
        self.slots.write().unwrap_or_else(PoisonError::into_inner).retain(|_, slot| wanted(slot));
    }
}

fn request(names: &ClientNames) -> Result<LeafRequest, CaError> {
    let ClientNames { uri, dns } = names;
    let uri = uri.as_deref().map(San::uri);
    let names = uri.into_iter().chain(dns.as_deref().map(San::dns)).collect::<Result<Vec<San>, CaError>>()?;
    Ok(LeafRequest { names, common_name: None, purposes: Purposes { client: true, server: false } })
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Server(name) => name.fmt(f),
            Wanted::Client(ClientNames { uri, dns }) => {
                let both: Vec<&str> = [uri, dns].into_iter().flatten().map(|name| &**name).collect();
                write!(f, "client {}", both.join(", "))
            }
        }
    }
}

impl Default for Slot {
    fn default() -> Slot {
        Slot { leaf: ArcSwapOption::empty(), issuing: Mutex::new(()), used: AtomicI64::new(i64::MIN) }
    }
}

impl Slot {
    fn issuing(&self) -> MutexGuard<'_, ()> {
        self.issuing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_issuing(&self) -> Option<MutexGuard<'_, ()>> {
        match self.issuing.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The leaf in force afterwards; issues only if nobody did while the caller waited for the guard.
    fn renew(
        &self,
        _issuing: &MutexGuard<'_, ()>,
        now: Timestamp,
        roots: u64,
        issue: impl FnOnce() -> Result<Leaf, CaError>,
    ) -> Result<Arc<Leaf>, CaError> {
        if let Some(leaf) = self.leaf.load_full().filter(|leaf| leaf.is_fresh(now, roots)) {
            return Ok(leaf);
        }
        let leaf = Arc::new(issue()?);
        self.leaf.store(Some(leaf.clone()));
        Ok(leaf)
    }
}

impl Leaf {
    /// In use without a second thought. Not before its beginning either: the clock may have been set back.
    fn is_fresh(&self, now: Timestamp, roots: u64) -> bool {
        self.roots == roots && self.not_before <= now && now < self.renewal
    }

    fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().expect("a time")
    }

    fn hours(count: u64) -> Timestamp {
        later(now(), Duration::from_secs(3600) * u32::try_from(count).expect("small"))
    }

    fn name(raw: &str) -> LeafName {
        raw.parse().expect(raw)
    }

    fn store() -> (tempfile::TempDir, LeafStore) {
        let dir = tempfile::tempdir().expect("tempdir");
        let ca = InternalCa::open_at(dir.path(), "corp", now()).expect("opened");
        (dir, LeafStore::new(Arc::new(ca)))
    }

    #[test]
    fn a_leaf_is_kept_and_belongs_to_its_key() {
        let (_dir, store) = store();
        let first = store.leaf_at(&name("a.example"), now()).expect("issued");
        first.keys_match().expect("one pair");
        assert_eq!(first.cert.len(), 2);
        let again = store.leaf_at(&name("a.example"), hours(15)).expect("kept");
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &store.leaf_at(&name("b.example"), now()).expect("issued")));
    }

    #[test]
    fn a_leaf_is_renewed_on_use_when_two_thirds_of_its_life_are_over() {
        let (_dir, store) = store();
        let first = store.leaf_at(&name("a.example"), now()).expect("issued");
        let second = store.leaf_at(&name("a.example"), hours(16)).expect("renewed");
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(store.report()[0].not_after, hours(16 + 24));
    }

    #[test]
    fn a_quiet_host_is_renewed_by_the_sweep_until_it_is_forgotten() {
        let (_dir, store) = store();
        store.leaf_at(&name("quiet.example"), now()).expect("issued");
        store.renew(hours(15)).expect("swept");
        assert_eq!(store.report()[0].not_after, hours(24));
        store.renew(hours(17)).expect("swept");
        assert_eq!(store.report()[0].not_after, hours(17 + 24));
        store.leaf_at(&name("busy.example"), hours(40)).expect("issued");
        store.renew(hours(48)).expect("swept");
        assert_eq!(store.report().len(), 2);
        store.renew(hours(49)).expect("swept");
        assert_eq!(store.report().iter().map(|leaf| leaf.name.as_str()).collect::<Vec<_>>(), ["busy.example"]);
    }

    #[test]
    fn concurrent_callers_for_one_name_issue_once() {
        let (_dir, store) = store();
        // Not only for a new name: one whose leaf has ended must not be issued by each of its callers either.
        for at in [now(), hours(30)] {
            let start = Barrier::new(16);
            let ask = || {
                start.wait();
                store.leaf_at(&name("a.example"), at).expect("issued")
            };
            let leaves: Vec<_> = std::thread::scope(|scope| {
                let callers: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
                callers.into_iter().map(|caller| caller.join().expect("answered")).collect()
            });
            assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
        }
    }

    #[test]
    fn nobody_waits_while_a_leaf_that_still_holds_is_being_replaced() {
        let (_dir, store) = store();
        let first = store.leaf_at(&name("a.example"), now()).expect("issued");
        let slot = store.slot(&Wanted::Server(name("a.example")));
        let _issuing = slot.issuing();
        let meanwhile = store.leaf_at(&name("a.example"), hours(20)).expect("the one in force");
        assert!(Arc::ptr_eq(&first, &meanwhile));
    }

    #[test]
    fn a_leaf_that_cannot_be_renewed_serves_until_it_ends() {
        let (_dir, store) = store();
        let end = store.ca().root_not_after();
        let last = end - jiff::SignedDuration::from_secs(1);
        let first = store.leaf_at(&name("a.example"), last - jiff::SignedDuration::from_secs(60)).expect("issued");
        assert_eq!(store.report()[0].not_after, end);
        // The root ends at this very moment, so nothing more is issued; the leaf is valid for the same moment.
        let kept = store.leaf_at(&name("a.example"), end).expect("kept");
        assert!(Arc::ptr_eq(&first, &kept));
        assert!(store.leaf_at(&name("b.example"), end).is_err());
        assert!(store.renew(end).is_err());
        assert!(store.leaf_at(&name("a.example"), later(end, Duration::from_secs(1))).is_err());
    }

    #[test]
    fn a_clock_set_back_gets_a_leaf_of_its_own_time() {
        let (_dir, store) = store();
        store.leaf_at(&name("a.example"), hours(100)).expect("issued");
        store.leaf_at(&name("a.example"), now()).expect("issued");
        assert_eq!(store.report()[0].not_after, hours(24));
    }

    #[test]
    fn what_a_handshake_asked_for_is_on_record_after_the_next_sweep() {
        let (dir, store) = store();
        store.leaf_at(&name("a.example"), now()).expect("issued");
        store.leaf_at(&name("b.example"), now()).expect("issued");
        let lines = || -> Vec<String> {
            let log = std::fs::read_to_string(dir.path().join("log")).expect("read");
            log.lines().filter(|line| line.contains("issued_on_demand")).map(String::from).collect()
        };
        assert_eq!(lines(), [""; 0]);
        store.renew(now()).expect("swept");
        store.renew(now()).expect("swept");
        let (lines, report) = (lines(), store.report());
        assert_eq!(lines.len(), 2);
        for (line, leaf) in lines.iter().zip(&report) {
            assert!(line.contains(&leaf.serial) && line.contains(&format!("DNS:{}", leaf.name)), "{line}");
        }
        // By its number it can be taken back.
        super::super::ca::revoke(dir.path(), "corp", &report[0].serial, now()).expect("revoked");
    }

    #[test]
    fn a_name_that_is_refused_leaves_no_report() {
        let (_dir, store) = store();
        assert!(store.leaf_at(&LeafName::Dns("not a name".into()), now()).is_err());
        assert_eq!(store.report(), []);
        store.renew(now()).expect("not asked for again");
    }

    #[test]
    fn what_is_shown_to_endpoints_is_for_clients_on_record_and_renewed() {
        let (_dir, store) = store();
        let names = ClientNames { uri: Some("spiffe://corp/docker/shop/web".into()), dns: None };
        let first = store.client_at(&names, now()).expect("issued");
        first.keys_match().expect("one pair");
        assert!(Arc::ptr_eq(&first, &store.client_at(&names, hours(15)).expect("kept")));
        let (_, parsed) = x509_parser::parse_x509_certificate(&first.cert[0]).expect("a certificate");
        let usage = parsed.extended_key_usage().expect("parsed").expect("there").value;
        assert!(usage.client_auth && !usage.server_auth);
        let report = &store.report()[0];
        assert_eq!(report.name, "client spiffe://corp/docker/shop/web");
        let log = std::fs::read_to_string(_dir.path().join("log")).expect("a log");
        assert!(log.contains(&report.serial), "{log}");
        store.renew(hours(17)).expect("swept");
        let second = store.client_at(&names, hours(17)).expect("renewed");
        assert!(first.cert[0] != second.cert[0]);
        let wrong = ClientNames { uri: Some("no uri".into()), dns: None };
        assert!(store.client_at(&wrong, now()).is_err());
    }

    #[test]
    fn the_report_is_what_stands_in_the_certificate() {
        let (_dir, store) = store();
        let leaf = store.leaf_at(&name("a.example"), now()).expect("issued");
        store.leaf_at(&name("127.0.0.1"), now()).expect("issued");
        let report = store.report();
        assert_eq!(report.iter().map(|leaf| leaf.name.as_str()).collect::<Vec<_>>(), ["a.example", "127.0.0.1"]);
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf.cert[0]).expect("a certificate");
        assert_eq!(report[0].serial, parsed.raw_serial_as_string().replace(':', ""));
        assert_eq!(report[0].issuer, "corp");
        assert_eq!(report[0].not_before.as_second(), parsed.validity().not_before.timestamp());
    }
}
