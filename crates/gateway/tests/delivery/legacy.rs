//! Peers that speak ClawChat 1.0 with us: no receipts, no payloads, and no second chance to be told something else.

use std::time::Duration;

use clawchat_node::{LegacySession, SessionOpenError};
use clawchat_snap2p::clawchat1::{ChatMessage, encode_chat};
use clawchat_testkit::Person::{Alice, Alice2, Bob, Dave};
use clawchat_types::UnixMillis;
use serde_json::{Value, json};

use crate::common::{Gate, Rogue, WAIT, eventually, within};

/// A text as the session's local side writes it.
fn chat(session: &LegacySession, id: &str, content: &str) -> Vec<u8> {
    let message = ChatMessage {
        id: id.to_owned(),
        from: session.local().to_string(),
        nick: Some("dave".to_owned()),
        content: content.to_owned(),
        timestamp: UnixMillis(1_767_225_600_456),
    };
    encode_chat(&message).unwrap()
}

/// Sends a text, and waits until the other side says that it was read.
async fn tell(session: &LegacySession, id: &str, content: &str) {
    let mut confirmation = within(session.transmit(chat(session, id, content)))
        .await
        .unwrap();
    within(confirmation.confirmed()).await.unwrap();
}

/// Takes so many texts, confirming each batch.
async fn hear(session: &LegacySession, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let batch = within(session.receive()).await.expect("more messages");
        texts.extend(batch.messages.iter().map(|message| message.content.clone()));
        session.dealt_with(batch).await;
    }
    texts
}

/// Confirms everything, for as long as the session lasts.
fn listen(session: LegacySession) {
    tokio::spawn(async move {
        while let Some(batch) = session.receive().await {
            session.dealt_with(batch).await;
        }
    });
}

