//! The handshake: HELLO and AUTH from both sides, then AUTH_OK from both sides.

mod answer;
mod dial;
mod error;
mod exchange;

use clawchat_identity::{Attestation, Verified};
use clawchat_types::{NodeId, Principal};

pub use self::answer::Answerer;
pub use self::dial::Dialer;
pub use self::error::HandshakeError;
use crate::ErrorCode;

/// The node keys the two ends of the libp2p connection have proven to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// This gateway's key, which the local attestation must be about.
    pub local: NodeId,
    /// The peer's key. `None` when its libp2p key is not an Ed25519 key.
    pub remote: Option<NodeId>,
}

/// Whether the attested node key must be the key behind the peer's PeerId.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// It must. Without that, an attestation proves nothing: it is public, and anybody can replay it.
    Required,
    /// It need not; a session without it says so ([`super::Session::is_bound`]).
    Optional,
}

/// What the answering side asks its owner, once the caller is known. Called while a frame is handled, so it must
/// not block, and must answer from memory.
pub trait Gate {
    /// The attestation of the identity we answer `caller` as: of the first hosted one whose access list admits it.
    /// It must be about [`Channel::local`], and current.
    ///
    /// # Errors
    /// The code `caller` is refused with, usually [`ErrorCode::NotAllowed`]. It learns nothing else.
    fn answer_as(&self, caller: &Principal) -> Result<Attestation<Verified>, ErrorCode>;
}
