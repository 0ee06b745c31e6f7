//! Names of channels.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest channel id, in bytes of UTF-8. The channel of two principals' public keys has 90.
pub const MAX_CHANNEL_ID_BYTES: usize = 256;

/// The name of a channel: any text of 1 to [`MAX_CHANNEL_ID_BYTES`] bytes, compared byte for byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(Arc<str>);

impl ChannelId {
    /// The channel of a conversation between two peers: `dm:<a>:<b>`, whichever of the two asks.
    ///
    /// # Errors
    /// [`ChannelIdError::Empty`] when an id is empty, [`ChannelIdError::TooLong`].
    pub fn direct(one: &str, other: &str) -> Result<Self, ChannelIdError> {
        if one.is_empty() || other.is_empty() {
            return Err(ChannelIdError::Empty);
        }
        // Sorted as JavaScript sorts strings: by UTF-16 units.
        let (first, second) = if one.encode_utf16().le(other.encode_utf16()) {
            (one, other)
        } else {
            (other, one)
        };
        format!("dm:{first}:{second}").parse()
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChannelId {
    type Err = ChannelIdError;

    fn from_str(text: &str) -> Result<Self, ChannelIdError> {
        match text.len() {
            0 => Err(ChannelIdError::Empty),
            1..=MAX_CHANNEL_ID_BYTES => Ok(Self(text.into())),
            bytes => Err(ChannelIdError::TooLong { bytes }),
        }
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text does not name a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelIdError {
    /// Nothing in it.
    #[error("a channel id cannot be empty")]
    Empty,
    /// Longer than [`MAX_CHANNEL_ID_BYTES`].
    #[error("a channel id of {bytes} bytes is too long (at most {MAX_CHANNEL_ID_BYTES})")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_has_one_name() {
        let channel = ChannelId::direct("b", "a").unwrap();
        assert_eq!(channel.as_str(), "dm:a:b");
        assert_eq!(ChannelId::direct("a", "b").unwrap(), channel);
        assert_eq!(ChannelId::direct("a", "a").unwrap().as_str(), "dm:a:a");
        assert_eq!(ChannelId::direct("Z", "a").unwrap().as_str(), "dm:Z:a");
        // Above U+FFFF, units and characters sort differently.
        assert_eq!(
            ChannelId::direct("\u{ff5e}", "\u{1f600}").unwrap().as_str(),
            "dm:\u{1f600}:\u{ff5e}"
        );
    }

    #[test]
    fn names_are_bounded() {
        let longest = "c".repeat(MAX_CHANNEL_ID_BYTES);
        assert_eq!(longest.parse::<ChannelId>().unwrap().to_string(), longest);
        assert_eq!("".parse::<ChannelId>(), Err(ChannelIdError::Empty));
        assert_eq!(
            "c".repeat(MAX_CHANNEL_ID_BYTES + 1).parse::<ChannelId>(),
            Err(ChannelIdError::TooLong { bytes: 257 })
        );
        assert_eq!(ChannelId::direct("", "a"), Err(ChannelIdError::Empty));
        assert_eq!(
            ChannelId::direct(&longest, "a"),
            Err(ChannelIdError::TooLong { bytes: 261 })
        );
    }
}
