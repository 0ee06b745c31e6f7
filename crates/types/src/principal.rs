//! Principals: the only identities applications see (SNaP2P v0.1, "Principal").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What every principal starts with.
const PREFIX: &str = "stacks:";
/// c32check version byte of a main network address (`SP…`).
const MAINNET_VERSION: u8 = 22;
/// c32check version byte of a test network address (`ST…`).
const TESTNET_VERSION: u8 = 26;
/// Length of an address text, in bytes: `S`, the version digit, and 24 bytes in base 32, where each leading
/// zero byte takes one digit instead of 8/5. Shorter text makes the decoder overflow.
const ADDRESS_BYTES: std::ops::RangeInclusive<usize> = 26..=41;

/// The Stacks network an address belongs to. Identities of different networks never talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Addresses starting with `SP`.
    Mainnet,
    /// Addresses starting with `ST`. The default everywhere.
    Testnet,
}

impl Network {
    fn version(self) -> u8 {
        match self {
            Self::Mainnet => MAINNET_VERSION,
            Self::Testnet => TESTNET_VERSION,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mainnet => "mainnet",
            Self::Testnet => "testnet",
        })
    }
}

/// `stacks:` and a Stacks address: the hash of a wallet's public key, on one network.
///
/// Parsed strictly: only the canonical upper-case form of a single-signature `SP`/`ST` address whose checksum
/// holds, so equal principals are equal texts. Says nothing about who holds the wallet; a verified
/// attestation does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    network: Network,
    hash160: [u8; 20],
}

impl Principal {
    /// Length of [`Principal::to_bytes`].
    pub const BYTES: usize = 21;

    /// The principal of a wallet whose compressed public key hashes (RIPEMD-160 of SHA-256) to `hash160`.
    #[must_use]
    pub fn from_hash160(network: Network, hash160: [u8; 20]) -> Self {
        Self { network, hash160 }
    }

    /// The network the address belongs to.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// RIPEMD-160 of SHA-256 of the wallet's compressed public key.
    #[must_use]
    pub fn hash160(&self) -> &[u8; 20] {
        &self.hash160
    }

    /// The address alone, without `stacks:`.
    #[must_use]
    pub fn address(&self) -> String {
        // The encoder fails only for versions above 31; ours are 22 and 26.
        c32::encode_check_prefixed(self.hash160, 'S', self.network.version()).unwrap_or_default()
    }

    /// Version byte and hash: 21 bytes, the form used in keys and records.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.network.version();
        bytes[1..].copy_from_slice(&self.hash160);
        bytes
    }

    /// Reads [`Principal::to_bytes`] back.
    ///
    /// # Errors
    /// [`PrincipalError::Version`] when the first byte is not that of a single-signature address.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, PrincipalError> {
        let mut hash160 = [0; 20];
        hash160.copy_from_slice(&bytes[1..]);
        Ok(Self {
            network: network_of(bytes[0])?,
            hash160,
        })
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        let address = text.strip_prefix(PREFIX).ok_or(PrincipalError::Prefix)?;
        if !ADDRESS_BYTES.contains(&address.len()) || !address.is_ascii() {
            return Err(PrincipalError::Address);
        }
        let (hash, version) =
            c32::decode_check_prefixed(address, 'S').map_err(|_| PrincipalError::Address)?;
        let hash160: [u8; 20] = hash.try_into().map_err(|_| PrincipalError::HashLength)?;
        let principal = Self {
            network: network_of(version)?,
            hash160,
        };
        // The decoder forgives lower case and look-alike letters; two spellings of one principal would be a
        // way around every list of names.
        if principal.address() == address {
            Ok(principal)
        } else {
            Err(PrincipalError::NotCanonical)
        }
    }
}

fn network_of(version: u8) -> Result<Network, PrincipalError> {
    match version {
        MAINNET_VERSION => Ok(Network::Mainnet),
        TESTNET_VERSION => Ok(Network::Testnet),
        version => Err(PrincipalError::Version { version }),
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.address())
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Principal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Why a text is not a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrincipalError {
    /// It does not start with `stacks:`.
    #[error("a principal starts with \"stacks:\", followed by an SP… or ST… address")]
    Prefix,
    /// The part behind the prefix is not c32check, or its checksum does not hold.
    #[error("not a Stacks address: a character or the checksum is wrong; check it for typing errors")]
    Address,
    /// The checksum holds, but the address does not contain a 20-byte hash.
    #[error("not a Stacks address: it does not hold a 20-byte hash")]
    HashLength,
    /// Right in value, but not in its one spelling (upper case, no look-alike letters).
    #[error("not in canonical form: write the address in upper case, exactly as the wallet shows it")]
    NotCanonical,
    /// An address of a kind that cannot sign attestations, such as a multi-signature or contract address.
    #[error("address version {version} is neither SP (mainnet) nor ST (testnet) of a single wallet")]
    Version {
        /// The c32check version byte found.
        version: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALICE: &str = "stacks:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF";

    #[test]
    fn text_bytes_and_json_agree() {
        let principal: Principal = ALICE.parse().unwrap();
        assert_eq!(principal.to_string(), ALICE);
        assert_eq!(principal.network(), Network::Testnet);
        assert_eq!(Principal::from_bytes(&principal.to_bytes()).unwrap(), principal);
        let json = serde_json::to_string(&principal).unwrap();
        assert_eq!(serde_json::from_str::<Principal>(&json).unwrap(), principal);
    }

    #[test]
    fn other_spellings_and_other_kinds_of_address_are_refused() {
        for (text, error) in [
            (
                "ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF",
                PrincipalError::Prefix,
            ),
            (
                "STACKS:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF",
                PrincipalError::Prefix,
            ),
            ("stacks:", PrincipalError::Address),
            (
                "stacks:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFG",
                PrincipalError::Address,
            ),
            (
                "stacks:St3yzm3s1p75ka4b60hdzex9496ttatn5pvd94dff",
                PrincipalError::NotCanonical,
            ),
            (
                "stacks:SZ2WN01ST1CZ6J9BA8GVX14F1GEYDF4K2Z2C096VJ",
                PrincipalError::Version { version: 31 },
            ),
            (
                "stacks:ST6R58HCVPADQ6ZE0A7R0EWTNH8GWTJ6N7FRDHZ",
                PrincipalError::HashLength,
            ),
        ] {
            assert_eq!(text.parse::<Principal>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_hash_survives_the_round_trip(hash in any::<[u8; 20]>(), mainnet in any::<bool>()) {
            let network = if mainnet { Network::Mainnet } else { Network::Testnet };
            let principal = Principal::from_hash160(network, hash);
            prop_assert_eq!(principal.to_string().parse::<Principal>().unwrap(), principal);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*", tail in "[0-9A-Za-z]{0,60}") {
            let _ = text.parse::<Principal>();
            let _ = format!("stacks:S{tail}").parse::<Principal>();
            let _ = format!("stacks:{tail}").parse::<Principal>();
        }
    }
}
