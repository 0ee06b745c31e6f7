//! Moves bytes: the libp2p swarm that carries SNaP2P sessions between gateways.
//!
//! A [`Node`] listens on TCP, QUIC and WebSocket, dials [locators](clawchat_types::Locator), and runs native
//! SNaP2P sessions (`clawchat-snap2p`) on substreams of the protocol `/snap2p/2.0.0`. What comes out is a
//! [`SessionHandle`]: an authenticated channel between two principals, over which either side opens labelled
//! [`Stream`]s with backpressure from end to end. Peers that speak only wire profile 1.0 get a [`LegacySession`].
//!
//! Who a peer *is* gets proven by the session, never by an address or a libp2p peer id. Which identities are
//! hosted and who may talk to them is asked of the [`Gatekeeper`]. This crate is the only one that sees
//! libp2p, and shows none of its types; it reads the clocks and the system's randomness itself, reads no
//! environment and prints nothing.
//!
//! Every queue here is bounded: see [`Limits`] and the constants beside it.

mod actor;
mod address;
mod clock;
mod config;
mod counters;
mod dial;
mod error;
mod event;
mod legacy;
mod nat;
mod node;
mod rate;
mod session;
mod swarm;
#[cfg(test)]
mod tests;

// Helpers of the integration tests are used by the unit tests too, under the crate's outside name.
#[cfg(test)]
extern crate self as clawchat_node;

pub use clawchat_snap2p::{Credentials, ErrorCode, Gatekeeper};

pub use crate::config::{Limits, NodeConfig};
pub use crate::counters::NodeCounters;
pub use crate::error::{
    DialAttempt, DialError, SessionClosed, SessionOpenError, StartError, StreamError, Transport,
};
pub use crate::event::NodeEvent;
pub use crate::legacy::{
    Confirmation, Legacy, LegacyBatch, LegacyPolicy, LegacySession, Px1Error, Px1Request,
};
pub use crate::nat::{NatConfig, Reachability, RelayLimits, RelayLoad, RelayPlace, RelayServe, RelayState};
pub use crate::node::{Connected, Node, SkippedTransport};
pub use crate::session::{InboundStream, SessionHandle, Stream, StreamReader, StreamWriter};
