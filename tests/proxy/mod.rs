//! The data plane as clients and endpoints see it, without an engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod files;
mod headers;
mod life;
mod limits;
mod listeners;
mod paths;
mod reports;
mod requests;
mod routing;
mod settings;
mod swap;
mod tls;
