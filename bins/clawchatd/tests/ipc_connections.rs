//! Connections to a gateway's socket: how requests may be cut and joined, and what callers cannot do to each other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/gateways.rs"]
mod gateways;
#[path = "common/wire.rs"]
mod wire;

use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use gateways::Gateway;
use serde_json::{Value, json};
use wire::{Wire, eventually, one_answer};

/// Longest line a gateway takes, in bytes.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Connections a gateway serves at once.
const MAX_CONNECTIONS: usize = 128;
const ADDRESSES: &[u8] = b"{\"cmd\":\"multiaddrs\"}\n";

fn serving() -> Gateway {
    let mut gateway = Gateway::set_up(Path::new(env!("CARGO_BIN_EXE_clawchatd")), "alice").unwrap();
    gateway.start().unwrap();
    gateway
}

#[test]
fn requests_are_lines_however_they_arrive() {
    let gateway = serving();
    pipelined_requests_are_answered_in_order(&gateway);
    lines_may_be_cut_anywhere(&gateway);
    a_character_cut_in_two_stays_whole(&gateway);
    waiting_requests_with_an_id_are_overtaken(&gateway);
    a_whole_last_line_needs_no_end(&gateway);
    half_a_request_is_none(&gateway);
    long_lines_are_answered(&gateway);
}

/// In one write as recorded. In two writes too, where the recorded daemon let answers overtake each other with nothing
/// to tell them apart.
fn pipelined_requests_are_answered_in_order(gateway: &Gateway) {
    let wait = json!({ "cmd": "recv", "timeout": 300, "since": 9_000_000_000_000_000_u64 });
    for cut in [false, true] {
        let mut wire = Wire::to(gateway);
        let begun = Instant::now();
        wire.write(format!("{wait}\n"));
        if cut {
            // An answer on another connection: the first request has been read by itself.
            one_answer(gateway, ADDRESSES);
        }
        wire.write(ADDRESSES);
        let first = wire.line();
        assert!(begun.elapsed() >= Duration::from_millis(300));
        assert_eq!(first["data"], json!([]), "{first}");
        let second = wire.line();
        assert!(second["data"][0].is_string(), "{second}");
        assert_eq!(wire.rest(), "");
    }
}

/// More requests than a gateway takes at once, in one write.
#[test]
fn a_long_pipeline_keeps_its_order() {
    const MESSAGES: u64 = 1_000;
    let gateway = serving();
    let request = |number: u64| {
        let content = number.to_string();
        let mut request = json!({ "cmd": "send", "to": gateway.principal(), "content": content });
        if number.is_multiple_of(3) {
            request["wait"] = json!(60_000);
        }
        format!("{request}\n")
    };
    let mut wire = Wire::to(&gateway);
    wire.write((0..MESSAGES).map(request).collect::<String>());
    for number in 0..MESSAGES {
        let answer = wire.line();
        assert_eq!(answer["ok"], true, "{number}: {answer}");
    }
    assert_eq!(wire.rest(), "");
    wire::settle(&gateway, "alice");
    let inbox = gateway.ask(&json!({ "cmd": "inbox" })).unwrap();
    let order: Vec<&Value> = inbox
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["content"])
        .collect();
    let expected: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(json!(order), json!(expected));
}

fn waiting_requests_with_an_id_are_overtaken(gateway: &Gateway) {
    let inbox = gateway.ask(&json!({ "cmd": "inbox" })).unwrap();
    let last = &inbox.as_array().unwrap().last().unwrap()["arrival"];
    let mut wire = Wire::to(gateway);
    let wait = json!({ "cmd": "recv", "timeout": 100_000, "after": last, "id": "slow" });
    wire.write(format!("{wait}\n{{\"cmd\":\"multiaddrs\",\"id\":2}}\n"));
    assert_eq!(wire.line()["id"], 2);
    let message = json!({ "cmd": "send", "to": gateway.principal(), "content": "what it waits for" });
    gateway.ask(&message).unwrap();
    let slow = wire.line();
    assert_eq!(slow["id"], "slow");
    assert_eq!(slow["data"][0]["content"], "what it waits for", "{slow}");
    assert_eq!(wire.rest(), "");
}

