//! Settings and the reading of what people write.
//!
//! ```text
//! defaults ─▶ portolan.yaml ─▶ environment ─▶ flags ─▶ one Tree, each value knowing its origin ─▶ Settings
//! ```

pub mod read;
pub mod settings;
pub mod tree;
pub mod yaml;
