//! What can be set.

use clawchat_types::NodeId;

use crate::PeerName;

/// Who this peer is and what it does for others.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// `peer_id` of its handshakes.
    pub name: PeerName,
    /// The key its handshakes tell, if it has one.
    pub key: Option<NodeId>,
    /// Whether it answers sync requests.
    pub store: bool,
    /// Whether it passes on messages of channels that nobody here follows.
    pub relay: bool,
    /// How much it takes.
    pub limits: MeshLimits,
}

/// How much a peer takes. The defaults are right unless a test needs others.
#[derive(Clone, Copy, Debug)]
pub struct MeshLimits {
    /// Recent messages held in memory for feeding neighbours, over all channels. Default 4096.
    pub ring_messages: usize,
    /// Bytes of their texts. Default 8 MiB.
    pub ring_bytes: usize,
    /// Messages a second taken from one link. Default 10,000, with a burst of twice as many.
    pub link_messages: u32,
    /// Bytes a second taken from one link. Default 64 MiB.
    pub link_bytes: u32,
    /// Bytes handed to the driver for one link and not yet written, before feeding waits. Default 256 KiB.
    pub window_bytes: usize,
    /// Subscriptions of one link. Default 1,000.
    pub link_subscriptions: usize,
    /// Channels followed, and channels kept for others, each. Default 1,000.
    pub channels: usize,
}

impl Default for MeshLimits {
    fn default() -> Self {
        Self {
            ring_messages: 4096,
            ring_bytes: 8 * 1024 * 1024,
            link_messages: 10_000,
            link_bytes: 64 * 1024 * 1024,
            window_bytes: 256 * 1024,
            link_subscriptions: 1000,
            channels: 1000,
        }
    }
}
