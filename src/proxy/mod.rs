//! The data plane: one thread per core, one immutable table per request, no lock on the way.
//!
//! ```text
//! accept ─▶ admission ─▶ handshake ─▶ connection (h1, h2) ─▶ handler ─▶ authorize ─▶ forward ─▶ attempt ─▶ pool · connect
//! ```

mod accept;
mod activity;
mod admission;
mod alert;
mod attempt;
mod authorize;
mod bind;
mod body;
mod connect;
mod connection;
mod drain;
mod error;
mod exchange;
mod expectation;
mod fields;
mod forward;
mod forwarded;
mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod grpc;
mod handler;
mod handshake;
mod held;
mod hops;
mod limits;
mod manners;
mod misdirected;
mod opening;
mod parting;
mod pipe;
mod pool;
mod probe;
mod replay;
mod select;
mod shared;
mod sockets;
mod target;
mod threads;
mod trailers;
mod trouble;
mod tunnel;
mod unheard;
mod upgrade;
mod upload;
mod watched;
mod websocket;
mod wire;
mod worker;

pub use admission::Admission;
pub use bind::bind_alone;
pub use manners::Manners;
pub use probe::probe;
pub use threads::{Bound, WorkerSetup, Workers};
pub use trouble::Trouble;
