//! The proxy against a real Docker engine, real containers and real HTTPS clients.
//!
//! Every test starts a proxy of its own, and all see one engine: what a test asserts is about its own host names and
//! container names, never about all that there is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod address;
mod compose;
mod demo;
mod departures;
mod diagnostics;
mod docker_route;
mod health;
mod holders;
mod image;
mod last_good;
mod latency;
mod middlewares;
mod mutual_tls;
mod names;
mod restart;
mod socket_proxy;
mod states;
mod swarm;
mod swarm_load;
mod swarm_load_nodes;
mod swarm_task_labels;
mod tcp_tls;
