//! Names of peers and senders.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use clawchat_types::NodeId;
use data_encoding::BASE64URL_NOPAD;

/// Longest name of a peer, in bytes of UTF-8.
pub const MAX_PEER_NAME_BYTES: usize = 128;

/// What a peer calls itself: `peer_id` of a handshake, `sender_id` of a message. Any text of 1 to
/// [`MAX_PEER_NAME_BYTES`] bytes; one that spells an Ed25519 public key can be held to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(Arc<str>);

impl PeerName {
    /// The name that spells a public key: base64url without padding.
    #[must_use]
    pub fn of_key(key: &NodeId) -> Self {
        Self(BASE64URL_NOPAD.encode(key.as_bytes()).into())
    }

    /// The key this name spells, if it is the one spelling of 32 bytes.
    #[must_use]
    pub fn as_key(&self) -> Option<NodeId> {
        let bytes = BASE64URL_NOPAD.decode(self.0.as_bytes()).ok()?;
        Some(NodeId::new(bytes.try_into().ok()?))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        match text.len() {
            0 => Err(PeerNameError::Empty),
            1..=MAX_PEER_NAME_BYTES => Ok(Self(text.into())),
            bytes => Err(PeerNameError::TooLong { bytes }),
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text does not name a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerNameError {
    /// Nothing in it.
    #[error("the name of a peer cannot be empty")]
    Empty,
    /// Longer than [`MAX_PEER_NAME_BYTES`].
    #[error("a peer name of {bytes} bytes is too long (at most {MAX_PEER_NAME_BYTES})")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_spells_a_key_gives_it_back() {
        let key = NodeId::new([0xfb; 32]);
        let name = PeerName::of_key(&key);
        assert_eq!(name.as_str().len(), 43);
        assert_eq!(name.as_key(), Some(key));
        assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn other_spellings_are_opaque_names() {
        let name = PeerName::of_key(&NodeId::new([1; 32]));
        // The last character carries four bits only; the other two must be zero.
        let mut other = name.to_string();
        assert_eq!(other.pop(), Some('E'));
        for text in [format!("{other}F"), format!("{name}="), "lobby".to_owned()] {
            assert_eq!(text.parse::<PeerName>().unwrap().as_key(), None, "{text}");
        }
        assert_eq!("".parse::<PeerName>(), Err(PeerNameError::Empty));
        assert_eq!(
            "p".repeat(129).parse::<PeerName>(),
            Err(PeerNameError::TooLong { bytes: 129 })
        );
    }
}
