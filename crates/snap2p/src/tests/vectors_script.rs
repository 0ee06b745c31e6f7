//! How the vectors of the handshake are made: one side is a machine, the other is made by hand.

use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::{Attestation, CLOCK_SKEW_SECS, NodeKey, Verified};
use clawchat_testkit::{Person, START, attestation_from};
use clawchat_types::{Network, NodeId, UnixSeconds};

use super::pair::{ANSWERER_NONCE, DIALER_NONCE, Raw, TOKEN, credentials, mainnet_credentials, peers};
use super::vectors::{HandshakeCase, HandshakeResult, IdentityCase, Machine, Side, Step, enhex};
use crate::wire::{Control, Hello, KIND_KNOCK, KIND_NOISE, Knock, clear_frame};
use crate::{Credentials, ErrorCode};

pub(super) fn identity(who: &Credentials, token: Option<&[u8]>) -> IdentityCase {
    IdentityCase {
        node_seed: enhex(*who.node_key.seed()),
        attestation: enhex(who.attestation.to_bytes()),
        token: token.map(enhex),
    }
}

/// A case being made: the machine under test, and what went in and out.
pub(super) struct Script {
    pub(super) case: HandshakeCase,
    machine: Machine,
}

impl Script {
    pub(super) fn new(side: Side, name: &str, must: &str, change: impl FnOnce(&mut HandshakeCase)) -> Self {
        let (person, ephemeral, nonce) = match side {
            Side::Initiator => (Person::Alice, [0xd0; 32], DIALER_NONCE),
            Side::Responder => (Person::Bob, [0xa0; 32], ANSWERER_NONCE),
        };
        let peers = peers();
        let mut case = HandshakeCase {
            name: name.to_owned(),
            must: must.to_owned(),
            side,
            time: START.seconds().0,
            initiator_peer: peers.initiator,
            responder_peer: peers.responder,
            ephemeral: enhex(ephemeral),
            nonce: enhex(nonce),
            identities: vec![identity(&credentials(person), None)],
            target: None,
            knock: None,
            refuses: Vec::new(),
            steps: Vec::new(),
            result: HandshakeResult::Session(String::new()),
        };
        change(&mut case);
        let machine = Machine::new(&case);
        Self { case, machine }
    }

    pub(super) fn step(&mut self, receive: Option<Vec<u8>>) -> Vec<Vec<u8>> {
        let sent = self.machine.step(receive.as_deref(), self.case.now());
        self.case.steps.push(Step {
            receive: receive.map(enhex),
            send: sent.iter().map(enhex).collect(),
        });
        sent
    }

    /// Gives the machine a frame; the frame it answers with, if any.
    pub(super) fn give(&mut self, kind: u8, body: &[u8]) -> Option<Vec<u8>> {
        self.step(Some(clear_frame(kind, body))).pop()
    }

    pub(super) fn give_noise(&mut self, raw: &mut Raw, plaintext: &[u8]) -> Option<Vec<u8>> {
        let frame = raw.frame(plaintext);
        self.give(KIND_NOISE, &frame[1..])
    }

    /// Gives the machine a message, and the peer the answer there must be.
    pub(super) fn exchange(&mut self, raw: &mut Raw, plaintext: &[u8]) {
        let answer = self.give_noise(raw, plaintext).unwrap();
        raw.open(&answer);
    }

    pub(super) fn done(mut self) -> HandshakeCase {
        self.case.result = self.machine.result();
        self.case
    }
}

pub(super) fn ok() -> Vec<u8> {
    Control::AuthOk.to_vec()
}

pub(super) fn fail(code: ErrorCode) -> Vec<u8> {
    Control::AuthFail { code }.to_vec()
}

/// {n: nonce, t: 1, v: 3}
pub(super) fn hello_of_version_3() -> Vec<u8> {
    [
        &[0xa3, 0x61, b'n', 0x58, 32],
        [9; 32].as_slice(),
        &[0x61, b't', 1, 0x61, b'v', 3],
    ]
    .concat()
}

/// A HELLO of this version, and {zz: [null]} in it.
pub(super) fn hello_with_more(nonce: [u8; 32]) -> Vec<u8> {
    let more = [0x61, b't', 1, 0x61, b'v', 2, 0x62, b'z', b'z', 0x81, 0xf6];
    [&[0xa4, 0x61, b'n', 0x58, 32], nonce.as_slice(), &more].concat()
}

fn dated(person: Person, issued_at: i64) -> Credentials {
    let attestation = attestation_from(&person.identity(), UnixSeconds(issued_at));
    Credentials {
        attestation,
        ..credentials(person)
    }
}

