//! From what every provider wants to what the proxy shall do. Pure: no clock, no I/O, no randomness.
//!
//! ```text
//! Snapshots ─▶ gather ─▶ resolve ─▶ unite ─▶ holders ─▶ contend ─▶ Desired
//!              one object  names to   rule    who holds   rules        │
//!              an id       ObjectIds  (a)     a host      (c) to (e)   ├─▶ Ledger, lapse
//!              rule (b)                       (Ledger)                 └─▶ findings
//! ```
//! The rules are "Who wins" of the interface. The same input in any order gives the same output.

mod contend;
mod desired;
mod gather;
#[cfg(test)]
mod golden;
mod holders;
mod policy;
pub mod precedence;
mod resolve;
mod shadow;
mod stranger;
mod trust;
#[cfg(test)]
pub use golden::all_snapshots as golden_snapshots;
pub use shadow::standing_rank;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{Diagnostic, Ledger, Provider, Snapshot};

pub use desired::{Action, Claim, Desired, DesiredPolicy, DesiredRoute, HostFacts, HostTls, ServiceFacts, Share};

/// Everything that decides, as data.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    pub snapshots: &'a BTreeMap<Provider, Arc<Snapshot>>,
    pub ledger: &'a Ledger,
    /// Stamped by control.
    pub now: Timestamp,
    /// Providers whose snapshot is from before this start: what they would say now is unknown, so that nobody loses a
    /// host by it.
    pub unheard: &'a BTreeSet<Provider>,
    /// Issuers for a host whose holder names none, tried in order.
    pub default_issuers: &'a [crate::model::Name],
}

#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub desired: Desired,
    /// To be stored before the swap.
    pub ledger: Ledger,
    /// When a hold lapses: the crank has to be turned again then, though nothing else changes.
    pub lapse: Option<Timestamp>,
    pub findings: Vec<Diagnostic>,
}

pub fn reconcile(inputs: Inputs<'_>) -> Outcome {
    let mut findings: Vec<Diagnostic> =
        inputs.snapshots.values().flat_map(|snapshot| snapshot.findings.iter().cloned()).collect();
    let gathered = gather::gather(inputs.snapshots, &mut findings);
    let resolved = resolve::resolve(gathered, &mut findings);
    let united = contend::unite(&resolved, &mut findings);
    let heard = |provider| inputs.snapshots.contains_key(&provider) && !inputs.unheard.contains(&provider);
    let (holders, ledger, lapse) = holders::settle(&resolved, &united, inputs.ledger, &heard, inputs.now);
    let claims = contend::contend(&resolved, united, &holders, &mut findings);
    let desired = desired::assemble(resolved, claims, holders, inputs.default_issuers);
    shadow::find(&desired, &mut findings);
    stranger::find(&desired, &mut findings);
    findings.sort();
    findings.dedup();
    Outcome { desired, ledger, lapse, findings }
}
