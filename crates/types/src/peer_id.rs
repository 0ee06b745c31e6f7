//! Peer ids: how libp2p names a gateway.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest peer id text, in bytes. Ed25519 ids have 52.
const MAX_PEER_ID_BYTES: usize = 64;

/// A libp2p peer id in its base58 text form (`12D3KooW…`): names a *gateway*, which may host many principals.
///
/// Checked here for alphabet and length only; the network crate checks the rest before dialing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(String);

impl PeerId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        let base58 = |b: u8| b.is_ascii_alphanumeric() && !matches!(b, b'0' | b'O' | b'I' | b'l');
        if text.is_empty() || text.len() > MAX_PEER_ID_BYTES || !text.bytes().all(base58) {
            return Err(PeerIdError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The text is not base58 of a plausible length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a peer id: it should look like 12D3KooW… (base58, at most {MAX_PEER_ID_BYTES} characters)")]
pub struct PeerIdError;
