//! Error codes: what a peer is told, and nothing more.

use std::fmt;

/// Why a handshake, a stream or a session was refused or ended, as it goes over the wire (a `u16`).
///
/// Coarser than the errors we log. Numbers this version does not know survive as [`ErrorCode::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 0: a regular end, not an error.
    NoError,
    /// 1: another version, or a message type this version does not know.
    VersionUnsupported,
    /// 2: the peer could not prove who it is.
    AuthInvalid,
    /// 3: the attestation is past its time, or not valid yet.
    AuthExpired,
    /// 4: an invite is needed first. Never sent to strangers: it would tell that a stealth identity is here.
    InviteRequired,
    /// 5: the invite is not known or past its time.
    InviteInvalid,
    /// 6: authenticated, but not on the list of whom the identity talks to.
    NotAllowed,
    /// 7: too much in too short a time, or without reading our answers.
    RateLimited,
    /// 8: the stream is not taken: unknown label, or too many streams.
    StreamRefused,
    /// 9: no such identity here, or one that does not show itself.
    UnknownPrincipal,
    /// 10: the peer broke the protocol.
    ProtocolViolation,
    /// 11: the peer did not answer in time.
    Timeout,
    /// A code of another version.
    Other(u16),
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::VersionUnsupported => 1,
            Self::AuthInvalid => 2,
            Self::AuthExpired => 3,
            Self::InviteRequired => 4,
            Self::InviteInvalid => 5,
            Self::NotAllowed => 6,
            Self::RateLimited => 7,
            Self::StreamRefused => 8,
            Self::UnknownPrincipal => 9,
            Self::ProtocolViolation => 10,
            Self::Timeout => 11,
            Self::Other(number) => number,
        }
    }

    /// The code of a number; every number has one.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        match number {
            0 => Self::NoError,
            1 => Self::VersionUnsupported,
            2 => Self::AuthInvalid,
            3 => Self::AuthExpired,
            4 => Self::InviteRequired,
            5 => Self::InviteInvalid,
            6 => Self::NotAllowed,
            7 => Self::RateLimited,
            8 => Self::StreamRefused,
            9 => Self::UnknownPrincipal,
            10 => Self::ProtocolViolation,
            11 => Self::Timeout,
            other => Self::Other(other),
        }
    }

    /// The name used in logs and documents, without the number of [`ErrorCode::Other`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoError => "NO_ERROR",
            Self::VersionUnsupported => "ERR_VERSION_UNSUPPORTED",
            Self::AuthInvalid => "ERR_AUTH_INVALID",
            Self::AuthExpired => "ERR_AUTH_EXPIRED",
            Self::InviteRequired => "ERR_INVITE_REQUIRED",
            Self::InviteInvalid => "ERR_INVITE_INVALID",
            Self::NotAllowed => "ERR_NOT_ALLOWED",
            Self::RateLimited => "ERR_RATE_LIMITED",
            Self::StreamRefused => "ERR_STREAM_REFUSED",
            Self::UnknownPrincipal => "ERR_UNKNOWN_PRINCIPAL",
            Self::ProtocolViolation => "ERR_PROTOCOL_VIOLATION",
            Self::Timeout => "ERR_TIMEOUT",
            Self::Other(_) => "ERR_OTHER",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "ERR_{number}"),
            Self::NoError
            | Self::VersionUnsupported
            | Self::AuthInvalid
            | Self::AuthExpired
            | Self::InviteRequired
            | Self::InviteInvalid
            | Self::NotAllowed
            | Self::RateLimited
            | Self::StreamRefused
            | Self::UnknownPrincipal
            | Self::ProtocolViolation
            | Self::Timeout => f.write_str(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_are_one_to_one() {
        for number in 0..=u16::MAX {
            assert_eq!(ErrorCode::from_number(number).number(), number);
        }
        assert_eq!(ErrorCode::NotAllowed.to_string(), "ERR_NOT_ALLOWED");
        assert_eq!(ErrorCode::Other(99).to_string(), "ERR_99");
    }
}
