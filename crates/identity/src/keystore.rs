//! The sealed keystore file: version byte 2, salt, IV, and an encrypted JSON object.
//!
//! The format of the existing implementation, read and written byte for byte. [`seal`] and [`open`] spend about
//! 0.3 s of one core and 128 MiB on the password: run them where blocking is allowed.

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use clawchat_types::Network;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::identity::{Carried, Identity};
use crate::mnemonic::Mnemonic;
use crate::node_key::NodeKey;

/// Largest keystore file that is read or written, in bytes. Check it before reading. Real ones have about 700.
pub const MAX_KEYSTORE_BYTES: usize = 64 * 1024;
/// Shortest password for a new file, in UTF-16 code units.
pub const MIN_PASSWORD_UTF16: usize = 12;
/// Length of the salt, in bytes.
pub const SALT_BYTES: usize = 16;
/// Length of the initialization vector, in bytes.
pub const IV_BYTES: usize = 12;

const VERSION: u8 = 2;
const HEADER_BYTES: usize = 1 + SALT_BYTES + IV_BYTES;
const TAG_BYTES: usize = 16;
/// scrypt cost: N = 2^17, r = 8, p = 1.
const SCRYPT_LOG_N: u8 = 17;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;
/// What follows the private key of a wallet whose public key is used in compressed form.
const COMPRESSED_MARKER: [u8; 1] = [1];
/// Room for the fields we write, so that no copy of a secret is left behind by growing, in bytes.
const PLAINTEXT_ROOM: usize = 2048;

/// Checks the length of a password for a new file. Existing files open with whatever they were sealed with.
///
/// # Errors
/// [`KeystoreError::PasswordTooShort`] below [`MIN_PASSWORD_UTF16`] UTF-16 code units.
pub fn check_password(password: &str) -> Result<(), KeystoreError> {
    if password.encode_utf16().count() < MIN_PASSWORD_UTF16 {
        return Err(KeystoreError::PasswordTooShort);
    }
    Ok(())
}

/// The bytes of the keystore file. `salt` and `iv` must be random and new for every call.
///
/// # Errors
/// [`KeystoreError::PasswordTooShort`]; [`KeystoreError::TooLarge`] when unknown keys carried over from another
/// file are.
pub fn seal(
    identity: &Identity,
    password: &str,
    salt: [u8; SALT_BYTES],
    iv: [u8; IV_BYTES],
) -> Result<Vec<u8>, KeystoreError> {
    check_password(password)?;
    let mut body = plaintext(identity)?;
    if HEADER_BYTES + body.len() + TAG_BYTES > MAX_KEYSTORE_BYTES {
        return Err(KeystoreError::TooLarge);
    }
    let key = derive_key(password, &salt)?;
    body.reserve_exact(TAG_BYTES);
    cipher(&key)
        .encrypt_in_place(&Nonce::from(iv), b"", &mut *body)
        .map_err(|_| KeystoreError::TooLarge)?;
    Ok([[VERSION].as_slice(), &salt, &iv, &body].concat())
}

/// Opens a keystore file and checks that what it says of itself is consistent.
///
/// # Errors
/// [`KeystoreError::TooLarge`] and [`KeystoreError::UnsupportedVersion`] before any work is spent;
/// [`KeystoreError::WrongPassword`] for a wrong password and for any damage alike;
/// [`KeystoreError::Contents`] and [`KeystoreError::Inconsistent`] for a well-sealed file nobody should have written.
pub fn open(bytes: &[u8], password: &str) -> Result<Identity, KeystoreError> {
    let sealed = Sealed::read(bytes)?;
    let key = derive_key(password, &sealed.salt)?;
    sealed.open(&key)
}

/// Why a keystore was not opened or written. Never holds anything the file contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// The password is wrong, or the file is damaged; the two cannot be told apart.
    #[error("wrong password, or the keystore file is damaged")]
    WrongPassword,
    /// The file is of another version, or empty.
    #[error("keystore version {} is not supported", Found(*found))]
    UnsupportedVersion {
        /// Its first byte, if it has one.
        found: Option<u8>,
    },
    /// Larger than [`MAX_KEYSTORE_BYTES`].
    #[error("a keystore file has at most {MAX_KEYSTORE_BYTES} bytes")]
    TooLarge,
    /// Shorter than [`MIN_PASSWORD_UTF16`].
    #[error("a password has at least {MIN_PASSWORD_UTF16} characters")]
    PasswordTooShort,
    /// Rightly sealed, but not the JSON object a keystore holds.
    #[error("the keystore was opened, but does not hold an identity")]
    Contents,
    /// Rightly sealed, but a field is missing or contradicts the seed phrase or the node key.
    #[error("the keystore was opened, but its field {field} is missing or contradicts the others")]
    Inconsistent {
        /// The JSON key.
        field: &'static str,
    },
    /// The key derivation could not run.
    #[error("the password could not be processed")]
    KeyDerivation,
}

