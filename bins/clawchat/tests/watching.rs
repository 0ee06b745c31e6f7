//! `watch`: following along, through restarts of the daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command};
use std::sync::mpsc;

use common::{Answer, FakeDaemon, Machine, failed, ok};
use serde_json::{Value, json};

fn message(arrival: u64) -> Value {
    json!({"id": "x", "from": "stacks:STA", "content": format!("number {arrival}"), "receivedAt": 0, "arrival": arrival})
}

fn event(arrival: u64) -> Value {
    json!({"event": "message", "message": message(arrival)})
}

/// A daemon with that many messages already there, that shows these to whoever subscribes.
fn daemon_with(old: u64, shown: Vec<u64>, then_end: bool) -> impl Fn(&Value) -> Answer {
    move |request| match request["cmd"].as_str() {
        Some("status") => ok(json!({"principal": "stacks:STB", "inboxCount": old})),
        Some("inbox") => ok(json!([])),
        Some("subscribe") => {
            let after = request["after"].as_u64().unwrap();
            let lines = shown
                .iter()
                .filter(|arrival| **arrival > after)
                .map(|arrival| event(*arrival))
                .collect();
            if then_end {
                Answer::LinesThenEnd(lines)
            } else {
                Answer::Lines(lines)
            }
        }
        _ => failed("unknown_command", Value::Null),
    }
}

struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(machine: &Machine, line: &[&str]) -> Self {
        let mut child = machine.command(line).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("one more line").unwrap()
    }

    /// Sends a signal and waits for the end.
    fn end_with(mut self, signal: &str) -> i32 {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

#[test]
fn each_new_message_is_one_line_and_an_interrupt_ends_with_0() {
    for signal in ["INT", "TERM"] {
        let machine = Machine::new();
        let daemon = FakeDaemon::start(&machine.data_dir(), daemon_with(2, vec![1, 2, 3, 4], false));
        let mut watching = Watching::start(&machine, &["watch", "--from", "alice", "--as", "bob"]);
        assert_eq!(
            serde_json::from_str::<Value>(&watching.next()).unwrap(),
            message(3)
        );
        assert_eq!(
            serde_json::from_str::<Value>(&watching.next()).unwrap(),
            message(4)
        );
        assert_eq!(watching.end_with(signal), 0);
        let subscription = daemon.asked().pop().unwrap();
        assert_eq!(
            subscription,
            json!({"cmd": "subscribe", "as": "bob", "after": 2, "from": "alice", "events": ["message"]})
        );
    }
}

#[test]
fn after_a_restart_it_goes_on_behind_the_last_message() {
    let machine = Machine::new();
    let first = FakeDaemon::start(&machine.data_dir(), daemon_with(0, vec![1, 2], true));
    let mut watching = Watching::start(&machine, &["watch"]);
    assert!(watching.next().contains("number 1"));
    assert!(watching.next().contains("number 2"));
    drop(first);
    // Repeats an old one, as a daemon that takes `after` less seriously might.
    let (subscribed, subscriptions) = mpsc::sync_channel(1);
    let second = FakeDaemon::start(&machine.data_dir(), move |request| {
        match request["cmd"].as_str() {
            Some("subscribe") => {
                let _ = subscribed.try_send(request.clone());
                Answer::Lines(vec![event(2), event(3), json!({"event": "peer"}), event(4)])
            }
            Some("status") => ok(json!({"principal": "stacks:STB", "inboxCount": 4})),
            Some("inbox") => ok(json!([])),
            _ => failed("unknown_command", Value::Null),
        }
    });
    assert!(watching.next().contains("number 3"));
    assert!(watching.next().contains("number 4"));
    assert_eq!(subscriptions.recv().unwrap()["after"], 2);
    assert_eq!(watching.end_with("INT"), 0);
    drop(second);
}

#[test]
fn a_restart_before_the_first_message_loses_none() {
    let machine = Machine::new();
    let first = FakeDaemon::start(&machine.data_dir(), daemon_with(7, Vec::new(), true));
    let mut watching = Watching::start(&machine, &["watch"]);
    while !first.asked().iter().any(|request| request["cmd"] == "subscribe") {
        std::thread::yield_now();
    }
    drop(first);
    let _second = FakeDaemon::start(&machine.data_dir(), daemon_with(8, vec![7, 8], false));
    assert!(watching.next().contains("number 8"));
    assert_eq!(watching.end_with("INT"), 0);
}

#[test]
fn a_replaced_inbox_is_followed_from_its_newest_message() {
    let machine = Machine::new();
    let first = FakeDaemon::start(&machine.data_dir(), daemon_with(0, vec![1, 2, 3], true));
    let mut command = machine.command(&["watch"]);
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut watching = Watching { child, lines };
    for number in 1..=3 {
        assert!(watching.next().contains(&format!("number {number}")));
    }
    drop(first);
    let _second = FakeDaemon::start(&machine.data_dir(), daemon_with(1, vec![1, 2], false));
    assert!(watching.next().contains("number 2"));
    let said: Value = serde_json::from_str(&stderr.next().unwrap().unwrap()).unwrap();
    assert!(said["warning"].as_str().unwrap().contains("replaced"), "{said}");
    assert_eq!(watching.end_with("INT"), 0);
}

#[test]
fn people_get_a_line_each() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::start(&machine.data_dir(), daemon_with(0, vec![1], false));
    let mut watching = Watching::start(&machine, &["--output", "text", "watch"]);
    assert_eq!(watching.next(), "00:00:00Z stacks:STA [x]: number 1");
    assert_eq!(watching.end_with("INT"), 0);
}

#[test]
fn an_identity_that_is_not_there_ends_it() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::answering(&machine.data_dir(), json!({"principal": "unknown"}));
    machine
        .run(&["watch", "--as", "nobody"])
        .error(4, "no_such_identity");
}

#[test]
fn a_channel_is_followed_through_a_restart() {
    let machine = Machine::new();
    let daemon = |last: u64, shown: Vec<u64>, then_end: bool| {
        move |request: &Value| match request["cmd"].as_str() {
            Some("channel_list") => ok(json!([{"channel": "lobby", "joined": true, "last": last}])),
            Some("subscribe") => {
                let event = |arrival: &u64| {
                    json!({"event": "channel_message", "channel": "lobby",
                           "message": {"id": format!("m{arrival}"), "body": "x", "arrival": arrival}})
                };
                let lines = shown.iter().map(event).collect();
                if then_end {
                    Answer::LinesThenEnd(lines)
                } else {
                    Answer::Lines(lines)
                }
            }
            _ => failed("unknown_command", Value::Null),
        }
    };
    let first = FakeDaemon::start(&machine.data_dir(), daemon(2, vec![3], true));
    let mut watching = Watching::start(&machine, &["watch", "--channel", "lobby", "--from", "bob"]);
    assert!(watching.next().contains("\"m3\""));
    assert_eq!(
        first.asked()[1],
        json!({"cmd": "subscribe", "after": 2, "from": "bob", "channels": ["lobby"]})
    );
    drop(first);
    let second = FakeDaemon::start(&machine.data_dir(), daemon(4, vec![3, 4], false));
    assert!(watching.next().contains("\"m4\""));
    assert_eq!(second.asked()[0]["after"], 3);
    assert_eq!(watching.end_with("INT"), 0);
}
