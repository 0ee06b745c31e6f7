//! Names of peers of the mesh: what a gateway's PeerId says about the key it signs with.

use clawchat_types::{NodeId, PeerId};

/// Digits of base58 as Bitcoin and IPFS use them.
const DIGITS: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// What stands before the key in the PeerId of an Ed25519 key: an identity multihash of 36 bytes, which are a key type
/// (1, Ed25519) and 32 bytes of key, each with its protobuf tag.
const ED25519_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
/// Bytes of such a PeerId.
const PEER_ID_BYTES: usize = ED25519_PREFIX.len() + 32;

/// The key that a gateway's PeerId spells out; `None` for one of another kind of key.
pub(crate) fn key_of(peer: &PeerId) -> Option<NodeId> {
    let bytes = base58(peer.as_str())?;
    let key = bytes.strip_prefix(&ED25519_PREFIX)?;
    Some(NodeId::new(key.try_into().ok()?))
}

fn base58(text: &str) -> Option<[u8; PEER_ID_BYTES]> {
    let mut bytes = [0_u8; PEER_ID_BYTES];
    for letter in text.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == letter)?;
        let mut carry = u32::try_from(digit).ok()?;
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 58;
            let [low, ..] = carry.to_le_bytes();
            *byte = low;
            carry >>= 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stands_in_the_peer_id() {
        // The first key pair of RFC 8032, section 7.1, and its PeerId.
        let key: NodeId = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
            .parse()
            .unwrap();
        let peer: PeerId = "12D3KooWQK1wnefoLrcVHbbnf5tLzbopUd3K3bFAoJpA7YJgL5pV"
            .parse()
            .unwrap();
        assert_eq!(key_of(&peer), Some(key));
        assert_eq!(
            key_of(&"QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse().unwrap()),
            None
        );
    }
}
