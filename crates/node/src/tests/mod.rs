//! Tests that need a peer who does not keep to the rules, or a look inside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod coalescing;
mod crowds;
mod hostile;
mod legacy;
mod raw;
mod strangers;
#[path = "../../tests/network/support.rs"]
#[allow(dead_code)] // shared with the integration tests
mod support;
