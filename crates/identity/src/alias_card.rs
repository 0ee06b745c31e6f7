//! Alias cards: what somebody asks to be called (SNaP2P v0.1, version 1).

use std::marker::PhantomData;
use std::time::Duration;

use clawchat_types::{MAX_NICK_CHARS, Network, Principal, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::attestation::{ATTESTATION_NONCE_BYTES, Unverified, Verified, add_ttl, check_window};
use crate::card_error::CardError;
use crate::cbor::{self, CborError};
use crate::nickname::Nickname;
use crate::wallet::{WALLET_SIGNATURE_BYTES, Wallet, recover_signer};

/// What an alias card is signed for.
pub const ALIAS_CARD_DOMAIN: &str = "snap2p-aliascard-v1";
/// How long an alias card lasts when nobody says otherwise.
pub const ALIAS_CARD_TTL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longest serialized alias card that is read, in bytes.
pub const MAX_ALIAS_CARD_BYTES: usize = 768;

const VERSION: u64 = 1;

/// A wallet's statement "call me this". Self-asserted and not unique: for people to read, never for trust.
///
/// The alias is 1 to [`MAX_NICK_CHARS`] printable ASCII characters, lower case and trimmed, which is its own NFKC
/// form; the display name beside it may be of any script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasCard<V = Unverified> {
    principal: Principal,
    alias: String,
    display_name: Option<Nickname>,
    issued_at: UnixSeconds,
    expires_at: UnixSeconds,
    nonce: Vec<u8>,
    signature: [u8; WALLET_SIGNATURE_BYTES],
    state: PhantomData<V>,
}

impl AliasCard<Unverified> {
    /// Reads the serialized form, in its one spelling.
    ///
    /// # Errors
    /// [`CardError`] when the bytes cannot be any alias card.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CardError> {
        let wire: Wire<'_> = cbor::from_canonical(bytes, MAX_ALIAS_CARD_BYTES)?;
        if wire.v != VERSION {
            return Err(CardError::Version { found: wire.v });
        }
        if wire.domain != ALIAS_CARD_DOMAIN {
            return Err(CardError::Domain);
        }
        if !ATTESTATION_NONCE_BYTES.contains(&wire.nonce.len()) {
            return Err(CardError::NonceLength);
        }
        if normal_alias(wire.alias)? != wire.alias {
            return Err(CardError::Name);
        }
        let display_name = wire
            .name
            .map(str::parse)
            .transpose()
            .map_err(|_| CardError::Name)?;
        let card = Self {
            principal: wire.p.parse()?,
            alias: wire.alias.to_owned(),
            display_name,
            issued_at: UnixSeconds(wire.ts),
            expires_at: UnixSeconds(wire.exp),
            nonce: wire.nonce.to_vec(),
            signature: wire
                .sig
                .and_then(|sig| sig.try_into().ok())
                .ok_or(CardError::Signature)?,
            state: PhantomData,
        };
        if card.to_bytes() == bytes {
            Ok(card)
        } else {
            Err(CardError::Encoding(CborError::NotCanonical))
        }
    }

    /// Checks network, signature and time, by the same rules as an attestation's.
    ///
    /// # Errors
    /// [`CardError::WrongNetwork`], [`CardError::Signature`], [`CardError::Time`].
    pub fn verify(self, network: Network, now: UnixSeconds) -> Result<AliasCard<Verified>, CardError> {
        self.check_signature(network)?;
        check_window(self.issued_at, self.expires_at, now)?;
        Ok(AliasCard {
            principal: self.principal,
            alias: self.alias,
            display_name: self.display_name,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            nonce: self.nonce,
            signature: self.signature,
            state: PhantomData,
        })
    }

    /// Whether its principal ever said this, at whatever time.
    pub(crate) fn check_signature(&self, network: Network) -> Result<(), CardError> {
        if self.principal.network() != network {
            return Err(CardError::WrongNetwork { expected: network });
        }
        if recover_signer(&self.signing_payload(), &self.signature, network) != Some(self.principal) {
            return Err(CardError::Signature);
        }
        Ok(())
    }
}

impl<V> AliasCard<V> {
    /// The serialized form: canonical CBOR of the signed fields and `sig`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_canonical(&self.wire(Some(&self.signature)))
    }

    /// The bytes whose SHA-256 the wallet signs.
    #[must_use]
    pub fn signing_payload(&self) -> Vec<u8> {
        cbor::to_canonical(&self.wire(None))
    }

    /// Who says so.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The alias, in its normal form.
    #[must_use]
    pub fn alias(&self) -> &str {
        &self.alias
    }

    /// How to write the name for people, if differently.
    #[must_use]
    pub fn display_name(&self) -> Option<&Nickname> {
        self.display_name.as_ref()
    }

    /// Start of validity. Of two cards of one principal the one issued later counts.
    #[must_use]
    pub fn issued_at(&self) -> UnixSeconds {
        self.issued_at
    }

    /// End of validity. Never show an expired alias as the current one.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }

    /// Whether it is within its time.
    #[must_use]
    pub fn is_current(&self, now: UnixSeconds) -> bool {
        check_window(self.issued_at, self.expires_at, now).is_ok()
    }

    fn wire<'a>(&'a self, sig: Option<&'a [u8]>) -> Wire<'a, String> {
        Wire {
            p: self.principal.to_string(),
            v: VERSION,
            ts: self.issued_at.0,
            exp: self.expires_at.0,
            sig,
            name: self.display_name.as_ref().map(Nickname::as_str),
            alias: &self.alias,
            nonce: &self.nonce,
            domain: ALIAS_CARD_DOMAIN,
        }
    }
}

