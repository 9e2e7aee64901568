//! The neutral vocabulary: what every provider emits and every later stage reads.
//!
//! ```text
//! labels ─┐
//! YAML   ─┼─▶ schema (as users spell it) ──lower──▶ Route, Service, … (typed, by name) ──▶ Snapshot
//! API    ─┘
//! ```
//!
//! Nothing here knows an engine, a file or a socket. References between objects are by name ([`NameRef`]);
//! `reconcile` turns them into [`ObjectId`]s and `table::compile` into indexes, so that a value of a later type
//! cannot hold a dangling reference.

pub mod certificate;
pub mod constraints;
pub mod diagnostic;
pub mod health;
pub mod host;
pub mod id;
pub mod ledger;
pub mod listener;
pub mod middleware;
pub mod mtls;
pub mod nets;
pub mod path;
pub mod pattern;
pub mod predicate;
pub mod route;
pub mod schema;
pub mod service;
pub mod snapshot;
pub mod units;
pub mod vouching;

pub use certificate::Certificate;
pub use diagnostic::{Denial, Diagnostic, Origin, Reason, Severity};
pub use host::HostPattern;
pub use id::{Kind, Name, NameRef, ObjectId, Provider, Source};
pub use ledger::{Hold, Ledger};
pub use listener::Listener;
pub use middleware::Middleware;
pub use mtls::{MtlsPolicy, Revocation, TrustBundle};
pub use path::PathMatch;
pub use pattern::Pattern;
pub use predicate::{Term, Test};
pub use route::{Replica, Route, RouteMatch, RouteTls};
pub use service::{Endpoint, Phase, Service};
pub use snapshot::{ProviderState, Snapshot};
