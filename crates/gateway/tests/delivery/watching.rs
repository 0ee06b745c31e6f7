//! Subscriptions: events as they happen, without a gap.

use clawchat_testkit::Person::{Alice, Alice2, Bob};
use serde_json::{Value, json};

use crate::common::{Gate, pair};

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_from_a_cursor_has_no_gap_and_no_repetition_while_messages_pour_in() {
    let a = Gate::of(&[Alice, Alice2]).await;
    let alice = a.caller(Alice);
    let sending = tokio::spawn({
        let second = a.caller(Alice2);
        async move {
            let mut line = second.connect().await;
            for number in 0..400 {
                line.say(json!({ "cmd": "send", "to": "alice", "content": number.to_string() }))
                    .await;
                if number >= 100 {
                    assert_eq!(line.hear().await["ok"], true);
                }
            }
            for _ in 0..100 {
                assert_eq!(line.hear().await["ok"], true);
            }
        }
    });
    // Each subscription goes on where the one before was cut off.
    let (mut cursor, mut seen) = (json!(0), Vec::new());
    while seen.len() < 400 {
        let mut line = alice
            .subscribe(json!({ "after": cursor, "events": ["message"] }))
            .await;
        for _ in 0..80 {
            let event = line.hear().await;
            assert_eq!(event["event"], "message");
            assert_eq!(event["id"], "subscription");
            cursor = event["message"]["arrival"].clone();
            seen.push(event["message"]["content"].as_str().unwrap().to_owned());
        }
    }
    sending.await.unwrap();
    let expected: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_subscription_shows_only_what_comes_after_it_and_only_from_whom_it_wants() {
    let a = Gate::of(&[Alice, Alice2]).await;
    let (alice, second) = (a.caller(Alice), a.caller(Alice2));
    alice.deliver("alice", "before").await;
    let from = Alice2.principal().to_string();
    let mut line = alice
        .subscribe(json!({ "from": from, "events": ["message"] }))
        .await;
    alice.deliver("alice", "from another").await;
    second.deliver("alice", "wanted").await;
    assert_eq!(line.hear().await["message"]["content"], "wanted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_shows_as_sent_and_then_as_delivered_even_to_a_subscription_made_in_the_same_breath() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let alice = a.caller(Alice);
    // So that a session is there and delivery takes no time.
    alice.deliver(Bob.principal(), "first").await;
    for _ in 0..20 {
        let mut line = alice.connect().await;
        line.say(json!({ "cmd": "subscribe", "events": ["state"], "id": 1 }))
            .await;
        line.say(json!({ "cmd": "send", "to": Bob.principal().to_string(), "content": "x", "id": 2 }))
            .await;
        let (mut states, mut id) = (Vec::new(), Value::Null);
        while states.len() < 2 || id.is_null() {
            let mut heard = line.hear().await;
            if heard["id"] == 2 {
                id = heard["data"]["id"].take();
            } else {
                assert_eq!(heard["event"], "state");
                states.push(heard["message"].take());
            }
        }
        for (state, status) in states.iter().zip(["sent", "delivered"]) {
            let to = Bob.principal().to_string();
            assert_eq!(*state, json!({ "id": id, "to": to, "status": status }));
        }
    }
    assert_eq!(b.caller(Bob).texts().await.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_come_and_go_are_announced_once_each() {
    let (a, b) = tokio::join!(Gate::of(&[Alice]), Gate::of(&[Bob]));
    let mut b = b;
    let alice = a.caller(Alice);
    let mut line = alice.subscribe(json!({ "events": ["peer"] })).await;
    alice.knows(Bob, &b).await;
    alice.deliver(Bob.principal(), "hello").await;
    b.stop().await;
    b.start().await;
    let mut states = Vec::new();
    for _ in 0..3 {
        let event = line.hear().await;
        assert_eq!(event["principal"], Bob.principal().to_string());
        states.push(event["connected"].as_bool().unwrap());
    }
    assert_eq!(states, [true, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_when_the_daemon_stops() {
    let mut a = Gate::of(&[Alice]).await;
    let mut line = a.caller(Alice).subscribe(json!({})).await;
    a.stop().await;
    assert!(line.ends().await);
}
