//! What was missed arrives, whatever happened in between.

use clawchat_testkit::Person;
use serde_json::json;

use crate::common::eventually;
use crate::support::{Peer, kept_alike};

/// More than two pages of a sync.
const MISSED: usize = 1100;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_away_gets_everything_once() {
    let alice = Peer::start(Person::Alice, &[]).await;
    let mut bob = Peer::start(Person::Bob, &[&alice]).await;
    bob.with_neighbours(1).await;
    alice.send("lobby", "before").await;
    bob.bodies_once("lobby", 1).await;
    bob.gate.stop().await;
    publish(&alice, "lobby", "missed", MISSED).await;
    bob.gate.start().await;
    bob.bodies_once("lobby", MISSED + 1).await;
    let (here, there) = (alice.history("lobby").await, bob.history("lobby").await);
    assert_eq!(here.len(), MISSED + 1);
    assert_eq!(kept_alike(&here), kept_alike(&there));
    assert!(there.iter().all(|message| message["verified"] == true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_three_ends_with_the_same_log_everywhere() {
    let alice = Peer::start(Person::Alice, &[]).await;
    let mut bob = Peer::start(Person::Bob, &[&alice]).await;
    let mut carol = Peer::start(Person::Carol, &[&bob]).await;
    bob.with_neighbours(2).await;
    let each = 60;
    for round in 0..3 {
        publish(&alice, "lobby", &format!("a{round}"), each).await;
        publish(&carol, "lobby", &format!("c{round}"), each).await;
        match round {
            // The one in the middle goes while messages flow.
            0 => bob.restart().await,
            1 => {
                carol.restart().await;
                publish(&bob, "lobby", "b", each).await;
            }
            _ => {}
        }
    }
    let total = 7 * each;
    for peer in [&alice, &bob, &carol] {
        eventually("everything everywhere", async || {
            (peer.count("lobby").await == total).then_some(())
        })
        .await;
    }
    let expected = kept_alike(&alice.history("lobby").await);
    assert_eq!(kept_alike(&bob.history("lobby").await), expected);
    assert_eq!(kept_alike(&carol.history("lobby").await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_in_the_middle_keeps_mail_for_those_who_are_not_there_at_the_same_time() {
    let bob = Peer::start(Person::Bob, &[]).await;
    let mut alice = Peer::start(Person::Alice, &[&bob]).await;
    alice.with_neighbours(1).await;
    alice.send("lobby", "for whoever comes").await;
    bob.bodies_once("lobby", 1).await;
    alice.gate.stop().await;
    let carol = Peer::start(Person::Carol, &[&bob]).await;
    assert_eq!(carol.bodies_once("lobby", 1).await, ["for whoever comes"]);
    assert_eq!(
        carol.history("lobby").await[0]["verified"],
        true,
        "the signature went through storage and sync"
    );
}

/// Sends that many messages over one connection.
async fn publish(peer: &Peer, channel: &str, body: &str, count: usize) {
    let mut line = peer.caller().connect().await;
    for number in 0..count {
        line.say(json!({ "cmd": "channel_send", "channel": channel, "body": format!("{body} {number}") }))
            .await;
        // Requests are read while answers are; a batch keeps both moving.
        if number % 100 == 99 {
            for _ in 0..100 {
                assert_eq!(line.hear().await["ok"], true);
            }
        }
    }
    for _ in 0..count % 100 {
        assert_eq!(line.hear().await["ok"], true);
    }
}
