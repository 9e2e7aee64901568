//! Portolan: a dynamic HTTPS proxy for people who run containers.
pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
pub mod model;
pub mod provider;
pub mod reconcile;
pub mod telemetry;
pub mod whoami;
