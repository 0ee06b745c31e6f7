//! What happens to a gateway that serves: full disks, kills, signals, a second daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/gateways.rs"]
mod gateways;
#[path = "common/process.rs"]
mod process;
#[path = "common/wire.rs"]
mod wire;

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clawchat_ipc::client::ClientError;
use gateways::{Gateway, PASSWORD, text};
use process::stopwatch::Stopwatch;
use process::{Daemon, SmallDisk, contents, each_below, refusal};
use serde_json::{Value, json};
use wire::{Wire, assert_alive, eventually};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_clawchatd"))
}

fn set_up(name: &str) -> Gateway {
    Gateway::set_up(program(), name).unwrap()
}

/// Why a gateway refuses a request: code and text.
fn refused(gateway: &Gateway, request: &Value) -> (String, String) {
    match gateway.connect().unwrap().call_value(request) {
        Err(ClientError::Refused(failure)) => (failure.code.to_string(), failure.message),
        other => panic!("{request}: {other:?}"),
    }
}

#[test]
fn a_full_disk_refuses_messages_until_there_is_room() {
    let mut alice = Gateway::prepare(program(), "alice").unwrap();
    let Some(disk) = SmallDisk::at(&alice.home(), "64m") else {
        return;
    };
    alice.init(&json!({ "password": PASSWORD })).unwrap();
    alice.start().unwrap();
    let mut bob = set_up("bob");
    bob.start().unwrap();
    bob.learn(&alice).unwrap();
    alice.learn(&bob).unwrap();
    assert_alive(&bob, "alice");
    assert_alive(&alice, "bob");
    let config = fs::read(alice.home().join("gateway-config.json")).unwrap();

    let filler = disk.fill("filler");
    let message = json!({ "cmd": "send", "to": "bob", "content": "no room for this" });
    let (code, error) = refused(&alice, &message);
    assert_eq!(code, "storage_full", "{error}");
    assert!(error.contains("free some space"), "{error}");
    // Its settings cannot be changed either, and are not.
    let rename = json!({ "cmd": "identity_set_nick", "nick": "alicia" });
    // A file that it was just replacing may have left a page.
    disk.fill("filler");
    assert_eq!(refused(&alice, &rename).0, "storage_full");
    assert_eq!(
        fs::read(alice.home().join("gateway-config.json")).unwrap(),
        config
    );
    // Whoever writes to it keeps the message.
    let late = json!({ "cmd": "send", "to": "alice", "content": "for later" });
    let late = text(&bob.ask(&late).unwrap(), "id").unwrap();
    let entry = || {
        let outbox = bob.ask(&json!({ "cmd": "outbox" })).unwrap();
        let entries = outbox.as_array().unwrap();
        entries
            .iter()
            .find(|entry| entry["id"] == late.as_str())
            .cloned()
            .unwrap()
    };
    let waiting = eventually("bob is told why it waits", || {
        Some(entry()).filter(|entry| entry["lastError"].is_string())
    });
    assert_eq!(waiting["status"], "pending", "{waiting}");
    let status = alice.ask(&json!({ "cmd": "status" })).unwrap();
    assert_eq!(
        (&status["inboxCount"], &status["outboxCount"]),
        (&json!(1), &json!(1))
    );

    fs::remove_file(filler).unwrap();
    assert_alive(&alice, "bob");
    bob.learn(&alice).unwrap();
    eventually("bob's message arrives", || {
        (entry()["status"] == "delivered").then_some(())
    });
    let inbox = alice.ask(&json!({ "cmd": "inbox" })).unwrap();
    let contents: Vec<&Value> = inbox
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["content"])
        .collect();
    assert_eq!(json!(contents), json!(["still there?", "for later"]));
}

