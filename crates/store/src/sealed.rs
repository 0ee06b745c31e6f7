//! Sealing values and hiding names: everything that uses the store's key.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// First byte of every value: how it is sealed and coded.
pub(crate) const VALUE_VERSION: u8 = 1;
/// Length of a nonce, in bytes.
pub(crate) const NONCE_BYTES: usize = 12;
/// Length of an authentication tag, in bytes.
pub(crate) const TAG_BYTES: usize = 16;
/// What sealing adds to a value, in bytes.
pub(crate) const SEAL_BYTES: usize = 1 + NONCE_BYTES + TAG_BYTES;
/// Length of a hidden name, in bytes.
pub(crate) const HIDDEN_BYTES: usize = 16;

/// The keys of one store, derived from the identity's store key and the store's own salt.
pub(crate) struct Keys {
    seal: Aes256Gcm,
    names: Zeroizing<[u8; 32]>,
    files: Zeroizing<[u8; 32]>,
    check: [u8; HIDDEN_BYTES],
}

/// Why a value cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnsealError {
    /// Written by a later version.
    Newer(u8),
    /// Not what was written, or not under this key.
    Broken,
}

impl Keys {
    pub(crate) fn derive(store_key: &[u8; 32], purpose: &[u8], salt: &[u8; 16]) -> Self {
        let subkey = |label: &[u8]| Zeroizing::new(hmac(store_key, &[purpose, label, &[0], salt]));
        let mut check = [0; HIDDEN_BYTES];
        check.copy_from_slice(&subkey(b"check")[..HIDDEN_BYTES]);
        Self {
            seal: Aes256Gcm::new((&*subkey(b"values")).into()),
            names: subkey(b"names"),
            files: subkey(b"files"),
            check,
        }
    }

    /// A public value that tells whether a key is the right one.
    pub(crate) fn check(&self) -> &[u8; HIDDEN_BYTES] {
        &self.check
    }

    /// A name that only this store can connect with the thing named.
    pub(crate) fn hide(&self, name: &[u8]) -> [u8; HIDDEN_BYTES] {
        let mut hidden = [0; HIDDEN_BYTES];
        hidden.copy_from_slice(&hmac(&self.names, &[name])[..HIDDEN_BYTES]);
        hidden
    }

    /// A checksum of a file beside the database, which damage cannot fake.
    pub(crate) fn sum_file(&self, label: &[u8], bytes: &[u8]) -> [u8; 32] {
        hmac(&self.files, &[label, &[0], bytes])
    }

    /// Seals a value to its place. Version byte, nonce, ciphertext, tag.
    pub(crate) fn seal(
        &self,
        place: &Place<'_>,
        nonce: &[u8; NONCE_BYTES],
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, UnsealError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut value = Vec::with_capacity(length + SEAL_BYTES);
        value.push(VALUE_VERSION);
        value.extend_from_slice(nonce);
        for part in parts {
            value.extend_from_slice(part);
        }
        let text = value.get_mut(1 + NONCE_BYTES..).unwrap_or_default();
        let sealed = self
            .seal
            .encrypt_inout_detached(nonce.into(), &place.associated(), text.into());
        // Fails only beyond 64 GiB.
        let tag = sealed.map_err(|_| UnsealError::Broken)?;
        value.extend_from_slice(&tag);
        Ok(value)
    }

    /// Opens a value that was sealed to this place.
    pub(crate) fn unseal(&self, place: &Place<'_>, value: &[u8]) -> Result<Vec<u8>, UnsealError> {
        self.unseal_in(place, value.to_vec())
    }

    /// The same, in the memory it is in already.
    pub(crate) fn unseal_in(&self, place: &Place<'_>, mut value: Vec<u8>) -> Result<Vec<u8>, UnsealError> {
        match value.first() {
            Some(&VALUE_VERSION) => {}
            Some(&newer) if newer > VALUE_VERSION => return Err(UnsealError::Newer(newer)),
            Some(_) | None => return Err(UnsealError::Broken),
        }
        let (nonce, rest) = value[1..]
            .split_first_chunk_mut::<NONCE_BYTES>()
            .ok_or(UnsealError::Broken)?;
        let (text, tag) = rest
            .split_last_chunk_mut::<TAG_BYTES>()
            .ok_or(UnsealError::Broken)?;
        self.seal
            .decrypt_inout_detached((&*nonce).into(), &place.associated(), text.into(), (&*tag).into())
            .map_err(|_| UnsealError::Broken)?;
        value.drain(..1 + NONCE_BYTES);
        value.truncate(value.len() - TAG_BYTES);
        Ok(value)
    }
}

/// Where a value lives. It opens nowhere else.
pub(crate) struct Place<'a> {
    /// Name of the tree.
    pub(crate) tree: &'static str,
    /// Key in the tree.
    pub(crate) key: &'a [u8],
    /// What else it belongs to; empty for most.
    pub(crate) context: &'a [u8],
}

impl Place<'_> {
    fn associated(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.tree.len() + self.key.len() + self.context.len() + 3);
        bytes.extend_from_slice(self.tree.as_bytes());
        bytes.push(0);
        // Keys are shorter than 256 bytes; the length keeps key and context apart.
        bytes.push(u8::try_from(self.key.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(self.key);
        bytes.extend_from_slice(self.context);
        bytes.push(VALUE_VERSION);
        bytes
    }
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // Filled up to the block length with zeros, as RFC 2104 says.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(key: &[u8]) -> Place<'_> {
        Place {
            tree: "inbox",
            key,
            context: &[],
        }
    }

    #[test]
    fn a_value_opens_only_where_it_was_put_and_under_its_key() {
        let keys = Keys::derive(&[7; 32], b"test ", &[1; 16]);
        let value = keys.seal(&place(b"k"), &[3; 12], &[b"he", b"llo"]).unwrap();
        assert_eq!(keys.unseal(&place(b"k"), &value).unwrap(), b"hello");
        assert_eq!(keys.unseal(&place(b"j"), &value), Err(UnsealError::Broken));
        let elsewhere = Place {
            tree: "outbox",
            key: b"k",
            context: &[],
        };
        assert_eq!(keys.unseal(&elsewhere, &value), Err(UnsealError::Broken));
        let other = Keys::derive(&[8; 32], b"test ", &[1; 16]);
        assert_eq!(other.unseal(&place(b"k"), &value), Err(UnsealError::Broken));
        let newer = [&[2], &value[1..]].concat();
        assert_eq!(keys.unseal(&place(b"k"), &newer), Err(UnsealError::Newer(2)));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let keys = Keys::derive(&[7; 32], b"test ", &[1; 16]);
        let value = keys.seal(&place(b"k"), &[3; 12], &[b"hello"]).unwrap();
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.unseal(&place(b"k"), &flipped).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let keys = Keys::derive(&[7; 32], b"test ", &[1; 16]);
            prop_assert!(keys.unseal(&place(b"k"), &value).is_err());
        }
    }
}
