//! Sessions: chat in both directions, barriers, silence, and peers that say what they must not.

use std::time::Duration;

use clawchat_testkit::{Clock, Person};
use clawchat_types::{MAX_CONTENT_BYTES, Moment, UnixMillis};

use super::pair::{Hosted, run};
use crate::ErrorCode;
use crate::clawchat1::message::{AuthFail, Message, PingNonce, StreamData};
use crate::clawchat1::{
    ChatError, ChatMessage, Event, PING_AFTER, PONG_WITHIN, Session, SessionError, encode_chat,
};

fn sessions() -> (Session, Session, Clock) {
    let (alice, bob, _) = run(usize::MAX, &Hosted::bob(), &[]);
    (alice.unwrap(), bob.unwrap(), Clock::new())
}

fn chat(from: Person, content: &str) -> ChatMessage {
    ChatMessage {
        id: "7d4cbb48149e05655ef7bb64b01062fa".to_owned(),
        from: from.principal().to_string(),
        nick: None,
        content: content.to_owned(),
        timestamp: UnixMillis(1),
    }
}

fn transmitted(session: &mut Session) -> Vec<Message<'static>> {
    let mut sent = Vec::new();
    let mut frame = Vec::new();
    while session.poll_transmit(&mut frame) {
        sent.push(match Message::decode(&frame[4..]).unwrap() {
            Message::Ping(nonce) => Message::Ping(nonce),
            Message::Pong(nonce) => Message::Pong(nonce),
            other => panic!("{other:?}"),
        });
        frame.clear();
    }
    sent
}

#[test]
fn messages_go_both_ways() {
    let (mut alice, mut bob, clock) = sessions();
    for (to, from) in [(&mut bob, Person::Alice), (&mut alice, Person::Bob)] {
        let message = chat(from, "Hello!");
        let frame = encode_chat(&message).unwrap();
        assert_eq!(
            to.handle_frame(&frame[4..], clock.now()),
            Ok(Some(Event::Chat(message)))
        );
    }
    assert!(!format!("{:?}", chat(Person::Alice, "secret")).contains("secret"));
}

#[test]
fn a_barrier_is_answered_when_the_application_says_so() {
    let (mut alice, mut bob, clock) = sessions();
    alice.ping([9; 16]);
    let mut frame = Vec::new();
    assert!(alice.poll_transmit(&mut frame));
    let event = bob.handle_frame(&frame[4..], clock.now()).unwrap();
    let nonce = PingNonce::from([9; 16]);
    assert_eq!(event, Some(Event::Ping(nonce.clone())));
    assert!(!bob.poll_transmit(&mut frame));
    bob.pong(nonce.clone());
    frame.clear();
    assert!(bob.poll_transmit(&mut frame));
    let event = alice.handle_frame(&frame[4..], clock.now()).unwrap();
    assert_eq!(event, Some(Event::Pong(nonce)));
}

#[test]
fn a_silent_peer_is_asked_once_and_then_given_up() {
    let (mut alice, _, clock) = sessions();
    let start = clock.now().mono;
    assert_eq!(alice.poll_timeout(), Some(start + PING_AFTER));
    alice.handle_timeout(clock.advance(PING_AFTER - Duration::from_millis(1)));
    assert_eq!(transmitted(&mut alice), []);
    let now = clock.advance(Duration::from_millis(1));
    alice.handle_timeout(now);
    alice.handle_timeout(now);
    let asked = transmitted(&mut alice);
    let [Message::Ping(nonce)] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(alice.poll_timeout(), Some(now.mono + PONG_WITHIN));

    // Its answer is not the application's business.
    let now = clock.advance(PONG_WITHIN - Duration::from_millis(1));
    let pong = Message::Pong(nonce.clone()).encode();
    assert_eq!(alice.handle_frame(&pong, now), Ok(None));
    assert_eq!(alice.poll_timeout(), Some(now.mono + PING_AFTER));

    // A part of a large frame is a sign of life, too.
    alice.handle_timeout(clock.advance(PING_AFTER));
    alice.heard(clock.advance(PONG_WITHIN - Duration::from_millis(1)));
    alice.handle_timeout(clock.advance(PING_AFTER));
    assert!(!alice.is_dead());
    alice.handle_timeout(clock.advance(PONG_WITHIN));
    assert!(alice.is_dead());
    assert_eq!(alice.poll_timeout(), None);
    assert_eq!(alice.handle_frame(&pong, clock.now()), Err(SessionError::Ended));
}

#[test]
fn a_peer_that_does_not_read_our_answers_is_cut_off() {
    let (mut alice, _, _) = sessions();
    for _ in 0..=1024 {
        assert!(!alice.is_dead());
        alice.pong(PingNonce(None));
    }
    assert!(alice.is_dead());
    assert_eq!(transmitted(&mut alice).len(), 1024);
}

fn refused(session: &mut Session, frame: &[u8], now: Moment) -> SessionError {
    let error = session.handle_frame(frame, now).unwrap_err();
    assert_eq!(error.is_fatal(), session.is_dead(), "{error}");
    error
}

#[test]
fn a_message_in_anothers_name_is_dropped() {
    let (_, mut bob, clock) = sessions();
    for person in [Person::Bob, Person::Carol] {
        let frame = encode_chat(&chat(person, "it was me")).unwrap();
        let claimed = person.principal().to_string();
        let error = refused(&mut bob, &frame[4..], clock.now());
        assert_eq!(error, SessionError::ForeignSender { claimed });
    }
    let mut message = chat(Person::Alice, "");
    message.from = "\u{1b}[2Jalice".to_owned();
    let frame = encode_chat(&message).unwrap();
    let claimed = "?[2Jalice".to_owned();
    let error = refused(&mut bob, &frame[4..], clock.now());
    assert_eq!(error, SessionError::ForeignSender { claimed });
    let frame = encode_chat(&chat(Person::Alice, "still here")).unwrap();
    assert!(bob.handle_frame(&frame[4..], clock.now()).unwrap().is_some());
}

#[test]
fn a_text_above_the_limit_is_dropped() {
    let (_, mut bob, clock) = sessions();
    let bytes = MAX_CONTENT_BYTES + 1;
    let frame = encode_chat(&chat(Person::Alice, &"x".repeat(bytes))).unwrap();
    assert_eq!(
        refused(&mut bob, &frame[4..], clock.now()),
        SessionError::Chat(ChatError::TooLarge { bytes })
    );
    // Replacement characters count.
    let data = [b"\x7a\x00\x40\x00\x00".as_slice(), &vec![0xff; MAX_CONTENT_BYTES]].concat();
    let map = [
        b"\xa4\x62id\x611\x64from\x61a\x69timestamp\x01\x67content".as_slice(),
        &data,
    ]
    .concat();
    let frame = Message::StreamData(StreamData {
        stream_id: 0,
        fin: false,
        data: map.into(),
    });
    assert_eq!(
        refused(&mut bob, &frame.encode(), clock.now()),
        SessionError::Chat(ChatError::TooLarge {
            bytes: MAX_CONTENT_BYTES
        })
    );
}

#[test]
fn a_late_refusal_ends_the_session() {
    let (mut alice, _, clock) = sessions();
    let fail = Message::AuthFail(AuthFail::of(ErrorCode::NotAllowed));
    assert!(matches!(
        refused(&mut alice, &fail.encode(), clock.now()),
        SessionError::Refused {
            code: ErrorCode::NotAllowed,
            ..
        }
    ));
}
