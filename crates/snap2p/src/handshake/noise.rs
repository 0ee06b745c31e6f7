//! The Noise protocol itself. No type of the crate that implements it leaves here and the session.

use std::sync::Mutex;

use clawchat_identity::NodeKey;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};
use zeroize::{Zeroize, Zeroizing};

use super::{HandshakeEntropy, HandshakeError, PeerPair};
use crate::limits::{MAX_PRE_AUTH_FRAME, TAG_BYTES};

const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";
/// First bytes of the prologue.
const PROLOGUE: &[u8] = b"snap2p/2.0.0";
/// Bytes of an X25519 public key.
pub(crate) const KEY_BYTES: usize = 32;

/// A handshake with this node key as static key, and this ephemeral.
pub(crate) fn start(
    initiator: bool,
    node_key: &NodeKey,
    peers: &PeerPair,
    entropy: &HandshakeEntropy,
) -> Result<HandshakeState, HandshakeError> {
    let params: NoiseParams = PATTERN.parse().map_err(|_| HandshakeError::Noise)?;
    let resolver = FixedRandom::new(entropy.ephemeral);
    let prologue = [
        PROLOGUE,
        &[0],
        peers.initiator.as_bytes(),
        &[0],
        peers.responder.as_bytes(),
    ]
    .concat();
    let secret = node_key.x25519_secret();
    let builder = Builder::with_resolver(params, Box::new(resolver))
        .local_private_key(secret.as_slice())
        .and_then(|builder| builder.prologue(&prologue))
        .map_err(|_| HandshakeError::Noise)?;
    let built = if initiator {
        builder.build_initiator()
    } else {
        builder.build_responder()
    };
    built.map_err(|_| HandshakeError::Noise)
}

/// The next handshake message, with this payload.
pub(crate) fn write(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut message = vec![0; MAX_PRE_AUTH_FRAME];
    let length = noise
        .write_message(payload, &mut message)
        .map_err(|_| HandshakeError::Noise)?;
    message.truncate(length);
    Ok(message)
}

/// The payload of the peer's handshake message.
pub(crate) fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut payload = vec![0; message.len()];
    let length = noise
        .read_message(message, &mut payload)
        .map_err(|_| HandshakeError::Noise)?;
    payload.truncate(length);
    Ok(payload)
}

/// The peer's static key, once it is known.
pub(crate) fn remote_static(noise: &HandshakeState) -> Option<[u8; KEY_BYTES]> {
    noise.get_remote_static()?.try_into().ok()
}

/// An encrypted message after the handshake.
pub(crate) fn seal(transport: &mut TransportState, plaintext: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut message = vec![0; plaintext.len() + TAG_BYTES];
    let length = transport
        .write_message(plaintext, &mut message)
        .map_err(|_| HandshakeError::Noise)?;
    message.truncate(length);
    Ok(message)
}

/// The plaintext of the peer's encrypted message.
pub(crate) fn unseal(transport: &mut TransportState, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut plaintext = vec![0; message.len()];
    let length = transport
        .read_message(message, &mut plaintext)
        .map_err(|_| HandshakeError::Noise)?;
    plaintext.truncate(length);
    Ok(plaintext)
}

/// The default algorithms, with a random source that yields the caller's ephemeral once and then nothing.
struct FixedRandom {
    ephemeral: Mutex<Option<Zeroizing<[u8; 32]>>>,
}

impl FixedRandom {
    fn new(ephemeral: [u8; 32]) -> Self {
        Self {
            ephemeral: Mutex::new(Some(Zeroizing::new(ephemeral))),
        }
    }
}

impl CryptoResolver for FixedRandom {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        let ephemeral = self.ephemeral.lock().ok()?.take();
        Some(Box::new(Once(ephemeral)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let mut bytes = self.0.take().ok_or(snow::Error::Rng)?;
        if dest.len() != bytes.len() {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(bytes.as_slice());
        bytes.zeroize();
        Ok(())
    }
}
