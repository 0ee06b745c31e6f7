//! Messages against a fake daemon: what is asked, what is printed, how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Answer, FakeDaemon, Machine, failed, ok};
use serde_json::{Value, json};

const ID: &str = "00112233445566778899aabbccddeeff";

fn message(arrival: u64) -> Value {
    json!({
        "id": ID, "from": "stacks:STA", "fromNick": "alice", "to": "stacks:STB", "content": format!("number {arrival}"),
        "timestamp": 1, "receivedAt": 1_795_253_412_000_u64, "status": "delivered", "arrival": arrival,
    })
}

/// An inbox of that many messages, served in pages of at most 100.
fn inbox_of(count: u64) -> impl Fn(&Value) -> Answer {
    move |request| {
        let after = request["after"].as_u64().unwrap_or(0);
        let limit = request["limit"].as_u64().unwrap().min(100);
        ok((after + 1..=count).take(limit as usize).map(message).collect())
    }
}

#[test]
fn send_hands_over_everything_in_milliseconds() {
    let machine = Machine::new();
    let daemon = FakeDaemon::answering(&machine.data_dir(), json!({"status": "delivered", "id": ID}));
    let line = [
        "send",
        "bob",
        "hello",
        "--payload",
        "{\"a\": [1]}",
        "--reply-to",
        ID,
        "--wait",
        "2.5",
        "--expires",
        "7d",
        "--as",
        "alice",
    ];
    assert_eq!(
        machine.run(&line).json(),
        json!({"status": "delivered", "id": ID})
    );
    assert_eq!(
        daemon.asked(),
        [json!({
            "cmd": "send", "as": "alice", "to": "bob", "content": "hello", "payload": {"a": [1]}, "replyTo": ID,
            "wait": 2500, "expires": 604_800_000_u64,
        })]
    );
}

#[test]
fn a_dash_reads_the_text_from_stdin_byte_for_byte() {
    let machine = Machine::new();
    let daemon = FakeDaemon::answering(&machine.data_dir(), json!({"status": "queued", "id": ID}));
    assert_eq!(
        machine
            .run_with_stdin(&["send", "bob", "-"], "two\nlines 🦀\n".as_bytes())
            .code,
        0
    );
    assert_eq!(daemon.asked()[0]["content"], "two\nlines 🦀\n");
    let binary = machine.run_with_stdin(&["send", "bob", "-"], &[0xff, 0xfe]);
    binary.error(1, "failed");
    let huge = machine.run_with_stdin(&["send", "bob", "-"], &vec![b'a'; 4 * 1024 * 1024 + 1]);
    huge.error(1, "too_large");
    assert_eq!(daemon.asked().len(), 1);
}

#[test]
fn the_largest_text_fits() {
    let machine = Machine::new();
    let daemon = FakeDaemon::answering(&machine.data_dir(), json!({"status": "queued", "id": ID}));
    assert_eq!(
        machine
            .run_with_stdin(&["send", "bob", "-"], &vec![b'a'; 4 * 1024 * 1024])
            .code,
        0
    );
    assert_eq!(
        daemon.asked()[0]["content"].as_str().unwrap().len(),
        4 * 1024 * 1024
    );
}

#[test]
fn a_wait_that_runs_out_still_tells_the_id_and_ends_with_6() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::start(&machine.data_dir(), |_| {
        failed("timeout", json!({"id": ID, "status": "queued"}))
    });
    let ended = machine.run(&["send", "bob", "hello", "--wait", "0.1"]);
    let error = ended.error(6, "timeout");
    assert_eq!(error["data"]["id"], ID);
    assert_eq!(
        serde_json::from_str::<Value>(&ended.stdout).unwrap(),
        json!({"status": "queued", "id": ID})
    );
    let text = machine.run(&["--output", "text", "send", "bob", "hello", "--wait", "0.1"]);
    assert_eq!((text.code, text.stdout.as_str()), (6, ""));
    assert!(
        text.stderr.contains(&format!("\n  id: {ID}\n")),
        "{}",
        text.stderr
    );
}

#[test]
fn failures_end_with_the_contracts_codes() {
    for (code, exit) in [
        ("not_allowed", 5),
        ("unknown_recipient", 4),
        ("no_such_identity", 4),
        ("storage_full", 1),
        ("a_code_of_the_future", 1),
    ] {
        let machine = Machine::new();
        let _daemon = FakeDaemon::refusing(&machine.data_dir(), code);
        let ended = machine.run(&["send", "bob", "hello"]);
        let error = ended.error(
            exit,
            if code == "a_code_of_the_future" {
                "failed"
            } else {
                code
            },
        );
        assert_eq!(error["error"], format!("it was {code}"));
        assert_eq!(error["hint"], "a hint");
        assert_eq!(ended.stdout, "");
        let text = machine.run(&["--output", "text", "send", "bob", "hello"]);
        assert_eq!(text.stderr, format!("clawchat: it was {code} (a hint)\n"));
    }
}

