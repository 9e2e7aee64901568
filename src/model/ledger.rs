//! Who holds a host: what must outlive a process, as data handed to `reconcile`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::Source;

/// Host pattern (as text) to its holder. Hosts that the operator names are not in it: nobody takes those.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub holds: BTreeMap<String, Hold>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub holder: Source,
    pub since: Timestamp,
    /// When the holder was last known to have a running endpoint here; stamped when it is seen to have none.
    /// `None` while it has one.
    pub idle_since: Option<Timestamp>,
    /// What the holder last claimed on this host, so that nobody else takes the same match while a recreated container
    /// is away.
    pub matches: BTreeSet<String>,
    /// Whether a route of the holder last named a policy here.
    pub protected: bool,
}
