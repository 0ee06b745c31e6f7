//! What tests of several crates share: people with fixed keys, a clock moved by hand, a network in memory,
//! repeatable randomness, and a stopwatch for busy machines.
//!
//! A dev-dependency only. Everything here is public test data; nothing of it protects anything.
#![allow(clippy::expect_used)] // of constants, and of what a test cannot go on without

mod clock;
mod net;
mod own_time;
mod people;
mod random;

pub use crate::clock::{Clock, START};
pub use crate::net::{Happening, Net};
pub use crate::own_time::{Stopwatch, own_time};
pub use crate::people::{Person, attestation, attestation_from, stranger};
pub use crate::random::SeededRng;
