//! Flow control: nobody holds more than the window, and nobody waits for somebody else's transfer.

use super::pair::{Raw, carry, events, open, raw_and_session, sessions};
use crate::wire::{Control, Parser};
use crate::{
    ErrorCode, INITIAL_WINDOW, MAX_DATA_BYTES, MAX_FRAME, MAX_SEND_BUFFER, SessionError, SessionEvent,
    StreamId,
};

fn received(events: &[SessionEvent]) -> usize {
    let length = |event: &SessionEvent| {
        if let SessionEvent::Data { bytes, .. } = event {
            bytes.len()
        } else {
            0
        }
    };
    events.iter().map(length).sum()
}

#[test]
fn a_writer_without_a_reader_stops_at_the_window() {
    let (mut alice, mut bob, clock) = sessions();
    let id = open(&mut alice, &mut bob, clock.now());
    let mut written = 0;
    let mut delivered = 0;
    for _ in 0..100 {
        written += alice.write(id, &[7; 50_000]);
        carry(&mut alice, &mut bob, clock.now());
        delivered += received(&events(&mut bob));
        assert!(alice.held() <= MAX_SEND_BUFFER + 64 && bob.held() <= INITIAL_WINDOW + 64);
    }
    assert_eq!(
        (written, delivered),
        (INITIAL_WINDOW + MAX_SEND_BUFFER, INITIAL_WINDOW)
    );
    assert!(!alice.poll_transmit(&mut Vec::new()));

    // Little is not worth a message, a quarter of the window is.
    bob.consumed(id, INITIAL_WINDOW / 4 - 1);
    assert_eq!(carry(&mut bob, &mut alice, clock.now()), 0);
    bob.consumed(id, 1);
    assert_eq!(carry(&mut bob, &mut alice, clock.now()), 1);
    carry(&mut alice, &mut bob, clock.now());
    assert_eq!(received(&events(&mut bob)), INITIAL_WINDOW / 4);
}

#[test]
fn a_blocked_writer_hears_when_there_is_room() {
    let (mut alice, mut bob, clock) = sessions();
    let id = open(&mut alice, &mut bob, clock.now());
    assert_eq!(alice.write(id, &vec![0; MAX_SEND_BUFFER + 1]), MAX_SEND_BUFFER);
    assert_eq!(events(&mut alice), []);
    carry(&mut alice, &mut bob, clock.now());
    assert_eq!(events(&mut alice), [SessionEvent::StreamWritable { id }]);
    assert_eq!(alice.write(id, &[0; 10]), 10);
    assert_eq!(events(&mut alice), []);
}

#[test]
fn everything_arrives_in_order_whatever_the_size_of_the_writes() {
    let (mut alice, mut bob, clock) = sessions();
    let id = open(&mut alice, &mut bob, clock.now());
    let sent: Vec<u8> = (0..1_500_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut rest, mut arrived, mut frames) = (sent.as_slice(), Vec::new(), 0);
    while arrived.len() < sent.len() {
        let taken = alice.write(id, &rest[..rest.len().min(77_777)]);
        rest = &rest[taken..];
        frames += carry(&mut alice, &mut bob, clock.now());
        for event in events(&mut bob) {
            if let SessionEvent::Data { bytes, .. } = event {
                bob.consumed(id, bytes.len());
                arrived.extend_from_slice(&bytes);
            }
        }
        carry(&mut bob, &mut alice, clock.now());
        events(&mut alice);
    }
    assert!(arrived == sent);
    assert!(frames <= 45, "{frames} frames");
}

#[test]
fn many_small_writes_share_few_frames() {
    let (mut alice, mut bob, clock) = sessions();
    let ids: Vec<StreamId> = (0..10).map(|_| open(&mut alice, &mut bob, clock.now())).collect();
    for n in 0..1000 {
        assert_eq!(alice.write(ids[n % ids.len()], &[1; 100]), 100);
    }
    assert_eq!(carry(&mut alice, &mut bob, clock.now()), 2);
    let arrived = events(&mut bob);
    assert_eq!((received(&arrived), arrived.len()), (100_000, ids.len()));
}

