//! Envelopes that must not get in, and one that comes again and again.

use clawchat_node::{ErrorCode, SessionOpenError};
use clawchat_snap2p::chat::{ChatEvent, NackCode, seal_envelope};
use clawchat_testkit::Person::{Alice, Bob, Carol, Dave};
use clawchat_testkit::stranger;
use clawchat_types::UnixMillis;
use serde_json::json;

use crate::common::{Chat, Gate, Rogue, letter, pair, within};

#[tokio::test(flavor = "multi_thread")]
async fn forged_misdirected_and_expired_letters_are_refused_and_the_stream_goes_on() {
    let (a, b) = pair(&[Alice], &[Bob, Carol]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let mut chat = rogue.chat(&b, Bob).await;

    let in_anothers_name = letter(1, Alice.principal(), Bob.principal(), "I am alice");
    let in_anothers_name = seal_envelope(&in_anothers_name, rogue.key()).unwrap();
    assert_refused(
        chat.put(in_anothers_name).await.unwrap(),
        NackCode::Invalid,
        "from another",
    );

    let truly_anothers = letter(2, Alice.principal(), Bob.principal(), "alice wrote this, once");
    let truly_anothers = seal_envelope(&truly_anothers, Alice.identity().node_key()).unwrap();
    assert_refused(
        chat.put(truly_anothers).await.unwrap(),
        NackCode::Invalid,
        "a letter of another",
    );

    let misdirected = rogue.letter(3, Carol, "for the neighbour");
    assert_refused(
        chat.put(misdirected).await.unwrap(),
        NackCode::Invalid,
        "to another identity of the gateway",
    );

    let mut changed = rogue.letter(4, Bob, "pay 10");
    let at = changed.bytes.len() - 60;
    changed.bytes[at] ^= 1;
    assert_refused(chat.put(changed).await.unwrap(), NackCode::Invalid, "changed");

    let mut badly_signed = rogue.letter(5, Bob, "x");
    badly_signed.signature[7] ^= 1;
    assert_refused(
        chat.put(badly_signed).await.unwrap(),
        NackCode::Invalid,
        "badly signed",
    );

    let mut late = letter(6, rogue.principal(), Bob.principal(), "late");
    late.expires_at = UnixMillis(late.timestamp.0 - 1);
    let late = seal_envelope(&late, rogue.key()).unwrap();
    assert_refused(chat.put(late).await.unwrap(), NackCode::Expired, "expired");

    // The next honest word on the same stream is heard.
    let event = chat.put(rogue.letter(7, Bob, "sorry")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    a.caller(Alice).deliver(Bob.principal(), "honest").await;
    assert_eq!(b.caller(Bob).texts().await, ["sorry", "honest"]);
    assert!(b.caller(Carol).texts().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_sent_again_and_again_is_stored_once_and_acknowledged_every_time() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&b, Bob).await;
    let envelope = rogue.letter(1, Bob, "once");
    for _ in 0..4 {
        let mut chat = Chat::open(&session).await;
        for _ in 0..25 {
            let event = chat.put(envelope.clone()).await.unwrap();
            assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
        }
    }
    // Another text under the same id is the same message: the first one stays.
    let mut chat = Chat::open(&session).await;
    let event = chat.put(rogue.letter(1, Bob, "another text")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    // The id of somebody else's message is not taken by that.
    let alices = letter(1, Alice.principal(), Bob.principal(), "alice");
    let second = Rogue::new(stranger(77)).await;
    let mut chat = second.chat(&b, Bob).await;
    let event = chat.put(second.letter(1, Bob, "a stranger's")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    assert_eq!(alices.id, letter(1, rogue.principal(), Bob.principal(), "").id);

    a.caller(Alice).deliver(Bob.principal(), "honest").await;
    let bob = b.caller(Bob);
    assert_eq!(bob.texts().await, ["once", "a stranger's", "honest"]);
    // An answer by that id goes to whom it was from last.
    assert_eq!(bob.ok(json!({ "cmd": "status" })).await["inboxCount"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_one_invalid_letter_after_the_other_loses_the_session_and_may_come_back() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&b, Bob).await;
    let mut chat = Chat::open(&session).await;
    let mut refused = 0;
    loop {
        let mut forged = rogue.letter(refused, Bob, "x");
        forged.signature[0] ^= 1;
        match chat.put(forged).await {
            Ok(event) => assert_refused(event, NackCode::Invalid, "forged"),
            Err(_) => break,
        }
        refused += 1;
        assert!(refused < 100);
    }
    within(session.closed()).await;
    let mut chat = rogue.chat(&b, Bob).await;
    let event = chat.put(rogue.letter(1000, Bob, "sorry")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    a.caller(Alice).deliver(Bob.principal(), "honest").await;
    assert_eq!(b.caller(Bob).texts().await, ["sorry", "honest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_stored_before_is_acknowledged_even_when_its_sender_is_no_longer_admitted() {
    let b = Gate::of(&[Bob]).await;
    let bob = b.caller(Bob);
    let mut rogue = Rogue::new(Dave.identity()).await;
    // Bob opened this session himself, so it outlives the change of mind.
    bob.ok(
        json!({ "cmd": "peer_add", "principal": rogue.principal().to_string(), "address": rogue.address() }),
    )
    .await;
    let session = rogue.visitor().await;
    let mut chat = Chat::open(&session).await;
    let event = chat.put(rogue.letter(1, Bob, "stored")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    bob.ok(json!({ "cmd": "identity_deny", "who": "bob", "peer": rogue.principal().to_string() }))
        .await;
    let event = chat.put(rogue.letter(1, Bob, "stored")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    let event = chat.put(rogue.letter(2, Bob, "unwanted")).await.unwrap();
    assert_refused(event, NackCode::NotAllowed, "after the denial");
    assert_eq!(bob.texts().await, ["stored"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_not_on_the_list_gets_no_session_at_all() {
    let (a, b) = pair(&[Alice], &[Bob, Carol]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let bob = b.caller(Bob);
    bob.ok(json!({ "cmd": "identity_deny", "who": "bob", "peer": rogue.principal().to_string() }))
        .await;
    let mut refused = 0;
    while refused < 20 {
        let peer = rogue.dial(&b).await;
        match rogue.open(&peer, Bob).await.unwrap_err() {
            SessionOpenError::Refused(ErrorCode::NotAllowed) => refused += 1,
            // On a busy machine its time without a session is over in between.
            SessionOpenError::Unreachable { .. } | SessionOpenError::Broken(_) => {}
            other => panic!("{other}"),
        }
    }
    let peer = rogue.dial(&b).await;
    // Her neighbour is as open as she wants to be.
    let session = rogue.open(&peer, Carol).await.unwrap();
    let mut chat = Chat::open(&session).await;
    let event = chat.put(rogue.letter(1, Bob, "through the side door")).await;
    assert_refused(event.unwrap(), NackCode::Invalid, "through a neighbour's session");
    a.caller(Alice).deliver(Bob.principal(), "honest").await;
    assert_eq!(bob.texts().await, ["honest"]);
    assert!(b.caller(Carol).texts().await.is_empty());
}

fn assert_refused(event: ChatEvent, expected: NackCode, what: &str) {
    match event {
        ChatEvent::Nacked { code, retryable, .. } => {
            assert_eq!((code, retryable), (expected, false), "{what}")
        }
        other => panic!("{what}: {other:?}"),
    }
}
