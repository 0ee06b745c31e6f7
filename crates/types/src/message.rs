//! Messages as everybody above the wire sees them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Principal, UnixMillis};

/// Largest message text, in bytes of UTF-8.
pub const MAX_CONTENT_BYTES: usize = 4 * 1024 * 1024;
/// Largest payload, in bytes of JSON text.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// 16 bytes that name a message from the sender's outbox to the receiver's inbox, for ever.
/// Text form: 32 lower-case hex digits. Unique together with the sender.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// Wraps 16 bytes, at least ten of which the caller drew at random.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| MessageIdError)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message id is 32 hexadecimal digits")]
pub struct MessageIdError;

/// The text of a message: any UTF-8 of at most [`MAX_CONTENT_BYTES`]. May be empty.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Content(String);

impl Content {
    /// Checks the length.
    ///
    /// # Errors
    /// [`ContentError::TooLarge`].
    pub fn new(text: impl Into<String>) -> Result<Self, ContentError> {
        let text = text.into();
        if text.len() > MAX_CONTENT_BYTES {
            return Err(ContentError::TooLarge {
                bytes: text.len(),
                limit: MAX_CONTENT_BYTES,
            });
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows the length only: contents do not belong into logs.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

/// Structured data beside the text: one JSON document of at most [`MAX_PAYLOAD_BYTES`], kept as its text.
///
/// Whoever makes one has parsed the JSON already; this type bounds it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload(String);

impl Payload {
    /// Checks the length. `json` must be the text of one JSON document.
    ///
    /// # Errors
    /// [`ContentError::TooLarge`].
    pub fn new(json: impl Into<String>) -> Result<Self, ContentError> {
        let json = json.into();
        if json.len() > MAX_PAYLOAD_BYTES {
            return Err(ContentError::TooLarge {
                bytes: json.len(),
                limit: MAX_PAYLOAD_BYTES,
            });
        }
        Ok(Self(json))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows the length only: contents do not belong into logs.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// Why a text cannot be the content or payload of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// Longer than the limit.
    #[error("{bytes} bytes are too many for one message (at most {limit}); split it, or send a reference")]
    TooLarge {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
}

/// One message between two principals, without anything about its transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Chosen by the sender; the same on both sides.
    pub id: MessageId,
    /// Who wrote it.
    pub from: Principal,
    /// For whom it is.
    pub to: Principal,
    /// The sender's own clock when it was accepted into the outbox.
    pub timestamp: UnixMillis,
    /// The sender's count of messages to this recipient, from 1: for order and for seeing gaps.
    pub sequence: u64,
    /// The nickname the sender goes by, if any. Self-asserted.
    pub from_nick: Option<crate::Nick>,
    /// MIME type of `content`; `text/plain` unless said otherwise.
    pub content_type: String,
    /// The text.
    pub content: Content,
    /// Structured data beside the text.
    pub payload: Option<Payload>,
    /// The message this one answers.
    pub reply_to: Option<MessageId>,
    /// After this time nobody needs it any more: the sender gives up, a receiver refuses it.
    pub expires_at: UnixMillis,
}

/// Where an outgoing message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutboundStatus {
    /// Stored here, waiting for a way to the recipient.
    Pending,
    /// Handed to the recipient's gateway. Over our own protocol that is on the way to `Delivered` and is only shown,
    /// never stored. A peer whose protocol has no receipts (ClawChat 1.0) never says more: there it is the end.
    Sent,
    /// Stored durably at the other side.
    Delivered,
    /// Given up; the reason stands beside it.
    Failed,
}

impl fmt::Display for OutboundStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        })
    }
}
