//! Nodes that talk over real sockets on the loopback interface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dialing;
mod legacy;
mod reach;
mod relays;
mod sessions;
mod streams;
mod support;
