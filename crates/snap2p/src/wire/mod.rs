//! Bytes on the wire: the outer frames and the control messages inside them.

mod control;
mod encode;
mod frame;
mod read;

pub(crate) use self::control::{Auth, Control, DATA_HEAD, Hello, Knock, NONCE_BYTES, is_label, write_data};
pub use self::frame::{FrameError, FrameReader};
pub(crate) use self::frame::{KIND_KNOCK, KIND_NOISE, KIND_REFUSAL, clear_frame};
pub(crate) use self::read::{Parser, read_one};

use crate::ErrorCode;

/// The outer frame, length included, that refuses a session before there are keys to encrypt with: what whoever
/// has no place for another handshake answers instead of starting one. The initiator ends with
/// [`crate::HandshakeError::Refused`] and this code.
///
/// Unauthenticated, so `code` should say nothing of which identities are here; usually
/// [`ErrorCode::RateLimited`].
#[must_use]
pub fn refusal(code: ErrorCode) -> Vec<u8> {
    clear_frame(KIND_REFUSAL, &Control::AuthFail { code }.to_vec())
}

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
