//! The data plane: one thread per core, one immutable table per request, no lock on the way.
//!
//! ```text
//! accept ─▶ handshake ─▶ connection (h1, h2) ─▶ handler ─▶ authorize ─▶ forward ─▶ attempt ─▶ pool · connect
//! ```

mod accept;
mod attempt;
mod authorize;
mod body;
mod connect;
mod connection;
mod error;
mod exchange;
mod forward;
mod forwarded;
mod handler;
mod handshake;
mod pool;
mod target;
mod threads;
mod wire;
mod worker;

pub use threads::{Bound, WorkerSetup, Workers};
