//! Streams that are no conversation.

use std::time::Duration;

use bytes::Bytes;
use clawchat_node::{ErrorCode, StreamError};
use clawchat_snap2p::chat::{
    CHAT_LABEL, ChatEvent, ChatReceiver, Decision, NackCode, WINDOW_MESSAGES, seal_envelope,
};
use clawchat_snap2p::px1::PX1_LABEL;
use clawchat_snap2p::{INITIAL_WINDOW, MAX_SEND_BUFFER};
use clawchat_testkit::Person::{Alice, Bob, Dave};
use clawchat_types::UnixMillis;

use crate::common::{Chat, Gate, Rogue, eventually, letter, pair, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_garbage_dies_alone() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&b, Bob).await;
    let mut chat = Chat::open(&session).await;
    chat.put(rogue.letter(1, Bob, "before")).await.unwrap();
    let garbage = [
        // A frame that announces 4 GiB, one of 6 MiB, one that is no CBOR, one of a type only a receiver sends.
        Bytes::from_static(&[0xff; 64]),
        Bytes::from_static(&[0x00, 0x60, 0x00, 0x00, 0xa3]),
        Bytes::from_static(&[0, 0, 0, 3, 0xff, 0x00, 0x61]),
        Bytes::from_static(&[0, 0, 0, 7, 0xa2, 0x61, b'n', 1, 0x61, b't', 2]),
    ];
    for (label, garbage) in [CHAT_LABEL, PX1_LABEL]
        .into_iter()
        .flat_map(|label| garbage.iter().map(move |bytes| (label, bytes.clone())))
    {
        let mut stream = session.open_stream(label).await.unwrap();
        // The gateway may have broken it off before everything is written.
        let _ = stream.write_all(garbage).await;
        let end = within(stream.read()).await;
        assert!(
            matches!(end, Some(Err(StreamError::Reset(ErrorCode::ProtocolViolation)))),
            "{label}: {end:?}"
        );
    }
    let event = chat.put(rogue.letter(2, Bob, "after")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    a.caller(Alice).deliver(Bob.principal(), "honest").await;
    assert_eq!(b.caller(Bob).texts().await, ["before", "after", "honest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_nobody_asked_for_are_refused_and_the_session_lives() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&b, Bob).await;
    let (mut refused, mut number) = (0, 0);
    while refused < 1000 {
        // As many at a time as a session may have, less the one for the last word.
        let mut streams = Vec::new();
        while streams.len() < 60 {
            number += 1;
            match session.open_stream(&format!("nonsense/{number}")).await {
                Ok(stream) => streams.push(stream),
                Err(StreamError::Refused(_)) => break,
                Err(other) => panic!("{other}"),
            }
        }
        for mut stream in streams {
            let end = within(stream.read()).await;
            assert!(
                matches!(end, Some(Err(StreamError::Reset(ErrorCode::StreamRefused)))),
                "{end:?}"
            );
            refused += 1;
        }
    }
    let mut chat = Chat::open(&session).await;
    let event = chat.put(rogue.letter(1, Bob, "hello")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    a.caller(Alice).deliver(Bob.principal(), "honest").await;
    assert_eq!(b.caller(Bob).texts().await, ["hello", "honest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_few_conversations_at_a_time_are_accepted_in_one_session() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&b, Bob).await;
    let mut chats = Vec::new();
    for number in 0..4 {
        let mut chat = Chat::open(&session).await;
        chat.put(rogue.letter(number, Bob, &number.to_string()))
            .await
            .unwrap();
        chats.push(chat);
    }
    let mut fifth = Chat::open(&session).await;
    let refused = fifth.put(rogue.letter(9, Bob, "too many")).await;
    assert_eq!(refused.unwrap_err(), StreamError::Reset(ErrorCode::StreamRefused));
    // One that ends makes room for another, once the gateway has noticed.
    drop(chats.pop());
    crate::common::eventually("there is room again", async || {
        let mut chat = Chat::open(&session).await;
        chat.put(rogue.letter(10, Bob, "room")).await.ok()
    })
    .await;
    a.caller(Alice).deliver(Bob.principal(), "honest").await;
    assert_eq!(
        b.caller(Bob).texts().await,
        ["0", "1", "2", "3", "room", "honest"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_announced_and_never_sent_cost_nobody_else_anything() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&b, Bob).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut stream = session.open_stream(CHAT_LABEL).await.unwrap();
        // The largest that is allowed: 5 MiB and a half are announced, one byte comes.
        let announced = Bytes::from_static(&[0x00, 0x58, 0x00, 0x00, 0xa3]);
        within(stream.write_all(announced)).await.unwrap();
        open.push(stream);
    }
    a.caller(Alice).deliver(Bob.principal(), "honest").await;
    assert_eq!(b.caller(Bob).texts().await, ["honest"]);
    assert!(!session.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn long_messages_arrive_a_few_at_a_time_and_short_ones_beside_them() {
    /// As many as the gateway takes at a time, from all peers together.
    const PLACES: usize = 32;
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let mut streams = Vec::new();
    let mut rogues = Vec::new();
    for number in 0..3 {
        let rogue = Rogue::new(clawchat_testkit::stranger(number)).await;
        for _ in 0..4 {
            let session = rogue.session(&b, Bob).await;
            for _ in 0..4 {
                streams.push(session.open_stream(CHAT_LABEL).await.unwrap());
            }
        }
        rogues.push(rogue);
    }
    assert!(streams.len() > PLACES);
    // 5 MiB and a half announced, one sent: more than fits into the buffers on the way.
    let mut unfinished = vec![0x00, 0x58, 0x00, 0x00];
    unfinished.resize(1024 * 1024, 0xa3);
    let unfinished = Bytes::from(unfinished);
    let mut writing = tokio::task::JoinSet::new();
    for mut stream in streams {
        let unfinished = unfinished.clone();
        writing.spawn(async move { stream.write_all(unfinished).await.map(|()| stream) });
    }
    let mut taken = Vec::new();
    while taken.len() < PLACES {
        taken.push(within(writing.join_next()).await.unwrap().unwrap().unwrap());
    }
    a.caller(Alice).deliver(Bob.principal(), "honest").await;
    assert!(writing.try_join_next().is_none(), "one long message too many");
    // Those that give up make room for the others.
    drop(taken);
    while let Some(written) = within(writing.join_next()).await {
        written.unwrap().unwrap();
    }
    assert_eq!(b.caller(Bob).texts().await, ["honest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_never_reads_its_acknowledgements_holds_up_nobody() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&b, Bob).await;
    let mut deaf = Chat::open(&session).await;
    // The same letter without end, until the gateway takes no more of it: its answers are not read.
    let frame = deaf.frame(rogue.letter(1, Bob, "read me"));
    let frames = Bytes::from(frame.repeat(64));
    let mut written = 0;
    let stalled = within(async {
        loop {
            match tokio::time::timeout(Duration::from_millis(500), deaf.stream.write_all(frames.clone()))
                .await
            {
                Ok(Ok(())) => written += 64,
                // It stalls, or is broken off.
                Ok(Err(_)) | Err(_) => return true,
            }
            if written >= 100_000 {
                return false;
            }
        }
    });
    let (stalled, ()) = tokio::join!(stalled, async {
        for number in 0..5 {
            a.caller(Alice)
                .deliver(Bob.principal(), &format!("honest {number}"))
                .await;
        }
    });
    assert!(
        stalled,
        "{written} letters were taken without an answer being read"
    );
    // Another stream of the same session works.
    let mut chat = Chat::open(&session).await;
    let event = chat.put(rogue.letter(2, Bob, "I listen")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    let mut texts = b.caller(Bob).texts().await;
    texts.retain(|text| !text.starts_with("honest"));
    assert_eq!(texts, ["read me", "I listen"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_reads_no_answer_keeps_no_place_for_long_messages_and_loses_the_stream() {
    const UNREAD: usize = INITIAL_WINDOW + MAX_SEND_BUFFER;
    let gate = Gate::of(&[Bob]).await;
    let bob = gate.caller(Bob);
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&gate, Bob).await;
    let mut deaf = Chat::open(&session).await;
    // Each is refused with an answer of its own, so it can be told how many bytes there are to be read.
    let mut expired = |text: &str| {
        let mut late = letter(1, rogue.principal(), Bob.principal(), text);
        late.expires_at = UnixMillis(late.timestamp.0 - 1);
        deaf.frame(seal_envelope(&late, rogue.key()).unwrap())
    };
    // The long one does not fit into the buffers on the way.
    let (short, long) = (expired("late"), expired(&"x".repeat(400 * 1024)));
    let refused = Decision::Refused {
        code: NackCode::Expired,
        retryable: false,
    };
    let (mut receiver, mut answers, mut fitting) = (ChatReceiver::new(), Vec::new(), 0);
    while answers.len() <= UNREAD {
        fitting += 1;
        receiver.handle_bytes(&short).unwrap();
        receiver.poll_message().unwrap();
        receiver.decide(fitting, refused);
        receiver.poll_write(&mut answers);
    }
    fitting -= 1;

    let mut sent = 0;
    while sent < fitting {
        let batch = (fitting - sent).min(WINDOW_MESSAGES as u64);
        let letters = short.repeat(usize::try_from(batch).unwrap());
        within(deaf.stream.write_all(letters.into())).await.unwrap();
        sent += batch;
        bob.counted("clawchat_messages_received_total", "expired", sent)
            .await;
    }
    assert_eq!(bob.metric("clawchat_chat_broken_total", "").await, 0);
    // There is no room left for the answer to this one.
    within(deaf.stream.write_all(long.into())).await.unwrap();
    bob.counted("clawchat_messages_received_total", "expired", sent + 1)
        .await;
    eventually("the place is given back", async || {
        (bob.metric("clawchat_long_messages", "").await == 0).then_some(())
    })
    .await;
    assert_eq!(
        bob.metric("clawchat_chat_broken_total", "").await,
        0,
        "before the stream is given up"
    );
    // The gateway reads no more of it, and does not wait for ever.
    let more = Bytes::from(vec![0; 2 * UNREAD]);
    let end = within(deaf.stream.write_all(more)).await;
    assert_eq!(end.unwrap_err(), StreamError::Reset(ErrorCode::Timeout));
    assert_eq!(bob.metric("clawchat_chat_broken_total", "").await, 1);
    let mut chat = Chat::open(&session).await;
    let event = chat.put(rogue.letter(2, Bob, "I listen")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    assert_eq!(bob.texts().await, ["I listen"]);
}
