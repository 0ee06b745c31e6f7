//! Whom a message reaches, and whom it does not.

use clawchat_testkit::Person::{Alice, Alice2, Bob, Carol, Dave};
use serde_json::json;

use crate::common::{Gate, WAIT, contents, eventually, pair};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_the_second_identity_of_a_gateway_arrives_there_and_nowhere_else() {
    let (a, b) = pair(&[Alice], &[Bob, Carol]).await;
    let alice = a.caller(Alice);
    alice.deliver(Carol.principal(), "for carol").await;
    assert_eq!(b.caller(Carol).texts().await, ["for carol"]);
    assert!(b.caller(Bob).texts().await.is_empty());
    alice.deliver(Bob.principal(), "for bob").await;
    assert_eq!(b.caller(Bob).texts().await, ["for bob"]);
    assert_eq!(b.caller(Carol).texts().await, ["for carol"]);
    assert!(alice.texts().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_identities_that_talk_to_the_same_remote_never_cross_and_are_answered_without_a_known_address() {
    let (a, b) = pair(&[Alice, Alice2], &[Bob]).await;
    let bob = b.caller(Bob);
    for round in 0..3 {
        for person in [Alice, Alice2] {
            let text = format!("{} {round}", person.nick());
            a.caller(person).deliver(Bob.principal(), &text).await;
        }
    }
    for person in [Alice, Alice2] {
        let name = person.nick();
        let from = person.principal().to_string();
        let received = bob.ok(json!({ "cmd": "recv", "from": from })).await;
        let received = received.as_array().unwrap();
        assert_eq!(
            contents(received),
            [format!("{name} 0"), format!("{name} 1"), format!("{name} 2")]
        );
        assert!(received.iter().all(|message| message["fromNick"] == name));
        // Bob was told no address of theirs: the answer takes the way the question came.
        bob.ok(json!({ "cmd": "reply", "replyTo": received[0]["id"], "content": name, "wait": WAIT }))
            .await;
    }
    for person in [Alice, Alice2] {
        assert_eq!(a.caller(person).texts().await, [person.nick()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_unknown_at_that_gateway_stays_pending_and_reaches_nobody_else() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let alice = a.caller(Alice);
    // Somebody wrong about where Dave is.
    alice.knows(Dave, &b).await;
    let id = alice.send(Dave.principal(), "for dave").await;
    let reason = alice.waiting(&id).await;
    assert!(reason.contains("does not know this principal"), "{reason}");
    alice.deliver(Bob.principal(), "for bob").await;
    assert_eq!(b.caller(Bob).texts().await, ["for bob"]);
    assert_eq!(alice.sent(&id).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_without_an_address_stays_pending_and_says_what_to_do() {
    let a = Gate::of(&[Alice]).await;
    let alice = a.caller(Alice);
    let id = alice.send(Dave.principal(), "for dave").await;
    let reason = alice.waiting(&id).await;
    assert!(reason.contains("peers add"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_learned_later_delivers_what_waits_at_once() {
    let (a, b) = tokio::join!(Gate::of(&[Alice]), Gate::of(&[Bob]));
    let alice = a.caller(Alice);
    let id = alice.send(Bob.principal(), "hello").await;
    alice.waiting(&id).await;
    alice.knows(Bob, &b).await;
    alice.sent_once(&id, |entry| entry["status"] == "delivered").await;
    assert_eq!(b.caller(Bob).texts().await, ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_moved_is_found_at_its_new_address_though_its_old_gateway_is_still_there() {
    let (a, mut b) = pair(&[Alice], &[Bob, Carol]).await;
    let alice = a.caller(Alice);
    alice.deliver(Bob.principal(), "before").await;
    alice.deliver(Carol.principal(), "before").await;
    b.stop().await;
    b.offline(json!({ "cmd": "identity_remove", "who": "carol" }));
    let (started, c) = tokio::join!(b.start(), Gate::of(&[Carol]));
    let () = started;
    alice.deliver(Bob.principal(), "still there").await;
    alice.knows(Carol, &c).await;
    alice.deliver(Carol.principal(), "after").await;
    assert_eq!(c.caller(Carol).texts().await, ["after"]);
    assert_eq!(b.caller(Bob).texts().await, ["before", "still there"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_oneself_arrives() {
    let a = Gate::of(&[Alice, Alice2]).await;
    let alice = a.caller(Alice);
    alice.deliver(Alice.principal(), "by principal").await;
    alice.deliver("alice", "by nickname").await;
    assert_eq!(alice.texts().await, ["by principal", "by nickname"]);
    assert!(a.caller(Alice2).texts().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn co_hosted_identities_reach_each_other_by_nickname_in_order() {
    let a = Gate::of(&[Alice, Alice2]).await;
    let (alice, second) = (a.caller(Alice), a.caller(Alice2));
    for number in 0..20 {
        alice.send("alice2", &format!("{number}")).await;
    }
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(second.texts_once(20).await, expected);
    second.deliver("alice", "back").await;
    assert_eq!(alice.texts().await, ["back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_mean_an_alias_of_ones_own_peers_or_a_co_hosted_nickname_and_anything_else_is_refused_at_once()
{
    let (a, b) = pair(&[Alice, Alice2], &[Bob]).await;
    let (alice, second) = (a.caller(Alice), a.caller(Alice2));
    alice
        .ok(json!({ "cmd": "peer_add", "principal": Bob.principal().to_string(), "address": b.address(), "alias": "bobby" }))
        .await;
    alice.deliver("bobby", "hello").await;
    assert_eq!(b.caller(Bob).texts().await, ["hello"]);
    for (caller, name) in [
        // An alias belongs to the identity that gave it.
        (&second, "bobby"),
        // A remote gateway's nickname is no name here.
        (&alice, "bob"),
        (&alice, "nobody"),
        (&alice, ""),
        (&alice, "stacks:ST000"),
    ] {
        let code = caller
            .refused(json!({ "cmd": "send", "to": name, "content": "x" }))
            .await;
        assert_eq!(code, "unknown_recipient", "{name:?}");
    }
    let mainnet = Bob.identity_on(clawchat_types::Network::Mainnet);
    let code = alice
        .refused(json!({ "cmd": "send", "to": mainnet.principal().to_string(), "content": "x" }))
        .await;
    assert_eq!(code, "wrong_network");
    assert_eq!(
        alice
            .ok(json!({ "cmd": "outbox" }))
            .await
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_all_that_is_needed_to_reach_somebody() {
    let (a, b) = tokio::join!(Gate::of(&[Alice]), Gate::of(&[Bob, Carol]));
    let alice = a.caller(Alice);
    let status = b.caller(Carol).ok(json!({ "cmd": "status" })).await;
    let added = alice
        .ok(json!({ "cmd": "peer_add", "invite": status["invite"], "alias": "carol" }))
        .await;
    assert_eq!(added["principal"], Carol.principal().to_string());
    alice.deliver("carol", "hello").await;
    assert_eq!(b.caller(Carol).texts().await, ["hello"]);
    eventually("both see each other connected", async || {
        let there = b.caller(Carol).connected().await;
        (there == [Alice.principal().to_string()]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_to_an_address_tells_who_is_there_and_the_peer_is_known_until_it_is_removed() {
    let (a, b) = tokio::join!(Gate::of(&[Alice]), Gate::of(&[Bob, Carol]));
    let alice = a.caller(Alice);
    let addresses = b.caller(Bob).ok(json!({ "cmd": "multiaddrs" })).await;
    let connected = alice
        .ok(json!({ "cmd": "connect", "multiaddr": addresses[0] }))
        .await;
    assert_eq!(connected["connected"], true);
    assert_eq!(connected["principal"], Bob.principal().to_string());
    alice.deliver(Bob.principal(), "hello").await;
    assert_eq!(b.caller(Bob).texts().await, ["hello"]);
    // All that it said of itself, so that nothing is left to be noted when it is removed.
    let peer = eventually("the peer and its addresses are noted", async || {
        let peers = alice.ok(json!({ "cmd": "peers" })).await;
        let reported = peers[0]["addresses"].to_string().contains("/quic-v1");
        (reported && !peers[0]["address"].is_null()).then(|| peers[0].clone())
    })
    .await;
    assert_eq!(peer["principal"], Bob.principal().to_string());
    assert_eq!(peer["connected"], true);
    let who = Bob.principal().to_string();
    let removed = alice.ok(json!({ "cmd": "peer_remove", "principal": who })).await;
    assert_eq!(removed["removed"], true);
    assert_eq!(alice.ok(json!({ "cmd": "peers" })).await, json!([]));
    let nobody = alice
        .refused(json!({ "cmd": "connect", "multiaddr": "127.0.0.1:1" }))
        .await;
    assert_eq!(nobody, "network");
    let itself = alice
        .refused(json!({ "cmd": "connect", "multiaddr": a.address() }))
        .await;
    assert_eq!(itself, "invalid_request");
}
