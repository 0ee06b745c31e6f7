//! Peers that break the rules, against real gateways: they get nothing, and nobody else is harmed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stderr, reason = "says what was skipped")]

#[path = "../common/mod.rs"]
mod common;
mod crowds;
mod letters;
mod names;
mod receivers;
mod streams;
mod victims;
mod whereabouts;
