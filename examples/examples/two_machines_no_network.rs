//! Two session machines shake hands and echo a message, with a loop in place of a network.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::Identity;
use clawchat_snap2p::{
    Answerer, Credentials, Dialer, ErrorCode, FrameReader, Gatekeeper, HandshakeEntropy, MAX_FRAME, PeerPair,
    Session, SessionEvent,
};
use clawchat_types::{Moment, Network, Principal, UnixMillis};

/// The machines read no clock: time is whatever they are told.
const NOW: Moment = Moment {
    wall: UnixMillis(1_767_225_600_000),
    mono: Duration::ZERO,
};

/// Bob's gateway: hosts him alone and lets everybody in.
struct OnlyBob(Credentials);

impl Gatekeeper for OnlyBob {
    fn credentials_for(&self, target: Option<&Principal>, _knock: Option<&[u8]>) -> Option<Credentials> {
        target
            .is_none_or(|target| target == self.0.principal())
            .then(|| self.0.clone())
    }

    fn admit(&self, _local: &Principal, _remote: &Principal) -> Result<(), ErrorCode> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (alice, bob) = (credentials(1)?, credentials(2)?);
    let (alice_is, bob_is) = (*alice.principal(), *bob.principal());
    let peers = PeerPair {
        initiator: "alice's gateway".to_owned(),
        responder: "bob's gateway".to_owned(),
    };

    // The handshake: each frame of one machine is the next input of the other. Frames start with two bytes of length.
    let gate = OnlyBob(bob);
    let mut dialer = Dialer::new(alice, &peers, Some(bob_is), None, entropy(3), NOW);
    let mut answerer = Answerer::new(&peers, entropy(4), NOW);
    while !(dialer.is_done() && answerer.is_done()) {
        while let Some(frame) = dialer.poll_frame() {
            answerer.handle_frame(frame.get(2..).unwrap_or_default(), NOW, &gate);
        }
        while let Some(frame) = answerer.poll_frame() {
            dialer.handle_frame(frame.get(2..).unwrap_or_default(), NOW);
        }
    }
    let (mut alice, mut bob) = (dialer.finish()?, answerer.finish()?);
    assert_eq!((alice.remote(), bob.remote()), (&bob_is, &alice_is));
    println!("each has proved who it is: {alice_is} and {bob_is}");

    // A stream: Alice opens it and writes, Bob sends back what he gets.
    let stream = alice.open("echo")?;
    alice.write(stream, b"hello, myself");
    carry(&mut alice, &mut bob)?;
    while let Some(event) = bob.poll_event() {
        if let SessionEvent::Opened { id, label } = &event {
            println!("bob accepts the stream {label:?}");
            bob.accept(*id);
        } else if let SessionEvent::Data { id, bytes } = event {
            bob.write(id, &bytes);
            bob.consumed(id, bytes.len());
        }
    }
    carry(&mut bob, &mut alice)?;
    let echo = alice.poll_event();
    assert_eq!(
        echo,
        Some(SessionEvent::Data {
            id: stream,
            bytes: "hello, myself".into()
        })
    );
    println!("alice hears her own words");
    Ok(())
}

/// Moves every frame of one session to the other.
fn carry(from: &mut Session, to: &mut Session) -> Result<(), Box<dyn Error>> {
    let (mut bytes, mut reader) = (Vec::new(), FrameReader::new());
    reader.set_limit(MAX_FRAME);
    while from.poll_transmit(&mut bytes) {}
    reader.push(&bytes);
    while let Some(frame) = reader.next_frame()? {
        to.handle_frame(&frame, NOW)?;
    }
    Ok(())
}

/// An identity with a day's attestation. Its secrets, and the handshake's, would be random in real life.
fn credentials(secret: u8) -> Result<Credentials, Box<dyn Error>> {
    let identity = Identity::generate(Network::Testnet, None, [secret; 32], [secret; 32])?;
    let attestation = identity.attest(
        NOW.wall.seconds(),
        Duration::from_secs(24 * 60 * 60),
        [secret; 32],
    );
    Ok(Credentials {
        node_key: Arc::new(identity.node_key().clone()),
        attestation,
    })
}

fn entropy(secret: u8) -> HandshakeEntropy {
    HandshakeEntropy {
        ephemeral: [secret; 32],
        nonce: [secret; 32],
    }
}
