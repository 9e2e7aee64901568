//! Docker.

pub mod address;
#[cfg(test)]
mod golden;
pub mod objects;
pub mod translate;
