//! Identities that come and go while the gateway runs, and one that cannot be served.

use std::fs;

use clawchat_testkit::Person::{Alice, Alice2, Bob, Carol};
use serde_json::json;

use crate::common::{Gate, PASSWORD, WAIT, copy, eventually, pair};

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_added_while_the_gateway_runs_is_served_at_once() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    alice.deliver(Bob.principal(), "hello").await;
    alice.knows(Carol, &b).await;
    let early = alice.send(Carol.principal(), "too early").await;
    alice.waiting(&early).await;

    let added = bob
        .ok(
            json!({ "cmd": "identity_add", "nick": "carol", "password": PASSWORD,
            "mnemonic": Carol.mnemonic().expose_words() }),
        )
        .await;
    assert_eq!(added["principal"], Carol.principal().to_string());
    let carol = b.caller_as("carol");
    // The sender's retry finds her; nobody has to send it again.
    alice
        .sent_once(&early, |entry| entry["status"] == "delivered")
        .await;
    bob.deliver("carol", "welcome").await;
    assert_eq!(carol.texts_once(2).await, ["too early", "welcome"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_removed_while_the_gateway_runs_is_gone_and_messages_for_it_wait() {
    let (a, b) = pair(&[Alice], &[Bob, Carol]).await;
    let (alice, bob, carol) = (a.caller(Alice), b.caller(Bob), b.caller(Carol));
    alice.deliver(Carol.principal(), "before").await;
    // Whoever waits for something of hers is told, not left waiting.
    let mut waiting = carol.connect().await;
    for (id, request) in [
        ("recv", json!({ "cmd": "recv", "after": 1, "timeout": WAIT })),
        (
            "ask",
            json!({ "cmd": "ask", "to": Alice.principal().to_string(), "content": "?", "timeout": WAIT }),
        ),
    ] {
        let mut request = request;
        request["id"] = json!(id);
        waiting.say(request).await;
    }
    a.caller(Alice).texts_once(1).await;
    let removed = bob.ok(json!({ "cmd": "identity_remove", "who": "carol" })).await;
    assert_eq!(removed["principal"], Carol.principal().to_string());
    for _ in 0..2 {
        let told = waiting.hear().await;
        assert_eq!(told["ok"], false, "{told}");
    }
    assert_eq!(carol.refused(json!({ "cmd": "inbox" })).await, "no_such_identity");
    let status = bob.ok(json!({ "cmd": "status" })).await;
    assert_eq!(status["loadedIdentities"].as_array().unwrap().len(), 1);

    // What went into her session now could fail with it, and for another reason.
    let principal = Carol.principal().to_string();
    eventually("her session is gone", async || {
        (!alice.connected().await.contains(&principal)).then_some(())
    })
    .await;
    let id = alice.send(Carol.principal(), "after").await;
    let reason = alice.waiting(&id).await;
    assert!(reason.contains("does not know this principal"), "{reason}");
    alice.deliver(Bob.principal(), "for bob").await;
    assert_eq!(bob.texts().await, ["for bob"]);

    // She comes back with everything she had.
    bob.ok(
        json!({ "cmd": "identity_add", "principal": Carol.principal().to_string(), "password": PASSWORD }),
    )
    .await;
    alice.sent_once(&id, |entry| entry["status"] == "delivered").await;
    assert_eq!(carol.texts().await, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_for_a_neighbour_that_is_not_loaded_wait_for_it() {
    let mut a = Gate::set_up(&[Alice, Alice2]);
    a.edit(|config| config["identities"][1]["autoload"] = json!(false));
    a.start().await;
    let alice = a.caller(Alice);
    let id = alice.send("alice2", "wake up").await;
    let reason = alice.waiting(&id).await;
    assert!(reason.contains("not loaded"), "{reason}");
    a.edit(|config| config["identities"][1]["autoload"] = json!(true));
    alice.ok(json!({ "cmd": "reload" })).await;
    alice.sent_once(&id, |entry| entry["status"] == "delivered").await;
    assert_eq!(a.caller(Alice2).texts().await, ["wake up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_keeps_its_identity_out_with_a_reason_and_the_others_are_served() {
    let (a, mut b) = pair(&[Alice], &[Bob, Carol]).await;
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    alice.deliver(Carol.principal(), "before").await;
    b.stop().await;
    let folder = b.store_of(Carol);
    let kept = folder.with_extension("kept");
    copy(&folder, &kept);
    damage(&folder);
    b.start().await;

    let status = bob.ok(json!({ "cmd": "status" })).await;
    let out = &status["notLoaded"][0];
    assert_eq!(out["principal"], Carol.principal().to_string());
    assert!(
        out["reason"].as_str().unwrap().contains(folder.to_str().unwrap()),
        "{out}"
    );
    alice.deliver(Bob.principal(), "for bob").await;
    let id = alice.send(Carol.principal(), "for carol").await;
    alice.waiting(&id).await;
    assert_eq!(bob.texts().await, ["for bob"]);

    // Repaired, it takes a reload.
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&kept, &folder).unwrap();
    bob.ok(json!({ "cmd": "reload" })).await;
    let status = bob.ok(json!({ "cmd": "status" })).await;
    assert_eq!(status["notLoaded"], json!([]));
    alice.sent_once(&id, |entry| entry["status"] == "delivered").await;
    assert_eq!(b.caller(Carol).texts().await, ["before", "for carol"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_could_not_be_served_and_is_removed_is_not_shown_any_more() {
    let mut a = Gate::set_up(&[Alice, Alice2]);
    fs::create_dir_all(a.store_of(Alice2)).unwrap();
    fs::write(a.store_of(Alice2).join("db"), "this is no database").unwrap();
    a.start().await;
    let alice = a.caller(Alice);
    let status = alice.ok(json!({ "cmd": "status" })).await;
    assert_eq!(status["notLoaded"].as_array().unwrap().len(), 1, "{status}");
    alice
        .ok(json!({ "cmd": "identity_remove", "who": "alice2" }))
        .await;
    let status = alice.ok(json!({ "cmd": "status" })).await;
    assert_eq!(status["notLoaded"], json!([]));
}

/// Overwrites the middle of the largest file.
fn damage(folder: &std::path::Path) {
    let mut largest: Option<(u64, std::path::PathBuf)> = None;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                folders.push(entry.path());
            } else if largest.as_ref().is_none_or(|(length, _)| meta.len() > *length) {
                largest = Some((meta.len(), entry.path()));
            }
        }
    }
    let (_, path) = largest.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for byte in &mut bytes[written / 2..written] {
        *byte ^= 0x5a;
    }
    fs::write(path, bytes).unwrap();
}
