//! Who we are: Stacks wallet, node key, attestation, contact cards, sealed keystore.
//!
//! Reads no clock, no files and no environment, and draws no randomness: all are arguments. Secrets are zeroized
//! when dropped and appear in no `Debug`, `Display` or error.

mod alias_card;
mod attestation;
mod card_error;
pub mod cbor;
mod contact_card;
mod display;
mod identity;
mod invite;
pub mod keystore;
mod mnemonic;
mod nickname;
mod node_key;
mod wallet;

pub use crate::alias_card::{ALIAS_CARD_DOMAIN, ALIAS_CARD_TTL, AliasCard, MAX_ALIAS_CARD_BYTES};
pub use crate::attestation::{
    ATTESTATION_DOMAIN, ATTESTATION_NONCE_BYTES, Attestation, AttestationError, AttestationParts,
    CLOCK_SKEW_SECS, MAX_ATTESTATION_BYTES, OutOfTime, Unverified, Verified,
};
pub use crate::card_error::CardError;
pub use crate::contact_card::{
    CONTACT_CARD_DOMAIN, CardDetails, ContactCard, INVITE_PREFIX, MAX_CAPABILITY_BYTES,
    MAX_CARD_CAPABILITIES, MAX_CARD_LOCATORS, MAX_CONTACT_CARD_BYTES,
};
pub use crate::display::{MAX_SHOWN_CHARS, shown_name};
pub use crate::identity::Identity;
pub use crate::invite::{Invite, InviteError, TOKEN_CHECK_BYTES, personal_token, token_digest};
pub use crate::mnemonic::{MNEMONIC_WORDS, Mnemonic, MnemonicError};
pub use crate::nickname::{Nickname, NicknameError};
pub use crate::node_key::{NodeKey, SignatureError, verify_node_signature, x25519_public};
pub use crate::wallet::{Wallet, WalletError};
