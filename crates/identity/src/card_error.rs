//! Why cards are refused.

use clawchat_types::{Network, PrincipalError};

use crate::attestation::{AttestationError, OutOfTime};
use crate::cbor::CborError;

/// Why an alias card, a contact card or an invite was refused, or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// An invite does not start with `clawchat:`, or is not base64url behind it.
    #[error("not an invite: it should start with \"clawchat:\" and be pasted whole")]
    Invite,
    /// The bytes are not the canonical form of a card.
    #[error("not a card: {0}")]
    Encoding(#[from] CborError),
    /// Another version.
    #[error("card version {found} is not supported")]
    Version {
        /// The version found.
        found: u64,
    },
    /// Signed for another purpose.
    #[error("signed for another purpose than being a card")]
    Domain,
    /// The principal is not one.
    #[error("the principal of a card: {0}")]
    Principal(#[from] PrincipalError),
    /// It is about a principal of the other network.
    #[error("the principal of the card is not one of {expected}")]
    WrongNetwork {
        /// The network of this side.
        expected: Network,
    },
    /// The parts of the card are about different principals, or made with another node key than attested.
    #[error("the parts of the card do not belong together")]
    Mismatch,
    /// The attestation inside does not hold.
    #[error("the attestation of the card: {0}")]
    Attestation(#[from] AttestationError),
    /// An alias or display name is empty, too long, not in its normal form, or holds control characters.
    #[error("an alias or display name is empty, too long, or holds characters that are not allowed")]
    Name,
    /// The nonce of an alias card does not have 16 to 32 bytes.
    #[error("the nonce of an alias card has 16 to 32 bytes")]
    NonceLength,
    /// More addresses or capabilities than a card holds, or a capability that is not a short plain word.
    #[error("a card holds at most 16 addresses and 16 short capability words")]
    Entries,
    /// The time of the card has not come, or is over.
    #[error(transparent)]
    Time(#[from] OutOfTime),
    /// The key the card claims did not sign this.
    #[error("the signature of the card does not hold")]
    Signature,
}