#[test]
fn ask_prints_the_reply_and_reply_names_the_message() {
    let machine = Machine::new();
    let daemon = FakeDaemon::start(&machine.data_dir(), |request| match request["cmd"].as_str() {
        Some("ask") => ok(message(7)),
        _ => ok(json!({"status": "queued", "id": ID})),
    });
    assert_eq!(
        machine.run(&["ask", "bob", "well?", "--timeout", "5"]).json(),
        message(7)
    );
    assert_eq!(machine.run(&["reply", ID, "well."]).json()["status"], "queued");
    assert_eq!(
        daemon.asked(),
        [
            json!({"cmd": "ask", "to": "bob", "content": "well?", "timeout": 5000}),
            json!({"cmd": "reply", "replyTo": ID, "content": "well."}),
        ]
    );
    machine
        .run(&["reply", "nonsense", "x"])
        .error(2, "invalid_request");
}

#[test]
fn a_question_nobody_answers_ends_with_6() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::refusing(&machine.data_dir(), "timeout");
    let ended = machine.run(&["ask", "bob", "well?", "--timeout", "0.1"]);
    ended.error(6, "timeout");
    assert_eq!(ended.stdout, "");
}

#[test]
fn long_lists_come_whole_and_in_order() {
    let machine = Machine::new();
    let daemon = FakeDaemon::start(&machine.data_dir(), inbox_of(345));
    let all: Vec<Value> = (1..=345).map(message).collect();
    assert_eq!(machine.run(&["inbox"]).json(), Value::from(all.clone()));
    assert_eq!(daemon.asked().len(), 5, "four pages and the end");
    assert_eq!(
        machine.run(&["recv", "--limit", "120"]).json(),
        Value::from(all[..120].to_vec())
    );
    assert_eq!(machine.run(&["recv", "--limit", "0"]).json(), json!([]));
}

#[test]
fn outbox_pages_by_position() {
    let machine = Machine::new();
    let daemon = FakeDaemon::start(&machine.data_dir(), |request| match request["after"].as_u64() {
        None => ok(json!([{"id": ID, "status": "pending", "position": 5}])),
        Some(5) => ok(json!([{"id": ID, "status": "sent", "position": 6}])),
        Some(_) => ok(json!([])),
    });
    assert_eq!(machine.run(&["outbox"]).json().as_array().unwrap().len(), 2);
    assert_eq!(daemon.asked()[2]["after"], 6);
}

#[test]
fn records_without_a_cursor_are_printed_once() {
    let machine = Machine::new();
    let daemon = FakeDaemon::answering(&machine.data_dir(), json!([{"id": ID, "content": "old daemon"}]));
    assert_eq!(machine.run(&["inbox"]).json().as_array().unwrap().len(), 1);
    assert_eq!(daemon.asked().len(), 1);
}

#[test]
fn recv_waits_only_for_the_first_page() {
    let machine = Machine::new();
    let daemon = FakeDaemon::start(&machine.data_dir(), inbox_of(1));
    let line = [
        "recv",
        "--since",
        "12",
        "--timeout",
        "1.5",
        "--from",
        "alice",
        "--unread",
    ];
    assert_eq!(machine.run(&line).json(), json!([message(1)]));
    let asked = daemon.asked();
    assert_eq!(
        asked[0],
        json!({"cmd": "recv", "since": 12, "timeout": 1500, "from": "alice", "limit": 256, "unread": true})
    );
    assert_eq!(asked[1]["timeout"], Value::Null);
    assert_eq!(asked[1]["after"], 1);
}

#[test]
fn nothing_received_in_time_is_an_empty_list() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::answering(&machine.data_dir(), json!([]));
    let ended = machine.run(&["recv", "--timeout", "1"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "[]\n"));
    assert_eq!(
        machine.run(&["--output", "text", "recv"]).stdout,
        "No messages.\n"
    );
}

#[test]
fn people_get_paragraphs() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::start(&machine.data_dir(), inbox_of(1));
    assert_eq!(
        machine.run(&["--output", "text", "inbox"]).stdout,
        format!("2026-11-21 09:30:12Z  from alice (stacks:STA)  id {ID}\n    number 1\n")
    );
}

#[test]
fn a_daemon_that_dies_or_babbles_is_told_apart_from_none() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::start(&machine.data_dir(), |_| Answer::LinesThenEnd(Vec::new()));
    let ended = machine.run(&["inbox"]);
    ended.error(3, "not_running");
    assert_eq!(ended.stdout, "");
    let babbling = Machine::new();
    let _daemon = FakeDaemon::start(&babbling.data_dir(), |_| {
        Answer::LinesThenEnd(vec![json!([1, 2])])
    });
    assert_eq!(babbling.run(&["inbox"]).code, 1);
}
