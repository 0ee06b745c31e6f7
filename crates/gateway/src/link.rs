//! A session with a peer, over whichever protocol it speaks.

use std::net::IpAddr;

use clawchat_node::{ErrorCode, LegacySession, SessionHandle};
use clawchat_types::{NodeId, PeerId, Principal};

/// Generation of the native protocol, for the pin against downgrades.
pub(crate) const NATIVE: u8 = 2;
/// Generation of ClawChat 1.0.
pub(crate) const LEGACY: u8 = 1;

/// What callers see of a protocol generation.
pub(crate) fn protocol_name(generation: u8) -> Option<&'static str> {
    match generation {
        NATIVE => Some("snap2p/2"),
        LEGACY => Some("clawchat/1"),
        _ => None,
    }
}

/// An open session.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// SNaP2P 2: streams, receipts, payloads.
    Native(SessionHandle),
    /// ClawChat 1.0: texts, without receipts.
    Legacy(LegacySession),
}

impl Link {
    /// The protocol's generation.
    pub(crate) fn generation(&self) -> u8 {
        match self {
            Self::Native(_) => NATIVE,
            Self::Legacy(_) => LEGACY,
        }
    }

    pub(crate) fn local(&self) -> &Principal {
        match self {
            Self::Native(session) => session.local(),
            Self::Legacy(session) => session.local(),
        }
    }

    pub(crate) fn remote(&self) -> &Principal {
        match self {
            Self::Native(session) => session.remote(),
            Self::Legacy(session) => session.remote(),
        }
    }

    pub(crate) fn remote_node(&self) -> &NodeId {
        match self {
            Self::Native(session) => session.remote_node(),
            Self::Legacy(session) => session.remote_node(),
        }
    }

    pub(crate) fn remote_attestation(&self) -> &[u8] {
        match self {
            Self::Native(session) => session.remote_attestation(),
            Self::Legacy(session) => session.remote_attestation(),
        }
    }

    pub(crate) fn peer_id(&self) -> &PeerId {
        match self {
            Self::Native(session) => session.peer_id(),
            Self::Legacy(session) => session.peer_id(),
        }
    }

    /// The address at the other end of its connection; unknown through a relay.
    pub(crate) fn host(&self) -> Option<IpAddr> {
        match self {
            Self::Native(session) => session.host(),
            Self::Legacy(session) => session.host(),
        }
    }

    /// Whether this side opened it.
    pub(crate) fn is_outbound(&self) -> bool {
        match self {
            Self::Native(session) => session.is_outbound(),
            Self::Legacy(session) => session.is_outbound(),
        }
    }

    /// Whether it goes through a relay.
    pub(crate) fn is_relayed(&self) -> bool {
        match self {
            Self::Native(session) => session.is_relayed(),
            Self::Legacy(session) => session.is_relayed(),
        }
    }

    /// The gateway that relays it, as far as that is known.
    pub(crate) fn relay(&self) -> Option<&PeerId> {
        match self {
            Self::Native(session) => session.relay(),
            Self::Legacy(session) => session.relay(),
        }
    }

    /// Whether both mean the same session.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Native(one), Self::Native(other)) => one.is_same(other),
            (Self::Legacy(one), Self::Legacy(other)) => one.is_same(other),
            (Self::Native(_), Self::Legacy(_)) | (Self::Legacy(_), Self::Native(_)) => false,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Native(session) => session.is_closed(),
            Self::Legacy(session) => session.is_closed(),
        }
    }

    /// Ends it. A peer of ClawChat 1.0 is not told why.
    pub(crate) fn close(&self, code: ErrorCode) {
        match self {
            Self::Native(session) => session.close(code),
            Self::Legacy(session) => session.close(),
        }
    }
}
