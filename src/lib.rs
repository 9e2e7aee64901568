//! Portolan: a dynamic HTTPS proxy for people who run containers.
pub mod app;
pub mod cli;
pub mod config;
pub mod model;
pub mod provider;
pub mod reconcile;
