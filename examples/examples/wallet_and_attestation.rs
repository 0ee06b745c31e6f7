//! A wallet from 24 words, the principal it stands for, and the attestation that binds a node key to it.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use clawchat_identity::{Attestation, AttestationError, Identity, Mnemonic, OutOfTime};
use clawchat_types::{Network, UnixSeconds};

/// Words everybody knows: never use them for anything real.
const WORDS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                     abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                     abandon art";
const NOW: UnixSeconds = UnixSeconds(1_767_225_600);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn main() -> Result<(), Box<dyn Error>> {
    // In real life the node seed and the nonce are random; see the crate's documentation.
    let words: Mnemonic = WORDS.parse()?;
    let alice = Identity::recover(&words, Network::Testnet, Some("alice".parse()?), [7; 32])?;
    println!("the words stand for {}", alice.principal());
    println!("the node key is     {}", alice.node_key().node_id());

    // Alice's wallet says: this node key speaks for me, for a day. The bytes travel to whoever wants to know.
    let bytes = alice.attest(NOW, DAY, [9; 32]).to_bytes();
    println!("the attestation has {} bytes", bytes.len());

    // Somebody who knows nothing but the bytes learns the principal, and only by checking the signature.
    let received = Attestation::from_bytes(&bytes)?.verify(Network::Testnet, NOW)?;
    assert_eq!(received.principal(), alice.principal());
    assert_eq!(received.node_id(), &alice.node_key().node_id());
    println!("verified: the key speaks for {}", received.principal());

    // Two days later the same bytes prove nothing any more.
    let later = UnixSeconds(NOW.0 + 2 * 24 * 60 * 60);
    let expired = Attestation::from_bytes(&bytes)?.verify(Network::Testnet, later);
    assert!(matches!(
        expired,
        Err(AttestationError::Time(OutOfTime::Expired { .. }))
    ));

    // Nor does anything whose bytes were touched.
    let mut forged = bytes;
    if let Some(byte) = forged.last_mut() {
        *byte ^= 1;
    }
    let refused = Attestation::from_bytes(&forged).and_then(|forged| forged.verify(Network::Testnet, NOW));
    assert!(refused.is_err());
    println!("refused: the same after two days, and the same with one bit changed");
    Ok(())
}
