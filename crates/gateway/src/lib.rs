//! One running daemon: configuration, identities, delivery, local API, shutdown.
//!
//! The gateway wires the layers below it together and owns the home folder. It decides nothing about
//! protocols, storage formats or access rules; those live in their own crates and are asked here.

pub mod admin;
pub mod config;
pub mod home;
pub mod setup;