#[test]
fn a_gateway_starts_on_a_full_disk_or_says_why_not() {
    let mut alice = Gateway::prepare(program(), "alice").unwrap();
    let Some(disk) = SmallDisk::at(&alice.home(), "64m") else {
        return;
    };
    alice.init(&json!({ "password": PASSWORD })).unwrap();
    alice.start().unwrap();
    assert_alive(&alice, alice.principal());
    alice.stop().unwrap();

    // What is there can be read, whatever is free.
    let filler = disk.fill("filler");
    alice.start().unwrap();
    let status = alice.ask(&json!({ "cmd": "status" })).unwrap();
    assert_eq!(status["inboxCount"], 1);
    let message = json!({ "cmd": "send", "to": alice.principal(), "content": "no room for this" });
    assert_eq!(refused(&alice, &message).0, "storage_full");

    alice.kill();
    let refused = || {
        let identities = alice.home().join("identities");
        let before = contents(&identities);
        let mut command = alice.command(&alice.password_file());
        let refused = refusal(&alice, &mut command);
        assert!(contents(&identities) == before, "files were touched");
        refused
    };
    refused().expect(1, "storage_full", &["daemon.pid", "disk is full"]);
    // A store that was not closed in order is examined on a copy, for which there is no room.
    let file = File::options().write(true).open(&filler).unwrap();
    file.set_len(file.metadata().unwrap().len() - 512 * 1024).unwrap();
    drop(file);
    refused().expect(1, "storage_full", &[alice.principal(), "free some space"]);
    fs::remove_file(filler).unwrap();
    alice.start().unwrap();
    let status = alice.ask(&json!({ "cmd": "status" })).unwrap();
    assert_eq!(status["inboxCount"], 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_gateway_outlives_its_log() {
    let alice = set_up("alice");
    let mut command = alice.command(&alice.password_file());
    command.env("RUST_LOG", "trace");
    // Every write to this device fails, as on a full disk.
    let mut daemon = Daemon::spawn(&mut command, b"", Path::new("/dev/full"));
    daemon.started();
    assert_alive(&alice, alice.principal());
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), ("{\"event\":\"stopped\"}\n".to_owned(), Some(0)));
}

#[test]
fn what_a_killed_gateway_leaves_is_no_obstacle() {
    let mut alice = set_up("alice");
    alice.start().unwrap();
    let to_self = json!({ "cmd": "send", "to": alice.principal(), "content": "before", "wait": 60_000 });
    alice.ask(&to_self).unwrap();
    alice.kill();
    let socket = fs::symlink_metadata(alice.socket()).unwrap();
    assert!(socket.file_type().is_socket());
    assert!(alice.home().join("daemon.pid").exists());
    alice.start().unwrap();
    let inbox = alice.ask(&json!({ "cmd": "inbox" })).unwrap();
    assert_eq!(inbox[0]["content"], "before");
    let pid = fs::read_to_string(alice.home().join("daemon.pid")).unwrap();
    assert_eq!(pid, alice.pid().unwrap().to_string());
}

#[test]
fn one_home_has_one_daemon() {
    let mut alice = set_up("alice");
    alice.start().unwrap();
    let pid = alice.pid().unwrap().to_string();
    let mut command = alice.command(&alice.password_file());
    let second = refusal(&alice, command.args(["--port", "0"]));
    second.expect(1, "already_running", &[alice.home().to_str().unwrap(), &pid]);
    assert!(second.hint.contains("daemon stop"), "{second:?}");
    let rename = json!({ "cmd": "identity_set_nick", "nick": "alicia" });
    let error = alice.offline(&rename).unwrap_err();
    assert!(error.contains("already running"), "{error}");
    assert_eq!(fs::read_to_string(alice.home().join("daemon.pid")).unwrap(), pid);
    assert_alive(&alice, alice.principal());
}

#[test]
fn a_busy_gateway_ends_when_told_to_and_keeps_what_it_took() {
    let alice = set_up("alice");
    let mut daemon = Daemon::spawn(&mut alice.command(&alice.password_file()), b"", &alice.log_path());
    daemon.started();
    let (waiting, watching, half) = (Wire::to(&alice), Wire::to(&alice), Wire::to(&alice));
    waiting.write("{\"cmd\":\"recv\",\"timeout\":600000,\"since\":9000000000000000}\n");
    watching.write("{\"cmd\":\"subscribe\",\"events\":[\"message\"]}\n");
    half.write("{\"cmd\":");
    let mut sender = Wire::to(&alice);
    let mut taken = 0;
    for number in 0..200 {
        let message = json!({ "cmd": "send", "to": alice.principal(), "content": number.to_string() });
        sender.write(format!("{message}\n"));
    }
    for _ in 0..50 {
        assert_eq!(sender.line()["ok"], true);
        taken += 1;
    }
    let begun = Stopwatch::start();
    daemon.signal("TERM");
    let (said, exit) = daemon.ended();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!((said.as_str(), exit), ("{\"event\":\"stopped\"}\n", Some(0)));
    assert!(!alice.socket().exists() && !alice.home().join("daemon.pid").exists());
    let answers = sender.rest_before_the_end();
    taken += answers
        .lines()
        .filter(|line| line.contains("\"ok\":true"))
        .count();

    let mut alice = alice;
    alice.start().unwrap();
    wire::settle(&alice, "alice");
    let inbox = alice.ask(&json!({ "cmd": "inbox" })).unwrap();
    let inbox = inbox.as_array().unwrap();
    assert!(inbox.len() >= taken, "{} of {taken}", inbox.len());
    for (number, entry) in inbox.iter().enumerate() {
        assert_eq!(entry["content"], number.to_string());
    }
}

