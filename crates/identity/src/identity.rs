//! One identity: everything a principal owns.

use std::fmt;
use std::time::Duration;

use clawchat_types::{Network, Principal, UnixSeconds};
use zeroize::Zeroizing;

use crate::attestation::{Attestation, Verified};
use crate::mnemonic::Mnemonic;
use crate::nickname::Nickname;
use crate::node_key::NodeKey;
use crate::wallet::{Wallet, WalletError};

/// The secrets and names of one principal. All secrets are zeroized on drop; [`fmt::Debug`] shows the principal,
/// nothing more.
#[derive(Clone)]
pub struct Identity {
    mnemonic: Mnemonic,
    wallet: Wallet,
    node_key: NodeKey,
    principal: Principal,
    nick: Option<Nickname>,
    pub(crate) carried: Carried,
}

/// What a keystore file said beyond what we understand, to be written back.
#[derive(Clone, Default)]
pub(crate) struct Carried {
    /// The file did not name a network.
    pub(crate) network_absent: bool,
    /// Keys we do not know, in the order of the file, with their JSON text.
    pub(crate) fields: Vec<(String, Zeroizing<String>)>,
}

impl Identity {
    /// A new identity. Both `entropy` (of the seed phrase) and `node_seed` must come from a secure random source.
    ///
    /// # Errors
    /// [`WalletError`], only in theory; see [`Wallet::from_mnemonic`].
    pub fn generate(
        network: Network,
        nick: Option<Nickname>,
        entropy: [u8; 32],
        node_seed: [u8; 32],
    ) -> Result<Self, WalletError> {
        Self::recover(&Mnemonic::from_entropy(entropy), network, nick, node_seed)
    }

    /// The identity of an existing seed phrase, with a new node key made from random `node_seed`.
    ///
    /// # Errors
    /// [`WalletError`], only in theory; see [`Wallet::from_mnemonic`].
    pub fn recover(
        mnemonic: &Mnemonic,
        network: Network,
        nick: Option<Nickname>,
        node_seed: [u8; 32],
    ) -> Result<Self, WalletError> {
        let wallet = Wallet::from_mnemonic(mnemonic)?;
        Ok(Self {
            mnemonic: mnemonic.clone(),
            principal: wallet.principal(network),
            wallet,
            node_key: NodeKey::from_seed(node_seed),
            nick,
            carried: Carried::default(),
        })
    }

    /// Who this is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The network it belongs to.
    #[must_use]
    pub fn network(&self) -> Network {
        self.principal.network()
    }

    /// The transport key.
    #[must_use]
    pub fn node_key(&self) -> &NodeKey {
        &self.node_key
    }

    /// The wallet.
    #[must_use]
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// The seed phrase. Show it to its owner only.
    #[must_use]
    pub fn mnemonic(&self) -> &Mnemonic {
        &self.mnemonic
    }

    /// What it calls itself.
    #[must_use]
    pub fn nick(&self) -> Option<&Nickname> {
        self.nick.as_ref()
    }

    /// Names it, or takes its name away.
    pub fn set_nick(&mut self, nick: Option<Nickname>) {
        self.carried.fields.retain(|(key, _)| key != "nick");
        self.nick = nick;
    }

    /// Attests the node key, from `now` for `ttl`, with a random nonce.
    #[must_use]
    pub fn attest(&self, now: UnixSeconds, ttl: Duration, nonce: [u8; 32]) -> Attestation<Verified> {
        Attestation::create(
            &self.wallet,
            self.network(),
            &self.node_key.node_id(),
            now,
            ttl,
            nonce,
        )
    }

    /// The key that seals this identity's stored messages: HKDF-SHA256 of the wallet's private key, which unlike
    /// the node key never changes. Whoever recovers the seed phrase can read the messages again.
    #[must_use]
    pub fn store_key(&self) -> Zeroizing<[u8; 32]> {
        self.wallet.store_key().clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.principal).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_key_depends_on_the_wallet_alone() {
        let identity =
            |entropy, seed| Identity::generate(Network::Testnet, None, [entropy; 32], [seed; 32]).unwrap();
        assert_eq!(identity(1, 1).store_key(), identity(1, 2).store_key());
        assert_ne!(identity(1, 1).store_key(), identity(2, 1).store_key());
    }

    #[test]
    fn the_store_key_is_the_documented_one() {
        // HKDF-SHA256 computed with another implementation, for the wallet key of "abandon … art".
        let identity = Identity::generate(Network::Testnet, None, [0; 32], [0; 32]).unwrap();
        assert_eq!(
            hex::encode(*identity.store_key()),
            "e41896d275efb8d82c40e02799dd614fdd7ec67c51e72f7558b2ca38b4a9bfa0"
        );
    }

    #[test]
    fn an_attestation_of_ours_holds() {
        let identity = Identity::generate(Network::Mainnet, None, [3; 32], [4; 32]).unwrap();
        let now = UnixSeconds(1_767_225_600);
        let attestation = identity.attest(now, Duration::from_secs(60), [5; 32]);
        let verified = attestation
            .into_unverified()
            .verify(Network::Mainnet, now)
            .unwrap();
        assert_eq!(verified.principal(), identity.principal());
        assert_eq!(verified.node_id(), &identity.node_key().node_id());
    }

    #[test]
    fn nothing_secret_is_shown() {
        let identity = Identity::generate(Network::Testnet, None, [3; 32], [4; 32]).unwrap();
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity({})", identity.principal())
        );
    }
}