fn lines_may_be_cut_anywhere(gateway: &Gateway) {
    let mut wire = Wire::to(gateway);
    for byte in ADDRESSES {
        wire.write([*byte]);
    }
    assert_eq!(wire.line()["ok"], true);
    let two = [ADDRESSES, ADDRESSES].concat();
    for cut in 1..two.len() {
        let (first, second) = two.split_at(cut);
        wire.write(first);
        wire.write(second);
        assert_eq!(wire.line()["ok"], true);
        assert_eq!(wire.line()["ok"], true);
    }
    assert_eq!(wire.rest(), "");
}

fn a_character_cut_in_two_stays_whole(gateway: &Gateway) {
    let text = "café 🦀";
    let request = json!({ "cmd": "send", "to": gateway.principal(), "content": text, "wait": 60_000 });
    let request = format!("{request}\n").into_bytes();
    let inside = |(at, byte): (usize, &u8)| (0x80..0xc0).contains(byte).then_some(at);
    let mut wire = Wire::to(gateway);
    let mut sent = 0;
    for cut in request.iter().enumerate().filter_map(inside) {
        let (first, second) = request.split_at(cut);
        wire.write(first);
        // An answer on another connection: the first part has been read by itself.
        one_answer(gateway, ADDRESSES);
        wire.write(second);
        assert_eq!(wire.line()["data"]["status"], "delivered");
        sent += 1;
    }
    assert_eq!(sent, 4);
    let inbox = gateway.ask(&json!({ "cmd": "inbox" })).unwrap();
    let inbox = inbox.as_array().unwrap();
    assert_eq!(inbox.len(), sent);
    assert!(inbox.iter().all(|entry| entry["content"] == text), "{inbox:?}");
}

/// The recorded daemon answered no last line without its end. Ours does if the line is whole: it is what
/// `printf … | nc -U` sends.
fn a_whole_last_line_needs_no_end(gateway: &Gateway) {
    let wire = Wire::to(gateway);
    wire.write(ADDRESSES.trim_ascii_end());
    let answer = wire.rest();
    assert!(
        answer.starts_with("{\"ok\":true,") && answer.lines().count() == 1,
        "{answer}"
    );
}

fn half_a_request_is_none(gateway: &Gateway) {
    let before = gateway.ask(&json!({ "cmd": "status" })).unwrap();
    let request = json!({ "cmd": "send", "to": gateway.principal(), "content": "half" }).to_string();
    let wire = Wire::to(gateway);
    wire.write(request.trim_end_matches('}'));
    assert_eq!(wire.rest(), "");
    let after = gateway.ask(&json!({ "cmd": "status" })).unwrap();
    assert_eq!(before["outboxCount"], after["outboxCount"]);
}

fn long_lines_are_answered(gateway: &Gateway) {
    let mut wire = Wire::to(gateway);
    let line = |length: usize| {
        let frame = "{\"cmd\":\"\"}";
        let mut line = format!("{{\"cmd\":\"{}\"}}", "x".repeat(length - frame.len())).into_bytes();
        line.push(b'\n');
        line
    };
    wire.write(line(MAX_LINE_BYTES));
    assert_eq!(wire.line()["code"], "unknown_command");
    wire.write(line(MAX_LINE_BYTES + 1));
    assert_eq!(wire.line()["code"], "too_large");
    wire.write(ADDRESSES);
    assert_eq!(wire.line()["ok"], true);
    assert_eq!(wire.rest(), "");
}

