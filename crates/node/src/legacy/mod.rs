//! Peers that speak wire profile 1.0 (`spec/clawchat-1.md`): their sessions and their PX-1 exchanges.

mod drive;
mod handle;
mod part;
pub(crate) mod px1;
mod switch;
pub(crate) mod task;

use std::sync::Arc;

use clawchat_snap2p::clawchat1::Gate;
use clawchat_types::Network;

pub use self::handle::{Confirmation, LegacyBatch, LegacySession};
pub(crate) use self::part::LegacyPart;
pub use self::px1::{Px1Error, Px1Request};
pub(crate) use self::switch::Switch;

/// Whom of the peers of wire profile 1.0 a node talks to (`legacyPeers` in `gateway-config.json`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LegacyPolicy {
    /// Nobody: the profile is not offered.
    Off,
    /// Those whose attested node key is the key of their connection. The default.
    #[default]
    Bound,
    /// Others too: whoever has seen somebody's attestation can pose as them.
    Unbound,
}

/// What a node needs to talk to peers of wire profile 1.0.
#[derive(Clone)]
pub struct Legacy {
    /// As whom to answer.
    pub gate: Arc<dyn Gate + Send + Sync>,
    /// The network all peers must be of.
    pub network: Network,
    /// Whom to talk to; [`Node::set_legacy`](crate::Node::set_legacy) changes it.
    pub policy: LegacyPolicy,
}