/// Attestations that must not be believed, each with the node key its holder really has.
pub(super) fn bad_proofs(person: Person) -> Vec<(&'static str, &'static str, Credentials)> {
    let start = START.seconds().0;
    let day = 24 * 60 * 60;
    let stolen = Credentials {
        node_key: credentials(Person::Dave).node_key,
        ..credentials(person)
    };
    vec![
        ("attestation of another node key", "A4", stolen),
        ("attestation of a point of small order", "A4", small_order(person)),
        (
            "expired attestation",
            "A5",
            dated(person, start - day - CLOCK_SKEW_SECS),
        ),
        (
            "attestation of the future",
            "A5",
            dated(person, start + CLOCK_SKEW_SECS + 1),
        ),
        (
            "attestation of the other network",
            "A6",
            mainnet_credentials(person),
        ),
    ]
}

/// Attestations that must be believed, although only just.
pub(super) fn good_proofs(person: Person) -> Vec<(&'static str, &'static str, Credentials)> {
    let start = START.seconds().0;
    let day = 24 * 60 * 60;
    vec![
        ("a newer node key of the same wallet", "A4", rotated(person)),
        (
            "attestation at the end of its time and the five minutes",
            "A5",
            dated(person, start - day - CLOCK_SKEW_SECS + 1),
        ),
        (
            "attestation five minutes ahead",
            "A5",
            dated(person, start + CLOCK_SKEW_SECS),
        ),
    ]
}

fn rotated(person: Person) -> Credentials {
    let node_key = NodeKey::from_seed([0x4e; 32]);
    Credentials {
        attestation: attested(person, &node_key.node_id()),
        node_key: Arc::new(node_key),
    }
}

/// A point of small order as node key, in the name of somebody who holds none for it.
fn small_order(person: Person) -> Credentials {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    Credentials {
        attestation: attested(person, &NodeId::new(neutral)),
        ..credentials(person)
    }
}

fn attested(person: Person, node: &NodeId) -> Attestation<Verified> {
    let (now, day) = (START.seconds(), Duration::from_secs(24 * 60 * 60));
    Attestation::create(
        person.identity().wallet(),
        Network::Testnet,
        node,
        now,
        day,
        [0x4a; 32],
    )
}

/// A HELLO of the hand-made side with optional features.
pub(super) fn hello_with_features(nonce: [u8; 32], count: usize, length: usize) -> Vec<u8> {
    Control::Hello(Hello {
        nonce,
        target: None,
        capabilities: vec!["f".repeat(length); count],
    })
    .to_vec()
}

/// A KNOCK for the handshake with this nonce.
pub(super) fn knock(nonce: [u8; 32]) -> Vec<u8> {
    let token = &TOKEN;
    Control::Knock(Knock { nonce, token }).to_vec()
}

/// The case of a responder that gets this in messages 1 and 3, behind an optional KNOCK, and then AUTH_OK.
pub(super) fn whole(
    name: &str,
    must: &str,
    setup: impl FnOnce(&mut HandshakeCase),
    knock: Option<&[u8]>,
    mut raw: Raw,
    [hello, proof]: [&[u8]; 2],
) -> HandshakeCase {
    let mut script = Script::new(Side::Responder, name, must, setup);
    if let Some(knock) = knock {
        script.give(KIND_KNOCK, knock);
    }
    script.exchange(&mut raw, hello);
    script.exchange(&mut raw, proof);
    script.give_noise(&mut raw, &ok());
    script.done()
}

/// The case of a responder that gets message 1 with this payload, behind an optional KNOCK.
pub(super) fn first(
    name: &str,
    must: &str,
    setup: impl FnOnce(&mut HandshakeCase),
    knock: Option<Knock<'_>>,
    hello: &[u8],
) -> HandshakeCase {
    let mut script = Script::new(Side::Responder, name, must, setup);
    if let Some(knock) = knock {
        script.give(KIND_KNOCK, &Control::Knock(knock).to_vec());
    }
    let mut raw = Raw::new(Person::Alice, true);
    script.give_noise(&mut raw, hello);
    script.done()
}

/// The case of a responder that gets this payload in message 3, and AUTH_OK if it answers.
pub(super) fn third(
    name: &str,
    must: &str,
    setup: impl FnOnce(&mut HandshakeCase),
    mut raw: Raw,
    payload: &[u8],
) -> HandshakeCase {
    let mut script = Script::new(Side::Responder, name, must, setup);
    let hello = raw.hello(None);
    script.exchange(&mut raw, &hello);
    script.give_noise(&mut raw, payload);
    if script.case.steps[1].send[0].len() > 400 {
        script.give_noise(&mut raw, &ok());
    }
    script.done()
}

/// The case of an initiator that gets this HELLO, and this plaintext behind its own proof.
pub(super) fn answered(
    name: &str,
    must: &str,
    setup: impl FnOnce(&mut HandshakeCase),
    mut raw: Raw,
    answer: &[u8],
) -> HandshakeCase {
    let mut script = Script::new(Side::Initiator, name, must, setup);
    let message = script.step(None).pop().unwrap();
    raw.open(&message);
    let hello = raw.hello(None);
    script.exchange(&mut raw, &hello);
    script.give_noise(&mut raw, answer);
    script.done()
}
