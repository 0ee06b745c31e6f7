//! Why a handshake gave no session.

use clawchat_identity::AttestationError;
use clawchat_types::{NodeId, Principal};

use crate::wire::WireError;
use crate::{ErrorCode, FrameError};

/// Why a handshake gave no session. For the log; the peer is told [`HandshakeError::wire_code`] at most.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer refused us.
    #[error("the peer refused: {code}")]
    Refused {
        /// The reason it gave.
        code: ErrorCode,
    },
    /// Not done within [`crate::HANDSHAKE_DEADLINE`].
    #[error("the peer did not answer in time")]
    Timeout,
    /// `finish` was called before the machine was done.
    #[error("the handshake was given up before it was done")]
    Unfinished,
    /// The peer asked for an identity that is not hosted here, or does not show itself without an invite.
    #[error("the peer asked for an identity that is not shown to it")]
    UnknownPrincipal {
        /// Whom it asked for; `None` for the default identity.
        target: Option<Principal>,
    },
    /// The peer is who it says, and the local identity does not talk to it.
    #[error("{remote} may not talk to {local}: {code}")]
    NotAdmitted {
        /// The identity it asked for.
        local: Principal,
        /// The peer.
        remote: Principal,
        /// What it was told.
        code: ErrorCode,
    },
    /// The attestation the peer showed does not hold.
    #[error("the peer's attestation does not hold: {0}")]
    Attestation(#[from] AttestationError),
    /// The peer showed an attestation of a node key that did not open this channel.
    #[error("the attested node key {attested} does not hold the other end of this channel")]
    KeyMismatch {
        /// The node key of the attestation.
        attested: NodeId,
    },
    /// The peer claims to be somebody else than its attestation says.
    #[error("the peer claims to be {claimed}, its attestation is of {attested}")]
    PrincipalMismatch {
        /// The principal in AUTH.
        claimed: Principal,
        /// The principal of the attestation.
        attested: Principal,
    },
    /// Somebody else than we asked for answered.
    #[error("{answered} answered instead of {wanted}")]
    WrongTarget {
        /// Whom we asked for.
        wanted: Principal,
        /// Who proved to be there.
        answered: Principal,
    },
    /// AUTH is not about the nonces of this handshake.
    #[error("the peer's proof belongs to another handshake")]
    NonceMismatch,
    /// A message was not understood.
    #[error("the peer sent something else than a handshake: {0}")]
    Wire(#[from] WireError),
    /// The framing was broken, or a frame was longer than a stranger's may be.
    #[error("the peer sent something else than frames: {0}")]
    Frame(#[from] FrameError),
    /// A frame of a kind that has no place here.
    #[error("a frame of kind {kind} has no place here")]
    FrameKind {
        /// The kind byte.
        kind: u8,
    },
    /// A Noise message did not decrypt, or had no valid key. Deliberately without detail.
    #[error("the encrypted channel could not be set up")]
    Noise,
}

impl HandshakeError {
    /// What the peer is told. Says less than the log does. For [`HandshakeError::Refused`], what it told us.
    #[must_use]
    pub fn wire_code(&self) -> ErrorCode {
        match self {
            Self::Refused { code } | Self::NotAdmitted { code, .. } => *code,
            Self::Timeout | Self::Unfinished => ErrorCode::Timeout,
            Self::UnknownPrincipal { .. } => ErrorCode::UnknownPrincipal,
            Self::Attestation(AttestationError::Time(_)) => ErrorCode::AuthExpired,
            Self::Attestation(_)
            | Self::KeyMismatch { .. }
            | Self::PrincipalMismatch { .. }
            | Self::WrongTarget { .. }
            | Self::NonceMismatch
            | Self::Noise => ErrorCode::AuthInvalid,
            Self::Wire(error) => error.wire_code(),
            Self::Frame(_) => ErrorCode::ProtocolViolation,
            Self::FrameKind { .. } => ErrorCode::ProtocolViolation,
        }
    }
}
