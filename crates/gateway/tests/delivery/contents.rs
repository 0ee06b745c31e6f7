//! What a message may consist of.

use clawchat_testkit::Person::{Alice, Bob};
use serde_json::{Value, json};

use crate::common::{Gate, WAIT, pair};

#[tokio::test(flavor = "multi_thread")]
async fn large_strange_and_empty_texts_arrive_as_they_were_sent() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let alice = a.caller(Alice);
    let texts = [
        "x".repeat(1024 * 1024),
        "þ𝄞\u{202e}漢字\u{0}\u{7f}\r\n\t\"\\ 👩‍👩‍👧‍👦 e\u{301}".to_owned(),
        String::new(),
        "y".repeat(4 * 1024 * 1024),
        "last".to_owned(),
    ];
    for text in &texts {
        alice.deliver(Bob.principal(), text).await;
    }
    let arrived = b.caller(Bob).texts().await;
    assert!(arrived == texts, "{} messages", arrived.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_pipelined_arrive_in_order_near_and_far() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    // More than the window to a peer, and more than one commit between neighbours may hold.
    let loads = [(&b, Bob, 4, 1024 * 1024), (&a, Alice, 5, 4 * 1024 * 1024)];
    for (_, to, count, bytes) in loads {
        let mut line = a.caller(Alice).connect().await;
        for number in 0..count {
            let text = number.to_string().repeat(bytes);
            line.say(json!({ "cmd": "send", "to": to.principal().to_string(), "content": text }))
                .await;
        }
        for _ in 0..count {
            assert_eq!(line.hear().await["ok"], true);
        }
    }
    for (gate, person, count, bytes) in loads {
        for number in 0..count {
            let request = json!({ "cmd": "recv", "after": number, "limit": 1, "timeout": WAIT });
            let message = gate.caller(person).ok(request).await;
            let text = message[0]["content"].as_str().unwrap();
            assert_eq!(text.len(), bytes);
            assert!(text.starts_with(&number.to_string()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_arrives_beside_the_text_as_the_same_json() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let payloads = [
        json!({ "b": 1, "a": [null, true, -1.5, "x\u{0}", 18_446_744_073_709_551_615_u64] }),
        json!("a text"),
        json!(0),
        json!([]),
        nested(64),
    ];
    for payload in &payloads {
        a.caller(Alice)
            .ok(
                json!({ "cmd": "send", "to": Bob.principal().to_string(), "content": "see", "payload": payload,
                "wait": WAIT }),
            )
            .await;
    }
    let inbox = b.caller(Bob).inbox().await;
    let arrived: Vec<&Value> = inbox.iter().map(|message| &message["payload"]).collect();
    assert_eq!(arrived, payloads.iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_deep_is_refused_before_it_is_queued() {
    let a = Gate::of(&[Alice]).await;
    let alice = a.caller(Alice);
    let send = |content: String, payload: Value| json!({ "cmd": "send", "to": Alice.principal().to_string(), "content": content, "payload": payload });
    let much = "x".repeat(4 * 1024 * 1024 + 1);
    for (request, code) in [
        (send(much, Value::Null), "too_large"),
        (send("x".to_owned(), json!("x".repeat(1024 * 1024))), "too_large"),
        (send("x".to_owned(), nested(65)), "too_large"),
        (
            json!({ "cmd": "send", "to": Alice.principal().to_string(), "content": 1 }),
            "invalid_request",
        ),
        (
            json!({ "cmd": "send", "to": Alice.principal().to_string() }),
            "invalid_request",
        ),
    ] {
        assert_eq!(alice.refused(request).await, code);
    }
    assert!(alice.texts().await.is_empty());
    assert_eq!(alice.ok(json!({ "cmd": "outbox" })).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_sends_on_one_connection_are_answered_and_arrive_in_order() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let mut line = a.caller(Alice).connect().await;
    let expected: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let (to, mut ids) = (Bob.principal().to_string(), Vec::new());
    for (number, text) in expected.iter().enumerate() {
        line.say(json!({ "cmd": "send", "to": to, "content": text, "id": number }))
            .await;
        // As many under way as a connection may have.
        if number >= 200 {
            ids.push(line.hear().await);
        }
    }
    while ids.len() < expected.len() {
        ids.push(line.hear().await);
    }
    for (number, answer) in ids.iter().enumerate() {
        assert_eq!(answer["id"], number);
        assert_eq!(answer["data"]["status"], "queued");
    }
    assert_eq!(b.caller(Bob).texts_once(500).await, expected);
    let inbox = b.caller(Bob).inbox().await;
    for (sent, arrived) in ids.iter().zip(&inbox) {
        assert_eq!(sent["data"]["id"], arrived["id"]);
    }
}

/// Arrays inside each other.
fn nested(levels: u32) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}
