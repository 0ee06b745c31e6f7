//! Arbitrary bytes at every state of every machine: no panic, no hang, nothing piled up.

use clawchat_testkit::Person;
use proptest::prelude::*;

use super::pair::{Gate, Pair, Raw, credentials, events, goodbye, raw_and_session};
use crate::limits::{MAX_PLAINTEXT, MAX_QUEUED_CONTROL};
use crate::wire::{Control, Parser};
use crate::{ErrorCode, INITIAL_WINDOW, MAX_STREAMS, SessionError};

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

/// Messages that mean something, for streams that may exist.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let id = 0_u64..12;
    let code = prop_oneof![
        Just(None),
        any::<u16>().prop_map(|n| Some(ErrorCode::from_number(n)))
    ];
    prop_oneof![
        id.clone()
            .prop_map(|id| Control::Open { id, label: "x" }.to_vec()),
        (id.clone(), code).prop_map(|(id, code)| Control::Close { id, code }.to_vec()),
        (id.clone(), 1_usize..9000).prop_map(|(id, length)| Control::Data {
            id,
            bytes: &vec![7; length]
        }
        .to_vec()),
        (id, any::<u32>()).prop_map(|(id, n)| Control::Window { id, credit: n.into() }.to_vec()),
        any::<u64>().prop_map(|nonce| Control::Ping { nonce }.to_vec()),
        bytes(40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_dialer_survives_any_frame_at_any_step(step in 0_usize..2, kind in 0_u8..4, body in bytes(5000), inside in bytes(300)) {
        let mut pair = Pair::new(credentials(Person::Alice), None, None, Gate::default());
        let now = pair.clock.now();
        let mut raw = Raw::new(Person::Bob, false);
        raw.open(&pair.dialer.poll_frame().unwrap());
        if step == 1 {
            let hello = raw.hello(None);
            pair.dialer.handle_frame(&raw.frame(&hello), now);
            raw.open(&pair.dialer.poll_frame().unwrap());
        }
        // Once properly encrypted, once not.
        pair.dialer.handle_frame(&raw.frame(&inside), now);
        pair.dialer.handle_frame(&[&[kind], body.as_slice()].concat(), now);
        pair.dialer.handle_frame(&[], now);
        prop_assert!(pair.dialer.is_done());
        prop_assert!(std::iter::from_fn(|| pair.dialer.poll_frame()).count() <= 1);
        prop_assert!(pair.dialer.finish().is_err());
    }

    #[test]
    fn an_answerer_survives_any_frame_at_any_step(step in 0_usize..3, kind in 0_u8..4, body in bytes(5000), inside in bytes(300)) {
        let mut pair = Pair::new(credentials(Person::Alice), None, None, Gate::of(&[Person::Bob]));
        let now = pair.clock.now();
        let mut raw = Raw::new(Person::Alice, true);
        if step > 0 {
            let hello = raw.hello(None);
            pair.answerer.handle_frame(&raw.frame(&hello), now, &pair.gate);
            raw.open(&pair.answerer.poll_frame().unwrap());
        }
        if step > 1 {
            let auth = raw.auth();
            pair.answerer.handle_frame(&raw.frame(&auth), now, &pair.gate);
            raw.open(&pair.answerer.poll_frame().unwrap());
        }
        pair.answerer.handle_frame(&raw.frame(&inside), now, &pair.gate);
        pair.answerer.handle_frame(&[&[kind], body.as_slice()].concat(), now, &pair.gate);
        pair.answerer.handle_frame(&[], now, &pair.gate);
        prop_assert!(pair.answerer.is_done());
        prop_assert!(std::iter::from_fn(|| pair.answerer.poll_frame()).count() <= 1);
        prop_assert!(pair.answerer.finish().is_err());
    }

    #[test]
    fn a_session_survives_frames_nobody_encrypted(frame in bytes(3000)) {
        let (mut raw, mut session, clock) = raw_and_session();
        prop_assert!(session.handle_frame(&frame, clock.now()).is_err());
        prop_assert_eq!(goodbye(&raw.replies(&mut session)), Some(ErrorCode::ProtocolViolation));
        prop_assert_eq!(session.handle_frame(&frame, clock.now()), Err(SessionError::Closed));
        prop_assert_eq!(events(&mut session).len(), 1);
    }

    #[test]
    fn a_session_survives_any_plaintext(frames in prop::collection::vec(prop::collection::vec(messages(), 1..6), 1..20)) {
        let (mut raw, mut session, clock) = raw_and_session();
        for frame in frames {
            let result = session.handle_frame(&raw.frame(&frame.concat()), clock.now());
            for event in events(&mut session) {
                if let crate::SessionEvent::Opened { id, .. } = event {
                    session.accept(id);
                }
            }
            prop_assert!(session.open_streams() <= MAX_STREAMS);
            prop_assert!(session.held() <= MAX_STREAMS * INITIAL_WINDOW);
            let replies = raw.replies(&mut session);
            prop_assert_eq!(result.err().map(|error| error.wire_code()).is_some(), session.is_closed() && goodbye(&replies).is_some());
            if session.is_closed() {
                break;
            }
        }
    }

    #[test]
    fn what_goes_out_is_well_formed_whatever_came_in(plaintext in bytes(200)) {
        let (mut raw, mut session, clock) = raw_and_session();
        let _ = session.handle_frame(&raw.frame(&plaintext), clock.now());
        let mut frame = Vec::new();
        while session.poll_transmit(&mut frame) {
            let plaintext = raw.open(&frame);
            prop_assert!(Parser::new(&plaintext).all(|message| message.is_ok()));
            frame.clear();
        }
    }
}

#[test]
fn a_peer_that_makes_us_answer_and_does_not_read_is_cut_off() {
    let (mut raw, mut session, clock) = raw_and_session();
    let mut id = 1;
    let mut error = None;
    while error.is_none() && id < 20_000 {
        let mut plaintext = Vec::new();
        while plaintext.len() < MAX_PLAINTEXT - 32 {
            Control::Open { id, label: "" }.write(&mut plaintext);
            Control::Ping { nonce: id }.write(&mut plaintext);
            id += 2;
        }
        error = session.handle_frame(&raw.frame(&plaintext), clock.now()).err();
        assert!(session.held() < 64 * MAX_QUEUED_CONTROL);
        events(&mut session);
    }
    assert_eq!(error, Some(SessionError::Flooded));
    assert_eq!(goodbye(&raw.replies(&mut session)), Some(ErrorCode::RateLimited));
}

#[test]
fn tiny_data_messages_cost_no_more_than_their_bytes() {
    let (mut raw, mut session, clock) = raw_and_session();
    let now = clock.now();
    session
        .handle_frame(&raw.frame(&Control::Open { id: 1, label: "" }.to_vec()), now)
        .unwrap();
    let id = crate::StreamId::new(1);
    events(&mut session);
    session.accept(id);
    let (mut chunks, mut received) = (0, 0);
    for _ in 0..5000 {
        session
            .handle_frame(&raw.frame(&Control::Data { id: 1, bytes: b"x" }.to_vec()), now)
            .unwrap();
        for event in events(&mut session) {
            if let crate::SessionEvent::Data { bytes, .. } = event {
                chunks += 1;
                received += bytes.len();
            }
        }
    }
    assert_eq!((chunks, received), (crate::limits::MAX_LOOSE_CHUNKS, 64));
    session.consumed(id, received);
    let rest = events(&mut session);
    assert!(matches!(rest.as_slice(), [crate::SessionEvent::Data { bytes, .. }] if bytes.len() == 5000 - 64));
}
