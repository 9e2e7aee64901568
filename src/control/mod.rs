//! The one loop that turns the crank, and what it keeps: the state directory, the internal CA and its leaves.

pub mod ca;
pub mod durable;
pub mod keypair;
pub mod leaves;
pub mod state;