#[test]
fn more_connections_than_are_served_are_told_so() {
    let gateway = serving();
    let mut wires: Vec<Wire> = (0..200).map(|_| Wire::to(&gateway)).collect();
    for wire in &wires {
        // Fails for those that are turned away already; they have been told why.
        let _ = wire.try_write(ADDRESSES);
    }
    let answers: Vec<Value> = wires.iter_mut().map(Wire::line).collect();
    let served = answers.iter().filter(|answer| answer["ok"] == true).count();
    assert_eq!(served, MAX_CONNECTIONS);
    assert!(
        answers
            .iter()
            .all(|answer| answer["ok"] == true || answer["code"] == "busy"),
        "{answers:?}"
    );
    // Those that are served go on being served.
    for (wire, answer) in wires.iter_mut().zip(&answers) {
        if answer["ok"] == true {
            wire.write(ADDRESSES);
            assert_eq!(wire.line()["ok"], true);
        }
    }
    drop(wires);
    eventually("connections are taken again", || {
        gateway
            .connect()
            .ok()?
            .call_value(&json!({ "cmd": "status" }))
            .ok()
    });
}

#[test]
fn garbage_gets_an_error_a_line_and_harms_nobody() {
    let gateway = serving();
    let mut flood = Wire::to(&gateway);
    let writer = flood.socket().try_clone().unwrap();
    let writing = thread::spawn(move || {
        let mut state = 1_u64;
        let mut garbage = Vec::new();
        for _ in 0..512 * 1024 {
            // xorshift: the same garbage every time.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            garbage.push(state.to_le_bytes()[0]);
        }
        garbage.extend_from_slice(b"\n{\"cmd\":\"multiaddrs\",\"id\":\"last\"}\n");
        (&writer).write_all(&garbage).unwrap();
    });
    // Meanwhile others are served.
    for _ in 0..20 {
        gateway.ask(&json!({ "cmd": "status" })).unwrap();
    }
    let mut refused = 0;
    loop {
        let answer = flood.line();
        if answer["id"] == "last" {
            assert_eq!(answer["ok"], true);
            break;
        }
        assert_eq!(answer["code"], "invalid_request", "{answer}");
        refused += 1;
    }
    assert!(refused > 1_000, "{refused}");
    assert_eq!(flood.rest(), "");
    writing.join().unwrap();
    wire::assert_alive(&gateway, gateway.principal());
}

#[cfg(target_os = "linux")]
#[test]
fn a_caller_that_never_reads_costs_a_bounded_amount_of_memory() {
    /// What its unread answers may cost the gateway: what it keeps for a slow reader, one answer more, and room for
    /// the allocator.
    const MOST_MORE_KIB: u64 = 96 * 1024;
    const REQUEST: &[u8] = b"{\"cmd\":\"inbox\"}\n";
    let gateway = serving();
    let content = "x".repeat(200_000);
    for _ in 0..10 {
        let message = json!({ "cmd": "send", "to": gateway.principal(), "content": content, "wait": 60_000 });
        gateway.ask(&message).unwrap();
    }
    let idle = resident_kib(&gateway);

    let deaf = Wire::to(&gateway);
    // Each of these requests asks for two megabytes. The first ones are there all at once, as after a pause of the
    // gateway: it may begin as many as it likes of them.
    let mut requests = 200;
    deaf.write(REQUEST.repeat(requests));
    deaf.socket().set_nonblocking(true).unwrap();
    let mut most = idle;
    let mut stuck = 0;
    // At some point the gateway takes no more of them.
    while stuck < 100 {
        match deaf.try_write(REQUEST) {
            Ok(()) => (requests, stuck) = (requests + 1, 0),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                stuck += 1;
                gateway.ask(&json!({ "cmd": "status" })).unwrap();
            }
        }
        most = most.max(resident_kib(&gateway));
        assert!(requests < 1_000_000, "the gateway takes everything");
    }
    assert!(requests > 256, "{requests}");
    assert!(most < idle + MOST_MORE_KIB, "{idle} KiB, then {most} KiB");
    wire::assert_alive(&gateway, gateway.principal());
    drop(deaf);
    wire::assert_alive(&gateway, gateway.principal());
}

#[cfg(target_os = "linux")]
fn resident_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
