//! The handshake: Noise XX, and inside it the proof of who the two identities are.

mod answer;
mod dial;
mod error;
mod exchange;
pub(crate) mod noise;

use std::fmt;
use std::sync::Arc;

use clawchat_identity::{Attestation, NodeKey, Verified};
use clawchat_types::Principal;
use zeroize::Zeroize;

pub use self::answer::Answerer;
pub use self::dial::Dialer;
pub use self::error::HandshakeError;
use crate::ErrorCode;
use crate::wire::{Control, NONCE_BYTES, Parser, WireError};

/// The only thing a session can be made from.
type Proven = Attestation<Verified>;

/// What one local identity proves itself with. Cheap to clone.
///
/// The attestation must be about this node key, and current; a peer refuses anything else.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The key whose X25519 form is the Noise static key.
    pub node_key: Arc<NodeKey>,
    /// The wallet's statement about this key.
    pub attestation: Attestation<Verified>,
}

impl Credentials {
    /// The identity these credentials speak for.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        self.attestation.principal()
    }
}

/// The two gateways of the libp2p connection, as base58 text. Both sides must name the same two, in the same
/// roles, or the handshake fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPair {
    /// PeerId of the gateway that opened the substream.
    pub initiator: String,
    /// PeerId of the gateway that answers.
    pub responder: String,
}

/// Fresh random bytes for one handshake. Using the same twice gives the session's secrecy away.
#[derive(Clone)]
pub struct HandshakeEntropy {
    /// The X25519 ephemeral secret.
    pub ephemeral: [u8; 32],
    /// The HELLO nonce.
    pub nonce: [u8; NONCE_BYTES],
}

impl fmt::Debug for HandshakeEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeEntropy").finish_non_exhaustive()
    }
}

impl Drop for HandshakeEntropy {
    fn drop(&mut self) {
        self.ephemeral.zeroize();
    }
}

/// What the answering side asks its owner. Both methods are called while a frame is handled, must not block,
/// and must answer from memory.
pub trait Gatekeeper {
    /// The credentials of the hosted identity a peer asks for; without `target`, of the default one. `None`
    /// when there is none, or when it shows itself only after a KNOCK and `knock` is not a valid token: the
    /// peer cannot tell these apart, so the two must take the same time here too.
    ///
    /// `knock` is the token the peer knocked with, 16 to 32 bytes ([`crate::TOKEN_BYTES`]), unchecked.
    fn credentials_for(&self, target: Option<&Principal>, knock: Option<&[u8]>) -> Option<Credentials>;

    /// Whether `local` talks to `remote`, whose identity is proven at this point. `knock` is the token that came with
    /// this handshake, as in [`Gatekeeper::credentials_for`].
    ///
    /// # Errors
    /// The code `remote` is refused with, usually [`ErrorCode::NotAllowed`]. It learns nothing else.
    fn admit(&self, local: &Principal, remote: &Principal, knock: Option<&[u8]>) -> Result<(), ErrorCode>;
}

/// The next message of a sequence that must have one.
fn next<'a>(messages: &mut Parser<'a>) -> Result<Control<'a>, WireError> {
    messages.next().unwrap_or(Err(WireError::Cbor))
}