struct Found(Option<u8>);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(version) => version.fmt(f),
            None => f.write_str("(none: the file is empty)"),
        }
    }
}

/// The parts of a file of the right version and a possible length.
struct Sealed<'a> {
    salt: [u8; SALT_BYTES],
    iv: [u8; IV_BYTES],
    ciphertext: &'a [u8],
}

impl<'a> Sealed<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, KeystoreError> {
        if bytes.len() > MAX_KEYSTORE_BYTES {
            return Err(KeystoreError::TooLarge);
        }
        let rest = match bytes.split_first() {
            Some((&VERSION, rest)) => rest,
            other => {
                return Err(KeystoreError::UnsupportedVersion {
                    found: other.map(|(version, _)| *version),
                });
            }
        };
        let (salt, rest) = rest.split_first_chunk().ok_or(KeystoreError::WrongPassword)?;
        let (iv, ciphertext) = rest.split_first_chunk().ok_or(KeystoreError::WrongPassword)?;
        if ciphertext.len() < TAG_BYTES {
            return Err(KeystoreError::WrongPassword);
        }
        Ok(Self {
            salt: *salt,
            iv: *iv,
            ciphertext,
        })
    }

    fn open(&self, key: &[u8; 32]) -> Result<Identity, KeystoreError> {
        let mut body = Zeroizing::new(self.ciphertext.to_vec());
        cipher(key)
            .decrypt_in_place(&Nonce::from(self.iv), b"", &mut *body)
            .map_err(|_| KeystoreError::WrongPassword)?;
        identity(&body)
    }
}

fn derive_key(password: &str, salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let params =
        scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).map_err(|_| KeystoreError::KeyDerivation)?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password.as_bytes(), salt, &params, key.as_mut_slice())
        .map_err(|_| KeystoreError::KeyDerivation)?;
    Ok(key)
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(key.into())
}

/// The JSON object, keys in the order the existing implementation writes them, unknown ones at the end.
fn plaintext(identity: &Identity) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
    let carried = &identity.carried;
    let carried_bytes: usize = carried
        .fields
        .iter()
        .map(|(key, json)| key.len() + json.len() + 8)
        .sum();
    let wallet_secret = Zeroizing::new([identity.wallet().secret().as_slice(), &COMPRESSED_MARKER].concat());
    let testnet = identity.network() == Network::Testnet;

    let mut object = Object::with_capacity(PLAINTEXT_ROOM + carried_bytes);
    object.text("principal", &identity.principal().to_string())?;
    object.text("address", &identity.principal().address())?;
    object.text("publicKey", &identity.node_key().node_id().to_string())?;
    object.text("privateKey", &secret_hex(identity.node_key().seed().as_slice()))?;
    object.text("mnemonic", identity.mnemonic().expose_words())?;
    object.text("walletPublicKeyHex", &hex::encode(identity.wallet().public_key()))?;
    object.text("walletPrivateKeyHex", &secret_hex(&wallet_secret))?;
    if !(testnet && carried.network_absent) {
        object.json("testnet", &testnet.to_string())?;
    }
    if let Some(nick) = identity.nick() {
        object.text("nick", nick.as_str())?;
    }
    for (key, json) in &carried.fields {
        object.json(key, json)?;
    }
    Ok(object.finish())
}

fn secret_hex(secret: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(hex::encode(secret))
}

/// Writes a JSON object field by field, into memory that does not move.
struct Object {
    bytes: Zeroizing<Vec<u8>>,
}

impl Object {
    fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Zeroizing::new(Vec::with_capacity(bytes)),
        }
    }

    fn text(&mut self, key: &str, value: &str) -> Result<(), KeystoreError> {
        self.key(key)?;
        self.quoted(value)
    }

    fn json(&mut self, key: &str, json: &str) -> Result<(), KeystoreError> {
        self.key(key)?;
        self.bytes.extend_from_slice(json.as_bytes());
        Ok(())
    }

    fn key(&mut self, key: &str) -> Result<(), KeystoreError> {
        let lead = if self.bytes.is_empty() { b'{' } else { b',' };
        self.bytes.push(lead);
        self.quoted(key)?;
        self.bytes.push(b':');
        Ok(())
    }

    fn quoted(&mut self, text: &str) -> Result<(), KeystoreError> {
        serde_json::to_writer(&mut *self.bytes, text).map_err(|_| KeystoreError::Contents)
    }

    fn finish(mut self) -> Zeroizing<Vec<u8>> {
        self.bytes.push(b'}');
        self.bytes
    }
}

