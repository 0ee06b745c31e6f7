//! Gateways that go away and come back.

use std::time::{Duration, Instant};

use clawchat_testkit::Person::{Alice, Bob};
use clawchat_testkit::Stopwatch;
use serde_json::json;

use crate::common::{WAIT, pair};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_while_the_receiver_was_down_arrives_in_order_once_it_is_back() {
    let (a, mut b) = pair(&[Alice], &[Bob]).await;
    let alice = a.caller(Alice);
    alice.deliver(Bob.principal(), "before").await;
    b.stop().await;
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(alice.send(Bob.principal(), &format!("{number}")).await);
    }
    alice.waiting(&ids[0]).await;
    // The returning gateway knows the sender and says hello: nobody waits for the sender's next try.
    b.start().await;
    for id in &ids {
        alice.sent_once(id, |entry| entry["status"] == "delivered").await;
    }
    let mut expected = vec!["before".to_owned()];
    expected.extend((0..10).map(|number| number.to_string()));
    assert_eq!(b.caller(Bob).texts().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_never_there_before_is_found_by_the_senders_next_try() {
    let (a, mut b) = pair(&[Alice], &[Bob]).await;
    b.stop().await;
    // A home without any memory of the sender.
    std::fs::remove_dir_all(b.store_of(Bob)).unwrap();
    let alice = a.caller(Alice);
    let id = alice.send(Bob.principal(), "hello").await;
    let reason = alice.waiting(&id).await;
    assert!(!reason.is_empty());
    b.start().await;
    let delivered = alice.sent_once(&id, |entry| entry["status"] == "delivered").await;
    assert!(delivered["attempts"].as_u64().unwrap() >= 2, "{delivered}");
    assert!(delivered["lastError"].is_null(), "{delivered}");
    assert_eq!(b.caller(Bob).texts().await, ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_was_restarted_delivers_what_it_had_promised() {
    let (mut a, mut b) = pair(&[Alice], &[Bob]).await;
    b.stop().await;
    let alice = a.caller(Alice);
    let ids = [
        alice.send(Bob.principal(), "one").await,
        alice.send(Bob.principal(), "two").await,
    ];
    a.stop().await;
    b.start().await;
    a.start().await;
    for id in &ids {
        alice.sent_once(id, |entry| entry["status"] == "delivered").await;
    }
    assert_eq!(b.caller(Bob).texts().await, ["one", "two"]);
    // Numbers go on where they were.
    alice.deliver(Bob.principal(), "three").await;
    let numbers: Vec<u64> = b
        .caller(Bob)
        .inbox()
        .await
        .iter()
        .map(|message| message["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_gateways_restarted_again_and_again_lose_and_repeat_nothing() {
    let (mut a, mut b) = pair(&[Alice], &[Bob]).await;
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    let mut expected = Vec::new();
    for round in 0..2 {
        for number in 0..40 {
            let text = format!("{round} {number}");
            alice.send(Bob.principal(), &text).await;
            expected.push(text);
        }
        // In the middle of it, most likely.
        b.stop().await;
        a.stop().await;
        tokio::join!(a.start(), b.start());
    }
    assert_eq!(bob.texts_once(expected.len()).await, expected);
    alice.deliver(Bob.principal(), "last").await;
    expected.push("last".to_owned());
    assert_eq!(bob.texts().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_delivered_fails_when_its_time_is_up() {
    let (a, mut b) = pair(&[Alice], &[Bob]).await;
    b.stop().await;
    let alice = a.caller(Alice);
    let mut events = alice.subscribe(json!({ "events": ["state"] })).await;
    let (start, watch) = (Instant::now(), Stopwatch::start());
    let sent = alice
        .ok(json!({ "cmd": "send", "to": Bob.principal().to_string(), "content": "soon", "expires": 1500 }))
        .await;
    let later = alice.send(Bob.principal(), "later").await;
    let failed = events
        .hear_until(|line| line["message"]["status"] == "failed")
        .await["message"]
        .take();
    let (took, at_most) = (start.elapsed(), watch.elapsed());
    assert_eq!(failed["id"], sent["id"]);
    assert!(failed["lastError"].as_str().unwrap().starts_with("expired"));
    assert!(
        took >= Duration::from_millis(1500) && at_most < Duration::from_secs(6),
        "{took:?} {at_most:?}"
    );
    let entry = alice.sent(sent["id"].as_str().unwrap()).await;
    assert_eq!(entry["status"], "failed");
    assert_eq!(alice.sent(&later).await["status"], "pending");
    b.start().await;
    alice
        .sent_once(&later, |entry| entry["status"] == "delivered")
        .await;
    assert_eq!(b.caller(Bob).texts().await, ["later"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_message_hears_that_it_expired_or_that_time_is_up_while_it_stays_queued() {
    let (a, mut b) = pair(&[Alice], &[Bob]).await;
    b.stop().await;
    let alice = a.caller(Alice);
    let to = Bob.principal().to_string();
    let expired = alice
        .ask(json!({ "cmd": "send", "to": to, "content": "x", "expires": 300, "wait": WAIT }))
        .await;
    assert_eq!(expired["code"], "failed");
    assert!(expired["error"].as_str().unwrap().contains("expired"));
    let late = alice
        .ask(json!({ "cmd": "send", "to": to, "content": "y", "wait": 200 }))
        .await;
    assert_eq!(late["code"], "timeout");
    assert_eq!(late["data"]["status"], "queued");
    let entry = alice.sent(late["data"]["id"].as_str().unwrap()).await;
    assert_eq!(entry["status"], "pending");
}
