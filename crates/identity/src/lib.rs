//! Who we are: Stacks wallet, node key, attestation, contact cards, sealed keystore.

pub mod cbor;
mod node_key;

pub use crate::node_key::{NodeKey, SignatureError, verify_node_signature, x25519_public};
