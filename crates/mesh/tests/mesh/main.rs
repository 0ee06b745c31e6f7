//! The mesh as its peers see it: vectors of existing peers, seeded networks, and neighbours that mean no good.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod asking;
mod hostile;
mod line;
mod log;
mod old_neighbours;
mod old_peer;
mod one;
mod trust;
mod twins;
mod vectors;
mod world;
