//! What a session tells its owner, and why it or one of its streams cannot go on.

use std::fmt;

use bytes::Bytes;

use crate::ErrorCode;
use crate::limits::{MAX_LABEL_BYTES, MAX_QUEUED_CONTROL, MAX_STREAMS};
use crate::wire::WireError;

/// Names one stream of one session. The initiator's are odd, the responder's even.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    pub(crate) fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number on the wire.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something happened. Of one stream, events come in the order of this list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The peer opened a stream: call `accept` or `refuse`. Nothing else comes from it until then, except
    /// [`SessionEvent::Closed`].
    Opened {
        /// The new stream.
        id: StreamId,
        /// What it is for; up to 64 visible ASCII characters, may be empty. For routing, never for security.
        label: String,
    },
    /// Bytes arrived. Report them with `consumed` once they are processed, or the peer runs out of credit.
    Data {
        /// The stream.
        id: StreamId,
        /// At least one byte.
        bytes: Bytes,
    },
    /// The peer sends no more on this stream; it may still read.
    Finished {
        /// The stream.
        id: StreamId,
    },
    /// There is room again after `write` took less than it was given.
    StreamWritable {
        /// The stream.
        id: StreamId,
    },
    /// The peer reset or refused the stream. It is gone, in both directions. Never the answer to an own `reset`
    /// or `refuse`, nor to a stream both sides finished.
    Closed {
        /// The stream.
        id: StreamId,
        /// The peer's reason.
        code: ErrorCode,
    },
    /// The session ended, and not because we closed it. The last event, and only once.
    GoneAway {
        /// The peer's reason; [`ErrorCode::Timeout`] when it is dead, or what it was told when it broke the
        /// protocol.
        code: ErrorCode,
    },
}

/// Why a session ended while a frame was handled. The peer's last frame from us says
/// [`SessionError::wire_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The session has ended already.
    #[error("the session has ended")]
    Closed,
    /// A frame of a kind that has no place in a session.
    #[error("a frame of kind {kind} has no place in a session")]
    FrameKind {
        /// The kind byte.
        kind: u8,
    },
    /// A frame without content.
    #[error("a frame without content")]
    Empty,
    /// The frame was not encrypted by the peer, or came out of order.
    #[error("a frame did not decrypt")]
    Decrypt,
    /// A message was not understood.
    #[error("the peer broke the protocol: {0}")]
    Wire(#[from] WireError),
    /// The peer sent more than it was granted.
    #[error("the peer sent more on stream {id} than it was granted")]
    CreditExceeded {
        /// The stream.
        id: u64,
    },
    /// The peer granted more than any stream may have.
    #[error("the peer granted too much on stream {id}")]
    CreditOverflow {
        /// The stream.
        id: u64,
    },
    /// A message for a stream nobody opened, or that the peer had finished, or an id out of turn.
    #[error("stream {id} is not in a state for this message")]
    StreamState {
        /// The stream.
        id: u64,
    },
    /// The peer causes answers and does not read them.
    #[error("more than {MAX_QUEUED_CONTROL} answers wait for the peer to read them")]
    Flooded,
}

impl SessionError {
    /// What the peer is told.
    #[must_use]
    pub fn wire_code(&self) -> ErrorCode {
        match self {
            Self::Closed => ErrorCode::NoError,
            Self::Wire(error) => error.wire_code(),
            Self::FrameKind { .. }
            | Self::Empty
            | Self::Decrypt
            | Self::CreditExceeded { .. }
            | Self::CreditOverflow { .. }
            | Self::StreamState { .. } => ErrorCode::ProtocolViolation,
            Self::Flooded => ErrorCode::RateLimited,
        }
    }
}

/// Why no stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The session has ended.
    #[error("the session has ended")]
    Closed,
    /// All streams of the session are in use. Finish one first.
    #[error("{MAX_STREAMS} streams are open already")]
    TooManyStreams,
    /// The label cannot be one.
    #[error("a label has up to {MAX_LABEL_BYTES} visible ASCII characters")]
    Label,
}
