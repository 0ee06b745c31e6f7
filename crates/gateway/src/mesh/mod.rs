//! The gateway's place in the OpenClaw Messaging mesh.
//!
//! [`clawchat_mesh::Mesh`] decides everything about the protocol; here it gets its links, its log and its clock.
//! [`engine`] is the one task that runs it; [`port`] is a link: reading, checking signatures and writing happen there,
//! beside the engine. [`links`] opens links over WebSocket, [`streams`] over sessions with other gateways. [`requests`]
//! answers local requests, [`feed`] follows channels, [`media`] puts files into payloads.

mod daemon;
mod engine;
mod feed;
mod hub;
mod keys;
mod links;
mod media;
mod names;
mod peer;
mod place;
mod port;
mod requests;
mod streams;
mod view;

pub use self::daemon::{MeshDaemon, MeshDaemonOptions};
pub(crate) use self::names::key_of;
pub(crate) use self::place::MeshPlace;
pub(crate) use self::requests::PeerNames;
pub(crate) use self::streams::{MESH_LABEL, accept, connected};
