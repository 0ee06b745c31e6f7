//! Who we are: Stacks wallet, node key, attestation, contact cards, sealed keystore.
//!
//! Reads no clock, no files and no environment, and draws no randomness: all are arguments. Secrets are zeroized
//! when dropped and appear in no `Debug`, `Display` or error.

mod attestation;
pub mod cbor;
mod identity;
pub mod keystore;
mod mnemonic;
mod nickname;
mod node_key;
mod wallet;

pub use crate::attestation::{
    ATTESTATION_DOMAIN, ATTESTATION_NONCE_BYTES, Attestation, AttestationError, AttestationParts,
    CLOCK_SKEW_SECS, MAX_ATTESTATION_BYTES, Unverified, Verified,
};
pub use crate::identity::Identity;
pub use crate::mnemonic::{MNEMONIC_WORDS, Mnemonic, MnemonicError};
pub use crate::nickname::{Nickname, NicknameError};
pub use crate::node_key::{NodeKey, SignatureError, verify_node_signature, x25519_public};
pub use crate::wallet::{Wallet, WalletError};
