//! What the daemon counts, and where it is to be read.

use std::collections::BTreeSet;

use clawchat_testkit::Person::{Alice, Bob};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::{Gate, eventually, free_port, pair, within};

const DOCUMENT: &str = include_str!("../../../../docs/METRICS.md");

/// The names in the first column of the document's tables.
fn documented() -> BTreeSet<&'static str> {
    let names = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    names.filter_map(|line| line.split('`').next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_every_documented_one_is_there() {
    let gate = Gate::of(&[Bob]).await;
    let answer = gate.caller(Bob).ok(json!({ "cmd": "metrics" })).await;
    let metrics = answer["metrics"].as_array().unwrap();
    let shown: BTreeSet<&str> = metrics
        .iter()
        .map(|metric| metric["name"].as_str().unwrap())
        .collect();
    assert_eq!(shown.len(), metrics.len(), "each once");
    assert_eq!(shown, documented());
    for metric in metrics {
        let name = metric["name"].as_str().unwrap();
        let row = DOCUMENT
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap();
        let kind = metric["type"].as_str().unwrap();
        assert!(row.contains(&format!("| {kind} |")), "{row}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert!(!metric["help"].as_str().unwrap().is_empty());
        for sample in metric["samples"].as_array().unwrap() {
            assert!(sample["value"].is_u64(), "{metric}");
            for (label, word) in sample["labels"].as_object().into_iter().flatten() {
                assert!(row.contains(&format!("`{label}`")), "{name}: {label}");
                let version = word == env!("CARGO_PKG_VERSION");
                let word = format!("`{}`", word.as_str().unwrap());
                assert!(version || row.contains(&word), "{name}: {word}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_counted_on_both_sides_and_nobody_is_named() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    for number in 0..3 {
        a.caller(Alice)
            .deliver(Bob.principal(), &format!("secret {number}"))
            .await;
    }
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    assert_eq!(bob.metric("clawchat_messages_received_total", "stored").await, 3);
    assert_eq!(bob.metric("clawchat_stored_messages", "inbox").await, 3);
    assert_eq!(alice.metric("clawchat_messages_sent_total", "delivered").await, 3);
    assert_eq!(alice.metric("clawchat_stored_messages", "outbox").await, 3);
    assert!(alice.metric("clawchat_store_bytes", "").await > 1000);
    assert!(bob.metric("clawchat_connections", "").await >= 1);
    assert_eq!(bob.metric("clawchat_sessions", "snap2p/2").await, 1);
    assert!(bob.metric("clawchat_handshakes_ended_total", "session").await >= 1);
    assert!(bob.metric("clawchat_start_time_seconds", "").await > 1_700_000_000);
    for caller in [alice, bob] {
        let text = caller.ok(json!({ "cmd": "metrics", "text": true })).await;
        let text = text["text"].as_str().unwrap();
        for word in ["stacks:", "12D3KooW", "/ip4/", "127.0.0.1", "secret"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_over_http_where_the_configuration_says() {
    let mut gate = Gate::set_up(&[Bob]);
    let port = free_port();
    gate.edit(|config| config["metrics"] = json!({ "listen": format!("127.0.0.1:{port}") }));
    gate.start().await;
    let get = async |request: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await.unwrap();
        text
    };
    // Some who connect and say nothing, fewer than there are places.
    let mut silent = Vec::new();
    for _ in 0..7 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let told = get("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", body.len())),
        "{head}"
    );
    let names: BTreeSet<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names, documented());
    assert!(
        get("GET /secret HTTP/1.1\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
    // More of them than there are places: the next one waits until their time is over.
    for _ in 0..8 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    assert!(
        get("GET /metrics HTTP/1.1\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    gate.stop().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn knocks_and_closed_doors_are_counted() {
    let mut bob_gate = Gate::set_up(&[Bob]);
    bob_gate.edit(|config| config["identities"][0]["visibility"] = json!("stealth"));
    bob_gate.start().await;
    let alice_gate = Gate::of(&[Alice]).await;
    let (bob, alice) = (bob_gate.caller(Bob), alice_gate.caller(Alice));
    alice.knows(Bob, &bob_gate).await;
    let id = alice.send(Bob.principal(), "hello?").await;
    alice.waiting(&id).await;
    assert!(bob.metric("clawchat_sessions_refused_total", "nobody").await >= 1);
    assert_eq!(bob.metric("clawchat_knocks_total", "refused").await, 0);

    let invite = bob.ok(json!({ "cmd": "invite_create", "uses": 1 })).await;
    alice
        .ok(json!({ "cmd": "peer_add", "invite": invite["invite"] }))
        .await;
    alice.sent_once(&id, |entry| entry["status"] == "delivered").await;
    assert!(bob.metric("clawchat_knocks_total", "opened").await >= 1);

    bob.ok(json!({ "cmd": "invite_revoke", "invite": invite["invite"] }))
        .await;
    eventually("a knock is refused", async || {
        alice.send(Bob.principal(), "still there?").await;
        (bob.metric("clawchat_knocks_total", "refused").await > 0).then_some(())
    })
    .await;
    assert_eq!(bob.texts().await.first(), Some(&"hello?".to_owned()));
    let _: Value = bob.ok(json!({ "cmd": "status" })).await;
}
