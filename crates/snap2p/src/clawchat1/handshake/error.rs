//! Why a handshake gave no session.

use clawchat_identity::AttestationError;
use clawchat_types::{Network, NodeId, Principal};

use crate::ErrorCode;
use crate::clawchat1::{FrameError, WireError};

/// Why a handshake gave no session. For the log; the peer is told [`HandshakeError::wire_code`] at most.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer refused us.
    #[error("the peer refused: {code} ({reason:?})")]
    Refused {
        /// What its refusal stands for.
        code: ErrorCode,
        /// What it wrote: up to 100 characters, all of them printable ASCII.
        reason: String,
    },
    /// Not done within [`crate::clawchat1::HANDSHAKE_DEADLINE`].
    #[error("the peer did not answer in time")]
    Timeout,
    /// `finish` was called before the machine was done.
    #[error("the handshake was given up before it was done")]
    Unfinished,
    /// The attestation we were to show is about another node key than this connection's.
    #[error("our own attestation is about the node key {attested}, this connection has {connection}")]
    LocalKey {
        /// The node key of our attestation.
        attested: NodeId,
        /// The node key of this gateway's end of the connection.
        connection: NodeId,
    },
    /// The peer is who it says, and nobody here talks to it.
    #[error("nobody here talks to {remote}: {code}")]
    NotAdmitted {
        /// The peer.
        remote: Principal,
        /// What it was told.
        code: ErrorCode,
    },
    /// The attestation the peer showed does not hold.
    #[error("the peer's attestation does not hold: {0}")]
    Attestation(AttestationError),
    /// The peer is of the other network.
    #[error("the peer is not one of {expected}")]
    WrongNetwork {
        /// The network of this side.
        expected: Network,
    },
    /// The peer claims to be somebody else than its attestation says.
    #[error("the peer claims to be {claimed:?}, its attestation is of {attested}")]
    AnotherPrincipal {
        /// The principal in AUTH: up to 128 characters, all of them printable ASCII.
        claimed: String,
        /// The principal of the attestation.
        attested: Principal,
    },
    /// HELLO names another node key than the attestation.
    #[error("the peer named the node key {named}, its attestation is about {attested}")]
    AnotherKey {
        /// The node key in HELLO.
        named: NodeId,
        /// The node key of the attestation.
        attested: NodeId,
    },
    /// The attested node key is not the one behind the PeerId of this connection. Somebody may be replaying
    /// another's attestation.
    #[error("the attested node key {attested} is not the one this connection was opened with")]
    Unbound {
        /// The node key of the attestation.
        attested: NodeId,
        /// The node key of the connection, if it has one.
        connection: Option<NodeId>,
    },
    /// AUTH does not have the nonce of HELLO.
    #[error("the peer's AUTH does not belong to its HELLO")]
    NonceMismatch,
    /// A message was not understood.
    #[error("the peer sent something else than a handshake: {0}")]
    Wire(#[from] WireError),
    /// A message of a type that this version does not know, or without any.
    #[error("a message of an unknown type")]
    UnknownType {
        /// The number found.
        found: Option<u64>,
    },
    /// A known message where it has no place.
    #[error("{message} has no place here")]
    Unexpected {
        /// The message's name.
        message: &'static str,
    },
    /// A frame was longer than a stranger's may be.
    #[error("the peer sent something else than frames: {0}")]
    Frame(#[from] FrameError),
}

impl HandshakeError {
    /// What the peer is told. Says less than the log does. For [`HandshakeError::Refused`], what it told us.
    #[must_use]
    pub fn wire_code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } | Self::NotAdmitted { code, .. } => *code,
            Self::Timeout | Self::Unfinished => ErrorCode::Timeout,
            Self::Attestation(AttestationError::Time(_)) => ErrorCode::AuthExpired,
            Self::Attestation(AttestationError::Version { .. }) | Self::UnknownType { .. } => {
                ErrorCode::VersionUnsupported
            }
            Self::Attestation(_)
            | Self::LocalKey { .. }
            | Self::WrongNetwork { .. }
            | Self::AnotherPrincipal { .. }
            | Self::AnotherKey { .. }
            | Self::Unbound { .. }
            | Self::NonceMismatch => ErrorCode::AuthInvalid,
            Self::Wire(error) => error.wire_code(),
            Self::Unexpected { .. } | Self::Frame(_) => ErrorCode::ProtocolViolation,
        }
    }
}

impl From<AttestationError> for HandshakeError {
    fn from(error: AttestationError) -> Self {
        if let AttestationError::WrongNetwork { expected } = error {
            Self::WrongNetwork { expected }
        } else {
            Self::Attestation(error)
        }
    }
}
