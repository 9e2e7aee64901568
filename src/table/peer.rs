//! A client as one connection knows it: the chain that it showed and proved to have the key of, and what was found out
//! about it.
//!
//! Belongs to the connection and its worker alone: verdicts are remembered here, by the content of what made them.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::content::ContentKey;
use super::identity::Identity;
use super::introduction::Introduction;
use super::policy::{Admitted, ClientTrust, Policy, Refusal, Unverified, Verdict};

/// Policies that a connection usually has to do with, and some that have changed meanwhile.
const REMEMBERED: usize = 8;

#[derive(Debug, Default)]
pub struct Peer {
    /// Its own certificate first; empty where it showed none.
    chain: Vec<CertificateDer<'static>>,
    identity: OnceCell<Result<Rc<Identity>, String>>,
    /// By policy.
    verdicts: RefCell<Vec<(ContentKey, Verdict)>>,
    /// By what verified it, and until when.
    verified: RefCell<Vec<(ContentKey, Timestamp)>>,
    introductions: RefCell<Vec<Introduced>>,
}

/// What endpoints are told under one policy, for as long as its verdict holds.
#[derive(Debug)]
struct Introduced {
    policy: ContentKey,
    until: Timestamp,
    told: Option<Rc<Introduction>>,
}

impl Peer {
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Peer {
        Peer { chain, ..Peer::default() }
    }

    /// What the handshake has found out about this very chain.
    pub fn knowing(self, trust: ContentKey, until: Timestamp) -> Peer {
        self.verified.borrow_mut().push((trust, until));
        self
    }

    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Who it says to be: to be believed only where a policy has verified it.
    pub fn identity(&self) -> &Result<Rc<Identity>, String> {
        self.identity.get_or_init(|| match self.chain.first() {
            Some(certificate) => Identity::of(certificate).map(Rc::new),
            None => Err("there is no certificate".into()),
        })
    }

    /// What the policy says now: as remembered, where the policy is the same by content and the verdict has not lapsed.
    pub fn verdict(&self, policy: &Policy, now: Timestamp) -> Verdict {
        let remembered = self.verdicts.borrow().iter().find(|(key, _)| *key == policy.key).map(|(_, verdict)| *verdict);
        if let Some(verdict) = remembered.filter(|verdict| now <= verdict.until) {
            return verdict;
        }
        let verdict = policy.judge(self, now);
        let mut verdicts = self.verdicts.borrow_mut();
        verdicts.retain(|(key, _)| *key != policy.key);
        if verdicts.len() >= REMEMBERED {
            verdicts.remove(0);
        }
        verdicts.push((policy.key, verdict));
        verdict
    }

    /// What the policy has endpoints told of it, where there is anything to tell. Made once for each verdict.
    pub fn introduction(&self, policy: &Policy, now: Timestamp) -> Result<Option<Rc<Introduction>>, Refusal> {
        let forward = &policy.rules.forward;
        if forward.is_empty() {
            return Ok(None);
        }
        let Verdict { outcome, until } = self.verdict(policy, now);
        let admitted = outcome?;
        let mut introductions = self.introductions.borrow_mut();
        if let Some(known) = introductions.iter().find(|known| (known.policy, known.until) == (policy.key, until)) {
            return Ok(known.told.clone());
        }
        let told = match admitted {
            Admitted::Anonymous => Introduction::nobody(forward),
            Admitted::Identified => {
                let path = policy.trust.path(&self.chain, now).map_err(Refusal::Unverified)?;
                let broken = |_| Refusal::Unverified(Unverified::Broken);
                Some(Introduction::of(forward, &path).map_err(broken)?)
            }
        };
        let told = told.map(Rc::new);
        introductions.retain(|known| known.policy != policy.key);
        if introductions.len() >= REMEMBERED {
            introductions.remove(0);
        }
        introductions.push(Introduced { policy: policy.key, until, told: told.clone() });
        Ok(told)
    }

    pub(super) fn verified(&self, trust: &ClientTrust, now: Timestamp) -> Result<Timestamp, Unverified> {
        let known = self.verified.borrow().iter().find(|(key, _)| *key == trust.key).map(|(_, until)| *until);
        if let Some(until) = known.filter(|until| now <= *until) {
            return Ok(until);
        }
        let until = trust.verify(&self.chain, now)?;
        let mut verified = self.verified.borrow_mut();
        verified.retain(|(key, _)| *key != trust.key);
        if verified.len() >= REMEMBERED {
            verified.remove(0);
        }
        verified.push((trust.key, until));
        Ok(until)
    }
}
