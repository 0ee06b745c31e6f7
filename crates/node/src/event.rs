//! What a node tells its owner without being asked.

use clawchat_types::PeerId;

use crate::{LegacySession, Px1Request, SessionHandle};

/// Something happened on the network.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A peer opened a session with one of our identities; both sides are authenticated and it is admitted.
    Session(SessionHandle),
    /// The same over wire profile 1.0.
    LegacySession(LegacySession),
    /// A peer asks for addresses or tells some, the way of wire profile 1.0.
    Px1(Px1Request),
    /// The first connection with this peer came about, whoever dialed. It is not authenticated as any
    /// principal yet.
    PeerConnected {
        /// The peer's gateway.
        peer: PeerId,
        /// Whether the peer dialed us.
        inbound: bool,
    },
    /// The last connection with this peer is gone.
    PeerDisconnected {
        /// The peer's gateway.
        peer: PeerId,
    },
    /// A connected peer told where it listens: see [`Node::peer_locators`](crate::Node::peer_locators).
    PeerIdentified {
        /// The peer's gateway.
        peer: PeerId,
    },
    /// A direct connection with this peer came about beside one through a relay. New sessions take the direct one;
    /// those that go through the relay stay there until they are closed.
    Upgraded {
        /// The peer's gateway.
        peer: PeerId,
    },
    /// A contact turned up on the local network, and is connected.
    Neighbour {
        /// The peer's gateway.
        peer: PeerId,
    },
    /// This machine has other addresses than before. Connections that began with one that is gone are closed; peers that
    /// were out of reach are worth another try.
    Moved,
    /// How we can be reached changed: see [`Node::reachability`](crate::Node::reachability).
    ReachabilityChanged,
    /// Our own addresses changed: see [`Node::locators`](crate::Node::locators).
    ListenersChanged,
}
