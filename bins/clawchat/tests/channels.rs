//! Channels and direct messages of the mesh against a fake daemon: what is asked, printed, written, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;

use common::{Answer, FakeDaemon, Machine, ok};
use serde_json::{Value, json};

fn message(number: u64) -> Value {
    json!({
        "id": format!("m{number:04}"), "channel": "lobby", "sender": "a", "body": format!("number {number}"),
        "timestamp": "2026-11-21T09:30:12.000Z", "receivedAt": 1_795_253_412_000_u64, "verified": true, "arrival": number,
    })
}

fn number(request: &Value, field: &str) -> Option<u64> {
    request[field].as_str()?.strip_prefix('m')?.parse().ok()
}

/// A channel of that many messages, served in pages of at most 100.
fn channel_of(count: u64) -> impl Fn(&Value) -> Answer {
    move |request| {
        let limit = request["limit"].as_u64().unwrap().min(100);
        let (first, last) = match (number(request, "after"), number(request, "before")) {
            (Some(after), None) => (after + 1, (after + limit).min(count)),
            (None, before) => {
                let last = before.unwrap_or(count + 1) - 1;
                (last.saturating_sub(limit - 1).max(1), last)
            }
            (Some(_), Some(_)) => panic!("both"),
        };
        ok((first..=last).map(message).collect())
    }
}

fn numbers(answer: &Value) -> Vec<u64> {
    let messages = answer.as_array().unwrap();
    messages
        .iter()
        .map(|message| message["arrival"].as_u64().unwrap())
        .collect()
}

#[test]
fn each_command_asks_for_what_it_says() {
    let machine = Machine::new();
    let daemon = FakeDaemon::answering(
        &machine.data_dir(),
        json!({"status": "joined", "channel": "#dev"}),
    );
    let payload = "{\"a\": 1}";
    for (line, asked) in [
        (
            &["channel", "join", "#dev"][..],
            json!({"cmd": "channel_join", "channel": "#dev"}),
        ),
        (
            &["channel", "leave", "#dev", "--as", "bob"],
            json!({"cmd": "channel_leave", "channel": "#dev", "as": "bob"}),
        ),
        (&["channel", "list"], json!({"cmd": "channel_list"})),
        (
            &["channel", "members", "lobby"],
            json!({"cmd": "channel_members", "channel": "lobby"}),
        ),
        (
            &["channel", "send", "lobby", "hi", "--payload", payload],
            json!({"cmd": "channel_send", "channel": "lobby", "body": "hi", "payload": {"a": 1}}),
        ),
        (
            &["dm", "send", "bob", "hi"],
            json!({"cmd": "dm_send", "to": "bob", "body": "hi"}),
        ),
    ] {
        assert_eq!(machine.run(line).code, 0, "{line:?}");
        assert_eq!(daemon.asked().last(), Some(&asked), "{line:?}");
    }
    let ended = machine.run_with_stdin(&["channel", "send", "lobby", "-"], b"from stdin\n");
    assert_eq!(ended.code, 0);
    assert_eq!(daemon.asked().last().unwrap()["body"], "from stdin\n");
}

#[test]
fn history_goes_through_pages_in_both_directions() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::start(&machine.data_dir(), channel_of(450));
    let shown = |line: &[&str]| {
        numbers(
            &machine
                .run(&[&["channel", "history", "lobby"], line].concat())
                .json(),
        )
    };
    assert_eq!(shown(&[]), (351..=450).collect::<Vec<_>>());
    assert_eq!(shown(&["--limit", "320"]), (131..=450).collect::<Vec<_>>());
    assert_eq!(shown(&["--limit", "1000"]), (1..=450).collect::<Vec<_>>());
    assert_eq!(
        shown(&["--before", "m0200", "--limit", "150"]),
        (50..=199).collect::<Vec<_>>()
    );
    assert_eq!(
        shown(&["--after", "m0200", "--limit", "150"]),
        (201..=350).collect::<Vec<_>>()
    );
    assert_eq!(
        shown(&["--after", "m0450"]),
        Vec::<u64>::new(),
        "an empty list is an answer"
    );
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let machine = Machine::new();
    for line in [
        &["channel"][..],
        &["channel", "send", "lobby"],
        &["channel", "history", "lobby", "--limit", "0"],
        &["channel", "history", "lobby", "--before", "a", "--after", "b"],
        &["channel", "send", "lobby", "hi", "--payload", "nope"],
        &["channel", "send", "lobby", "--file", "/"],
        &["dm", "send", "bob"],
    ] {
        assert_eq!(machine.run(line).code, 2, "{line:?}");
    }
}

