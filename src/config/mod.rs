//! Settings and the reading of what people write.
//!
//! ```text
//! defaults ─▶ portolan.yaml ─▶ environment ─▶ flags ─▶ one Tree, each value knowing its origin ─▶ Settings
//! ```

mod bounds;
pub mod check;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod layer;
pub mod listener;
pub mod load;
pub mod read;
pub mod schema;
pub mod settings;
pub mod shape;
pub mod tree;
pub mod whole;
pub mod yaml;

pub use load::{LoadError, Loaded, load, partial, without_file};
pub use settings::Settings;
