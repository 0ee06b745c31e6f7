//! Node key attestations: a wallet says which node key speaks for its principal (SNaP2P v0.1, version 1).
//!
//! Public data, which anybody may replay: it proves something only together with a channel that is bound to
//! the attested node key.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use clawchat_types::{Network, NodeId, Principal, PrincipalError, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborError};
use crate::wallet::{WALLET_SIGNATURE_BYTES, Wallet, recover_signer};

/// What an attestation is signed for.
pub const ATTESTATION_DOMAIN: &str = "snap2p-nodekey-attestation-v1";
/// How far the clocks of two honest machines may be apart, in seconds.
pub const CLOCK_SKEW_SECS: i64 = 300;
/// Longest serialized attestation that is read, in bytes. Real ones have about 310.
pub const MAX_ATTESTATION_BYTES: usize = 512;
/// Lengths of the nonce, in bytes.
pub const ATTESTATION_NONCE_BYTES: std::ops::RangeInclusive<usize> = 16..=32;

const VERSION: u64 = 1;

/// State of a signed thing whose signature and time nobody has checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverified {}

/// State of a signed thing that held at the moment it was checked, or was made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {}

/// A wallet's statement "this node key speaks for me, from then until then".
///
/// Says who somebody is only in the state [`Verified`], which is reached through
/// [`Attestation::verify`] or [`Attestation::create`].
#[derive(Clone, PartialEq, Eq)]
pub struct Attestation<V = Unverified> {
    principal: Principal,
    node_id: NodeId,
    issued_at: UnixSeconds,
    expires_at: UnixSeconds,
    nonce: Vec<u8>,
    signature: [u8; WALLET_SIGNATURE_BYTES],
    state: PhantomData<V>,
}

/// The fields of an attestation as some wire carries them, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttestationParts {
    /// Must be 1.
    pub version: u64,
    /// The principal's text.
    pub principal: String,
    /// The raw node key: 32 bytes.
    pub node_public_key: Vec<u8>,
    /// Start of validity, in Unix seconds.
    pub issued_at: i64,
    /// End of validity, in Unix seconds.
    pub expires_at: i64,
    /// 16 to 32 bytes.
    pub nonce: Vec<u8>,
    /// Must be [`ATTESTATION_DOMAIN`].
    pub domain: String,
    /// `r || s || v`: 65 bytes.
    pub signature: Vec<u8>,
}

impl Attestation<Unverified> {
    /// Puts an attestation together from fields that came over some wire.
    ///
    /// # Errors
    /// [`AttestationError`] when a field cannot belong to any attestation: other version or domain, not a
    /// principal in canonical form, wrong lengths.
    pub fn from_parts(parts: &AttestationParts) -> Result<Self, AttestationError> {
        if parts.version != VERSION {
            return Err(AttestationError::Version { found: parts.version });
        }
        if parts.domain != ATTESTATION_DOMAIN {
            return Err(AttestationError::Domain);
        }
        if !ATTESTATION_NONCE_BYTES.contains(&parts.nonce.len()) {
            return Err(AttestationError::NonceLength);
        }
        let node_id: [u8; 32] = parts
            .node_public_key
            .as_slice()
            .try_into()
            .map_err(|_| AttestationError::NodeKey)?;
        Ok(Self {
            principal: parts.principal.parse()?,
            node_id: NodeId::new(node_id),
            issued_at: UnixSeconds(parts.issued_at),
            expires_at: UnixSeconds(parts.expires_at),
            nonce: parts.nonce.clone(),
            signature: parts
                .signature
                .as_slice()
                .try_into()
                .map_err(|_| AttestationError::Signature)?,
            state: PhantomData,
        })
    }

