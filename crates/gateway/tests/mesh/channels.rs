//! Channels: joining, writing, reading, following, and what is refused.

use clawchat_testkit::Person;
use serde_json::json;

use crate::common::{Gate, eventually, free_port};
use crate::support::{Peer, bodies};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_with_the_neighbour_and_proven() {
    let alice = Peer::start(Person::Alice, &[]).await;
    let bob = Peer::start(Person::Bob, &[&alice]).await;
    bob.with_neighbours(1).await;
    let id = alice.send("lobby", "hello").await;
    bob.bodies_once("lobby", 1).await;
    bob.send("lobby", "hello yourself").await;
    assert_eq!(alice.bodies_once("lobby", 2).await, ["hello", "hello yourself"]);
    let history = bob.history("lobby").await;
    let first = &history[0];
    assert_eq!(first["id"], id);
    assert_eq!(first["channel"], "lobby");
    assert_eq!(first["sender"], alice.name().await);
    assert_eq!(first["verified"], true);
    assert!(first["timestamp"].as_str().unwrap().ends_with('Z'), "{first}");
    assert!(first["receivedAt"].is_u64() && first["arrival"] == 1, "{first}");

    let members = bob
        .ok(json!({ "cmd": "channel_members", "channel": "lobby" }))
        .await;
    let alice_there = members
        .as_array()
        .unwrap()
        .iter()
        .find(|member| member["self"] == false);
    let alice_there = alice_there.unwrap();
    assert_eq!(alice_there["neighbour"], true);
    assert_eq!(alice_there["messages"], 1);
    let links = bob.links().await;
    assert_eq!(links[0]["peerId"], alice.name().await);
    assert_eq!(links[0]["outbound"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_those_who_wrote_and_neighbours_who_follow() {
    let alice = Peer::start(Person::Alice, &[]).await;
    let bob = Peer::start(Person::Bob, &[&alice]).await;
    bob.with_neighbours(1).await;
    let (alice_name, bob_name) = (alice.name().await, bob.name().await);
    let join = json!({ "cmd": "channel_join", "channel": "#dev" });
    alice.ok(join.clone()).await;
    bob.ok(join).await;
    let member = async |name: &str, subscribed: bool| {
        eventually("the member", async || {
            let members = alice
                .ok(json!({ "cmd": "channel_members", "channel": "#dev" }))
                .await;
            let found = members
                .as_array()
                .unwrap()
                .iter()
                .find(|member| member["sender"] == *name)
                .cloned();
            found.filter(|member| member["subscribed"] == subscribed)
        })
        .await
    };
    // Bob has written nothing.
    let silent = member(&bob_name, true).await;
    assert_eq!(silent["messages"], 0);
    assert_eq!(
        (&silent["neighbour"], &silent["verified"]),
        (&json!(true), &json!(false))
    );
    assert!(silent["lastReceivedAt"].is_null());
    assert_eq!(member(&alice_name, true).await["self"], true);

    bob.send("#dev", "hi").await;
    alice.bodies_once("#dev", 1).await;
    bob.ok(json!({ "cmd": "channel_leave", "channel": "#dev" })).await;
    let gone = member(&bob_name, false).await;
    assert_eq!((&gone["messages"], &gone["verified"]), (&json!(1), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_it_is_can_be_asked_in_detail() {
    let port = free_port();
    let unreachable = format!("ws://127.0.0.1:{port}");
    let list = format!("http://127.0.0.1:{port}/");
    let mesh = json!({ "enabled": true, "peers": [unreachable], "bootstrap": list });
    let mut alice = Peer::with(Person::Alice, 0, mesh);
    alice.gate.start().await;
    let mesh = eventually("both failed", async || {
        let mesh = alice.ok(json!({ "cmd": "status" })).await["mesh"].clone();
        (mesh["dialing"][0]["error"].is_string() && mesh["bootstrap"]["error"].is_string()).then_some(mesh)
    })
    .await;
    assert_eq!(mesh["dialing"][0]["url"], format!("{unreachable}/"));
    assert_eq!(mesh["dialing"][0]["connected"], false);
    assert_eq!(mesh["bootstrap"]["url"], list);
    assert!(mesh["bootstrap"]["peers"].is_null() && mesh["listen"].is_null());
    assert_eq!(mesh["tls"], false);
    for _ in 0..2 {
        let checked = alice.ok(json!({ "cmd": "mesh_check" })).await;
        assert_eq!(checked, json!({ "writable": true }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_joined_and_left_survives_restarts() {
    let mut alice = Peer::start(Person::Alice, &[]).await;
    assert_eq!(alice.joined().await, ["lobby"]);
    for channel in ["#dev", "long names with spaces", "#dev"] {
        let joined = alice
            .ok(json!({ "cmd": "channel_join", "channel": channel }))
            .await;
        assert_eq!(joined, json!({ "status": "joined", "channel": channel }));
    }
    let left = alice
        .ok(json!({ "cmd": "channel_leave", "channel": "lobby" }))
        .await;
    assert_eq!(left, json!({ "status": "left", "channel": "lobby" }));
    alice.send("#dev", "still there?").await;
    for _ in 0..2 {
        alice.restart().await;
        assert_eq!(alice.joined().await, ["#dev", "long names with spaces"]);
        assert_eq!(alice.bodies("#dev").await, ["still there?"]);
    }
    alice
        .ok(json!({ "cmd": "channel_join", "channel": "lobby" }))
        .await;
    alice.restart().await;
    assert_eq!(alice.joined().await, ["#dev", "lobby", "long names with spaces"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_left_is_heard_no_longer() {
    let alice = Peer::start(Person::Alice, &[]).await;
    let bob = Peer::start(Person::Bob, &[&alice]).await;
    bob.with_neighbours(1).await;
    for peer in [&alice, &bob] {
        peer.ok(json!({ "cmd": "channel_join", "channel": "#dev" })).await;
    }
    alice.send("#dev", "one").await;
    bob.bodies_once("#dev", 1).await;
    bob.ok(json!({ "cmd": "channel_leave", "channel": "#dev" })).await;
    alice.send("#dev", "two").await;
    alice.send("lobby", "later than two").await;
    bob.bodies_once("lobby", 1).await;
    assert_eq!(bob.bodies("#dev").await, ["one"]);
    bob.ok(json!({ "cmd": "channel_join", "channel": "#dev" })).await;
    assert_eq!(bob.bodies_once("#dev", 2).await, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_goes_both_ways() {
    let alice = Peer::start(Person::Alice, &[]).await;
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.push(alice.send("lobby", &number.to_string()).await);
    }
    let part = async |more: serde_json::Value| {
        let mut request = json!({ "cmd": "channel_history", "channel": "lobby" });
        for (key, value) in more.as_object().unwrap() {
            request[key] = value.clone();
        }
        bodies(alice.ok(request).await.as_array().unwrap())
    };
    assert_eq!(part(json!({ "limit": 2 })).await, ["5", "6"]);
    assert_eq!(part(json!({ "limit": 2, "before": ids[5] })).await, ["3", "4"]);
    assert_eq!(part(json!({ "limit": 2, "after": ids[1] })).await, ["2", "3"]);
    assert_eq!(part(json!({ "after": ids[6] })).await, Vec::<String>::new());
    assert_eq!(part(json!({})).await.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_hear_each_message_once_and_go_on_where_they_were() {
    let alice = Peer::start(Person::Alice, &[]).await;
    let bob = Peer::start(Person::Bob, &[&alice]).await;
    bob.with_neighbours(1).await;
    alice.send("lobby", "before").await;
    bob.bodies_once("lobby", 1).await;
    let mut news = bob.caller().subscribe(json!({ "channels": ["lobby"] })).await;
    alice.send("lobby", "one").await;
    let event = news.hear().await;
    assert_eq!(event["event"], "channel_message");
    assert_eq!(event["channel"], "lobby");
    assert_eq!(event["message"]["body"], "one");
    bob.send("lobby", "two").await;
    assert_eq!(news.hear().await["message"]["body"], "two");
    let mut from_start = bob
        .caller()
        .subscribe(json!({ "channels": ["lobby"], "after": 0, "from": alice.name().await }))
        .await;
    for body in ["before", "one"] {
        assert_eq!(from_start.hear().await["message"]["body"], body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_what_was_not_joined_is_not_told_to_join_it() {
    let alice = Peer::without_port(Person::Alice).await;
    for (command, hint) in [
        (
            "channel_leave",
            "'clawchat channel list' shows those that are joined",
        ),
        ("channel_history", "join it first: clawchat channel join NAME"),
    ] {
        let answer = alice
            .caller()
            .ask(json!({ "cmd": command, "channel": "#no" }))
            .await;
        assert_eq!(answer["code"], "no_such_channel", "{answer}");
        assert_eq!(answer["hint"], hint, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_with_its_reason() {
    let alice = Peer::start(Person::Alice, &[]).await;
    let caller = alice.caller();
    let long = "x".repeat(300 * 1024);
    for (request, code) in [
        (json!({ "cmd": "channel_join", "channel": "" }), "invalid_request"),
        (
            json!({ "cmd": "channel_join", "channel": "c".repeat(257) }),
            "invalid_request",
        ),
        (
            json!({ "cmd": "channel_leave", "channel": "#no" }),
            "no_such_channel",
        ),
        (
            json!({ "cmd": "channel_send", "channel": "#no", "body": "x" }),
            "no_such_channel",
        ),
        (
            json!({ "cmd": "channel_history", "channel": "#no" }),
            "no_such_channel",
        ),
        (
            json!({ "cmd": "channel_members", "channel": "#no" }),
            "no_such_channel",
        ),
        (
            json!({ "cmd": "subscribe", "channels": ["#no"] }),
            "no_such_channel",
        ),
        (
            json!({ "cmd": "subscribe", "channels": ["lobby", "lobby"], "after": 1 }),
            "invalid_request",
        ),
        (
            json!({ "cmd": "channel_history", "channel": "lobby", "before": "nope" }),
            "no_such_message",
        ),
        (
            json!({ "cmd": "channel_history", "channel": "lobby", "before": "a", "after": "b" }),
            "invalid_request",
        ),
        (
            json!({ "cmd": "channel_save", "message": "nope" }),
            "no_such_message",
        ),
        (
            json!({ "cmd": "channel_send", "channel": "lobby", "body": long }),
            "too_large",
        ),
        (
            json!({ "cmd": "channel_send", "channel": "lobby", "body": "x", "payload": { "a": "x".repeat(2 << 20) } }),
            "too_large",
        ),
        (
            json!({ "cmd": "channel_send", "channel": "lobby", "body": "x", "file": { "name": "a" } }),
            "invalid_request",
        ),
        (
            json!({ "cmd": "channel_send", "channel": "lobby" }),
            "invalid_request",
        ),
        (
            json!({ "cmd": "dm_send", "to": "nobody", "body": "x" }),
            "unknown_recipient",
        ),
    ] {
        assert_eq!(caller.refused(request.clone()).await, code, "{request}");
    }
    assert_eq!(alice.count("lobby").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mesh_callers_are_told_how_to_have_one() {
    let gate = Gate::of(&[Person::Alice]).await;
    let answer = gate
        .caller(Person::Alice)
        .ask(json!({ "cmd": "channel_list" }))
        .await;
    assert_eq!(answer["code"], "unsupported", "{answer}");
    assert!(answer["hint"].as_str().unwrap().contains("mesh"), "{answer}");
    let status = gate.caller(Person::Alice).ok(json!({ "cmd": "status" })).await;
    assert!(status.get("mesh").is_none(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_does_not_keep_messages_from_being_served() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let mut peer = Peer::with(Person::Alice, 0, json!({ "enabled": true, "listen": listen }));
    peer.gate.start().await;
    let status = peer.ok(json!({ "cmd": "status" })).await;
    assert!(
        status["mesh"]["error"].as_str().unwrap().contains(&listen),
        "{status}"
    );
    assert_eq!(
        peer.caller().refused(json!({ "cmd": "channel_list" })).await,
        "network"
    );
    assert!(peer.caller().inbox().await.is_empty());
}
