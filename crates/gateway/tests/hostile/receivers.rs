//! Recipients that do not do their part.

use clawchat_node::{SessionHandle, Stream};
use clawchat_snap2p::chat::{CHAT_LABEL, ChatReceiver, Decision, NackCode};
use clawchat_testkit::Person::{Alice, Bob, Dave};
use serde_json::json;

use crate::common::{Caller, Chat, Rogue, pair, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_never_answers_does_not_keep_a_message_beyond_its_time() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let alice = a.caller(Alice);
    let mut rogue = Rogue::new(Dave.identity()).await;
    meet(&alice, &rogue).await;
    let session = rogue.visitor().await;
    // It takes the stream, and says nothing.
    let taking = tokio::spawn(async move {
        let silent = next_chat(&session).await;
        (session, silent)
    });
    let to = rogue.principal().to_string();
    let mut tries = [3_000, 12_000, 48_000].into_iter();
    let id = loop {
        let expires = tries
            .next()
            .expect("a message that is sent before its time is up");
        let sent = alice
            .ok(json!({ "cmd": "send", "to": to, "content": "hello?", "expires": expires }))
            .await;
        let id = sent["id"].as_str().unwrap().to_owned();
        let seen = alice.sent_once(&id, |entry| entry["status"] != "pending").await;
        // On a busy machine it may be over before it was looked at.
        if seen["status"] == "sent" {
            break id;
        }
    };
    let failed = alice.sent_once(&id, |entry| entry["status"] == "failed").await;
    assert!(
        failed["lastError"].as_str().unwrap().starts_with("expired"),
        "{failed}"
    );
    alice.deliver(Bob.principal(), "honest").await;
    assert_eq!(b.caller(Bob).texts().await, ["honest"]);
    drop(taking.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_session_holds_goes_over_the_next_one_that_the_peer_opens() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let alice = a.caller(Alice);
    let mut rogue = Rogue::new(Dave.identity()).await;
    meet(&alice, &rogue).await;
    let first = rogue.visitor().await;
    let id = alice.send(rogue.principal(), "hello?").await;
    let silent = next_chat(&first).await;
    // As after a crash: the old session looks alive, nobody answers there, and the peer comes back.
    let second = rogue.session(&a, Alice).await;
    let mut stream = next_chat(&second).await;
    let mut receiver = ChatReceiver::new();
    take(&mut stream, &mut receiver, 1).await;
    alice.sent_once(&id, |entry| entry["status"] == "delivered").await;
    alice.deliver(Bob.principal(), "honest").await;
    assert_eq!(b.caller(Bob).texts().await, ["honest"]);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_takes_nothing_back_and_reads_nothing_is_tried_again_in_order() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let alice = a.caller(Alice);
    let mut rogue = Rogue::new(Dave.identity()).await;
    meet(&alice, &rogue).await;
    let session = rogue.visitor().await;
    let text = "x".repeat(900 * 1024);
    let first = alice.send(rogue.principal(), &text).await;
    let second = alice.send(rogue.principal(), "second").await;

    // Not now, and not a byte more.
    let mut stream = next_chat(&session).await;
    let mut receiver = ChatReceiver::new();
    let number = loop {
        let bytes = within(stream.read()).await.unwrap().unwrap();
        receiver.handle_bytes(&bytes).unwrap();
        if let Some((number, _)) = receiver.poll_message() {
            break number;
        }
    };
    let refusal = Decision::Refused {
        code: NackCode::Busy,
        retryable: true,
    };
    assert!(receiver.decide(number, refusal));
    let mut bytes = Vec::new();
    receiver.poll_write(&mut bytes);
    within(stream.write_all(bytes.into())).await.unwrap();
    let reason = alice.waiting(&first).await;
    assert!(reason.contains("busy"), "{reason}");
    alice.deliver(Bob.principal(), "honest").await;
    assert_eq!(b.caller(Bob).texts().await, ["honest"]);

    // Later everything comes again, in order.
    let mut stream = next_chat(&session).await;
    let mut receiver = ChatReceiver::new();
    take(&mut stream, &mut receiver, 2).await;
    for id in [first, second] {
        alice.sent_once(&id, |entry| entry["status"] == "delivered").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_acknowledges_what_was_never_sent_gains_nothing() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let alice = a.caller(Alice);
    let mut rogue = Rogue::new(Dave.identity()).await;
    meet(&alice, &rogue).await;
    let session = rogue.visitor().await;
    let id = alice.send(rogue.principal(), "hello").await;
    for answer in [
        // ACK 1000, then nonsense.
        &[0, 0, 0, 9, 0xa2, 0x61, b'n', 0x19, 0x03, 0xe8, 0x61, b't', 0x02][..],
        &[0xff; 40][..],
    ] {
        let mut stream = next_chat(&session).await;
        let _ = within(stream.write_all(answer.to_vec().into())).await;
        let reason = alice
            .sent_once(&id, |entry| {
                entry["lastError"]
                    .as_str()
                    .is_some_and(|error| error.contains("broke the protocol"))
            })
            .await;
        assert_ne!(reason["status"], "delivered");
    }
    alice.deliver(Bob.principal(), "honest").await;
    // Its own letters are welcome all the same.
    let mut chat = Chat::open(&session).await;
    chat.put(rogue.letter(1, Alice, "hi")).await.unwrap();
    assert_eq!(alice.texts().await, ["hi"]);
    assert_eq!(b.caller(Bob).texts().await, ["honest"]);
}

/// The next stream with messages; others are refused.
async fn next_chat(session: &SessionHandle) -> Stream {
    within(async {
        loop {
            let stream = session.accept().await.expect("an open session");
            if stream.label() == CHAT_LABEL {
                return stream.accept();
            }
        }
    })
    .await
}

/// Takes so many messages and acknowledges them.
async fn take(stream: &mut Stream, receiver: &mut ChatReceiver, count: usize) {
    let mut taken = 0;
    while taken < count {
        let bytes = within(stream.read()).await.unwrap().unwrap();
        receiver.handle_bytes(&bytes).unwrap();
        while let Some((number, _)) = receiver.poll_message() {
            assert!(receiver.decide(number, Decision::Stored));
            taken += 1;
        }
        let mut bytes = Vec::new();
        if receiver.poll_write(&mut bytes) {
            within(stream.write_all(bytes.into())).await.unwrap();
        }
    }
}

async fn meet(caller: &Caller, rogue: &Rogue) {
    caller
        .ok(json!({ "cmd": "peer_add", "principal": rogue.principal().to_string(), "address": rogue.address() }))
        .await;
}
