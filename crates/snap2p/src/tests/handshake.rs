//! The handshake of two machines: who gets in, and that whoever does not learns why.

use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::CLOCK_SKEW_SECS;
use clawchat_testkit::{Person, START, attestation_from};
use clawchat_types::{NodeId, UnixSeconds};

use super::pair::{
    ANSWERER_NONCE, Gate, Pair, Raw, SECOND, TOKEN, credentials, entropy, mainnet_credentials, peers, refusal,
};
use crate::wire::{Control, KIND_REFUSAL};
use crate::{
    Answerer, Credentials, Dialer, ErrorCode, FrameReader, HANDSHAKE_DEADLINE, HandshakeError,
    MAX_PRE_AUTH_FRAME, PeerPair,
};

fn dial(who: Credentials, target: Option<Person>, gate: Gate) -> Pair {
    Pair::new(who, target, None, gate)
}

#[test]
fn each_side_learns_who_the_other_is() {
    let pair = dial(
        credentials(Person::Alice),
        Some(Person::Bob),
        Gate::of(&[Person::Carol, Person::Bob]),
    );
    let (alice, bob) = pair.run();
    let (alice, bob) = (alice.unwrap(), bob.unwrap());
    assert_eq!(
        (*alice.local(), *alice.remote()),
        (Person::Alice.principal(), Person::Bob.principal())
    );
    assert_eq!(
        (*bob.local(), *bob.remote()),
        (Person::Bob.principal(), Person::Alice.principal())
    );
    assert_eq!(*bob.remote_node(), credentials(Person::Alice).node_key.node_id());
    assert_eq!(*alice.remote_attestation(), credentials(Person::Bob).attestation);
    assert!(alice.is_initiator() && !bob.is_initiator());
}

#[test]
fn without_a_target_the_default_identity_answers() {
    let pair = dial(
        credentials(Person::Alice),
        None,
        Gate::of(&[Person::Carol, Person::Bob]),
    );
    assert_eq!(*pair.run().0.unwrap().remote(), Person::Carol.principal());
}