#[test]
fn a_hangup_applies_access_lists_names_and_identities() {
    let (mut alice, mut bob) = (set_up("alice"), set_up("bob"));
    let add = json!({ "cmd": "identity_add", "nick": "asleep", "password": PASSWORD, "autoload": false });
    let asleep = text(&alice.offline(&add).unwrap(), "principal").unwrap();
    alice.start().unwrap();
    bob.start().unwrap();
    bob.learn(&alice).unwrap();
    assert_alive(&bob, "alice");
    let loaded = || {
        let status = alice.ask(&json!({ "cmd": "status" })).unwrap();
        status["loadedIdentities"].clone()
    };
    assert_eq!(loaded().as_array().unwrap().len(), 1);

    let path = alice.home().join("gateway-config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["identities"][0]["nick"] = json!("alicia");
    config["identities"][0]["allowedRemotePeers"] = json!([asleep]);
    config["identities"][1]["autoload"] = json!(true);
    fs::write(&path, config.to_string()).unwrap();
    let hang_up = || {
        let pid = alice.pid().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", "HUP", &pid])
                .status()
                .unwrap()
                .success()
        );
    };
    hang_up();
    // It is loaded last.
    eventually("the new identity is served", || {
        (loaded().as_array().unwrap().len() == 2).then_some(())
    });
    let nicks: Vec<Value> = loaded()
        .as_array()
        .unwrap()
        .iter()
        .map(|who| who["nick"].clone())
        .collect();
    assert_eq!(json!(nicks), json!(["alicia", "asleep"]));
    let message = json!({ "cmd": "send", "to": "alice", "content": "may I?", "wait": 60_000 });
    assert_eq!(refused(&bob, &message).0, "not_allowed");
    let message = json!({ "cmd": "send", "to": asleep, "content": "wake up", "wait": 60_000 });
    bob.ask(&json!({ "cmd": "peer_add", "principal": asleep, "address": alice.address() }))
        .unwrap();
    assert_eq!(bob.ask(&message).unwrap()["status"], "delivered");

    // An invalid configuration changes nothing.
    fs::write(&path, "{ \"version\": 1,\n \"p2pPort\": \"x\" }").unwrap();
    hang_up();
    let (_, error) = refused(&alice, &json!({ "cmd": "reload" }));
    assert!(error.contains("p2pPort") && error.contains("line 2"), "{error}");
    assert_eq!(loaded().as_array().unwrap().len(), 2);
    assert_eq!(
        refused(
            &bob,
            &json!({ "cmd": "send", "to": "alice", "content": "?", "wait": 60_000 })
        )
        .0,
        "not_allowed"
    );
}

#[test]
fn everything_in_a_home_is_its_owners_alone() {
    let alice = set_up("alice");
    let command = alice.command(&alice.password_file());
    let mut open_handed = Command::new("sh");
    open_handed
        .args(["-c", "umask 000; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    let mut daemon = Daemon::spawn(&mut open_handed, b"", &alice.log_path());
    daemon.started();
    assert_alive(&alice, alice.principal());
    let add = json!({ "cmd": "identity_add", "nick": "second", "password": PASSWORD });
    alice.ask(&add).unwrap();
    let home = alice.home();
    let mode_of = |found: &Metadata| found.permissions().mode() & 0o7777;
    let modes = each_below(&home, |_, found| Ok((found.is_dir(), mode_of(found))));
    assert!(
        modes.contains_key(&alice.socket()) && modes.len() > 15,
        "{}",
        modes.len()
    );
    for (path, (is_folder, mode)) in modes {
        let expected = if is_folder { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{} is {mode:o}", path.display());
    }
    assert_eq!(mode_of(&fs::symlink_metadata(&home).unwrap()), 0o700);
}
