//! Direct messages: the channel of two.

use clawchat_testkit::Person;
use serde_json::json;

use crate::common::eventually;
use crate::support::{Peer, bodies};

#[tokio::test(flavor = "multi_thread")]
async fn two_neighbours_talk_without_joining_anything() {
    let mut alice = Peer::start(Person::Alice, &[]).await;
    let mut bob = Peer::start(Person::Bob, &[&alice]).await;
    bob.with_neighbours(1).await;
    let (a, b) = (alice.name().await, bob.name().await);
    let sent = alice
        .ok(json!({ "cmd": "dm_send", "to": b, "body": "hello" }))
        .await;
    let channel = sent["channel"].as_str().unwrap().to_owned();
    assert!(channel.starts_with("dm:") && channel.contains(&a) && channel.contains(&b));
    assert_eq!(heard(&bob, &a, 1).await, ["hello"]);
    bob.ok(json!({ "cmd": "dm_send", "to": a, "body": "hello yourself" }))
        .await;
    assert_eq!(heard(&alice, &b, 2).await, ["hello", "hello yourself"]);
    let listed = alice.ok(json!({ "cmd": "channel_list" })).await;
    let entry = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["channel"] == channel.as_str());
    assert_eq!(entry.unwrap()["with"], b);

    // And so it stays, also for what is written while the other one is away.
    bob.gate.stop().await;
    alice
        .ok(json!({ "cmd": "dm_send", "to": b, "body": "are you there?" }))
        .await;
    alice.restart().await;
    bob.gate.start().await;
    assert_eq!(heard(&bob, &a, 3).await[2], "are you there?");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_who_only_met_in_a_channel_reach_each_other() {
    let bob = Peer::start(Person::Bob, &[]).await;
    let alice = Peer::start(Person::Alice, &[&bob]).await;
    let carol = Peer::start(Person::Carol, &[&bob]).await;
    bob.with_neighbours(2).await;
    let (a, c) = (alice.name().await, carol.name().await);
    alice.send("lobby", "I am Alice").await;
    carol.send("lobby", "I am Carol").await;
    for peer in [&alice, &carol] {
        peer.bodies_once("lobby", 2).await;
    }
    alice
        .ok(json!({ "cmd": "dm_send", "to": c, "body": "just you" }))
        .await;
    assert_eq!(heard(&carol, &a, 1).await, ["just you"]);
    assert_eq!(
        bob.joined().await,
        ["lobby"],
        "whoever carries it does not follow it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_means_the_gateway_of_that_peer() {
    let alice = Peer::without_port(Person::Alice).await;
    let bob = Peer::without_port(Person::Bob).await;
    alice
        .ok(
            json!({ "cmd": "peer_add", "principal": bob.person().principal().to_string(),
                    "address": bob.gate.address(), "alias": "bobby" }),
        )
        .await;
    let principal = bob.person().principal().to_string();
    eventually("a session", async || {
        let connected = alice.caller().connected().await;
        connected.contains(&principal).then_some(())
    })
    .await;
    alice.with_neighbours(1).await;
    for (who, body) in [("bobby", "one"), (principal.as_str(), "two")] {
        alice
            .ok(json!({ "cmd": "dm_send", "to": who, "body": body }))
            .await;
    }
    assert_eq!(heard(&bob, &alice.name().await, 2).await, ["one", "two"]);
    let history = alice.ok(json!({ "cmd": "dm_history", "with": "bobby" })).await;
    assert_eq!(bodies(history.as_array().unwrap()), ["one", "two"]);
    let own = alice.person().principal().to_string();
    assert_eq!(
        alice
            .caller()
            .refused(json!({ "cmd": "dm_send", "to": own, "body": "me" }))
            .await,
        "unknown_recipient"
    );
}

async fn heard(peer: &Peer, with: &str, count: usize) -> Vec<String> {
    eventually("a direct message", async || {
        let history = peer.ok(json!({ "cmd": "dm_history", "with": with })).await;
        let history = bodies(history.as_array().unwrap());
        (history.len() >= count).then_some(history)
    })
    .await
}
