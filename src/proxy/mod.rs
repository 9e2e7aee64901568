//! The data plane: one thread per core, one immutable table per request, no lock on the way.
//!
//! ```text
//! accept ─▶ handshake ─▶ connection (h1, h2) ─▶ handler ─▶ authorize ─▶ forward ─▶ pool · connect
//! ```

mod accept;
mod authorize;
mod body;
mod connect;
mod connection;
mod error;
mod exchange;
mod fields;
mod forward;
mod forwarded;
mod framing;
mod handler;
mod handshake;
mod hops;
mod pool;
mod target;
mod threads;
mod trailers;
mod worker;

pub use threads::{Bound, WorkerSetup, Workers};
