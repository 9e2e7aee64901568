//! The data plane as clients and endpoints see it, without an engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod headers;
mod paths;
mod routing;
mod swap;