#[test]
fn what_is_not_there_ends_with_4() {
    let machine = Machine::new();
    for (code, line) in [
        ("no_such_channel", &["channel", "send", "nowhere", "hi"][..]),
        ("no_such_channel", &["channel", "leave", "nowhere"]),
        ("no_such_channel", &["channel", "history", "nowhere"]),
        ("no_such_message", &["channel", "save", "m1"]),
        ("unknown_recipient", &["dm", "send", "nobody", "hi"]),
        ("unknown_recipient", &["dm", "history", "nobody"]),
    ] {
        let _daemon = FakeDaemon::refusing(&machine.data_dir(), code);
        machine.run(line).error(4, code);
    }
    let _daemon = FakeDaemon::answering(&machine.data_dir(), json!([{"channel": "kept", "joined": false}]));
    for channel in ["kept", "nowhere"] {
        machine
            .run(&["watch", "--channel", channel])
            .error(4, "no_such_channel");
    }
}

#[test]
fn a_file_goes_along_in_base64() {
    let machine = Machine::new();
    let daemon = FakeDaemon::answering(&machine.data_dir(), json!({"status": "sent", "id": "m1"}));
    let path = machine.folder.path().join("picture.png");
    fs::write(&path, [0, 1, 2, 255]).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(machine.run(&["channel", "send", "lobby", "--file", path]).code, 0);
    assert_eq!(
        daemon.asked(),
        [json!({"cmd": "channel_send", "channel": "lobby", "body": "",
                "file": {"name": "picture.png", "data": "AAEC/w=="}})]
    );
    machine
        .run(&["channel", "send", "lobby", "--file", "/no/such/file"])
        .error(1, "io");
}

#[test]
fn a_file_is_saved_under_its_name_and_over_nothing() {
    let machine = Machine::new();
    let file = |name: &str| {
        json!({"name": name, "type": "image/png", "size": 4, "sha256": "00", "data": "AAEC/w==", "channel": "lobby",
               "sender": "a", "verified": true})
    };
    let daemon = FakeDaemon::start(&machine.data_dir(), move |request| {
        ok(file(request["message"].as_str().unwrap()))
    });
    let to = machine.folder.path().join("pictures");
    fs::create_dir(&to).unwrap();
    let to = to.to_str().unwrap();
    let saved = machine
        .run(&["channel", "save", "a.png", "--to", to, "--channel", "lobby"])
        .json();
    assert_eq!(
        saved,
        json!({"status": "saved", "path": format!("{to}/a.png"), "name": "a.png", "size": 4, "sha256": "00",
               "type": "image/png"})
    );
    assert_eq!(fs::read(format!("{to}/a.png")).unwrap(), [0, 1, 2, 255]);
    assert_eq!(
        daemon.asked(),
        [json!({"cmd": "channel_save", "message": "a.png", "channel": "lobby"})]
    );
    fs::write(format!("{to}/a.png"), "mine").unwrap();
    machine
        .run(&["channel", "save", "a.png", "--to", to])
        .error(1, "file_exists");
    assert_eq!(fs::read(format!("{to}/a.png")).unwrap(), b"mine");
    for name in ["..", ".profile", "x/"] {
        machine
            .run(&["channel", "save", name, "--to", to])
            .error(5, "not_allowed");
    }
    // Only the last part of a path counts.
    assert_eq!(
        machine.run(&["channel", "save", "../../up", "--to", to]).json()["path"],
        format!("{to}/up")
    );
    assert!(!machine.folder.path().join("up").exists());
    let nowhere = machine.folder.path().join("nowhere");
    machine
        .run(&["channel", "save", "a.png", "--to", nowhere.to_str().unwrap()])
        .error(1, "io");
}

#[test]
fn people_get_a_line_for_each_message() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::start(&machine.data_dir(), channel_of(2));
    let shown = machine.run(&["--output", "text", "channel", "history", "lobby"]);
    assert_eq!(
        shown.stdout,
        "2026-11-21 09:30:12Z a [m0001]: number 1\n2026-11-21 09:30:12Z a [m0002]: number 2\n"
    );
}