fn set(gate: &Gate, key: &'static str, value: &str) {
    gate.edit(|config| config[key] = value.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_stored_before_its_sender_hears_that_it_was_read() {
    let gate = Gate::of(&[Bob]).await;
    let dave = Rogue::new(Dave.identity()).await;
    let session = dave.legacy_session(&gate).await.unwrap();
    let id = "7d4cbb48149e05655ef7bb64b01062fa";
    tell(&session, id, "hello").await;
    let inbox = gate.caller(Bob).inbox().await;
    assert_eq!(inbox.len(), 1);
    let message = &inbox[0];
    assert_eq!(message["id"], id);
    assert_eq!(message["from"], Dave.principal().to_string());
    assert_eq!(message["fromNick"], "dave");
    assert_eq!(message["to"], Bob.principal().to_string());
    assert_eq!(message["content"], "hello");
    assert_eq!(message["timestamp"], 1_767_225_600_456_u64);
    assert_eq!(message["verified"], false, "nobody signed it");
    // Sent again under the same id, as after a lost answer, it is the same message.
    tell(&session, id, "hello").await;
    tell(&session, "not-hex", "odd id").await;
    tell(&session, "not-hex", "odd id").await;
    assert_eq!(gate.caller(Bob).texts().await, ["hello", "odd id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_such_a_peer_ends_as_sent_once_it_was_read() {
    let gate = Gate::of(&[Bob]).await;
    let bob = gate.caller(Bob);
    let dave = Rogue::new(Dave.identity()).await;
    let session = dave.legacy_session(&gate).await.unwrap();
    let (answer, texts) = tokio::join!(bob.deliver_or_not(Dave.principal(), "hi"), hear(&session, 1));
    assert_eq!(texts, ["hi"]);
    assert_eq!(answer["data"]["status"], "sent", "{answer}");
    let id = answer["data"]["id"].as_str().unwrap();
    assert_eq!(bob.sent(id).await["status"], "sent");
    let peers = bob.ok(json!({ "cmd": "peers" })).await;
    assert_eq!(peers[0]["protocol"], "clawchat/1");
    assert_eq!(peers[0]["connected"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_read_is_sent_again_over_the_next_session() {
    let gate = Gate::of(&[Bob]).await;
    let bob = gate.caller(Bob);
    let dave = Rogue::new(Dave.identity()).await;
    let first = dave.legacy_session(&gate).await.unwrap();
    let id = bob.send(Dave.principal(), "important").await;
    let batch = within(first.receive()).await.unwrap();
    assert_eq!(batch.messages.len(), 1);
    // It arrived, and nobody ever says so.
    first.close();
    drop(batch);
    eventually("the session is gone", async || {
        let peers = bob.ok(json!({ "cmd": "peers" })).await;
        (peers[0]["connected"] == false).then_some(())
    })
    .await;
    bob.sent_once(&id, |entry| entry["status"] == "pending").await;
    let second = dave.legacy_session(&gate).await.unwrap();
    assert_eq!(hear(&second, 1).await, ["important"]);
    eventually("it counts as sent", async || {
        (bob.sent(&id).await["status"] == "sent").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_keep_their_order_and_long_ones_their_length() {
    let gate = Gate::of(&[Bob]).await;
    let bob = gate.caller(Bob);
    let dave = Rogue::new(Dave.identity()).await;
    let session = dave.legacy_session(&gate).await.unwrap();
    let long = "ü".repeat(700_000);
    let texts: Vec<String> = (0..300).map(|number| number.to_string()).chain([long]).collect();
    let queueing = async {
        for text in &texts {
            bob.send(Dave.principal(), text).await;
        }
    };
    let (heard, ()) = tokio::join!(hear(&session, texts.len()), queueing);
    assert_eq!(heard, texts);
    for (number, text) in texts.iter().enumerate() {
        drop(
            within(session.transmit(chat(&session, &format!("{number:032x}"), text)))
                .await
                .unwrap(),
        );
    }
    assert_eq!(bob.texts_once(texts.len()).await, texts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_fails_with_the_reason_and_holds_nothing_up() {
    let gate = Gate::of(&[Bob]).await;
    let bob = gate.caller(Bob);
    let dave = Rogue::new(Dave.identity()).await;
    listen(dave.legacy_session(&gate).await.unwrap());
    let to = Dave.principal().to_string();
    let refused = bob
        .ask(json!({ "cmd": "send", "to": to, "content": "x", "payload": { "a": 1 }, "wait": WAIT }))
        .await;
    assert_eq!(refused["code"], "failed", "{refused}");
    assert!(
        refused["error"].as_str().unwrap().contains("no payload"),
        "{refused}"
    );
    let answer = bob.deliver_or_not(Dave.principal(), "text").await;
    assert_eq!(answer["data"]["status"], "sent", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_thing_said_afterwards_answers_a_question() {
    let gate = Gate::of(&[Bob]).await;
    let bob = gate.caller(Bob);
    let dave = Rogue::new(Dave.identity()).await;
    let session = dave.legacy_session(&gate).await.unwrap();
    let answering = async {
        assert_eq!(hear(&session, 1).await, ["what time is it?"]);
        tell(&session, "answer", "late").await;
    };
    let to = Dave.principal().to_string();
    let asking = bob.ok(json!({ "cmd": "ask", "to": to, "content": "what time is it?", "timeout": WAIT }));
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer["content"], "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_identity_that_admits_the_caller_answers() {
    let gate = Gate::of(&[Alice, Alice2]).await;
    let dave = Rogue::new(Dave.identity()).await;
    let session = dave.legacy_session(&gate).await.unwrap();
    assert_eq!(*session.remote(), Alice.principal());

    gate.edit(|config| config["identities"][0]["allowedRemotePeers"] = json!([]));
    gate.caller(Alice).ok(json!({ "cmd": "reload" })).await;
    within(session.closed()).await;
    let session = dave.legacy_session(&gate).await.unwrap();
    assert_eq!(*session.remote(), Alice2.principal());
    assert!(session.is_bound());
    tell(&session, "1", "to whoever listens").await;
    assert!(gate.caller(Alice).texts().await.is_empty());
    assert_eq!(gate.caller(Alice2).texts().await, ["to whoever listens"]);

    gate.edit(|config| config["identities"][1]["allowedRemotePeers"] = json!([]));
    gate.caller(Alice).ok(json!({ "cmd": "reload" })).await;
    let refused = dave.legacy_session(&gate).await.unwrap_err();
    assert_eq!(
        refused,
        SessionOpenError::Refused(clawchat_node::ErrorCode::NotAllowed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_spoken_the_native_protocol_is_never_talked_down_again() {
    let gate = Gate::of(&[Bob]).await;
    let bob = gate.caller(Bob);
    let dave = Rogue::new(Dave.identity()).await;
    let old = dave.legacy_session(&gate).await.unwrap();
    tell(&old, "1", "the old way").await;
    let native = dave.session(&gate, Bob).await;
    eventually("the pin is written", async || {
        let peers = bob.ok(json!({ "cmd": "peers" })).await;
        (peers[0]["protocol"] == "snap2p/2").then_some(())
    })
    .await;
    let refused = dave.legacy_session(&gate).await.unwrap_err();
    assert_eq!(
        refused,
        SessionOpenError::Refused(clawchat_node::ErrorCode::VersionUnsupported)
    );
    drop(native);
    // Also when there is no session at the moment, and also after a restart.
    let mut gate = gate;
    gate.stop().await;
    gate.start().await;
    assert!(dave.legacy_session(&gate).await.is_err());
    // The operator can take the word back, once the peer has really stopped speaking the native protocol.
    within(dave.node.close(Duration::from_secs(1))).await;
    eventually("nobody is connected", async || {
        let peers = bob.ok(json!({ "cmd": "peers" })).await;
        (peers[0]["connected"] == false).then_some(())
    })
    .await;
    let old_again = Rogue::new(Dave.identity()).await;
    bob.ok(json!({ "cmd": "peer_remove", "principal": Dave.principal().to_string() }))
        .await;
    old_again.legacy_session(&gate).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_turns_the_profile_off_and_on() {
    let gate = Gate::of(&[Bob]).await;
    let bob = gate.caller(Bob);
    let dave = Rogue::new(Dave.identity()).await;
    let session = dave.legacy_session(&gate).await.unwrap();
    set(&gate, "legacyPeers", "off");
    bob.ok(json!({ "cmd": "reload" })).await;
    within(session.closed()).await;
    assert_eq!(
        dave.legacy_session(&gate).await.unwrap_err(),
        SessionOpenError::ProtocolUnsupported
    );
    set(&gate, "legacyPeers", "bound");
    bob.ok(json!({ "cmd": "reload" })).await;
    let session = dave.legacy_session(&gate).await.unwrap();
    tell(&session, "1", "back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_are_taken_from_and_given_to_those_with_a_session_only() {
    let gate = Gate::of(&[Bob]).await;
    let bob = gate.caller(Bob);
    let dave = Rogue::new(Dave.identity()).await;
    let peer = dave.dial(&gate).await;
    // Without a session there is no answer.
    let unanswered = within(dave.node.px1_resolve(&peer, &Bob.principal())).await;
    assert!(unanswered.is_err(), "{unanswered:?}");

    let session = dave.legacy_session(&gate).await.unwrap();
    let found = within(dave.node.px1_resolve(&peer, &Bob.principal()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.peer_id.as_deref(), Some(peer.as_str()));
    assert!(!found.multiaddrs.is_empty());
    assert_eq!(
        within(dave.node.px1_resolve(&peer, &Alice.principal())).await,
        Ok(None)
    );

    let resolve = json!({ "cmd": "peer_resolve", "principal": Alice.principal().to_string() });
    assert_eq!(bob.ok(resolve.clone()).await, Value::Null);
    let hint = clawchat_snap2p::clawchat1::px1::PeerInfo {
        principal: Alice.principal().to_string(),
        multiaddrs: vec!["/ip4/192.0.2.7/tcp/9000".to_owned(), "no address".to_owned()],
        last_seen: UnixMillis(1),
        peer_id: Some(Alice.peer_id().to_string()),
    };
    within(dave.node.px1_push(&peer, vec![hint])).await.unwrap();
    let resolved = eventually("the hint is noted", async || {
        let resolved = bob.ok(resolve.clone()).await;
        (!resolved.is_null()).then_some(resolved)
    })
    .await;
    let address = format!("/ip4/192.0.2.7/tcp/9000/p2p/{}", Alice.peer_id());
    assert_eq!(resolved["multiaddrs"], json!([address]));
    drop(session);
}
