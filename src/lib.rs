//! Portolan: a dynamic HTTPS proxy for people who run containers.
pub mod config;
pub mod middleware;
pub mod model;
pub mod provider;
pub mod proxy;
pub mod reconcile;
pub mod table;
pub mod telemetry;
