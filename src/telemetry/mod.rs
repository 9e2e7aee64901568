//! What the proxy says about itself while it runs.
//!
//! ```text
//! worker ─▶ access_log::Lane   ─(16 KiB or 100 ms)─▶ AccessLog, one writer thread ─▶ stdout
//! worker ─▶ metrics::MetricsLane ──(each second)──▶ Metrics ─▶ /metrics
//! anyone ─▶ tracing ─────────────────────────────▶ logs ─▶ stderr
//! ```
//! A worker's lane is its own: no lock, no shared counter on the request path.

pub mod access_log;
pub mod logs;
pub mod metrics;

pub use access_log::AccessLog;
pub use metrics::Metrics;
