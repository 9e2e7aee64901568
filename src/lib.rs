//! Portolan: a dynamic HTTPS proxy for people who run containers.
pub mod config;
pub mod control;
pub mod material;
pub mod model;
pub mod provider;