impl AliasCard<Verified> {
    /// Signs an alias, brought into its normal form, from `now` for `ttl` (whole seconds; usually
    /// [`ALIAS_CARD_TTL`]). The nonce should be random.
    ///
    /// # Errors
    /// [`CardError::Name`] when the alias has no normal form.
    pub fn create(
        wallet: &Wallet,
        network: Network,
        alias: &str,
        display_name: Option<Nickname>,
        now: UnixSeconds,
        ttl: Duration,
        nonce: [u8; 32],
    ) -> Result<Self, CardError> {
        let mut card = Self {
            principal: wallet.principal(network),
            alias: normal_alias(alias)?,
            display_name,
            issued_at: now,
            expires_at: add_ttl(now, ttl),
            nonce: nonce.to_vec(),
            signature: [0; WALLET_SIGNATURE_BYTES],
            state: PhantomData,
        };
        card.signature = wallet.sign(&card.signing_payload());
        Ok(card)
    }
}

/// The map on the wire. Signed without `sig`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a, P = &'a str> {
    p: P,
    v: u64,
    ts: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    sig: Option<&'a [u8]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    alias: &'a str,
    #[serde(with = "serde_bytes")]
    nonce: &'a [u8],
    domain: &'a str,
}

/// Trimmed and lower case.
fn normal_alias(alias: &str) -> Result<String, CardError> {
    let alias = alias.trim_matches(' ').to_ascii_lowercase();
    let plain = alias.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if alias.is_empty() || alias.len() > MAX_NICK_CHARS || !plain {
        return Err(CardError::Name);
    }
    Ok(alias)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::attestation::OutOfTime;
    use crate::mnemonic::Mnemonic;

    const NOW: UnixSeconds = UnixSeconds(1_767_225_600);

    static WALLET: LazyLock<Wallet> =
        LazyLock::new(|| Wallet::from_mnemonic(&Mnemonic::from_entropy([1; 32])).unwrap());

    fn card(alias: &str) -> Result<AliasCard<Verified>, CardError> {
        let wallet = &*WALLET;
        let name = Some("Zoë 🦀".parse().unwrap());
        AliasCard::create(
            wallet,
            Network::Testnet,
            alias,
            name,
            NOW,
            ALIAS_CARD_TTL,
            [2; 32],
        )
    }

    #[test]
    fn a_card_survives_the_wire_and_holds() {
        let made = card("  Zoe ").unwrap();
        assert_eq!(made.alias(), "zoe");
        let read = AliasCard::from_bytes(&made.to_bytes()).unwrap();
        let verified = read.verify(Network::Testnet, NOW).unwrap();
        assert_eq!(verified, made);
    }

    #[test]
    fn what_is_not_an_alias_is_refused() {
        let too_long = "a".repeat(MAX_NICK_CHARS + 1);
        for bad in ["", "  ", "zoë", "a\tb", "a\n", &too_long] {
            assert_eq!(card(bad), Err(CardError::Name), "{bad:?}");
        }
    }

    #[test]
    fn changed_expired_and_foreign_cards_are_refused() {
        let bytes = card("zoe").unwrap().to_bytes();
        let read = || AliasCard::from_bytes(&bytes).unwrap();
        assert_eq!(
            read().verify(Network::Mainnet, NOW),
            Err(CardError::WrongNetwork {
                expected: Network::Mainnet
            })
        );
        let late = UnixSeconds(NOW.0 + 7 * 86_400 + 300);
        assert_eq!(
            read().verify(Network::Testnet, late),
            Err(CardError::Time(OutOfTime::Expired { secs_ago: 300 }))
        );
        let early = UnixSeconds(NOW.0 - 301);
        assert_eq!(
            read().verify(Network::Testnet, early),
            Err(CardError::Time(OutOfTime::NotYetValid { secs_ahead: 301 }))
        );
        let other = replace(&bytes, b"zoe", b"bob");
        assert_eq!(
            AliasCard::from_bytes(&other)
                .unwrap()
                .verify(Network::Testnet, NOW),
            Err(CardError::Signature)
        );
        let shouted = replace(&bytes, b"zoe", b"Zoe");
        assert_eq!(AliasCard::from_bytes(&shouted), Err(CardError::Name));
    }

    fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = bytes
            .windows(from.len())
            .position(|window| window == from)
            .unwrap();
        [&bytes[..at], to, &bytes[at + from.len()..]].concat()
    }

    proptest! {
        #[test]
        fn damaged_cards_never_panic_and_never_hold(at in 0_usize..300, flip in 1..=u8::MAX) {
            let mut bytes = card("zoe").unwrap().to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            if let Ok(read) = AliasCard::from_bytes(&bytes) {
                prop_assert!(read.verify(Network::Testnet, NOW).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(AliasCard::from_bytes(&bytes).is_err());
        }
    }
}
