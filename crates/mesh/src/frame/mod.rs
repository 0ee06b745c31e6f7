//! Frames: what goes over a link, one JSON text each.

mod read;
mod received;
pub(crate) mod write;

use clawchat_types::NodeId;

use crate::message::{DEFAULT_MAX_PAYLOAD_BYTES, Message, MessageError};
use crate::{ChannelId, PeerName};

pub(crate) use self::read::capabilities;
pub use self::read::read_frame;
pub(crate) use self::received::{Content, Entry, Response};
pub use self::received::{Received, receive};

/// Longest frame taken from a peer that has shaken hands, in bytes.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;
/// Longest frame taken before the handshake, in bytes.
pub const MAX_FIRST_FRAME_BYTES: usize = 64 * 1024;
/// The one version of the protocol.
pub const VERSION: u32 = 1;

/// What of the frame reader can be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Longest payload of a message, in bytes of JSON as printed. Default [`DEFAULT_MAX_PAYLOAD_BYTES`].
    pub payload_bytes: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
        }
    }
}

/// One frame, within the limits. Messages in it are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who the peer is and what it can do.
    Handshake(Handshake),
    /// The peer wants the messages of a channel.
    Subscribe(ChannelId),
    /// It does not want them any more.
    Unsubscribe(ChannelId),
    /// A message.
    Message(Box<Message>),
    /// The peer asks for stored messages.
    SyncRequest(SyncRequest),
    /// The peer answers such a question.
    SyncResponse(SyncResponse),
    /// The peer could not take something.
    Error {
        /// The kind of error.
        code: Box<str>,
        /// A sentence.
        message: Box<str>,
    },
    /// A question for a [`Frame::Pong`].
    Ping,
    /// The answer to a [`Frame::Ping`].
    Pong,
    /// A type this version does not know, or a known frame that says nothing.
    Unknown,
}

/// The first frame of either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// What the peer calls itself.
    pub peer: PeerName,
    /// Its key, if it told a readable one.
    pub key: Option<NodeId>,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// What a peer can do. What is not said is false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It passes messages on.
    pub relay: bool,
    /// It keeps messages and answers sync requests.
    pub store: bool,
    /// It answers sync requests in the order of arrival, says whether there is more, and tells where a neighbour stands.
    pub arrival_order: bool,
}

/// A question for stored messages of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRequest {
    /// The channel.
    pub channel: ChannelId,
    /// Messages after this one; `None`: from the oldest.
    pub after: Option<Box<str>>,
    /// Most messages wanted, between 1 and [`crate::MAX_PAGE_MESSAGES`].
    pub limit: usize,
}

/// Stored messages of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncResponse {
    /// The channel.
    pub channel: ChannelId,
    /// The messages, or why an entry is none.
    pub messages: Vec<Result<Message, MessageError>>,
    /// Whether there is more behind them. Only peers that answer in the order of arrival say so.
    pub more: Option<bool>,
    /// The id up to which the neighbour has been given everything. Only such peers say it.
    pub last: Option<Box<str>>,
}

/// Why a frame is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Not JSON.
    #[error("Invalid JSON")]
    InvalidJson,
    /// JSON, but no object.
    #[error("Not a JSON object")]
    NotAnObject,
    /// A field that must be there is not, or of another type.
    #[error("Missing fields")]
    MissingFields,
    /// Something is too long.
    #[error("Too long")]
    TooLong,
    /// A payload is nested too deep.
    #[error("Too deep")]
    TooDeep,
    /// The signature is none.
    #[error("Invalid signature")]
    InvalidSignature,
    /// Another version of the protocol.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
}

impl FrameError {
    /// The error frame that tells the peer.
    #[must_use]
    pub fn answer(&self) -> String {
        let code = match self {
            Self::UnsupportedVersion => write::UNSUPPORTED_VERSION,
            Self::InvalidJson
            | Self::NotAnObject
            | Self::MissingFields
            | Self::TooLong
            | Self::TooDeep
            | Self::InvalidSignature => write::INVALID_MESSAGE,
        };
        write::error(code, &self.to_string())
    }

    /// Whether an existing peer that means well may have passed it on for somebody who does not.
    pub(crate) const fn may_be_another_s(&self) -> bool {
        match self {
            Self::MissingFields | Self::TooLong | Self::TooDeep | Self::InvalidSignature => true,
            Self::InvalidJson | Self::NotAnObject | Self::UnsupportedVersion => false,
        }
    }
}
