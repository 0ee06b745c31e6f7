//! The node key: the Ed25519 key a gateway proves itself with on the wire.

mod known;
mod small_order;

use std::fmt;

use clawchat_types::NodeId;
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use zeroize::Zeroizing;

use self::known::KEYS;

/// An Ed25519 key pair made from a 32-byte seed. Zeroized on drop; [`fmt::Debug`] shows the public half only.
///
/// It may be replaced at any time by attesting another one, so nothing durable may be derived from it.
pub struct NodeKey {
    key: SigningKey,
}

impl NodeKey {
    /// The key pair of a seed (RFC 8032 "private key"). Every 32 bytes are a seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self {
            key: SigningKey::from_bytes(&seed),
        }
    }

    /// The public half.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId::new(self.key.verifying_key().to_bytes())
    }

    /// Signs a message (RFC 8032). The caller puts a domain string in front of what it signs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// The X25519 secret of the same key: what [`x25519_public`] of the node id is the public half of.
    #[must_use]
    pub fn x25519_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_scalar_bytes())
    }

    /// The seed, for the keystore and for the libp2p key pair.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }
}

impl Clone for NodeKey {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
        }
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeKey").field(&self.node_id()).finish()
    }
}

/// Checks an Ed25519 signature strictly: no small-order keys, no second spelling of a signature.
///
/// # Errors
/// [`SignatureError`] when it is not the signature of `message` by `signer`.
pub fn verify_node_signature(
    signer: &NodeId,
    message: &[u8],
    signature: &[u8; 64],
) -> Result<(), SignatureError> {
    let signature = Signature::from_bytes(signature);
    // This and a key that is not weak are what `VerifyingKey::verify_strict` demands beside `verify`. It decompresses
    // R for that, a tenth of the work; but `verify` takes R in no other bytes than those its point is compressed to.
    if small_order::is_spelled_by(signature.r_bytes()) {
        return Err(SignatureError);
    }
    let key = KEYS.find(signer).ok_or(SignatureError)?;
    key.verify(message, &signature).map_err(|_| SignatureError)
}

/// The X25519 (Montgomery) form of a node id. `None` when the bytes are not a point on the curve, or one of
/// small order, with which every key agreement would give a known secret.
#[must_use]
pub fn x25519_public(node_id: &NodeId) -> Option<[u8; 32]> {
    let key = VerifyingKey::from_bytes(node_id.as_bytes()).ok()?;
    (!key.is_weak()).then(|| key.to_montgomery().to_bytes())
}

