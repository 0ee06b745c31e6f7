//! Who takes part, and what a peer made by hand says.

use std::sync::LazyLock;
use std::time::Duration;

use clawchat_identity::{Attestation, Verified};
use clawchat_testkit::{Clock, Person, START, attestation};
use clawchat_types::{Network, NodeId, Principal};
use proptest::prelude::*;

use crate::ErrorCode;
use crate::clawchat1::message::{Auth, Hello, Message};
use crate::clawchat1::{
    Answerer, Binding, Channel, Dialer, FrameReader, Gate, HANDSHAKE_DEADLINE, HandshakeError, MAX_FRAME,
    Session, attestation as wire,
};

pub(super) const ALICES_NONCE: [u8; 16] = [0xa1; 16];
pub(super) const BOBS_NONCE: [u8; 16] = [0xb0; 16];
const DAY: Duration = Duration::from_secs(86_400);

type Proof = Attestation<Verified>;

static PROOFS: LazyLock<Vec<(Person, Proof)>> = LazyLock::new(|| {
    let of = |person: Person| (person, attestation(&person.identity()));
    Person::ALL.into_iter().map(of).collect()
});

/// The attestation of a person's own node key, issued at [`START`] for a day.
pub(super) fn proof(person: Person) -> Proof {
    PROOFS
        .iter()
        .find(|(other, _)| *other == person)
        .unwrap()
        .1
        .clone()
}

/// A person's attestation of somebody's node key, as further identities of a gateway make it.
pub(super) fn proof_of(person: Person, network: Network, node: &NodeId) -> Proof {
    let identity = person.identity_on(network);
    Attestation::create(identity.wallet(), network, node, START.seconds(), DAY, [7; 32])
}

pub(super) fn node(person: Person) -> NodeId {
    *proof(person).node_id()
}

pub(super) fn channel(local: Person, remote: Person) -> Channel {
    Channel {
        local: node(local),
        remote: Some(node(remote)),
    }
}

/// HELLO as Alice says it.
pub(super) fn hello() -> Hello {
    Hello {
        node_public_key: *node(Person::Alice).as_bytes(),
        nonce: ALICES_NONCE.to_vec(),
        timestamp: START.seconds().0,
    }
}

/// AUTH as Alice says it.
pub(super) fn auth() -> Auth {
    auth_with(&proof(Person::Alice))
}

pub(super) fn auth_with(proof: &Proof) -> Auth {
    Auth {
        principal: proof.principal().to_string(),
        attestation: wire::parts_of(proof),
        session_nonce: ALICES_NONCE.to_vec(),
    }
}

/// Identities of a gateway in their order, each with whom it does not admit.
pub(super) struct Hosted(pub(super) Vec<(Proof, Vec<Principal>)>);

impl Hosted {
    pub(super) fn bob() -> Self {
        Self(vec![(proof(Person::Bob), Vec::new())])
    }
}

impl Gate for Hosted {
    fn answer_as(&self, caller: &Principal) -> Result<Proof, ErrorCode> {
        let admitting = self.0.iter().find(|(_, refused)| !refused.contains(caller));
        admitting
            .map(|(proof, _)| proof.clone())
            .ok_or(ErrorCode::NotAllowed)
    }
}

pub(super) type Outcome = Result<Session, HandshakeError>;

/// Alice dials Bob over bytes cut into pieces of `step`. Alice says `behind` right behind her AUTH_OK. Gives back the
/// outcomes and what Bob's reader still holds.
pub(super) fn run(step: usize, gate: &Hosted, behind: &[u8]) -> (Outcome, Outcome, FrameReader) {
    let clock = Clock::new();
    let now = clock.now();
    let binding = Binding::Required;
    let mut alice = Dialer::new(
        proof(Person::Alice),
        channel(Person::Alice, Person::Bob),
        binding,
        ALICES_NONCE,
        now,
    );
    let mut bob = Answerer::new(
        channel(Person::Bob, Person::Alice),
        binding,
        Network::Testnet,
        BOBS_NONCE,
        now,
    );
    let (mut to_alice, mut to_bob) = (FrameReader::new(), FrameReader::new());
    let mut said_behind = false;
    for _ in 0..4 {
        let mut bytes: Vec<u8> = std::iter::from_fn(|| alice.poll_frame()).flatten().collect();
        if bytes.ends_with(&Message::AuthOk.encode()) && !said_behind {
            bytes.extend_from_slice(behind);
            said_behind = true;
        }
        for piece in bytes.chunks(step) {
            to_bob.push(piece);
            while !bob.is_done() {
                let Some(frame) = to_bob.next_frame().unwrap() else {
                    break;
                };
                bob.handle_frame(&frame, now, gate);
            }
        }
        let bytes: Vec<u8> = std::iter::from_fn(|| bob.poll_frame()).flatten().collect();
        for piece in bytes.chunks(step) {
            to_alice.push(piece);
            while !alice.is_done() {
                let Some(frame) = to_alice.next_frame().unwrap() else {
                    break;
                };
                alice.handle_frame(&frame, now);
            }
        }
    }
    assert!(alice.is_done() && bob.is_done());
    assert_eq!((alice.poll_timeout(), bob.poll_timeout()), (None, None));
    (alice.finish(), bob.finish(), to_bob)
}

