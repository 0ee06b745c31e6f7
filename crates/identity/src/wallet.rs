//! The Stacks wallet key: the root of an identity. It signs attestations and alias cards, nothing else.

use std::fmt;

use bip32::XPrv;
use clawchat_types::{Network, Principal};
use hkdf::Hkdf;
use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};
use ripemd::Ripemd160;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::mnemonic::{Mnemonic, MnemonicError};

/// Where account 0 of a Stacks wallet is derived (SLIP-44 coin type 5757).
const DERIVATION_PATH: &str = "m/44'/5757'/0'/0/0";
/// What the key of the message store is derived for.
const STORE_KEY_INFO: &[u8] = b"clawchat-store-key-v1";
/// Length of a wallet signature: `r`, `s` and a recovery id from 0 to 3.
pub(crate) const WALLET_SIGNATURE_BYTES: usize = 65;

/// A secp256k1 key pair. Zeroized on drop; [`fmt::Debug`] shows nothing of it.
#[derive(Clone)]
pub struct Wallet {
    key: SigningKey,
    store_key: Zeroizing<[u8; 32]>,
}

impl Wallet {
    /// Account 0 of the wallet these words stand for, as every Stacks wallet derives it.
    ///
    /// # Errors
    /// [`WalletError`]; for a checked mnemonic only in theory (one derivation in 2^127 gives no key).
    pub fn from_mnemonic(mnemonic: &Mnemonic) -> Result<Self, WalletError> {
        let seed = mnemonic.seed()?;
        let path = DERIVATION_PATH.parse().map_err(|_| WalletError::Derivation)?;
        let derived = XPrv::derive_from_path(seed.as_slice(), &path).map_err(|_| WalletError::Derivation)?;
        let key = derived.private_key().clone();
        let secret = Zeroizing::new(key.to_bytes());
        let mut store_key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &secret)
            .expand(STORE_KEY_INFO, store_key.as_mut_slice())
            .map_err(|_| WalletError::Derivation)?;
        Ok(Self { key, store_key })
    }

    /// The compressed public key (SEC 1).
    #[must_use]
    pub fn public_key(&self) -> [u8; 33] {
        compressed(self.key.verifying_key())
    }

    /// The principal of this wallet on a network.
    #[must_use]
    pub fn principal(&self, network: Network) -> Principal {
        principal_of(self.key.verifying_key(), network)
    }

    /// `r || s || v` over the SHA-256 of `payload`, deterministic (RFC 6979), low `s`.
    pub(crate) fn sign(&self, payload: &[u8]) -> [u8; WALLET_SIGNATURE_BYTES] {
        let (signature, recovery) = self.key.sign_prehash_recoverable(&Sha256::digest(payload));
        let mut bytes = [0; WALLET_SIGNATURE_BYTES];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = recovery.to_byte();
        bytes
    }

    /// The private key, for the keystore.
    pub(crate) fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes().into())
    }

    /// The key of the message store.
    pub(crate) fn store_key(&self) -> &Zeroizing<[u8; 32]> {
        &self.store_key
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wallet(…)")
    }
}

/// Which principal signed `payload`. `None` when the signature is not one. High and low `s` are both accepted:
/// the recovered key decides, and nothing relies on a signature having one spelling.
pub(crate) fn recover_signer(
    payload: &[u8],
    signature: &[u8; WALLET_SIGNATURE_BYTES],
    network: Network,
) -> Option<Principal> {
    let recovery = RecoveryId::from_byte(signature[64])?;
    let signature = Signature::from_slice(&signature[..64]).ok()?;
    let digest = Sha256::digest(payload);
    let key = VerifyingKey::recover_from_prehash(&digest, &signature, recovery).ok()?;
    Some(principal_of(&key, network))
}

fn compressed(key: &VerifyingKey) -> [u8; 33] {
    let mut bytes = [0; 33];
    bytes.copy_from_slice(key.to_sec1_point(true).as_bytes());
    bytes
}

fn principal_of(key: &VerifyingKey, network: Network) -> Principal {
    let hash = Ripemd160::digest(Sha256::digest(compressed(key)));
    Principal::from_hash160(network, hash.into())
}

/// Why no wallet could be made. Never holds any secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// The words are not a mnemonic.
    #[error(transparent)]
    Mnemonic(#[from] MnemonicError),
    /// The derivation gives no valid key.
    #[error("no wallet key can be derived from this seed phrase")]
    Derivation,
}
