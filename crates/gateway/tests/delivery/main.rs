//! What a gateway promises to its callers, proven with real gateways, sockets and stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod contents;
mod disk;
mod invites;
mod legacy;
mod metrics;
mod reading;
mod relays;
mod restarts;
mod routes;
mod rules;
mod service;
mod watching;
mod whereabouts;
