//! Everything the recorded reference daemon was asked, the requests that killed it included.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Daemon, With};
use serde_json::{Value, json};

use clawchat_ipc::{Call, Reply};

/// Where we refuse what the reference took: a field is missing or of the wrong type.
const STRICTER: &[&str] = &[
    "send-content-missing",
    "send-content-number",
    "recv-since-string",
    "peer_remove-missing",
    "peer_add-no-address",
    "peer_add-bad-address",
];

fn recorded() -> Value {
    let folder = std::env::var("CLAWCHAT_VECTORS_DIR")
        .unwrap_or_else(|_| format!("{}/../../spec/vectors/clawchat", env!("CARGO_MANIFEST_DIR")));
    let text = std::fs::read_to_string(format!("{folder}/ipc.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The placeholders of the recording stand for numbers.
fn filled_in(mut request: Value) -> Value {
    if let Some(since) = request.get_mut("since")
        && since.as_str().is_some_and(|text| text.starts_with("<last"))
    {
        *since = json!(1_700_000_000_000_u64);
    }
    request
}

fn raw_line(step: &Value) -> Option<String> {
    if step["name"] == "raw-10MB-unknown" {
        return Some(format!("{{\"cmd\":\"{}\"}}\n", "x".repeat(10_485_760)));
    }
    step["request_raw"].as_str().map(str::to_owned)
}

/// A daemon on which everything works at once.
fn agreeable() -> Daemon {
    Daemon::start(With(|_, call: Call| async move {
        Reply::ok(json!(call.request.command()))
    }))
}

#[test]
fn every_recorded_request_gets_exactly_one_line() {
    let recorded = recorded();
    let daemon = agreeable();
    let mut wire = daemon.connect();
    let mut seen = 0;
    for step in recorded["steps"].as_array().unwrap() {
        let name = step["name"].as_str().unwrap();
        let line = match (step.get("request"), raw_line(step)) {
            (Some(request), _) => format!("{}\n", filled_in(request.clone())),
            (None, Some(raw)) => raw,
            (None, None) => continue,
        };
        wire.write(&line);
        let answer = wire.expect();
        wire.assert_alive();
        seen += 1;

        let ok = answer["ok"].as_bool().unwrap();
        let unknown_command = step["response"]["error"] == "Unknown command";
        if unknown_command || name == "raw-null" {
            assert_eq!(answer["error"], "Unknown command", "{name}: {answer}");
            assert_eq!(answer["code"], "unknown_command", "{name}: {answer}");
        } else if STRICTER.contains(&name) || name == "connect-missing" || name.starts_with("raw-") && !ok {
            assert_eq!(answer["code"], "invalid_request", "{name}: {answer}");
        } else {
            // What the reference refused beyond this is a matter of its state, not of the form of the request.
            assert!(ok, "{name}: {answer}");
        }
        let echoed = step["request"].get("id");
        assert_eq!(answer.get("id"), echoed, "{name}: {answer}");
    }
    assert!(seen > 60, "only {seen} requests in the recording");
}

#[test]
fn the_requests_that_killed_the_reference_get_one_line_each() {
    let recorded = recorded();
    let daemon = agreeable();
    let mut seen = 0;
    for case in recorded["daemon_killers"].as_array().unwrap() {
        let mut wire = daemon.connect();
        for request in case["requests"].as_array().unwrap() {
            let answer = wire.call(request);
            let right_form = ["send-to-local-nick"].contains(&case["name"].as_str().unwrap())
                || request == &json!({"cmd": "send", "to": "stacks:STZ", "content": "x"});
            assert_eq!(answer["ok"], right_form, "{}: {answer}", case["name"]);
            if !right_form {
                assert_eq!(answer["code"], "invalid_request", "{}: {answer}", case["name"]);
            }
            wire.assert_alive();
            seen += 1;
        }
    }
    assert!(seen >= 9, "only {seen} requests in the recording");
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    let daemon = agreeable();
    let mut wire = daemon.connect();
    for (request, error) in [
        (
            json!({"cmd": "send", "to": 5, "content": "x"}),
            "\"to\" must be a string",
        ),
        (
            json!({"cmd": "send", "to": null, "content": "x"}),
            "\"to\" is missing: it must be a string",
        ),
        (
            json!({"cmd": "send", "content": "x"}),
            "\"to\" is missing: it must be a string",
        ),
        (json!({"cmd": "status", "as": {}}), "\"as\" must be a string"),
        (
            json!({"cmd": "connect", "multiaddr": 5}),
            "\"multiaddr\" must be a string",
        ),
        (
            json!({"cmd": "recv", "timeout": true}),
            "\"timeout\" must be a number of milliseconds",
        ),
        (
            json!({"cmd": "recv", "since": "abc"}),
            "\"since\" must be a time in milliseconds since 1970",
        ),
        (
            json!({"cmd": "recv", "unread": 1}),
            "\"unread\" must be true or false",
        ),
        (
            json!({"cmd": "subscribe", "events": ["x"]}),
            "\"events\" must be one of \"message\", \"state\", \"peer\"",
        ),
        (
            json!({"cmd": "gateway_init", "port": 70000}),
            "\"port\" must be a number from 0 to 65535",
        ),
        (
            json!({"cmd": "identity_add", "password": 12}),
            "\"password\" must be a string",
        ),
    ] {
        let answer = wire.call(&request);
        assert_eq!(answer["error"], error, "{request}");
        assert_eq!(answer["code"], "invalid_request", "{request}");
    }
}
