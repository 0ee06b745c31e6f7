//! Sessions of two machines: streams, signs of life, and the end.

use super::pair::{SECOND, carry, events, goodbye, open, raw_and_session, sessions};
use crate::wire::Control;
use crate::{
    ErrorCode, MAX_STREAMS, OpenError, PING_AFTER, PONG_WITHIN, PONG_WITHIN_WHEN_DOUBTED, SessionError,
    SessionEvent, StreamId, WireError,
};

fn data(id: StreamId, bytes: &'static [u8]) -> SessionEvent {
    SessionEvent::Data {
        id,
        bytes: bytes.into(),
    }
}

#[test]
fn bytes_go_both_ways_until_both_sides_are_finished() {
    let (mut alice, mut bob, clock) = sessions();
    let now = clock.now();
    let id = open(&mut alice, &mut bob, now);
    assert_eq!(alice.write(id, b"question"), 8);
    alice.finish(id);
    carry(&mut alice, &mut bob, now);
    assert_eq!(
        events(&mut bob),
        [data(id, b"question"), SessionEvent::Finished { id }]
    );
    bob.consumed(id, 8);
    assert_eq!(bob.write(id, b"answer"), 6);
    bob.finish(id);
    carry(&mut bob, &mut alice, now);
    assert_eq!(
        events(&mut alice),
        [data(id, b"answer"), SessionEvent::Finished { id }]
    );
    assert_eq!((alice.open_streams(), bob.open_streams()), (0, 0));
    assert_eq!(alice.write(id, b"more"), 0);
}

#[test]
fn either_side_opens_streams_and_the_ids_never_meet() {
    let (mut alice, mut bob, clock) = sessions();
    let ids = [
        open(&mut alice, &mut bob, clock.now()),
        open(&mut bob, &mut alice, clock.now()),
        open(&mut alice, &mut bob, clock.now()),
        open(&mut bob, &mut alice, clock.now()),
    ];
    assert_eq!(ids.map(StreamId::get), [1, 2, 3, 4]);
}

#[test]
fn bytes_wait_until_the_stream_is_accepted() {
    let (mut alice, mut bob, clock) = sessions();
    let id = alice.open("chat/1").unwrap();
    alice.write(id, b"early");
    assert_eq!(
        carry(&mut alice, &mut bob, clock.now()),
        1,
        "OPEN and DATA share a frame"
    );
    assert_eq!(
        events(&mut bob),
        [SessionEvent::Opened {
            id,
            label: "chat/1".to_owned()
        }]
    );
    bob.accept(id);
    assert_eq!(events(&mut bob), [data(id, b"early")]);
}

#[test]
fn a_refused_or_reset_stream_is_gone_on_both_sides() {
    let (mut alice, mut bob, clock) = sessions();
    let now = clock.now();
    let refused = alice.open("unknown").unwrap();
    alice.write(refused, b"x");
    carry(&mut alice, &mut bob, now);
    events(&mut bob);
    bob.refuse(refused, ErrorCode::StreamRefused);
    carry(&mut bob, &mut alice, now);
    assert_eq!(
        events(&mut alice),
        [SessionEvent::Closed {
            id: refused,
            code: ErrorCode::StreamRefused
        }]
    );

    let reset = open(&mut alice, &mut bob, now);
    alice.write(reset, b"never sent");
    alice.reset(reset, ErrorCode::Other(500));
    carry(&mut alice, &mut bob, now);
    assert_eq!(
        events(&mut bob),
        [SessionEvent::Closed {
            id: reset,
            code: ErrorCode::Other(500)
        }]
    );
    assert_eq!(events(&mut alice), []);
    assert_eq!((alice.open_streams(), bob.open_streams()), (0, 0));
}

#[test]
fn what_crosses_a_reset_on_the_way_is_ignored() {
    let (mut alice, mut bob, clock) = sessions();
    let id = open(&mut alice, &mut bob, clock.now());
    alice.write(id, b"on its way");
    bob.reset(id, ErrorCode::NoError);
    carry(&mut alice, &mut bob, clock.now());
    carry(&mut bob, &mut alice, clock.now());
    assert!(!bob.is_closed() && !alice.is_closed());
}

#[test]
fn one_stream_too_many_is_refused_and_the_session_goes_on() {
    let (mut alice, mut bob, clock) = sessions();
    let now = clock.now();
    let first = open(&mut alice, &mut bob, now);
    for _ in 1..MAX_STREAMS {
        open(&mut alice, &mut bob, now);
    }
    assert_eq!(alice.open("test"), Err(OpenError::TooManyStreams));
    assert_eq!(bob.open("test"), Err(OpenError::TooManyStreams));
    bob.reset(first, ErrorCode::NoError);
    carry(&mut bob, &mut alice, now);
    events(&mut alice);
    assert!(alice.open("test").is_ok());

    let (mut raw, mut bob, clock) = raw_and_session();
    let opens: Vec<u8> = (0..=64)
        .flat_map(|n| {
            Control::Open {
                id: 2 * n + 1,
                label: "",
            }
            .to_vec()
        })
        .collect();
    bob.handle_frame(&raw.frame(&opens), clock.now()).unwrap();
    let refused = Control::Close {
        id: 129,
        code: Some(ErrorCode::StreamRefused),
    }
    .to_vec();
    assert_eq!(raw.replies(&mut bob), [refused]);
    assert_eq!(
        (bob.open_streams(), events(&mut bob).len()),
        (MAX_STREAMS, MAX_STREAMS)
    );
}

