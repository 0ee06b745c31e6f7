//! The list where peers of the mesh find each other: serving one, and living by one.
//!
//! [`BootstrapServer`] serves a file; [`neighbours`] fetches a list again and again and keeps links with some of the
//! peers in it.

mod fetch;
mod file;
pub(crate) mod neighbours;
mod rota;
mod server;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

pub use self::server::{BootstrapOptions, BootstrapServer};
