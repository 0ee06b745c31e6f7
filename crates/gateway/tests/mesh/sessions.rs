//! The mesh over sessions between gateways: no port of its own.

use clawchat_testkit::Person;
use serde_json::json;

use crate::common::eventually;
use crate::support::Peer;

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_know_each_other_are_neighbours() {
    let mut alice = Peer::without_port(Person::Alice).await;
    let mut bob = Peer::without_port(Person::Bob).await;
    alice.caller().knows(bob.person(), &bob.gate).await;
    let links = alice.with_neighbours(1).await;
    assert_eq!(links[0]["peerId"], bob.name().await);
    assert!(
        links[0]["address"].as_str().unwrap().starts_with("/p2p/"),
        "{links:?}"
    );
    bob.with_neighbours(1).await;
    alice.send("lobby", "hello").await;
    assert_eq!(bob.bodies_once("lobby", 1).await, ["hello"]);

    // Whoever of the two goes, the link comes back with the session, and what was missed with the link.
    bob.gate.stop().await;
    alice.send("lobby", "while you were away").await;
    bob.gate.start().await;
    bob.bodies_once("lobby", 2).await;
    alice.gate.stop().await;
    bob.send("lobby", "while you were away, too").await;
    alice.gate.start().await;
    assert_eq!(
        alice.bodies_once("lobby", 3).await,
        ["hello", "while you were away", "while you were away, too"]
    );
    alice.with_neighbours(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_carriers_meet_in_one_mesh() {
    let alice = Peer::without_port(Person::Alice).await;
    let bob = Peer::start(Person::Bob, &[]).await;
    let carol = Peer::start(Person::Carol, &[&bob]).await;
    alice.caller().knows(bob.person(), &bob.gate).await;
    bob.with_neighbours(2).await;
    alice.send("lobby", "over a session").await;
    carol.send("lobby", "over a WebSocket").await;
    for peer in [&alice, &bob, &carol] {
        eventually("both", async || (peer.count("lobby").await == 2).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_links_with_one_gateway_one_is_fed_and_the_other_is_there_when_it_ends() {
    let alice = Peer::start(Person::Alice, &[]).await;
    let bob = Peer::start(Person::Bob, &[&alice]).await;
    bob.with_neighbours(1).await;
    alice.caller().knows(bob.person(), &bob.gate).await;
    alice.with_neighbours(2).await;
    bob.with_neighbours(2).await;
    let fed = async || {
        let status = alice.ok(json!({ "cmd": "status" })).await;
        status["mesh"]["counters"]["fed"].as_u64().unwrap()
    };
    // Bob has said on both what he follows.
    let subscribed = async || alice.links().await.iter().all(|link| link["subscriptions"] != 0);
    eventually("subscriptions", async || subscribed().await.then_some(())).await;
    let before = fed().await;
    for number in 0..20 {
        alice.send("lobby", &number.to_string()).await;
    }
    bob.bodies_once("lobby", 20).await;
    assert_eq!(fed().await - before, 20, "each once, though there are two links");

    let remove = json!({ "cmd": "peer_remove", "principal": bob.person().principal() });
    alice.ok(remove).await;
    alice.send("lobby", "whichever is left").await;
    assert_eq!(
        bob.bodies_once("lobby", 21).await.last().unwrap(),
        "whichever is left"
    );
}
