//! The client at the socket of a TypeScript daemon, as recorded: it answers without ids, knows none of our additions,
//! and gives reasons without codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use common::Machine;
use serde_json::{Value, json};

/// Some 32 hexadecimal digits in place of the volatile ids of the recording.
const ID: &str = "00112233445566778899aabbccddeeff";
const BOB: &str = "stacks:ST3JJPDR32NBV4W4810F9S8AW2ESRMJHG9KPRBSM2";

/// The data of a recorded answer.
fn recorded(step: &str) -> Value {
    let ours = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/clawchat");
    let folder = std::env::var_os("CLAWCHAT_VECTORS_DIR").map_or_else(ours, PathBuf::from);
    let text = fs::read_to_string(folder.join("ipc.json")).unwrap();
    let recording: Value = serde_json::from_str(&text).unwrap();
    let steps = recording["steps"].as_array().unwrap();
    let found = steps.iter().find(|candidate| candidate["name"] == step);
    let mut response = found.unwrap_or_else(|| panic!("a step {step}"))["response"].clone();
    fill_in(&mut response);
    response
}

/// Puts values where the recording has placeholders.
fn fill_in(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("<id:") => *value = json!(ID),
        Value::String(text) if text == "<ms>" => *value = json!(1_767_225_600_456_u64),
        Value::Array(list) => list.iter_mut().for_each(fill_in),
        Value::Object(object) => object.values_mut().for_each(fill_in),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Answers every request that comes with the recorded response of a step; only who the peers are is told in between.
fn replay(machine: &Machine, step: &'static str) {
    let folder = machine.data_dir();
    fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("clawchat.sock");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let (response, peers) = (recorded(step), recorded("peers-one"));
    let tells_peers = step.starts_with("peers-");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut writer = stream.try_clone().unwrap();
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let request: Value = serde_json::from_str(&line).unwrap();
                let in_between = request["cmd"] == "peers" && !tells_peers;
                let response = if in_between { &peers } else { &response };
                if writeln!(writer, "{response}").is_err() {
                    break;
                }
            }
        }
    });
}

/// What a command prints when the daemon answers as in a step.
#[track_caller]
fn printed(step: &'static str, command: &[&str]) -> Value {
    let machine = Machine::new();
    replay(&machine, step);
    machine.run(command).json()
}

#[test]
fn lists_are_printed_as_they_come_and_only_once() {
    for (step, command) in [
        ("bob-inbox", &["inbox"][..]),
        ("bob-inbox", &["recv"]),
        ("bob-inbox", &["recv", "--since", "5", "--timeout", "1"]),
        ("outbox-after-sends", &["outbox"]),
        ("peers-one", &["peers", "list"]),
        ("inbox-empty", &["inbox"]),
        ("recv-empty-timeout", &["recv", "--timeout", "1"]),
        ("peers-empty", &["peers", "list"]),
    ] {
        assert_eq!(
            printed(step, command),
            recorded(step)["data"],
            "{step} {command:?}"
        );
    }
}

#[test]
fn what_is_said_of_the_daemon_and_its_peers_is_passed_on() {
    let status = printed("status-fresh", &["daemon", "status"]);
    assert_eq!(status["running"], true);
    for (key, value) in recorded("status-fresh")["data"].as_object().unwrap() {
        assert_eq!(status[key], *value, "{key}");
    }
    let address = "/ip4/127.0.0.1/tcp/9600/p2p/12D3KooWEcKpSWJcaZEmui8eoD1RFUGBKW3kLJWYTHz2r7RCPgtW";
    let connected = printed("connect", &["connect", address]);
    assert_eq!(connected["connected"], true);
    assert_eq!(connected["principal"], BOB);
    let added = printed("peer_add", &["peers", "add", BOB, address, "--alias", "bob"]);
    assert_eq!(
        (&added["status"], &added["alias"]),
        (&json!("added"), &json!("bob"))
    );
    assert_eq!(added["principal"], BOB);
    let removed = printed("peer_remove", &["peers", "remove", BOB]);
    assert_eq!(removed["status"], "removed");
    let resolved = printed("peer_resolve-known", &["peers", "resolve", BOB]);
    assert_eq!(resolved, recorded("peer_resolve-known")["data"]);
    let unknown = printed("peer_resolve-unknown", &["peers", "resolve", BOB]);
    assert_eq!(unknown, Value::Null);
}

#[test]
fn a_message_is_handed_over() {
    let sent = printed("send-alias", &["send", "bob", "by alias"]);
    assert_eq!(sent, json!({ "id": ID, "status": "queued" }));
}

#[test]
fn reasons_without_a_code_are_failures_with_the_same_words() {
    for (step, command) in [
        ("inbox-as-unknown", &["inbox", "--as", "nobody"][..]),
        ("send-as-unknown", &["send", BOB, "x", "--as", "nobody"]),
        ("peers-as-unknown", &["peers", "list", "--as", "nobody"]),
        ("connect-bad", &["connect", "/ip4/127.0.0.1/tcp/1"]),
        ("unknown-command", &["reply", ID, "text"]),
    ] {
        let machine = Machine::new();
        replay(&machine, step);
        let ended = machine.run(command);
        let error = ended.error(1, "failed");
        assert_eq!(error["error"], recorded(step)["error"], "{step}");
    }
}