#[test]
fn labels_are_short_and_visible() {
    let (mut alice, _, _) = sessions();
    assert!(alice.open("").is_ok());
    assert!(alice.open(&"x".repeat(64)).is_ok());
    for label in ["x".repeat(65), "two words".to_owned(), "é".to_owned()] {
        assert_eq!(alice.open(&label), Err(OpenError::Label));
    }
}

#[test]
fn a_silent_peer_is_asked_and_one_that_answers_lives() {
    let (mut alice, mut bob, clock) = sessions();
    assert_eq!(alice.poll_timeout(), Some(PING_AFTER));
    alice.handle_timeout(clock.advance(PING_AFTER - SECOND));
    assert!(!alice.poll_transmit(&mut Vec::new()), "too early");
    alice.handle_timeout(clock.advance(SECOND));
    assert_eq!(carry(&mut alice, &mut bob, clock.now()), 1);
    assert_eq!(alice.poll_timeout(), Some(PING_AFTER + PONG_WITHIN));
    clock.advance(PONG_WITHIN - SECOND);
    assert_eq!(carry(&mut bob, &mut alice, clock.now()), 1);
    alice.handle_timeout(clock.advance(SECOND));
    assert!(!alice.is_closed());
    assert_eq!(
        alice.poll_timeout(),
        Some(PING_AFTER + PONG_WITHIN - SECOND + PING_AFTER)
    );
}

#[test]
fn a_doubted_peer_is_asked_at_once_and_given_up_sooner() {
    let (mut alice, mut bob, clock) = sessions();
    alice.doubt(clock.advance(SECOND));
    assert_eq!(alice.poll_timeout(), Some(SECOND + PONG_WITHIN_WHEN_DOUBTED));
    alice.doubt(clock.advance(SECOND));
    assert_eq!(
        alice.poll_timeout(),
        Some(SECOND + PONG_WITHIN_WHEN_DOUBTED),
        "doubting twice gives no more time"
    );
    assert_eq!(carry(&mut alice, &mut bob, clock.now()), 1);
    assert_eq!(carry(&mut bob, &mut alice, clock.now()), 1);
    assert_eq!(alice.poll_timeout(), Some(2 * SECOND + PING_AFTER));
    alice.handle_timeout(clock.advance(PING_AFTER));
    alice.doubt(clock.now());
    alice.handle_timeout(clock.advance(PONG_WITHIN_WHEN_DOUBTED));
    assert!(alice.is_closed(), "doubt shortens what was granted before");
}

#[test]
fn a_peer_that_does_not_answer_is_dead() {
    let (mut alice, _bob, clock) = sessions();
    alice.handle_timeout(clock.advance(PING_AFTER));
    alice.handle_timeout(clock.advance(PONG_WITHIN - SECOND));
    assert!(!alice.is_closed());
    alice.handle_timeout(clock.advance(SECOND));
    assert!(alice.is_closed());
    assert_eq!(
        events(&mut alice),
        [SessionEvent::GoneAway {
            code: ErrorCode::Timeout
        }]
    );
    assert_eq!(alice.poll_timeout(), None);
}

#[test]
fn goodbye_is_the_last_word() {
    let (mut alice, mut bob, clock) = sessions();
    let now = clock.now();
    let id = open(&mut alice, &mut bob, now);
    alice.write(id, b"sent");
    carry(&mut alice, &mut bob, now);
    alice.write(id, b"not sent");
    alice.close(ErrorCode::NoError);
    assert_eq!(carry(&mut alice, &mut bob, now), 1);
    assert_eq!(
        events(&mut bob),
        [
            data(id, b"sent"),
            SessionEvent::GoneAway {
                code: ErrorCode::NoError
            }
        ]
    );
    assert_eq!(events(&mut alice), []);
    assert_eq!(carry(&mut bob, &mut alice, now), 0);
    assert_eq!(
        (alice.open("x"), bob.open("x")),
        (Err(OpenError::Closed), Err(OpenError::Closed))
    );
    assert_eq!(bob.write(id, b"x"), 0);
    assert_eq!(bob.handle_frame(&[0], now), Err(SessionError::Closed));
}

#[test]
fn an_unknown_message_type_ends_the_session_cleanly() {
    let (mut raw, mut bob, clock) = raw_and_session();
    // {t: 0x40}
    let unknown = raw.frame(&[0xa1, 0x61, b't', 0x18, 0x40]);
    let error = SessionError::Wire(WireError::UnknownType { found: 0x40 });
    assert_eq!(bob.handle_frame(&unknown, clock.now()), Err(error));
    assert_eq!(
        goodbye(&raw.replies(&mut bob)),
        Some(ErrorCode::VersionUnsupported)
    );
    assert_eq!(
        events(&mut bob),
        [SessionEvent::GoneAway {
            code: ErrorCode::VersionUnsupported
        }]
    );
}

#[test]
fn a_frame_played_again_does_not_decrypt() {
    let (mut raw, mut bob, clock) = raw_and_session();
    let ping = raw.frame(&Control::Ping { nonce: 1 }.to_vec());
    assert_eq!(bob.handle_frame(&ping, clock.now()), Ok(()));
    assert_eq!(bob.handle_frame(&ping, clock.now()), Err(SessionError::Decrypt));
}