#[test]
fn an_unknown_principal_and_a_hidden_one_are_refused_with_the_same_bytes() {
    let mut answers = Vec::new();
    for (gate, knock) in [
        (Gate::of(&[Person::Carol]), None),
        (Gate::default(), None),
        (Gate::stealth(Person::Bob), None),
        (Gate::stealth(Person::Bob), Some([1_u8; 16])),
    ] {
        let knock = knock.as_ref().map(<[u8; 16]>::as_slice);
        let mut pair = Pair::new(credentials(Person::Alice), Some(Person::Bob), knock, gate);
        pair.step_until_quiet();
        answers.push(pair.from_answerer.clone());
        assert_eq!(
            refusal(pair.dialer.finish(), pair.answerer.finish()),
            ErrorCode::UnknownPrincipal
        );
    }
    assert_eq!(answers[0].len(), 1);
    assert_eq!(answers[0][0][2], KIND_REFUSAL);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[test]
fn a_hidden_identity_answers_a_valid_knock() {
    let who = credentials(Person::Alice);
    let pair = Pair::new(who, Some(Person::Bob), Some(&TOKEN), Gate::stealth(Person::Bob));
    let (alice, bob) = pair.run();
    assert_eq!(*alice.unwrap().remote(), Person::Bob.principal());
    assert!(bob.is_ok());
}

#[test]
fn a_gatekeeper_that_picks_another_identity_than_asked_for_is_not_followed() {
    struct Careless;
    impl crate::Gatekeeper for Careless {
        fn credentials_for(
            &self,
            _: Option<&clawchat_types::Principal>,
            _: Option<&[u8]>,
        ) -> Option<Credentials> {
            Some(credentials(Person::Carol))
        }
        fn admit(
            &self,
            _: &clawchat_types::Principal,
            _: &clawchat_types::Principal,
            _: Option<&[u8]>,
        ) -> Result<(), ErrorCode> {
            Ok(())
        }
    }
    let mut pair = dial(credentials(Person::Alice), Some(Person::Bob), Gate::default());
    let now = pair.clock.now();
    let frame = pair.dialer.poll_frame().unwrap();
    pair.answerer.handle_frame(&frame[2..], now, &Careless);
    let error = pair.answerer.finish().unwrap_err();
    assert_eq!(error.wire_code(), ErrorCode::UnknownPrincipal);
}

#[test]
fn a_peer_that_is_not_admitted_learns_it_after_its_proof_and_before_ours() {
    let mut gate = Gate::of(&[Person::Bob]);
    gate.refuses.push(Person::Alice.principal());
    let mut pair = dial(credentials(Person::Alice), Some(Person::Bob), gate);
    pair.step_until_quiet();
    // HELLO in Noise message 2, then an AUTH_FAIL too short to hold an attestation.
    assert_eq!(pair.from_answerer.len(), 2);
    let fail = Control::AuthFail {
        code: ErrorCode::NotAllowed,
    }
    .to_vec();
    assert_eq!(pair.from_answerer[1].len(), 3 + fail.len() + 16);
    assert_eq!(
        refusal(pair.dialer.finish(), pair.answerer.finish()),
        ErrorCode::NotAllowed
    );
}

#[test]
fn an_attestation_past_expiry_and_skew_is_refused_by_both_sides() {
    let identity = Person::Alice.identity();
    let day = 24 * 60 * 60;
    for (issued_at, code) in [
        (START.seconds().0 - day - CLOCK_SKEW_SECS, ErrorCode::AuthExpired),
        (START.seconds().0 + CLOCK_SKEW_SECS + 1, ErrorCode::AuthExpired),
    ] {
        let stale = Credentials {
            node_key: Arc::new(identity.node_key().clone()),
            attestation: attestation_from(&identity, UnixSeconds(issued_at)),
        };
        let (alice, bob) = dial(stale.clone(), None, Gate::of(&[Person::Bob])).run();
        assert_eq!(refusal(alice, bob), code);

        let mut gate = Gate::of(&[Person::Alice]);
        gate.hosted[0].credentials = stale;
        let (bob, alice) = dial(credentials(Person::Bob), None, gate).run();
        assert_eq!(refusal(alice, bob), code);
    }
}

#[test]
fn the_attestation_of_another_node_key_is_refused_by_both_sides() {
    let replay = Credentials {
        node_key: credentials(Person::Dave).node_key,
        attestation: credentials(Person::Alice).attestation,
    };
    let attested: NodeId = credentials(Person::Alice).node_key.node_id();
    let (dave, bob) = dial(replay.clone(), None, Gate::of(&[Person::Bob])).run();
    assert_eq!(
        bob.as_ref().unwrap_err(),
        &HandshakeError::KeyMismatch { attested }
    );
    assert_eq!(refusal(dave, bob), ErrorCode::AuthInvalid);

    let mut gate = Gate::of(&[Person::Alice]);
    gate.hosted[0].credentials = replay;
    let (bob, dave) = dial(credentials(Person::Bob), Some(Person::Alice), gate).run();
    assert_eq!(
        bob.as_ref().unwrap_err(),
        &HandshakeError::KeyMismatch { attested }
    );
    assert_eq!(refusal(dave, bob), ErrorCode::AuthInvalid);
}

#[test]
fn an_identity_of_the_other_network_is_refused_by_both_sides() {
    let (alice, bob) = dial(mainnet_credentials(Person::Alice), None, Gate::of(&[Person::Bob])).run();
    assert_eq!(refusal(alice, bob), ErrorCode::AuthInvalid);
    let (bob, alice) = {
        let mut gate = Gate::of(&[Person::Alice]);
        gate.hosted[0].credentials = mainnet_credentials(Person::Alice);
        // Bob's own attestation is refused first, by the side that does not show its own.
        dial(credentials(Person::Bob), None, gate).run()
    };
    assert_eq!(refusal(bob, alice), ErrorCode::AuthInvalid);
}

#[test]
fn channels_between_other_gateways_do_not_open() {
    let mut pair = dial(credentials(Person::Alice), None, Gate::of(&[Person::Bob]));
    let elsewhere = PeerPair {
        responder: Person::Carol.peer_id().to_string(),
        ..peers()
    };
    pair.answerer = Answerer::new(&elsewhere, entropy(0xa0, ANSWERER_NONCE), pair.clock.now());
    let (alice, bob) = pair.run();
    assert_eq!(refusal(bob, alice), ErrorCode::AuthInvalid);
}

#[test]
fn whoever_answers_instead_of_the_target_is_refused() {
    let pair = dial(credentials(Person::Alice), Some(Person::Bob), Gate::default());
    let (mut dialer, now) = (pair.dialer, pair.clock.now());
    let mut carol = Raw::new(Person::Carol, false);
    carol.open(&dialer.poll_frame().unwrap());
    let hello = carol.hello(None);
    dialer.handle_frame(&carol.frame(&hello), now);
    carol.open(&dialer.poll_frame().unwrap());
    let proof = [carol.auth(), Control::AuthOk.to_vec()].concat();
    dialer.handle_frame(&carol.frame(&proof), now);
    let fail = carol.open(&dialer.poll_frame().unwrap());
    assert_eq!(
        fail,
        Control::AuthFail {
            code: ErrorCode::AuthInvalid
        }
        .to_vec()
    );
    let (wanted, answered) = (Person::Bob.principal(), Person::Carol.principal());
    assert_eq!(
        dialer.finish().unwrap_err(),
        HandshakeError::WrongTarget { wanted, answered }
    );
}

#[test]
fn a_peer_that_stops_answering_is_given_up_at_the_deadline() {
    let pair = dial(credentials(Person::Alice), None, Gate::of(&[Person::Bob]));
    let (mut dialer, mut answerer, clock) = (pair.dialer, pair.answerer, pair.clock);
    assert_eq!(dialer.poll_timeout(), Some(HANDSHAKE_DEADLINE));
    assert_eq!(answerer.poll_timeout(), Some(HANDSHAKE_DEADLINE));
    let early = clock.advance(HANDSHAKE_DEADLINE - SECOND);
    dialer.handle_timeout(early);
    answerer.handle_timeout(early);
    assert!(!dialer.is_done() && !answerer.is_done());
    let late = clock.advance(SECOND);
    dialer.handle_timeout(late);
    // A frame that comes too late is no better than none.
    answerer.handle_frame(
        &dialer.poll_frame().unwrap()[2..],
        late,
        &Gate::of(&[Person::Bob]),
    );
    assert_eq!((dialer.poll_timeout(), answerer.poll_timeout()), (None, None));
    assert_eq!(dialer.finish().unwrap_err(), HandshakeError::Timeout);
    assert_eq!(answerer.finish().unwrap_err(), HandshakeError::Timeout);
}

#[test]
fn a_wall_clock_that_jumps_does_not_move_the_deadline() {
    let mut pair = dial(credentials(Person::Alice), None, Gate::of(&[Person::Bob]));
    pair.clock.set_wall(START.after(Duration::from_secs(3600)));
    pair.step_until_quiet();
    assert!(pair.dialer.finish().is_ok() && pair.answerer.finish().is_ok());
}

#[test]
fn giving_up_early_is_no_session() {
    let pair = dial(credentials(Person::Alice), None, Gate::default());
    assert_eq!(pair.dialer.finish().unwrap_err(), HandshakeError::Unfinished);
    assert_eq!(pair.answerer.finish().unwrap_err(), HandshakeError::Unfinished);
}

#[test]
fn a_stranger_cannot_send_a_long_frame_whoever_cuts_the_frames() {
    let mut pair = dial(credentials(Person::Alice), None, Gate::default());
    let now = pair.clock.now();
    pair.answerer
        .handle_frame(&vec![0; MAX_PRE_AUTH_FRAME + 1], now, &pair.gate);
    assert_eq!(
        pair.answerer.finish().unwrap_err().wire_code(),
        ErrorCode::ProtocolViolation
    );
}

#[test]
fn machines_can_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Dialer>();
    is_send::<Answerer>();
    is_send::<crate::Session>();
}

#[test]
fn a_gateway_without_room_refuses_before_it_reads_anything() {
    let frame = crate::refusal(ErrorCode::RateLimited);
    assert_eq!(hex::encode(&frame), "000801a2616307617404");
    let mut reader = FrameReader::new();
    reader.push(&frame);
    let frame = reader.next_frame().unwrap().unwrap();
    let mut pair = dial(credentials(Person::Alice), None, Gate::default());
    assert!(pair.dialer.poll_frame().is_some());
    pair.dialer.handle_frame(&frame, pair.clock.now());
    assert_eq!(pair.dialer.poll_frame(), None, "a refusal is not answered");
    let code = ErrorCode::RateLimited;
    assert_eq!(
        pair.dialer.finish().unwrap_err(),
        HandshakeError::Refused { code }
    );
}