/// Reads the JSON object and checks it against itself.
fn identity(plaintext: &[u8]) -> Result<Identity, KeystoreError> {
    let mut fields: Fields<'_> = serde_json::from_slice(plaintext).map_err(|_| KeystoreError::Contents)?;
    let mnemonic: Mnemonic = fields
        .text("mnemonic")?
        .parse()
        .map_err(|_| KeystoreError::Inconsistent { field: "mnemonic" })?;
    let seed = fields.secret("privateKey")?;
    let testnet: Option<bool> = fields.optional("testnet")?;
    let network = if testnet.unwrap_or(true) {
        Network::Testnet
    } else {
        Network::Mainnet
    };
    let mut identity = Identity::recover(&mnemonic, network, None, *seed)
        .map_err(|_| KeystoreError::Inconsistent { field: "mnemonic" })?;

    fields.must_equal("principal", &identity.principal().to_string())?;
    fields.must_equal("address", &identity.principal().address())?;
    fields.must_be_hex("publicKey", NodeKey::node_id(identity.node_key()).as_bytes())?;
    fields.must_be_hex("walletPublicKeyHex", &identity.wallet().public_key())?;
    let marked = Zeroizing::new([identity.wallet().secret().as_slice(), &COMPRESSED_MARKER].concat());
    fields.must_be_hex("walletPrivateKeyHex", &marked)?;

    // A name we would not show stays in the file, untouched, like every other thing we do not understand.
    let nick = fields
        .get("nick")
        .and_then(|json| serde_json::from_str::<String>(json).ok());
    let nick = nick.and_then(|nick| nick.parse().ok());
    if nick.is_some() {
        fields.take("nick");
    }
    identity.set_nick(nick);
    identity.carried = Carried {
        network_absent: testnet.is_none(),
        fields: fields.rest(),
    };
    Ok(identity)
}

/// The fields of a JSON object, in order, as JSON text. Of equal keys the last one counts.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, json)| json.get())
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let json = self.get(key);
        self.0.retain(|(name, _)| name != key);
        json
    }

    fn text(&mut self, field: &'static str) -> Result<Zeroizing<String>, KeystoreError> {
        let text: Option<String> = self.optional(field)?;
        text.map(Zeroizing::new)
            .ok_or(KeystoreError::Inconsistent { field })
    }

    fn optional<T: Deserialize<'a>>(&mut self, field: &'static str) -> Result<Option<T>, KeystoreError> {
        match self.take(field) {
            None => Ok(None),
            Some(json) => serde_json::from_str(json).map_err(|_| KeystoreError::Inconsistent { field }),
        }
    }

    fn secret(&mut self, field: &'static str) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        let text = self.text(field)?;
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.as_bytes(), secret.as_mut_slice())
            .map_err(|_| KeystoreError::Inconsistent { field })?;
        Ok(secret)
    }

    fn must_equal(&mut self, field: &'static str, expected: &str) -> Result<(), KeystoreError> {
        if self.text(field)?.as_str() == expected {
            Ok(())
        } else {
            Err(KeystoreError::Inconsistent { field })
        }
    }

    fn must_be_hex(&mut self, field: &'static str, expected: &[u8]) -> Result<(), KeystoreError> {
        let bytes = hex::decode(self.text(field)?.as_bytes()).map(Zeroizing::new);
        match bytes {
            Ok(bytes) if bytes.as_slice() == expected => Ok(()),
            _ => Err(KeystoreError::Inconsistent { field }),
        }
    }

    fn rest(self) -> Vec<(String, Zeroizing<String>)> {
        let owned = |(key, json): (String, &RawValue)| (key, Zeroizing::new(json.get().to_owned()));
        self.0.into_iter().map(owned).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Self::Value = Vec::new();
                while let Some((key, json)) = map.next_entry::<String, &RawValue>()? {
                    match fields.iter_mut().find(|(name, _)| *name == key) {
                        Some(field) => field.1 = json,
                        None => fields.push((key, json)),
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(InOrder).map(Self)
    }
}

#[cfg(test)]
mod tests;
