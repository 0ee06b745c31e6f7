//! Streams of one session: bytes, turns, backpressure, and how they end.

use bytes::Bytes;
use clawchat_node::{ErrorCode, SessionHandle, StreamError};
use clawchat_testkit::Person::{Alice, Bob};

use crate::support::{Gateway, echo_one, read_all, read_exactly, within};

/// A session seen from both ends, and the gateways it needs to live.
async fn pair() -> (SessionHandle, SessionHandle, Gateway, Gateway) {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let ours = alice.session(&bob).await;
    let theirs = bob.inbound().await;
    (ours, theirs, alice, bob)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_messages_pass_while_a_transfer_waits_for_its_reader() {
    let (ours, theirs, _alice, _bob) = pair().await;
    let content: Vec<u8> = (0..1024 * 1024_u32)
        .map(|i| i.to_le_bytes()[i as usize % 4])
        .collect();

    let mut bulk = ours.open_stream("bulk").await.unwrap();
    let to_send = Bytes::from(content.clone());
    let sending = tokio::spawn(async move {
        bulk.write_all(to_send).await.unwrap();
        bulk.finish();
        bulk
    });
    let mut received = within(theirs.accept()).await.unwrap().accept();
    assert_eq!(received.label(), "bulk");

    let echo = tokio::spawn({
        let theirs = theirs.clone();
        async move { echo_one(&theirs).await }
    });
    let mut chat = ours.open_stream("chat").await.unwrap();
    for number in 0..50_u8 {
        chat.write_all(vec![number; 100].into()).await.unwrap();
        assert_eq!(read_exactly(&mut chat, 100).await, vec![number; 100]);
    }
    assert!(!sending.is_finished(), "the sender of 1 MiB waits for a reader");
    chat.finish();
    within(echo).await.unwrap();

    assert_eq!(read_all(&mut received).await, content);
    within(sending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_small_writes_arrive_complete_and_in_order() {
    let (ours, theirs, _alice, _bob) = pair().await;
    let mut stream = ours.open_stream("chat").await.unwrap();
    let writing = tokio::spawn(async move {
        for number in 0..10_000_u32 {
            let mut message = [0; 100];
            message[..4].copy_from_slice(&number.to_le_bytes());
            stream.write_all(Bytes::copy_from_slice(&message)).await.unwrap();
        }
        stream.finish();
        stream
    });
    let mut received = within(theirs.accept()).await.unwrap().accept();
    let all = read_all(&mut received).await;
    assert_eq!(all.len(), 10_000 * 100);
    assert!(
        all.chunks(100)
            .zip(0_u32..)
            .all(|(message, number)| message[..4] == number.to_le_bytes())
    );
    within(writing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_stream_is_reset_and_a_refused_one_says_why() {
    let (ours, theirs, _alice, _bob) = pair().await;

    let mut stream = ours.open_stream("dropped-by-us").await.unwrap();
    stream.write_all("x".into()).await.unwrap();
    let mut received = within(theirs.accept()).await.unwrap().accept();
    assert_eq!(read_exactly(&mut received, 1).await, b"x");
    drop(stream);
    let end = within(received.read()).await;
    assert_eq!(end, Some(Err(StreamError::Reset(ErrorCode::NoError))));
    assert_eq!(
        received.write_all("y".into()).await,
        Err(StreamError::Reset(ErrorCode::NoError))
    );

    let mut stream = ours.open_stream("refused").await.unwrap();
    within(theirs.accept())
        .await
        .unwrap()
        .refuse(ErrorCode::RateLimited);
    assert_eq!(
        within(stream.read()).await,
        Some(Err(StreamError::Reset(ErrorCode::RateLimited)))
    );

    let mut stream = ours.open_stream("not-taken").await.unwrap();
    drop(within(theirs.accept()).await.unwrap());
    assert_eq!(
        within(stream.read()).await,
        Some(Err(StreamError::Reset(ErrorCode::StreamRefused)))
    );
    assert!(!ours.is_closed() && !theirs.is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_waits_is_woken_when_its_reader_or_its_session_goes() {
    let (ours, theirs, _alice, _bob) = pair().await;
    let too_much = Bytes::from(vec![0; 1024 * 1024]);

    let mut stream = ours.open_stream("reader-goes").await.unwrap();
    let writing = tokio::spawn({
        let too_much = too_much.clone();
        async move { stream.write_all(too_much).await }
    });
    let (reader, writer) = within(theirs.accept()).await.unwrap().accept().split();
    drop(reader);
    assert_eq!(
        within(writing).await.unwrap(),
        Ok(()),
        "what nobody reads is discarded"
    );
    drop(writer);

    let mut stream = ours.open_stream("session-goes").await.unwrap();
    let writing = tokio::spawn(async move { stream.write_all(too_much).await });
    let _unread = within(theirs.accept()).await.unwrap().accept();
    theirs.close(ErrorCode::NoError);
    assert!(matches!(
        within(writing).await.unwrap(),
        Err(StreamError::SessionClosed(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_has_many_streams_but_not_any_number() {
    let (ours, theirs, _alice, _bob) = pair().await;
    let mut streams = Vec::new();
    let refused = loop {
        match ours.open_stream("one-of-many").await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StreamError::Refused(_)), "{refused}");
    assert!(streams.len() >= 50, "{}", streams.len());
    for stream in &mut streams {
        stream.write_all("hello".into()).await.unwrap();
        stream.finish();
    }
    for _ in &streams {
        let mut received = within(theirs.accept()).await.unwrap().accept();
        assert_eq!(read_all(&mut received).await, b"hello");
        received.finish();
    }
    for mut stream in streams {
        assert_eq!(read_all(&mut stream).await, b"");
    }
    assert!(ours.open_stream("room-again").await.is_ok());
    assert!(matches!(
        ours.open_stream(&"x".repeat(65)).await,
        Err(StreamError::Refused(_))
    ));
}