    /// Reads the serialized form, in its one spelling: what [`Attestation::to_bytes`] gives back is `bytes`.
    ///
    /// # Errors
    /// [`AttestationError::Encoding`] for other bytes, and those of [`Attestation::from_parts`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AttestationError> {
        let wire: Wire<'_> = cbor::from_canonical(bytes, MAX_ATTESTATION_BYTES)?;
        let node_id: NodeId = wire.npk.parse().map_err(|_| AttestationError::NodeKey)?;
        let attestation = Self::from_parts(&AttestationParts {
            version: wire.v,
            principal: wire.p.to_owned(),
            node_public_key: node_id.as_bytes().to_vec(),
            issued_at: wire.ts,
            expires_at: wire.exp,
            nonce: wire.nonce.to_vec(),
            domain: wire.domain.to_owned(),
            signature: wire.sig.unwrap_or_default().to_vec(),
        })?;
        if attestation.to_bytes() == bytes {
            Ok(attestation)
        } else {
            Err(AttestationError::Encoding(CborError::NotCanonical))
        }
    }

    /// Checks network, time and signature.
    ///
    /// Valid from [`CLOCK_SKEW_SECS`] before `issued_at` until less than [`CLOCK_SKEW_SECS`] after
    /// `expires_at`. Whether the node key is a usable one is for the channel to find out.
    ///
    /// # Errors
    /// [`AttestationError::WrongNetwork`], [`AttestationError::Time`], or [`AttestationError::Signature`] when the principal's wallet did not sign exactly this.
    pub fn verify(
        self,
        network: Network,
        now: UnixSeconds,
    ) -> Result<Attestation<Verified>, AttestationError> {
        if self.principal.network() != network {
            return Err(AttestationError::WrongNetwork { expected: network });
        }
        check_window(self.issued_at, self.expires_at, now)?;
        if recover_signer(&self.signing_payload(), &self.signature, network) != Some(self.principal) {
            return Err(AttestationError::Signature);
        }
        Ok(self.with_state())
    }
}

impl<V> Attestation<V> {
    /// The serialized form: canonical CBOR of the signed fields and `sig`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_canonical(&self.wire(&self.node_id.to_string(), Some(&self.signature)))
    }

    /// The bytes whose SHA-256 the wallet signs.
    #[must_use]
    pub fn signing_payload(&self) -> Vec<u8> {
        cbor::to_canonical(&self.wire(&self.node_id.to_string(), None))
    }

    /// Who signed it, if the signature holds.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The node key it is about.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.node_id
    }

    /// Start of validity.
    #[must_use]
    pub fn issued_at(&self) -> UnixSeconds {
        self.issued_at
    }

    /// End of validity.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }

    /// 16 to 32 random bytes.
    #[must_use]
    pub fn nonce(&self) -> &[u8] {
        &self.nonce
    }

    /// `r || s || v`.
    #[must_use]
    pub fn signature(&self) -> &[u8; WALLET_SIGNATURE_BYTES] {
        &self.signature
    }

    fn wire<'a>(&'a self, node_id: &'a str, sig: Option<&'a [u8]>) -> Wire<'a, String> {
        Wire {
            p: self.principal.to_string(),
            v: VERSION,
            ts: self.issued_at.0,
            exp: self.expires_at.0,
            npk: node_id,
            sig,
            nonce: &self.nonce,
            domain: ATTESTATION_DOMAIN,
        }
    }

    fn with_state<W>(self) -> Attestation<W> {
        Attestation {
            principal: self.principal,
            node_id: self.node_id,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            nonce: self.nonce,
            signature: self.signature,
            state: PhantomData,
        }
    }
}

impl Attestation<Verified> {
    /// Attests a node key, from `now` for `ttl` (whole seconds). The nonce should be random.
    #[must_use]
    pub fn create(
        wallet: &Wallet,
        network: Network,
        node_id: &NodeId,
        now: UnixSeconds,
        ttl: Duration,
        nonce: [u8; 32],
    ) -> Self {
        let mut attestation = Self {
            principal: wallet.principal(network),
            node_id: *node_id,
            issued_at: now,
            expires_at: add_ttl(now, ttl),
            nonce: nonce.to_vec(),
            signature: [0; WALLET_SIGNATURE_BYTES],
            state: PhantomData,
        };
        attestation.signature = wallet.sign(&attestation.signing_payload());
        attestation
    }

    /// Whether it is still, or already, within its time, by the rule of [`Attestation::verify`].
    #[must_use]
    pub fn is_current(&self, now: UnixSeconds) -> bool {
        check_window(self.issued_at, self.expires_at, now).is_ok()
    }

    /// Forgets that it was checked.
    #[must_use]
    pub fn into_unverified(self) -> Attestation<Unverified> {
        self.with_state()
    }
}

impl<V> fmt::Debug for Attestation<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attestation")
            .field("principal", &self.principal)
            .field("node_id", &self.node_id)
            .field("issued_at", &self.issued_at.0)
            .field("expires_at", &self.expires_at.0)
            .finish_non_exhaustive()
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
    npk: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    sig: Option<&'a [u8]>,
    #[serde(with = "serde_bytes")]
    nonce: &'a [u8],
    domain: &'a str,
}

