//! Two session machines shake hands and echo a message, with plain function calls in place of a network.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::Identity;
use clawchat_snap2p::{Answerer, Credentials, Dialer, ErrorCode, Gatekeeper, HandshakeEntropy};
use clawchat_snap2p::{PeerPair, Session, SessionEvent};
use clawchat_types::{Moment, Network, Principal, UnixMillis};

/// The machines read no clock: time is whatever they are told.
const WALL: UnixMillis = UnixMillis(1_767_225_600_000);
const NOW: Moment = Moment {
    wall: WALL,
    mono: Duration::ZERO,
};

/// Bob's gateway: hosts him alone and lets everybody in.
struct OnlyBob(Credentials);

impl Gatekeeper for OnlyBob {
    fn credentials_for(&self, target: Option<&Principal>, _knock: Option<&[u8]>) -> Option<Credentials> {
        (target == Some(self.0.principal())).then(|| self.0.clone())
    }

    fn admit(&self, _local: &Principal, _remote: &Principal, _knock: Option<&[u8]>) -> Result<(), ErrorCode> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (alice, bob) = (credentials(1)?, credentials(2)?);
    let names = (*alice.principal(), *bob.principal());
    let [initiator, responder] = ["alice's gateway", "bob's gateway"].map(str::to_owned);
    let peers = PeerPair { initiator, responder };

    // The handshake: what one machine sends, behind two bytes of length, is the next input of the other.
    let mut dialer = Dialer::new(alice, &peers, Some(names.1), None, entropy(3), NOW);
    let (mut answerer, gate) = (Answerer::new(&peers, entropy(4), NOW), OnlyBob(bob));
    while !(dialer.is_done() && answerer.is_done()) {
        while let Some(frame) = dialer.poll_frame() {
            answerer.handle_frame(frame.get(2..).unwrap_or_default(), NOW, &gate);
        }
        while let Some(frame) = answerer.poll_frame() {
            dialer.handle_frame(frame.get(2..).unwrap_or_default(), NOW);
        }
    }
    let (mut alice, mut bob) = (dialer.finish()?, answerer.finish()?);
    assert_eq!((*bob.remote(), *alice.remote()), names);
    println!("each has proved who it is: {} and {}", names.0, names.1);

    // A stream: Alice opens it and writes, Bob sends back what he gets.
    let stream = alice.open("echo")?;
    alice.write(stream, b"hello, myself");
    carry(&mut alice, &mut bob)?;
    bob.accept(stream);
    while let Some(event) = bob.poll_event() {
        if let SessionEvent::Data { id, bytes } = event {
            bob.write(id, &bytes);
            bob.consumed(id, bytes.len());
        }
    }
    carry(&mut bob, &mut alice)?;
    let echo = alice.poll_event();
    assert!(matches!(echo, Some(SessionEvent::Data { bytes, .. }) if bytes == "hello, myself"));
    println!("alice hears her own words");
    Ok(())
}

/// Moves every frame of one session to the other.
fn carry(from: &mut Session, to: &mut Session) -> Result<(), Box<dyn Error>> {
    let mut frame = Vec::new();
    while from.poll_transmit(&mut frame) {
        to.handle_frame(frame.get(2..).unwrap_or_default(), NOW)?;
        frame.clear();
    }
    Ok(())
}

/// An identity with a day's attestation. Its secrets, and the handshake's, would be random in real life.
fn credentials(secret: u8) -> Result<Credentials, Box<dyn Error>> {
    let identity = Identity::generate(Network::Testnet, None, [secret; 32], [secret; 32])?;
    let attestation = identity.attest(WALL.seconds(), Duration::from_secs(24 * 60 * 60), [secret; 32]);
    let node_key = Arc::new(identity.node_key().clone());
    Ok(Credentials {
        node_key,
        attestation,
    })
}

fn entropy(secret: u8) -> HandshakeEntropy {
    let (ephemeral, nonce) = ([secret; 32], [secret; 32]);
    HandshakeEntropy { ephemeral, nonce }
}
