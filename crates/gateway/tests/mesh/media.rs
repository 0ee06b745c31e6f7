//! Files in payloads, from one machine to the other.

use clawchat_testkit::Person;
use serde_json::json;

use crate::support::Peer;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_arrives_as_it_was_and_a_false_one_is_not_given_out() {
    let alice = Peer::start(Person::Alice, &[]).await;
    let bob = Peer::start(Person::Bob, &[&alice]).await;
    bob.with_neighbours(1).await;
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        let before = to.count("lobby").await;
        let sent = from
            .ok(json!({ "cmd": "channel_send", "channel": "lobby", "body": "look", "payload": { "n": 1.50, "2": 0, "1": 0 },
                        "file": { "name": "a.png", "data": "iVBORw0KGgo=" } }))
            .await;
        to.bodies_once("lobby", before + 1).await;
        let file = to
            .ok(json!({ "cmd": "channel_save", "message": sent["id"], "channel": "lobby" }))
            .await;
        assert_eq!(file["name"], "a.png");
        assert_eq!(file["type"], "image/png");
        assert_eq!(file["size"], 8);
        assert_eq!(file["data"], "iVBORw0KGgo=");
        assert_eq!(
            file["sha256"],
            "4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6"
        );
        assert_eq!(file["sender"], from.name().await);
        let shown = to.history("lobby").await;
        assert_eq!(shown.last().unwrap()["payload"]["n"], 1.5);
    }
    for payload in [
        json!({ "file": { "name": "a", "size": 3, "sha256": "00", "data": "YWJj" } }),
        json!({ "file": 1 }),
        json!(null),
    ] {
        let sent = alice
            .ok(json!({ "cmd": "channel_send", "channel": "lobby", "body": "x", "payload": payload }))
            .await;
        let save = json!({ "cmd": "channel_save", "message": sent["id"] });
        assert_eq!(alice.caller().refused(save).await, "failed", "{payload}");
    }
}
