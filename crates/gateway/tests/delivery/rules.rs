//! Access rules: who may talk to whom, and how a change of mind takes effect.

use std::time::Duration;

use clawchat_testkit::Person::{Alice, Alice2, Bob, Carol};
use clawchat_testkit::Stopwatch;
use serde_json::{Value, json};

use crate::common::{Caller, Gate, eventually, pair};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_sender_hears_at_once_why_and_an_allowed_one_gets_through_without_a_restart() {
    let (a, b) = tokio::join!(Gate::of(&[Alice]), Gate::of(&[Bob]));
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    only(&bob, "bob", Some(&Carol.principal().to_string())).await;
    alice.knows(Bob, &b).await;

    let watch = Stopwatch::start();
    let refused = alice.deliver_or_not(Bob.principal(), "let me in").await;
    assert!(watch.elapsed() < Duration::from_secs(5), "{:?}", watch.elapsed());
    assert_eq!(refused["code"], "not_allowed", "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("access list"));
    let entry = alice.sent(refused["data"]["id"].as_str().unwrap()).await;
    assert_eq!(entry["status"], "failed");
    assert!(entry["lastError"].as_str().unwrap().contains("not_allowed"));

    allow(&bob, "bob", &Alice.principal().to_string()).await;
    alice.deliver(Bob.principal(), "thank you").await;
    assert_eq!(bob.texts().await, ["thank you"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn denying_a_peer_closes_its_session_and_refuses_what_it_sends_from_then_on() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    alice.deliver(Bob.principal(), "before").await;
    let mut events = bob.subscribe(json!({ "events": ["peer"] })).await;
    bob.ok(json!({ "cmd": "identity_deny", "who": "bob", "peer": Alice.principal().to_string() }))
        .await;
    let gone = events.hear_until(|line| line["event"] == "peer").await;
    assert_eq!(gone["connected"], false);
    let refused = alice.deliver_or_not(Bob.principal(), "after").await;
    assert_eq!(refused["code"], "not_allowed", "{refused}");
    // Everybody else is welcome as before.
    let c = Gate::of(&[Carol]).await;
    c.caller(Carol).knows(Bob, &b).await;
    c.caller(Carol).deliver(Bob.principal(), "carol").await;
    assert_eq!(bob.texts().await, ["before", "carol"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_one_writes_to_is_refused_in_the_other_direction_while_not_allowed() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    only(&alice, "alice", None).await;
    // The session stands, opened by Alice, who is allowed at Bob's.
    alice.deliver(Bob.principal(), "listen").await;
    let answer = bob.deliver_or_not(Alice.principal(), "no, you").await;
    assert_eq!(answer["code"], "not_allowed", "{answer}");
    assert!(alice.texts().await.is_empty());
    allow(&alice, "alice", &Bob.principal().to_string()).await;
    bob.deliver(Alice.principal(), "now").await;
    assert_eq!(alice.texts().await, ["now"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_identity_is_as_open_as_its_own_list_says_not_as_its_neighbours() {
    let (a, b) = pair(&[Alice, Alice2], &[Bob, Carol]).await;
    only(&b.caller(Carol), "carol", Some(&Alice2.principal().to_string())).await;
    a.caller(Alice).deliver(Bob.principal(), "to bob").await;
    a.caller(Alice2).deliver(Carol.principal(), "to carol").await;
    let refused = a
        .caller(Alice)
        .deliver_or_not(Carol.principal(), "to carol")
        .await;
    assert_eq!(refused["code"], "not_allowed", "{refused}");
    assert_eq!(b.caller(Carol).texts().await, ["to carol"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_closed_to_its_neighbours_refuses_them_but_not_itself() {
    let mut a = Gate::set_up(&[Alice, Alice2]);
    a.edit(|config| config["identities"][1]["allowLocal"] = json!(false));
    a.start().await;
    let (alice, second) = (a.caller(Alice), a.caller(Alice2));
    let refused = alice.deliver_or_not("alice2", "hello neighbour").await;
    assert_eq!(refused["code"], "not_allowed", "{refused}");
    second.deliver("alice2", "a note").await;
    second.deliver("alice", "a word").await;
    assert_eq!(second.texts().await, ["a note"]);
    assert_eq!(alice.texts().await, ["a word"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_configuration_counts_after_a_reload_and_an_invalid_one_changes_nothing() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    b.edit(|config| config["identities"][0]["allowedRemotePeers"] = json!([]));
    alice.deliver(Bob.principal(), "not read yet").await;
    bob.ok(json!({ "cmd": "reload" })).await;
    let refused = alice.deliver_or_not(Bob.principal(), "x").await;
    assert_eq!(refused["code"], "not_allowed", "{refused}");

    b.edit(|config| config["identities"][0]["allowedRemotePeers"] = json!("everybody"));
    let failure = bob.ask(json!({ "cmd": "reload" })).await;
    assert_eq!(failure["ok"], false, "{failure}");
    let refused = alice.deliver_or_not(Bob.principal(), "x").await;
    assert_eq!(refused["code"], "not_allowed", "{refused}");
    assert_eq!(bob.texts().await, ["not read yet"]);

    b.edit(|config| {
        config["identities"][0]["allowedRemotePeers"] = json!(["*"]);
        config["identities"][0]["nick"] = json!("robert");
    });
    b.hang_up().await;
    eventually("the new name counts", async || {
        let named = b.caller_as("robert").ask(json!({ "cmd": "inbox" })).await;
        (named["ok"] == true).then_some(())
    })
    .await;
    alice.deliver(Bob.principal(), "open again").await;
    assert_eq!(bob.texts().await, ["not read yet", "open again"]);
}

async fn allow(caller: &Caller, who: &str, peer: &str) {
    caller
        .ok(json!({ "cmd": "identity_allow", "who": who, "peer": peer }))
        .await;
}

/// Takes everybody off the list but one.
async fn only(caller: &Caller, who: &str, peer: Option<&str>) {
    let denied = caller
        .ok(json!({ "cmd": "identity_deny", "who": who, "peer": "*" }))
        .await;
    assert_eq!(denied["allowedRemotePeers"], Value::Array(Vec::new()));
    if let Some(peer) = peer {
        allow(caller, who, peer).await;
    }
}
