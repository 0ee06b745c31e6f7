//! The text of every request and answer, and that nothing a caller writes upsets the reader.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod examples;
mod strangers;

use clawchat_ipc::{Answer, Call, ErrorCode, Failure, Line, Request};
use serde_json::{Value, json};

use crate::examples::{administration, channels, messages};

#[test]
fn every_request_has_its_text_and_is_read_back() {
    let examples: Vec<_> = messages()
        .into_iter()
        .chain(administration())
        .chain(channels())
        .collect();
    for (request, json) in &examples {
        let call = Call::new(request.clone());
        assert_eq!(call.to_value(), *json);
        assert_eq!(Call::from_value(json.clone()), Ok(call));
    }
    for command in Request::COMMANDS {
        let known = examples.iter().any(|(request, _)| request.command() == *command);
        assert!(known, "no example of {command}");
    }
}

#[test]
fn identity_and_id_stand_beside_the_fields() {
    let call = Call::new(Request::Status)
        .acting(Some("al".into()))
        .with_id(json!({"n": [1]}));
    assert_eq!(
        call.to_value(),
        json!({"cmd": "status", "as": "al", "id": {"n": [1]}})
    );
    assert_eq!(Call::from_line(call.to_value().to_string().as_bytes()), Ok(call));
}

#[test]
fn only_requests_with_time_to_wait_wait() {
    let waiting = ["send", "recv", "ask", "reply", "subscribe"];
    for (request, json) in messages().into_iter().chain(administration()).chain(channels()) {
        let has_time = json.get("wait").or(json.get("timeout")).is_some();
        let always = ["ask", "subscribe"].contains(&request.command());
        assert_eq!(
            request.waits(),
            always || has_time && waiting.contains(&request.command()),
            "{json}"
        );
    }
    let zero = Call::from_value(json!({"cmd": "recv", "timeout": 0})).unwrap();
    assert!(!zero.request.waits());
}

#[test]
fn numbers_are_read_as_leniently_as_existing_clients_need() {
    let recv = |since: Value, timeout: Value| {
        let value = json!({"cmd": "recv", "since": since, "timeout": timeout});
        match Call::from_value(value).map(|call| call.request) {
            Ok(Request::Recv { since, timeout, .. }) => {
                Some((since.unwrap().0, timeout.unwrap().as_millis()))
            }
            _ => None,
        }
    };
    assert_eq!(recv(json!("1000"), json!(" 1000 ")), Some((1000, 1000)));
    assert_eq!(recv(json!(-5), json!("-5")), Some((0, 0)));
    assert_eq!(recv(json!(1.9), json!("1.5e3")), Some((1, 1500)));
    let ten_years = 10 * 366 * 24 * 3600 * 1000;
    assert_eq!(recv(json!(1e300), json!(u64::MAX)), Some((u64::MAX, ten_years)));
    assert_eq!(
        recv(json!("9007199254740993"), json!(0)),
        Some((9_007_199_254_740_993, 0))
    );
    for bad in [
        json!("abc"),
        json!(""),
        json!("NaN"),
        json!("inf"),
        json!([]),
        json!({}),
        json!(false),
    ] {
        assert_eq!(recv(bad.clone(), json!(0)), None, "{bad}");
    }
}

#[test]
fn a_content_beyond_the_limit_is_too_large() {
    let content = "x".repeat(clawchat_types::MAX_CONTENT_BYTES + 1);
    let rejected =
        Call::from_value(json!({"cmd": "send", "to": "b", "content": content, "id": 1})).unwrap_err();
    assert_eq!(rejected.failure.code, ErrorCode::TooLarge);
    assert_eq!(rejected.id, Some(json!(1)));
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    for (request, _) in administration() {
        assert!(!format!("{:?}", Call::new(request)).contains("secret\""));
    }
    let rejected = Call::from_value(json!({"cmd": "identity_add", "password": ["hunter2"]})).unwrap_err();
    assert!(!format!("{rejected:?}{rejected}").contains("hunter2"));
}

#[test]
fn answers_and_events_have_their_text_and_are_read_back() {
    let failure = Failure::new(ErrorCode::NoSuchPeer, "no")
        .with_hint("add it")
        .with_data(json!({"id": 5}));
    for (line, json) in [
        (
            Answer {
                id: None,
                result: Ok(json!([1])),
            },
            json!({"ok": true, "data": [1]}),
        ),
        (
            Answer {
                id: Some(json!("x")),
                result: Ok(Value::Null),
            },
            json!({"ok": true, "data": null, "id": "x"}),
        ),
        (
            Answer {
                id: None,
                result: Err(Failure::new(ErrorCode::Timeout, "late")),
            },
            json!({"ok": false, "error": "late", "code": "timeout"}),
        ),
        (
            Answer {
                id: Some(Value::Null),
                result: Err(failure),
            },
            json!({"ok": false, "error": "no", "code": "no_such_peer", "hint": "add it", "data": {"id": 5}, "id": null}),
        ),
    ] {
        assert_eq!(line.to_value(), json);
        assert_eq!(
            Line::from_line(json.to_string().as_bytes()),
            Ok(Line::Answer(line))
        );
    }
    let event = json!({"event": "message", "id": 1});
    assert_eq!(
        Line::from_line(event.to_string().as_bytes()),
        Ok(Line::Event(event))
    );
    for bad in ["", "[]", "{}", "{\"ok\":1}", "{\"event\":1}", "nonsense"] {
        assert!(Line::from_line(bad.as_bytes()).is_err(), "{bad}");
    }
    let foreign = Line::from_line(br#"{"ok":false,"error":"x","code":"from_the_future"}"#);
    assert!(
        matches!(foreign, Ok(Line::Answer(Answer { result: Err(failure), .. })) if failure.code == ErrorCode::Failed)
    );
}
