//! The data plane: one thread per core, one immutable table per request, no lock on the way.
//!
//! ```text
//! accept ─▶ admission ─▶ handshake ─▶ connection (h1, h2) ─▶ handler ─▶ authorize ─▶ forward ─▶ pool · connect
//! ```

mod accept;
mod activity;
mod admission;
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
mod limits;
mod pool;
mod target;
mod threads;
mod unheard;
mod upload;
mod watched;
mod worker;

pub use admission::Admission;
pub use threads::{Bound, WorkerSetup, Workers};
