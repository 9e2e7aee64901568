//! Portolan: a dynamic HTTPS proxy for people who run containers.
//!
//! ```text
//!  provider/docker ─┐
//!  provider/file   ─┤ Snapshot        Desired + findings       Table            one load per request
//!  settings        ─┼────────▶ reconcile ────────▶ compile ────────▶ LiveTable ════▶ proxy (1 thread per core)
//!                   ─┘ latest    (pure)            (pure)                │
//!                      wins                                              ▼
//!                        View { desired, findings, providers, certificates } ──▶ admin API, metrics, logs, commands
//! ```
pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod golden;
pub mod material;
pub mod middleware;
pub mod model;
pub mod provider;
pub mod proxy;
pub mod reconcile;
pub mod table;
pub mod telemetry;
pub mod whoami;
