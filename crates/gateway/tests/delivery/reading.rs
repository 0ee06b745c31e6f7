//! Reading what has arrived: each message once, in order, and as soon as it is there.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clawchat_testkit::Person::{Alice, Alice2, Bob};
use clawchat_testkit::Stopwatch;
use serde_json::{Value, json};

use crate::common::{Gate, WAIT, contents, eventually, pair};

#[tokio::test(flavor = "multi_thread")]
async fn unread_messages_are_handed_out_once_however_many_ask() {
    let a = Gate::of(&[Alice]).await;
    let alice = a.caller(Alice);
    for number in 0..30 {
        alice.send("alice", &number.to_string()).await;
    }
    alice.texts_once(30).await;
    let readers = (0..8).map(|_| {
        let alice = alice.clone();
        tokio::spawn(async move {
            let mut read = Vec::new();
            loop {
                let page = alice
                    .ok(json!({ "cmd": "recv", "unread": true, "limit": 3 }))
                    .await;
                if page == json!([]) {
                    return read;
                }
                read.extend(contents(page.as_array().unwrap()));
            }
        })
    });
    let mut all = Vec::new();
    for reader in readers.collect::<Vec<_>>() {
        let read = reader.await.unwrap();
        let numbers: Vec<u32> = read.iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "each reader sees them in order: {numbers:?}");
        all.extend(numbers);
    }
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<u32>>());
    eventually("all are marked", async || {
        let status = alice.ok(json!({ "cmd": "status" })).await;
        (status["unreadCount"] == 0).then_some(())
    })
    .await;
    assert_eq!(alice.texts().await.len(), 30, "the inbox keeps them");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_stays_read_after_a_restart_and_what_was_not_does_not() {
    let mut a = Gate::of(&[Alice]).await;
    let alice = a.caller(Alice);
    alice.deliver("alice", "one").await;
    alice.deliver("alice", "two").await;
    let page = alice
        .ok(json!({ "cmd": "recv", "unread": true, "limit": 1 }))
        .await;
    assert_eq!(contents(page.as_array().unwrap()), ["one"]);
    a.stop().await;
    a.start().await;
    let page = alice.ok(json!({ "cmd": "recv", "unread": true })).await;
    assert_eq!(contents(page.as_array().unwrap()), ["two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_on_their_way_to_a_caller_that_vanished_are_unread_again() {
    let a = Gate::of(&[Alice]).await;
    let alice = a.caller(Alice);
    // More than a socket buffers, so that the answer cannot be written completely.
    let text = "x".repeat(512 * 1024);
    for _ in 0..3 {
        alice.deliver("alice", &text).await;
    }
    let mut line = alice.connect().await;
    line.say(json!({ "cmd": "recv", "unread": true })).await;
    line.hear_a_bit().await;
    let page = alice.ok(json!({ "cmd": "recv", "unread": true })).await;
    assert_eq!(page, json!([]), "they are promised to the first");
    // Another caller waits meanwhile: it gets them as soon as the first one is gone.
    let second = tokio::spawn({
        let alice = alice.clone();
        async move {
            alice
                .ok(json!({ "cmd": "recv", "unread": true, "timeout": WAIT }))
                .await
        }
    });
    let watch = Stopwatch::start();
    drop(line);
    let page = second.await.unwrap();
    assert_eq!(page.as_array().unwrap().len(), 3);
    assert!(watch.elapsed() < Duration::from_secs(10), "{:?}", watch.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn since_after_limit_and_from_choose_what_is_returned() {
    let (a, b) = pair(&[Alice, Alice2], &[Bob]).await;
    let bob = b.caller(Bob);
    for (person, text) in [(Alice, "1"), (Alice2, "2"), (Alice, "3"), (Alice2, "4")] {
        a.caller(person).deliver(Bob.principal(), text).await;
    }
    let all = bob.inbox().await;
    assert_eq!(contents(&all), ["1", "2", "3", "4"]);
    let recv = async |more: Value| {
        let mut request = json!({ "cmd": "recv" });
        for (key, value) in more.as_object().unwrap() {
            request[key] = value.clone();
        }
        contents(bob.ok(request).await.as_array().unwrap())
    };
    assert_eq!(recv(json!({})).await, ["1", "2", "3", "4"]);
    assert_eq!(recv(json!({ "limit": 2 })).await, ["1", "2"]);
    assert_eq!(
        recv(json!({ "after": all[1]["arrival"], "limit": 1 })).await,
        ["3"]
    );
    assert_eq!(
        recv(json!({ "from": Alice2.principal().to_string() })).await,
        ["2", "4"]
    );
    // Exclusive, by the time of arrival: what came in the same millisecond is not returned again.
    let since = all[1]["receivedAt"].as_u64().unwrap();
    let newer: Vec<String> = all
        .iter()
        .filter(|message| message["receivedAt"].as_u64().unwrap() > since)
        .map(|message| message["content"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(recv(json!({ "since": since })).await, newer);
    assert_eq!(
        recv(json!({ "since": all[3]["receivedAt"] })).await,
        Vec::<String>::new()
    );
    assert_eq!(recv(json!({ "limit": 0 })).await, Vec::<String>::new());
    let code = bob.refused(json!({ "cmd": "recv", "from": "nobody" })).await;
    assert_eq!(code, "no_such_peer");
}

#[tokio::test(flavor = "multi_thread")]
async fn recv_returns_when_a_wanted_message_arrives_and_empty_when_its_time_is_up() {
    let (a, b) = pair(&[Alice, Alice2], &[Bob]).await;
    let bob = b.caller(Bob);
    let start = Instant::now();
    let nothing = bob.ok(json!({ "cmd": "recv", "timeout": 300 })).await;
    assert_eq!(nothing, json!([]));
    assert!(start.elapsed() >= Duration::from_millis(300));

    let mut waiting = bob.connect().await;
    let from = Alice2.principal().to_string();
    waiting
        .say(json!({ "cmd": "recv", "from": from, "timeout": WAIT, "id": "recv" }))
        .await;
    // What comes from somebody else does not end the wait.
    a.caller(Alice).deliver(Bob.principal(), "not this").await;
    waiting
        .say(json!({ "cmd": "multiaddrs", "id": "meanwhile" }))
        .await;
    assert_eq!(waiting.hear().await["id"], "meanwhile");
    a.caller(Alice2).deliver(Bob.principal(), "this").await;
    let page = waiting.hear().await;
    assert_eq!(page["id"], "recv");
    assert_eq!(contents(page["data"].as_array().unwrap()), ["this"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_gets_its_own_answer_and_no_other() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    let mut line = alice.connect().await;
    let to = Bob.principal().to_string();
    for question in ["first", "second"] {
        line.say(json!({ "cmd": "ask", "to": to, "content": question, "timeout": WAIT, "id": question }))
            .await;
    }
    bob.texts_once(2).await;
    let questions = bob.inbox().await;
    // Not an answer to anything.
    bob.deliver(Alice.principal(), "by the way").await;
    for question in questions.iter().rev() {
        let text = format!("re: {}", question["content"].as_str().unwrap());
        bob.ok(json!({ "cmd": "reply", "replyTo": question["id"], "content": text, "wait": WAIT }))
            .await;
    }
    let answers = [line.hear().await, line.hear().await];
    let seen: BTreeSet<(&str, &str)> = answers
        .iter()
        .map(|answer| {
            (
                answer["id"].as_str().unwrap(),
                answer["data"]["content"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        BTreeSet::from([("first", "re: first"), ("second", "re: second")])
    );
    for answer in &answers {
        let question = questions
            .iter()
            .find(|question| question["content"] == answer["id"])
            .unwrap();
        assert_eq!(answer["data"]["replyTo"], question["id"]);
    }

    let late = alice
        .ask(json!({ "cmd": "ask", "to": to, "content": "silence", "timeout": 200 }))
        .await;
    assert_eq!(late["code"], "timeout");
    assert!(late["data"]["id"].is_string());
    let unknown = "0".repeat(32);
    let code = alice
        .refused(json!({ "cmd": "reply", "replyTo": unknown, "content": "x" }))
        .await;
    assert_eq!(code, "no_such_message");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_refused_ends_at_once() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    b.caller(Bob)
        .ok(json!({ "cmd": "identity_deny", "who": "bob", "peer": Alice.principal().to_string() }))
        .await;
    let answer = a
        .caller(Alice)
        .ask(json!({ "cmd": "ask", "to": Bob.principal().to_string(), "content": "may I?", "timeout": WAIT }))
        .await;
    assert_eq!(answer["code"], "not_allowed", "{answer}");
}
