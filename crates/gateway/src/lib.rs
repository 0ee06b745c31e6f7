//! One running daemon: configuration, identities, delivery, local API, shutdown.
//!
//! [`Gateway::start`] locks a home folder, opens the identities in it and starts listening; [`Gateway::run`] serves
//! until it is told to stop. [`admin::run_offline`] carries out one administrative request in a home where no
//! daemon runs. The gateway wires the layers below it together and owns the home folder. It decides nothing about
//! protocols, storage formats or access rules; those live in their own crates and are asked here.

mod addresses;
pub mod admin;
mod aliases;
mod api;
mod bootstrap;
mod claims;
mod clock;
pub mod config;
mod contacts;
mod delivery;
mod hints;
pub mod home;
mod hosted;
mod hosting;
mod hosts;
mod http;
mod import;
mod invite;
mod invites;
mod legacy_ids;
mod link;
mod mesh;
mod metrics;
mod nearer;
mod peer_records;
mod peering;
mod reach_words;
mod receipts;
mod reports;
mod run;
mod sessions;
pub mod setup;
mod shared;
mod wake;
mod whereabouts;

/// The local API's words, for programs that start a gateway and answer requests with it.
pub use clawchat_ipc as ipc;

pub use crate::bootstrap::{BootstrapOptions, BootstrapServer};
pub use crate::mesh::{MeshDaemon, MeshDaemonOptions};
pub use crate::run::{Gateway, GatewayOptions, StartError};