/// A signature does not hold. Deliberately without detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct SignatureError;

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::edwards::CompressedEdwardsY;
    use curve25519_dalek::{EdwardsPoint, Scalar};
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha512};

    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_signer_only() {
        // RFC 8032 §7.1, test 2.
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let key = NodeKey::from_seed(hex::decode(seed).unwrap().try_into().unwrap());
        assert_eq!(
            key.node_id().to_string(),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        let signature = key.sign(&[0x72]);
        assert!(hex::encode(signature).starts_with("92a009a9f0d4cab8720e820b5f642540"));
        assert_eq!(verify_node_signature(&key.node_id(), &[0x72], &signature), Ok(()));
        assert_eq!(
            verify_node_signature(&key.node_id(), &[0x73], &signature),
            Err(SignatureError)
        );
        let other = NodeKey::from_seed([7; 32]).node_id();
        assert_eq!(
            verify_node_signature(&other, &[0x72], &signature),
            Err(SignatureError)
        );
    }

    /// What [`verify_node_signature`] is held against.
    fn strictly(signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(signer.as_bytes()).is_ok_and(|key| {
            key.verify_strict(message, &Signature::from_bytes(signature))
                .is_ok()
        })
    }

    /// A signature without strictness: `R` is a point of small order, and the key is `a` times the base and such a
    /// point. Gives the message for which it holds, with the signature.
    fn forged(a: Scalar, key: EdwardsPoint, r: &CompressedEdwardsY) -> Option<([u8; 1], [u8; 64])> {
        (0..=u8::MAX).find_map(|number| {
            let mut hash = Sha512::new();
            hash.update(r.as_bytes());
            hash.update(key.compress().as_bytes());
            hash.update([number]);
            let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
            let s = k * a;
            let expected = EdwardsPoint::mul_base(&s) - k * key;
            (expected.compress() == *r).then(|| {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(r.as_bytes());
                signature[32..].copy_from_slice(s.as_bytes());
                ([number], signature)
            })
        })
    }

    #[test]
    fn what_only_a_lenient_check_takes_is_refused() {
        let a = Scalar::from_bytes_mod_order([5; 32]);
        let mut lenient = 0;
        for torsion in EIGHT_TORSION {
            for (a, key) in [(a, EdwardsPoint::mul_base(&a) + torsion), (Scalar::ZERO, torsion)] {
                let signer = NodeId::new(key.compress().to_bytes());
                for r in EIGHT_TORSION {
                    let Some((message, signature)) = forged(a, key, &r.compress()) else {
                        continue;
                    };
                    let loose = VerifyingKey::from_bytes(signer.as_bytes()).unwrap();
                    loose
                        .verify(&message, &Signature::from_bytes(&signature))
                        .unwrap();
                    lenient += 1;
                    assert!(!strictly(&signer, &message, &signature));
                    assert_eq!(
                        verify_node_signature(&signer, &message, &signature),
                        Err(SignatureError)
                    );
                }
            }
        }
        // Each key makes the multiples of its torsion: 1 + 2 + 4 + 4 + 4 * 8 of them, and there are two kinds.
        assert_eq!(lenient, 2 * (1 + 2 + 2 * 4 + 4 * 8));
    }

    #[test]
    fn a_key_of_mixed_order_is_taken_as_before() {
        let a = Scalar::from_bytes_mod_order([5; 32]);
        let nonce = Scalar::from_bytes_mod_order([6; 32]);
        let mut held = 0;
        for torsion in EIGHT_TORSION {
            let key = EdwardsPoint::mul_base(&a) + torsion;
            let r = EdwardsPoint::mul_base(&nonce) + torsion;
            let signer = NodeId::new(key.compress().to_bytes());
            for number in 0..32_u8 {
                let mut hash = Sha512::new();
                hash.update(r.compress().as_bytes());
                hash.update(signer.as_bytes());
                hash.update([number]);
                let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(r.compress().as_bytes());
                signature[32..].copy_from_slice((nonce + k * a).as_bytes());
                let strict = strictly(&signer, &[number], &signature);
                held += u32::from(strict);
                assert_eq!(
                    verify_node_signature(&signer, &[number], &signature).is_ok(),
                    strict
                );
            }
        }
        assert!((32..8 * 32).contains(&held), "{held}");
    }

    proptest! {
        #[test]
        fn signatures_hold_as_strictly_as_the_library_can(
            seed: [u8; 32],
            message in prop::collection::vec(any::<u8>(), 0..100),
            at in 0_usize..96,
            flip: u8,
        ) {
            let key = NodeKey::from_seed(seed);
            let mut signer = *key.node_id().as_bytes();
            let mut signature = key.sign(&message);
            match at.checked_sub(64) {
                None => signature[at] ^= flip,
                Some(at) => signer[at] ^= flip,
            }
            let signer = NodeId::new(signer);
            // The second time the key is a known one.
            for _ in 0..2 {
                let held = verify_node_signature(&signer, &message, &signature).is_ok();
                prop_assert_eq!(held, strictly(&signer, &message, &signature));
                prop_assert_eq!(held, flip == 0);
            }
        }

        #[test]
        fn any_bytes_are_judged_as_the_library_judges_them(signer: [u8; 32], signature: [u8; 32], s: [u8; 32]) {
            let signature: [u8; 64] = [signature, s].concat().try_into().unwrap();
            let signer = NodeId::new(signer);
            let held = verify_node_signature(&signer, b"x", &signature).is_ok();
            prop_assert_eq!(held, strictly(&signer, b"x", &signature));
        }
    }

    #[test]
    fn the_two_x25519_halves_belong_together() {
        let (a, b) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
        let agree = |secret: &NodeKey, public: &NodeKey| {
            let id = public.node_id();
            let point = VerifyingKey::from_bytes(id.as_bytes()).unwrap().to_montgomery();
            assert_eq!(x25519_public(&id), Some(point.to_bytes()));
            point.mul_clamped(*secret.x25519_secret()).to_bytes()
        };
        assert_eq!(agree(&a, &b), agree(&b, &a));
        assert_ne!(agree(&a, &b), agree(&a, &a));
    }

    #[test]
    fn points_of_small_order_and_other_bytes_have_no_x25519_form() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(x25519_public(&NodeId::new(identity)), None);
        let mut no_point = [0; 32];
        no_point[0] = 2;
        assert_eq!(x25519_public(&NodeId::new(no_point)), None);
    }

    #[test]
    fn the_seed_is_never_shown() {
        let key = NodeKey::from_seed([0xab; 32]);
        let shown = format!("{key:?}");
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
    }
}