#[test]
fn a_long_transfer_delays_a_short_message_by_less_than_one_frame() {
    let (mut alice, mut bob, clock) = sessions();
    let now = clock.now();
    let bulk = open(&mut alice, &mut bob, now);
    let chat = open(&mut alice, &mut bob, now);
    assert_eq!(alice.write(bulk, &vec![0; MAX_SEND_BUFFER]), MAX_SEND_BUFFER);
    let mut frame = Vec::new();
    assert!(alice.poll_transmit(&mut frame), "the transfer has begun");
    bob.handle_frame(&frame[2..], now).unwrap();
    events(&mut bob);

    alice.write(chat, b"hello");
    frame.clear();
    assert!(alice.poll_transmit(&mut frame));
    assert!(frame.len() <= 2 + MAX_FRAME);
    bob.handle_frame(&frame[2..], now).unwrap();
    let arrived = events(&mut bob);
    let hello = SessionEvent::Data {
        id: chat,
        bytes: b"hello".as_slice().into(),
    };
    assert!(arrived.contains(&hello), "in the very next frame");
}

#[test]
fn streams_take_turns_of_one_data_message() {
    let (mut raw, mut bob, clock) = raw_and_session();
    let opens: Vec<u8> = [1, 3, 5]
        .iter()
        .flat_map(|id| Control::Open { id: *id, label: "" }.to_vec())
        .collect();
    bob.handle_frame(&raw.frame(&opens), clock.now()).unwrap();
    for id in [1, 3, 5] {
        bob.write(StreamId::new(id), &[0; 40_000]);
    }
    assert_eq!(turns(&mut raw, &mut bob), [1, 3, 5, 1, 3, 5, 1, 3, 5]);
}

/// Streams of the DATA messages that go out, in their order.
fn turns(raw: &mut Raw, session: &mut crate::Session) -> Vec<u64> {
    let mut turns = Vec::new();
    let mut frame = Vec::new();
    while session.poll_transmit(&mut frame) {
        for message in Parser::new(&raw.open(&frame)) {
            if let Control::Data { id, bytes } = message.unwrap() {
                assert!(bytes.len() <= MAX_DATA_BYTES);
                turns.push(id);
            }
        }
        frame.clear();
    }
    turns
}

#[test]
fn sending_more_than_granted_ends_the_session() {
    let (mut raw, mut bob, clock) = raw_and_session();
    let mut plaintext = Control::Open { id: 1, label: "" }.to_vec();
    for _ in 0..INITIAL_WINDOW / MAX_DATA_BYTES {
        Control::Data {
            id: 1,
            bytes: &[0; MAX_DATA_BYTES],
        }
        .write(&mut plaintext);
        bob.handle_frame(&raw.frame(&plaintext), clock.now()).unwrap();
        plaintext.clear();
    }
    let one_more = raw.frame(&Control::Data { id: 1, bytes: &[0] }.to_vec());
    assert_eq!(
        bob.handle_frame(&one_more, clock.now()),
        Err(SessionError::CreditExceeded { id: 1 })
    );
    let goodbye = Control::Goodbye {
        code: ErrorCode::ProtocolViolation,
    }
    .to_vec();
    assert_eq!(raw.replies(&mut bob), [goodbye]);
}

#[test]
fn granting_more_than_any_stream_may_have_ends_the_session() {
    for credit in [u64::MAX, (1 << 31) - INITIAL_WINDOW as u64] {
        let (mut raw, mut bob, clock) = raw_and_session();
        let mut plaintext = Control::Open { id: 1, label: "" }.to_vec();
        Control::Window { id: 1, credit }.write(&mut plaintext);
        let result = bob.handle_frame(&raw.frame(&plaintext), clock.now());
        assert_eq!(result, Err(SessionError::CreditOverflow { id: 1 }));
    }
}

#[test]
fn messages_for_streams_in_another_state_end_the_session() {
    let open = Control::Open { id: 3, label: "" }.to_vec();
    let data = |id| Control::Data { id, bytes: b"x" }.to_vec();
    let finish = Control::Close { id: 3, code: None }.to_vec();
    for (name, plaintext, id) in [
        ("data before open", data(5), 5),
        ("data on stream zero", data(0), 0),
        ("data on a stream we never opened", data(2), 2),
        ("an id twice", [open.clone(), open.clone()].concat(), 3),
        (
            "an id going back",
            [open.clone(), Control::Open { id: 1, label: "" }.to_vec()].concat(),
            1,
        ),
        (
            "an id of the other side",
            Control::Open { id: 2, label: "" }.to_vec(),
            2,
        ),
        (
            "data after the end",
            [open.clone(), finish.clone(), data(3)].concat(),
            3,
        ),
        ("the end twice", [open, finish.clone(), finish].concat(), 3),
    ] {
        let (mut raw, mut bob, clock) = raw_and_session();
        let result = bob.handle_frame(&raw.frame(&plaintext), clock.now());
        assert_eq!(result, Err(SessionError::StreamState { id }), "{name}");
    }
}
