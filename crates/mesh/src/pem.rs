//! Ed25519 keys as PEM text, the way Node and OpenSSL write them (RFC 7468, RFC 8410).

use clawchat_identity::NodeKey;
use clawchat_types::NodeId;
use data_encoding::BASE64;
use zeroize::Zeroizing;

/// Longest PEM text that is read, in bytes. A key takes 120; text around it is allowed.
pub const MAX_PEM_BYTES: usize = 4096;

const PUBLIC: &str = "PUBLIC KEY";
const PRIVATE: &str = "PRIVATE KEY";
/// What stands in front of the 32 bytes of a public key: SubjectPublicKeyInfo of id-Ed25519.
const SPKI_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// What stands in front of the 32 bytes of a private key: PKCS#8, version 1, id-Ed25519.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// The same when the public key follows (RFC 5958), as some tools write it.
const PKCS8_V2_HEAD: [u8; 16] = [
    0x30, 0x51, 0x02, 0x01, 0x01, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// What stands between the private key and the public one.
const PKCS8_V2_MIDDLE: [u8; 3] = [0x81, 0x21, 0x00];

/// A public key as Node exports it: SPKI, with a line end after the last line. It stands so in handshakes and `pub.pem`.
#[must_use]
pub fn public_key_pem(key: &NodeId) -> String {
    let mut der = SPKI_HEAD.to_vec();
    der.extend_from_slice(key.as_bytes());
    format!(
        "-----BEGIN {PUBLIC}-----\n{}\n-----END {PUBLIC}-----\n",
        BASE64.encode(&der)
    )
}

/// A private key as Node exports it: PKCS#8, with a line end after the last line. It stands so in `key.pem`.
#[must_use]
pub fn private_key_pem(key: &NodeKey) -> Zeroizing<String> {
    let mut der = Zeroizing::new(PKCS8_HEAD.to_vec());
    // All at once: a buffer that grows leaves a copy behind.
    der.reserve_exact(32);
    der.extend_from_slice(key.seed().as_slice());
    let body = Zeroizing::new(BASE64.encode(&der));
    Zeroizing::new(format!(
        "-----BEGIN {PRIVATE}-----\n{}\n-----END {PRIVATE}-----\n",
        body.as_str()
    ))
}

/// Reads a public key. Line ends, line lengths and text around the key do not matter.
///
/// # Errors
/// [`PemError`]. Whether the 32 bytes are a point of the curve is not looked at; no signature holds for others.
pub fn read_public_key_pem(text: &str) -> Result<NodeId, PemError> {
    let der = contents(text, PUBLIC)?;
    let key = der
        .strip_prefix(&SPKI_HEAD)
        .and_then(|key| <[u8; 32]>::try_from(key).ok())
        .ok_or(PemError::NotEd25519)?;
    Ok(NodeId::new(key))
}

/// Reads a private key: PKCS#8, with or without the public key behind it.
///
/// # Errors
/// [`PemError`]: also when the public key behind it is another one's.
pub fn read_private_key_pem(text: &str) -> Result<NodeKey, PemError> {
    let der = contents(text, PRIVATE)?;
    if let Some(seed) = der.strip_prefix(&PKCS8_HEAD) {
        let seed = <[u8; 32]>::try_from(seed).map_err(|_| PemError::NotEd25519)?;
        return Ok(NodeKey::from_seed(seed));
    }
    let (seed, public) = der
        .strip_prefix(&PKCS8_V2_HEAD)
        .and_then(|rest| rest.split_first_chunk::<32>())
        .and_then(|(seed, rest)| Some((seed, rest.strip_prefix(&PKCS8_V2_MIDDLE)?)))
        .ok_or(PemError::NotEd25519)?;
    let key = NodeKey::from_seed(*seed);
    if key.node_id().as_bytes().as_slice() != public {
        return Err(PemError::NotAPair);
    }
    Ok(key)
}

/// The bytes between the first BEGIN line of that label and its END line.
fn contents(text: &str, label: &str) -> Result<Zeroizing<Vec<u8>>, PemError> {
    if text.len() > MAX_PEM_BYTES {
        return Err(PemError::TooLong { bytes: text.len() });
    }
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let (_, rest) = text.split_once(&begin).ok_or(PemError::Missing)?;
    let (body, _) = rest.split_once(&end).ok_or(PemError::Missing)?;
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    base64.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    BASE64
        .decode(&base64)
        .map(Zeroizing::new)
        .map_err(|_| PemError::NotBase64)
}

/// Why a text is not the PEM of an Ed25519 key. Never shows any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// Longer than [`MAX_PEM_BYTES`].
    #[error("a PEM text of {bytes} bytes is too long (at most {MAX_PEM_BYTES})")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// There is no BEGIN and END line of the kind that was looked for.
    #[error("there is no such key in PEM format in it")]
    Missing,
    /// What is between the lines cannot be decoded.
    #[error("what stands between its PEM lines is not base64")]
    NotBase64,
    /// A key of another kind, an encrypted one, or none.
    #[error("it does not hold an unencrypted Ed25519 key")]
    NotEd25519,
    /// The two halves in it do not belong together.
    #[error("its private and public key do not belong together")]
    NotAPair,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Written by node 20: `generateKeyPairSync("ed25519")` and `export({ type, format: "pem" })` of one pair.
    const NODE_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIFKHH3dxpdmDgtEau3/Mq1GW5icveCMgV+VcP67oVBIz\n-----END PRIVATE KEY-----\n";
    const NODE_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA2a58anT7Dzzni8k3xhja4miyrRh/x+ooxtX7hAeHfMs=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn what_node_wrote_is_read_and_written_again_to_the_byte() {
        let key = read_private_key_pem(NODE_PRIVATE).unwrap();
        assert_eq!(read_public_key_pem(NODE_PUBLIC), Ok(key.node_id()));
        assert_eq!(public_key_pem(&key.node_id()), NODE_PUBLIC);
        assert_eq!(private_key_pem(&key).as_str(), NODE_PRIVATE);
    }

    #[test]
    fn line_ends_and_text_around_do_not_matter() {
        let dressed = format!(
            "\u{feff}Subject: me\r\n{}\r\nthat was it",
            NODE_PUBLIC.replace('\n', "\r\n")
        );
        assert_eq!(read_public_key_pem(&dressed), read_public_key_pem(NODE_PUBLIC));
        let narrow = NODE_PUBLIC.replace("MCow", "MC\n ow");
        assert_eq!(read_public_key_pem(&narrow), read_public_key_pem(NODE_PUBLIC));
    }

    #[test]
    fn a_private_key_may_carry_its_public_one_but_no_other() {
        let key = NodeKey::from_seed([5; 32]);
        let with = |public: &NodeId| {
            let der = [&PKCS8_V2_HEAD[..], &[5; 32], &PKCS8_V2_MIDDLE, public.as_bytes()].concat();
            format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
                BASE64.encode(&der)
            )
        };
        assert_eq!(
            read_private_key_pem(&with(&key.node_id())).unwrap().node_id(),
            key.node_id()
        );
        let other = NodeKey::from_seed([6; 32]).node_id();
        assert_eq!(
            read_private_key_pem(&with(&other)).unwrap_err(),
            PemError::NotAPair
        );
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(read_public_key_pem("nonsense"), Err(PemError::Missing));
        assert_eq!(read_public_key_pem(NODE_PRIVATE), Err(PemError::Missing));
        assert_eq!(
            read_public_key_pem(&NODE_PUBLIC.replace("MCow", "MC!w")),
            Err(PemError::NotBase64)
        );
        assert_eq!(
            read_public_key_pem(&NODE_PUBLIC.replace("MCow", "MCox")),
            Err(PemError::NotEd25519)
        );
        let long = "x".repeat(MAX_PEM_BYTES + 1);
        assert!(matches!(
            read_public_key_pem(&long),
            Err(PemError::TooLong { .. })
        ));
    }

    proptest! {
        #[test]
        fn every_key_comes_back(seed: [u8; 32]) {
            let key = NodeKey::from_seed(seed);
            let read = read_private_key_pem(&private_key_pem(&key)).unwrap();
            prop_assert_eq!(read.node_id(), key.node_id());
            prop_assert_eq!(read_public_key_pem(&public_key_pem(&key.node_id())), Ok(key.node_id()));
        }

        #[test]
        fn any_text_is_answered(body in "[A-Za-z0-9+/= \n-]{0,200}") {
            let _ = read_public_key_pem(&body);
            let _ = read_public_key_pem(&format!("-----BEGIN PUBLIC KEY-----{body}-----END PUBLIC KEY-----"));
            let _ = read_private_key_pem(&format!("-----BEGIN PRIVATE KEY-----{body}-----END PRIVATE KEY-----"));
        }
    }
}
