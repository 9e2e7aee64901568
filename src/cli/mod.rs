//! The commands, and what they print.

pub mod client;
pub mod health;
pub mod report;
mod table;
