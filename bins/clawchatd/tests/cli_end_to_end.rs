//! The command line against real daemons: what an agent does, from setup to conversation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Command;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use common::{Ended, Home, acquainted};
use serde_json::{Value, json};

/// How long anything may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(120);
/// The same as an argument, in seconds.
const LONG: &str = "120";

#[test]
fn two_gateways_hold_a_conversation() {
    let (alice, bob) = acquainted();

    let sent = alice
        .run(&["send", "bob", "hello", "--payload", "{\"n\":1}", "--wait", LONG])
        .json();
    assert_eq!(sent["status"], "delivered");
    let received = bob.run(&["recv", "--unread"]).json();
    assert_eq!(received.as_array().unwrap().len(), 1, "{received}");
    let message = &received[0];
    assert_eq!(message["id"], sent["id"]);
    assert_eq!(message["from"], alice.principal());
    assert_eq!(message["fromNick"], "alice");
    assert_eq!(message["to"], bob.principal());
    assert_eq!(message["content"], "hello");
    assert_eq!(message["payload"], json!({"n": 1}));
    assert_eq!(message["status"], "delivered");
    assert!(
        message["timestamp"].is_u64() && message["receivedAt"].is_u64(),
        "{message}"
    );
    assert_eq!(bob.run(&["recv", "--unread"]).json(), json!([]));

    let id = message["id"].as_str().unwrap();
    assert_eq!(
        bob.run(&["reply", id, "hello yourself", "--wait", LONG]).json()["status"],
        "delivered"
    );
    let answer = alice.run(&["recv", "--timeout", LONG]).json();
    assert_eq!(answer[0]["content"], "hello yourself");
    assert_eq!(answer[0]["replyTo"], id);
    assert_eq!(alice.run(&["outbox"]).json()[0]["status"], "delivered");

    let since = answer[0]["receivedAt"].to_string();
    assert_eq!(
        alice.run(&["recv", "--since", &since, "--timeout", "0.2"]).json(),
        json!([])
    );

    let peers = alice.run(&["peers", "list"]).json();
    assert_eq!(
        (&peers[0]["alias"], &peers[0]["connected"]),
        (&json!("bob"), &json!(true))
    );
    let status = alice.run(&["daemon", "status"]).json();
    assert_eq!(status["connectedPeers"], json!([bob.principal()]));
    assert_eq!(
        (&status["inboxCount"], &status["outboxCount"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn a_question_is_answered_and_watch_shows_it_through_a_restart() {
    let (alice, bob) = acquainted();
    let mut watch = bob.spawn(&["watch"]);
    let stdout = BufReader::new(watch.stdout.take().unwrap());
    let (said, shown) = sync_channel(256);
    let reading = thread::spawn(move || {
        for line in stdout.lines() {
            let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let _ = said.send(message["content"].as_str().unwrap().to_owned());
        }
    });
    let next = || shown.recv_timeout(PATIENCE).expect("watch shows one more");
    // It shows what comes once it follows, and nothing tells when that is: bob writes to himself until it does.
    let (own, begun) = (bob.principal(), Instant::now());
    let (mut written, mut note) = (0, None);
    while note.is_none() {
        assert!(begun.elapsed() < PATIENCE, "watch shows nothing");
        written += 1;
        bob.run(&["send", &own, &written.to_string(), "--wait", LONG])
            .json();
        note = shown.recv_timeout(Duration::from_millis(200)).ok();
    }
    for number in note.unwrap().parse::<u32>().unwrap() + 1..=written {
        assert_eq!(next(), number.to_string());
    }

    thread::scope(|scope| {
        let asking = scope.spawn(|| alice.run(&["ask", "bob", "well?", "--timeout", LONG]));
        let question = bob.run(&["recv", "--from", "alice", "--timeout", LONG]).json();
        let id = question[0]["id"].as_str().unwrap();
        bob.run(&["reply", id, "well."]).json();
        let reply = asking.join().unwrap().json();
        assert_eq!(
            (&reply["content"], &reply["replyTo"]),
            (&json!("well."), &json!(id))
        );
    });
    alice.run(&["send", "bob", "first", "--wait", LONG]).json();
    assert_eq!((next(), next()), ("well?".to_owned(), "first".to_owned()));

    assert_eq!(bob.run(&["daemon", "stop"]).json(), json!({"status": "stopped"}));
    let queued = alice.run(&["send", "bob", "second"]).json();
    assert_eq!(queued["status"], "queued");
    bob.run(&["daemon", "start"]).json();
    assert_eq!(next(), "second");

    let pid = watch.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    reading.join().unwrap();
}

#[test]
fn what_cannot_be_delivered_ends_with_the_contracts_codes() {
    let (alice, bob) = acquainted();
    alice.run(&["send", "nobody", "x"]).error(4, "unknown_recipient");
    alice
        .run(&["send", "bob", "x", "--as", "nobody"])
        .error(4, "no_such_identity");
    alice.run(&["peers", "remove", "nobody"]).error(4, "no_such_peer");
    alice
        .run(&["reply", &"0".repeat(32), "x"])
        .error(4, "no_such_message");

    bob.run(&["gateway", "identity", "deny", "bob", "*"]).json();
    let refused = alice.run(&["send", "bob", "not for you", "--wait", LONG]);
    refused.error(5, "not_allowed");
    assert_eq!(alice.run(&["outbox"]).json()[0]["status"], "failed");
    bob.run(&["gateway", "identity", "allow", "bob", &alice.principal()])
        .json();
    assert_eq!(
        alice.run(&["send", "bob", "now?", "--wait", LONG]).json()["status"],
        "delivered"
    );
    assert_eq!(bob.run(&["inbox"]).json().as_array().unwrap().len(), 1);

    bob.run(&["daemon", "stop"]).json();
    let begun = Instant::now();
    while alice.run(&["daemon", "status"]).json()["connectedPeers"] != json!([]) {
        assert!(begun.elapsed() < PATIENCE, "the end of bob is not noticed");
    }
    let late = alice.run(&["send", "bob", "later", "--wait", "0.3"]);
    let error = late.error(6, "timeout");
    let id = error["data"]["id"].clone();
    assert_eq!(
        serde_json::from_str::<Value>(&late.stdout).unwrap(),
        json!({"status": "queued", "id": id})
    );
    let outbox = alice.run(&["outbox"]).json();
    let entry = outbox.as_array().unwrap().last().unwrap();
    assert_eq!((&entry["id"], &entry["status"]), (&id, &json!("pending")));
}

#[test]
fn a_second_identity_is_hosted_and_named_at_once() {
    let (alice, bob) = acquainted();
    let second = alice
        .run(&["gateway", "identity", "add", "--nick", "carol"])
        .json();
    assert_eq!(
        (&second["status"], &second["nick"]),
        (&json!("added"), &json!("carol"))
    );
    let listed = alice.run(&["gateway", "identity", "list"]).json();
    let identities = listed["identities"].as_array().unwrap();
    assert_eq!(identities.len(), 2);
    assert!(
        identities.iter().all(|identity| identity["loaded"] == true),
        "{listed}"
    );

    // Between identities of one gateway, by nickname.
    alice
        .run(&["send", "carol", "hello in there", "--wait", LONG])
        .json();
    assert_eq!(
        alice.run(&["inbox", "--as", "carol"]).json()[0]["content"],
        "hello in there"
    );
    assert_eq!(alice.run(&["inbox"]).json(), json!([]));

    // From outside to the second one.
    let principal = second["principal"].as_str().unwrap();
    bob.run(&["peers", "add", principal, &alice.address(), "--alias", "carol"])
        .json();
    bob.run(&["send", "carol", "hello from outside", "--wait", LONG])
        .json();
    let inbox = alice.run(&["inbox", "--as", principal]).json();
    assert_eq!(inbox[1]["content"], "hello from outside");

    alice
        .run(&["identity", "set-nick", "caroline", "--as", "carol"])
        .json();
    let shown = alice.run(&["identity", "show", "--as", "caroline"]).json();
    assert_eq!(shown["displayName"], format!("{principal}(caroline)"));
    let removed = alice.run(&["gateway", "identity", "remove", "caroline"]).json();
    assert_eq!(removed, json!({"status": "removed", "principal": principal}));
    alice
        .run(&["inbox", "--as", "caroline"])
        .error(4, "no_such_identity");
}

#[test]
fn setting_up_is_refused_twice_and_works_offline() {
    let home = Home::with_gateway("alice");
    home.run(&["gateway", "init"]).error(1, "already_initialized");
    assert_eq!(home.run(&["identity", "clear-nick"]).json()["nick"], Value::Null);
    home.run(&["gateway", "identity", "allow", &home.principal(), "*"])
        .json();
    let listed = home.run(&["gateway", "identity", "list"]).json();
    assert_eq!(listed["identities"][0]["loaded"], false);
    assert_eq!(listed["identities"][0]["allowedRemotePeers"], json!(["*"]));
    home.run(&["inbox"]).error(3, "not_running");
}

#[test]
fn recovering_gives_the_same_principal_again() {
    let home = Home::empty();
    let made = home
        .run(&["gateway", "init", "--nick", "alice", "--mainnet"])
        .json();
    let words = made["mnemonic"].as_str().unwrap();
    assert_eq!(words.split(' ').count(), 24);
    let other = Home::empty();
    let file = other.data_dir().with_extension("words");
    fs::write(&file, format!("{words}\n")).unwrap();
    let recovered = other
        .run(&[
            "identity",
            "recover",
            "--mainnet",
            "--mnemonic-file",
            file.to_str().unwrap(),
        ])
        .json();
    assert_eq!(recovered["principal"], made["principal"]);
    assert!(recovered["principal"].as_str().unwrap().starts_with("stacks:SP"));
}

#[test]
fn a_wrong_password_is_refused_with_5_and_none_with_the_flags_name() {
    let home = Home::with_gateway("alice");
    let file = home.data_dir().with_extension("wrong");
    fs::write(&file, "not the right password").unwrap();
    let wrong = home.run(&["daemon", "start", "--password-file", file.to_str().unwrap()]);
    wrong.error(5, "wrong_password");
    let none = Ended::from(
        home.command_without_password(&["daemon", "start"])
            .output()
            .unwrap(),
    );
    assert!(
        none.error(2, "password_required")["hint"]
            .as_str()
            .unwrap()
            .contains("--password-file")
    );
    assert_eq!(home.run(&["daemon", "status"]).json(), json!({"running": false}));
}

#[test]
fn up_is_all_that_is_needed_and_can_be_repeated() {
    let home = Home::empty();
    let port = home.port.to_string();
    let up = || {
        Ended::from(
            home.command_without_password(&["up", "--nick", "alice", "--port", &port])
                .output()
                .unwrap(),
        )
    };
    let first = up().json();
    assert_eq!(
        (&first["created"], &first["started"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(first["mnemonic"].as_str().unwrap().split(' ').count(), 24);
    assert!(first["invite"].as_str().unwrap().starts_with("clawchat:"));
    let again = up().json();
    assert_eq!(
        (&again["created"], &again["started"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(again["principal"], first["principal"]);
    assert!(again["mnemonic"].is_null());

    let start = home.run(&["daemon", "start"]);
    start.error(1, "already_running");
    assert_eq!(home.run(&["daemon", "stop"]).json(), json!({"status": "stopped"}));
    assert_eq!(
        home.run(&["daemon", "stop"]).json(),
        json!({"status": "not_running"})
    );
    let after = up().json();
    assert_eq!(
        (&after["created"], &after["started"]),
        (&json!(false), &json!(true))
    );

    let other = Home::serving("bob");
    let added = other
        .run(&[
            "peers",
            "add",
            first["invite"].as_str().unwrap(),
            "--alias",
            "alice",
        ])
        .json();
    assert_eq!(added["status"], "added");
    assert_eq!(
        other.run(&["send", "alice", "by invite", "--wait", LONG]).json()["status"],
        "delivered"
    );
}

#[test]
fn the_demonstration_ends_by_itself_and_leaves_nothing() {
    let home = Home::empty();
    let before = fs::read_dir(home.data_dir().parent().unwrap()).unwrap().count();
    let demo = home.run(&["demo"]);
    assert_eq!(demo.code, 0, "{}\n{}", demo.stdout, demo.stderr);
    let events: Vec<Value> = demo
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert_eq!(
        (count("gateway"), count("receipt"), count("reply"), count("done")),
        (2, 3, 1, 1),
        "{}",
        demo.stdout
    );
    assert!(
        events
            .iter()
            .filter(|event| event["event"] == "receipt")
            .all(|event| event["status"] == "delivered")
    );
    assert_eq!(
        fs::read_dir(home.data_dir().parent().unwrap()).unwrap().count(),
        before
    );
}

#[test]
fn an_interrupted_demonstration_leaves_nothing_either() {
    let home = Home::empty();
    let count = || fs::read_dir(home.data_dir().parent().unwrap()).unwrap().count();
    let before = count();
    let mut demo = home.spawn(&["demo"]);
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("begin"));
    assert!(lines.next().unwrap().unwrap().contains("gateway"));
    let pid = demo.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    assert_eq!(count(), before);
}
