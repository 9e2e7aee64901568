//! Whom a policy has let in: for reports, bounded, and kept while the policy stays what it is.
//!
//! Written once for each verdict that is made, not for each request: a connection remembers its verdicts.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::identity::Identity;

/// Beyond, whoever was let in longest ago is forgotten.
const MOST: usize = 128;

/// By the certificate's fingerprint.
#[derive(Debug, Default)]
pub struct Seen(Mutex<BTreeMap<String, Client>>);

/// A client's certificate, as reports show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// As text, `CN=web, O=Acme`.
    pub subject: String,
    pub issuer: String,
    /// Lower-case hex.
    pub serial: String,
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub last: Timestamp,
}

impl Seen {
    /// Best effort: where somebody else is writing, nobody waits.
    pub(super) fn note(&self, identity: &Rc<Identity>, now: Timestamp) {
        let Ok(mut clients) = self.0.try_lock() else { return };
        if let Some(client) = clients.get_mut(&identity.fingerprint) {
            client.last = now;
            return;
        }
        if clients.len() >= MOST {
            let oldest = clients.iter().min_by_key(|(_, client)| client.last).map(|(print, _)| print.clone());
            oldest.map(|print| clients.remove(&print));
        }
        let Identity { subject, issuer, serial, names, not_before, not_after, .. } = &**identity;
        let client = Client {
            subject: subject.clone(),
            issuer: issuer.clone(),
            serial: serial.clone(),
            names: names.clone(),
            not_before: *not_before,
            not_after: *not_after,
            last: now,
        };
        clients.insert(identity.fingerprint.clone(), client);
    }

    /// The one that was let in last first.
    pub fn clients(&self) -> Vec<Client> {
        let clients: MutexGuard<'_, _> = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clients: Vec<Client> = clients.values().cloned().collect();
        clients.sort_by(|a, b| (b.last, &a.subject, &a.serial).cmp(&(a.last, &b.subject, &b.serial)));
        clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::{Ca, Says, at};

    #[test]
    fn whoever_was_let_in_longest_ago_is_forgotten_first() {
        let ca = Ca::root("ca");
        let identity = Identity::of(&ca.client("web", &Says::default())[0]).expect("a certificate");
        let seen = Seen::default();
        let count = i64::try_from(MOST).expect("small") + 1;
        for n in 0..count {
            let mut other = identity.clone();
            other.fingerprint = n.to_string();
            seen.note(&Rc::new(other), at(n));
        }
        let clients = seen.clients();
        assert_eq!(clients.len(), MOST);
        assert_eq!((clients[0].last, clients[MOST - 1].last), (at(count - 1), at(1)));
        assert_eq!(clients[0].subject, "CN=web");
    }
}