/// `now` and a while more; the end of time at most.
pub(crate) fn add_ttl(now: UnixSeconds, ttl: Duration) -> UnixSeconds {
    let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    UnixSeconds(now.0.saturating_add(seconds))
}

/// The one rule about time, for attestations and cards alike.
pub(crate) fn check_window(
    issued_at: UnixSeconds,
    expires_at: UnixSeconds,
    now: UnixSeconds,
) -> Result<(), OutOfTime> {
    if issued_at.0 > now.0.saturating_add(CLOCK_SKEW_SECS) {
        return Err(OutOfTime::NotYetValid {
            secs_ahead: issued_at.0.abs_diff(now.0),
        });
    }
    if expires_at.0 <= now.0.saturating_sub(CLOCK_SKEW_SECS) {
        return Err(OutOfTime::Expired {
            secs_ago: now.0.abs_diff(expires_at.0),
        });
    }
    Ok(())
}

/// A signed thing is not valid now. Clocks that disagree by [`CLOCK_SKEW_SECS`] are allowed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfTime {
    /// Its time has not come.
    #[error("valid only {secs_ahead} s from now; check the clocks of both machines")]
    NotYetValid {
        /// Seconds until it was issued.
        secs_ahead: u64,
    },
    /// Its time is over.
    #[error("expired {secs_ago} s ago")]
    Expired {
        /// Seconds since it expired.
        secs_ago: u64,
    },
}

/// Why an attestation does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// The bytes are not the canonical form of an attestation.
    #[error("not a serialized attestation: {0}")]
    Encoding(#[from] CborError),
    /// Another version.
    #[error("attestation version {found} is not supported")]
    Version {
        /// The version found.
        found: u64,
    },
    /// Signed for another purpose.
    #[error("signed for another purpose than attesting a node key")]
    Domain,
    /// The principal is not one.
    #[error("attested principal: {0}")]
    Principal(#[from] PrincipalError),
    /// The node key does not have 32 bytes.
    #[error("the attested node key does not have 32 bytes")]
    NodeKey,
    /// The nonce does not have 16 to 32 bytes.
    #[error("the nonce of an attestation has 16 to 32 bytes")]
    NonceLength,
    /// It is about a principal of the other network.
    #[error("the attested principal is not one of {expected}")]
    WrongNetwork {
        /// The network of this side.
        expected: Network,
    },
    /// Its time has not come, or is over.
    #[error(transparent)]
    Time(#[from] OutOfTime),
    /// The wallet of the principal did not sign this.
    #[error("the wallet of the attested principal did not sign this")]
    Signature,
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::identity::Identity;

    const NOW: UnixSeconds = UnixSeconds(1_767_225_600);
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let identity = Identity::generate(Network::Testnet, None, [1; 32], [2; 32]).unwrap();
        identity.attest(NOW, Duration::from_secs(60), [3; 32]).to_bytes()
    });

    #[test]
    fn only_the_one_spelling_is_read() {
        assert_eq!(Attestation::from_bytes(&BYTES).unwrap().to_bytes(), *BYTES);
        let longer = [BYTES.as_slice(), &[0]].concat();
        let (text, upper) = (
            BYTES.clone(),
            Attestation::from_bytes(&BYTES).unwrap().node_id.to_string(),
        );
        let at = text
            .windows(64)
            .position(|window| window == upper.as_bytes())
            .unwrap();
        let mut upper_case_key = text;
        upper_case_key[at..at + 64].make_ascii_uppercase();
        for bytes in [longer, upper_case_key, vec![0; MAX_ATTESTATION_BYTES + 1], vec![]] {
            assert!(matches!(
                Attestation::from_bytes(&bytes),
                Err(AttestationError::Encoding(_))
            ));
        }
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        for (issued_at, expires_at, now) in [
            (i64::MIN, i64::MAX, i64::MAX),
            (i64::MAX, i64::MIN, i64::MIN),
            (i64::MIN, i64::MIN, i64::MAX),
        ] {
            let _ = check_window(UnixSeconds(issued_at), UnixSeconds(expires_at), UnixSeconds(now));
        }
        assert_eq!(add_ttl(NOW, Duration::MAX), UnixSeconds(i64::MAX));
    }

    proptest! {
        #[test]
        fn damaged_attestations_never_panic_and_never_hold(at in any::<prop::sample::Index>(), flip in 1..=u8::MAX) {
            let mut bytes = BYTES.clone();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(read) = Attestation::from_bytes(&bytes) {
                prop_assert!(read.verify(Network::Testnet, NOW).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Attestation::from_bytes(&bytes).is_err());
        }
    }
}
