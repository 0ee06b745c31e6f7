//! Bytes on the wire: the outer frames and the control messages inside them.

mod control;
mod encode;
mod frame;

pub(crate) use self::control::{
    Auth, Control, DATA_HEAD, Hello, Knock, NONCE_BYTES, Parser, is_label, read_one, write_data,
};
pub use self::frame::{FrameError, FrameReader};
pub(crate) use self::frame::{KIND_KNOCK, KIND_NOISE, KIND_REFUSAL, clear_frame};

use crate::ErrorCode;

/// Why a control message was not understood. Without its content: it may be hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Not deterministic CBOR, cut short, or nested too deep.
    #[error("not a control message in deterministic CBOR")]
    Cbor,
    /// A field is missing, of the wrong kind or out of range.
    #[error("a field of message type {message} is missing or out of range")]
    Field {
        /// The message type's number.
        message: u64,
    },
    /// A message type this version does not know.
    #[error("unknown message type {found}")]
    UnknownType {
        /// The number found.
        found: u64,
    },
    /// A HELLO or KNOCK of another version.
    #[error("version {found} instead of 2")]
    Version {
        /// The number found.
        found: u64,
    },
    /// A known message where it has no place.
    #[error("message type {message} has no place here")]
    Unexpected {
        /// The message type's number.
        message: u64,
    },
}

impl WireError {
    /// What the peer is told.
    #[must_use]
    pub fn wire_code(&self) -> ErrorCode {
        match self {
            Self::Cbor | Self::Field { .. } | Self::Unexpected { .. } => ErrorCode::ProtocolViolation,
            Self::UnknownType { .. } | Self::Version { .. } => ErrorCode::VersionUnsupported,
        }
    }
}