#[test]
fn both_sides_know_each_other() {
    // Byte by byte.
    let (alice, bob, _) = run(1, &Hosted::bob(), &[]);
    let (alice, bob) = (alice.unwrap(), bob.unwrap());
    assert!(alice.is_initiator() && !bob.is_initiator());
    assert!(alice.is_bound() && bob.is_bound());
    for (session, local, remote) in [
        (&alice, Person::Alice, Person::Bob),
        (&bob, Person::Bob, Person::Alice),
    ] {
        assert_eq!(*session.local(), local.principal());
        assert_eq!(*session.remote(), remote.principal());
        assert_eq!(*session.remote_node(), node(remote));
        assert_eq!(session.remote_attestation(), proof(remote).to_bytes());
    }
}

#[test]
fn the_first_identity_that_admits_the_caller_answers_over_the_gateways_key() {
    let second = proof_of(Person::Carol, Network::Testnet, &node(Person::Bob));
    let refused = vec![Person::Alice.principal()];
    let gate = Hosted(vec![(proof(Person::Bob), refused), (second, Vec::new())]);
    let (alice, bob, _) = run(usize::MAX, &gate, &[]);
    let (alice, bob) = (alice.unwrap(), bob.unwrap());
    assert_eq!(*alice.remote(), Person::Carol.principal());
    assert_eq!(*bob.local(), Person::Carol.principal());
    assert!(alice.is_bound());
}

#[test]
fn who_is_not_admitted_learns_nothing_but_that() {
    let gate = Hosted(vec![(proof(Person::Bob), vec![Person::Alice.principal()])]);
    let (alice, bob, _) = run(usize::MAX, &gate, &[]);
    assert_eq!(
        alice.unwrap_err(),
        HandshakeError::Refused {
            code: ErrorCode::NotAllowed,
            reason: "ERR_NOT_ALLOWED".to_owned()
        }
    );
    let remote = Person::Alice.principal();
    let code = ErrorCode::NotAllowed;
    assert_eq!(bob.unwrap_err(), HandshakeError::NotAdmitted { remote, code });
}

#[test]
fn an_attestation_of_another_key_than_ours_is_not_shown() {
    let channel = channel(Person::Carol, Person::Bob);
    let now = Clock::new().now();
    let mut dialer = Dialer::new(proof(Person::Alice), channel, Binding::Required, [1; 16], now);
    assert!(dialer.is_done());
    let frame = dialer.poll_frame().unwrap();
    assert!(matches!(Message::decode(&frame[4..]), Ok(Message::AuthFail(_))));
    assert_eq!(dialer.poll_frame(), None);
    let attested = node(Person::Alice);
    let connection = node(Person::Carol);
    assert_eq!(
        dialer.finish().unwrap_err(),
        HandshakeError::LocalKey { attested, connection }
    );
}

#[test]
fn silence_ends_at_the_deadline() {
    let clock = Clock::new();
    let start = clock.now();
    let channel = channel(Person::Bob, Person::Alice);
    let mut bob = Answerer::new(channel, Binding::Required, Network::Testnet, BOBS_NONCE, start);
    assert_eq!(bob.poll_timeout(), Some(start.mono + HANDSHAKE_DEADLINE));
    bob.handle_timeout(clock.advance(HANDSHAKE_DEADLINE - Duration::from_millis(1)));
    assert!(!bob.is_done());
    // A frame that comes too late does not help.
    let late = clock.advance(Duration::from_millis(1));
    bob.handle_frame(&Message::Hello(hello()).encode(), late, &Hosted::bob());
    assert!(bob.is_done());
    assert_eq!(bob.poll_frame(), None);
    assert_eq!(bob.finish().unwrap_err(), HandshakeError::Timeout);

    let channel = Channel {
        local: node(Person::Bob),
        remote: None,
    };
    let unfinished = Answerer::new(channel, Binding::Optional, Network::Testnet, BOBS_NONCE, start);
    assert_eq!(unfinished.finish().unwrap_err(), HandshakeError::Unfinished);
}

proptest! {
    // Each run checks two signatures.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn frames_behind_the_handshake_belong_to_the_session(step in 1_usize..2000) {
        let behind = [
            crate::clawchat1::frame(&vec![0xee; 70_000]),
            crate::clawchat1::frame(b"more"),
        ].concat();
        let (alice, bob, mut reader) = run(step, &Hosted::bob(), &behind);
        prop_assert!(alice.is_ok() && bob.is_ok());
        reader.set_limit(MAX_FRAME);
        prop_assert_eq!(reader.next_frame().unwrap().unwrap().len(), 70_000);
        prop_assert_eq!(reader.next_frame(), Ok(Some(b"more".to_vec())));
        prop_assert_eq!(reader.buffered(), 0);
    }

    #[test]
    fn arbitrary_frames_give_no_session(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..10)) {
        let now = Clock::new().now();
        let channel = channel(Person::Bob, Person::Alice);
        let mut bob = Answerer::new(channel, Binding::Required, Network::Testnet, BOBS_NONCE, now);
        for frame in frames {
            bob.handle_frame(&frame, now, &Hosted::bob());
        }
        prop_assert!(bob.finish().is_err());
    }
}
