//! Nothing a caller writes upsets the reader.

use std::time::Duration;

use clawchat_ipc::{Call, ErrorCode, Line, Request};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::examples::{ALICE, text};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!(ALICE)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const FIELDS: &[&str] = &[
    "as",
    "id",
    "to",
    "content",
    "payload",
    "replyTo",
    "wait",
    "expires",
    "since",
    "timeout",
    "from",
    "limit",
    "unread",
    "after",
    "events",
    "principal",
    "address",
    "alias",
    "invite",
    "through",
    "multiaddr",
    "port",
    "nick",
    "network",
    "password",
    "mnemonic",
    "migrate",
    "autoload",
    "allowPeers",
    "who",
    "peer",
    "uses",
];

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_read_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Call::from_line(&bytes);
        let _ = Line::from_line(&bytes);
    }

    #[test]
    fn arbitrary_json_is_refused_or_read_but_never_panics(value in any_json()) {
        let _ = Call::from_value(value.clone());
        let _ = Line::from_line(value.to_string().as_bytes());
    }

    #[test]
    fn arbitrary_fields_are_refused_by_name_or_survive_the_round_trip(
        command in prop::sample::select(Request::COMMANDS),
        fields in prop::collection::vec((prop::sample::select(FIELDS), any_json()), 0..8),
    ) {
        let mut object = serde_json::Map::new();
        object.insert("cmd".to_owned(), json!(command));
        for (name, value) in fields {
            object.insert(name.to_owned(), value);
        }
        match Call::from_value(Value::Object(object.clone())) {
            Ok(call) => {
                prop_assert_eq!(call.request.command(), command);
                prop_assert_eq!(Call::from_value(call.to_value()), Ok(call));
            }
            Err(rejected) => {
                prop_assert_eq!(rejected.failure.code, ErrorCode::InvalidRequest);
                prop_assert!(rejected.failure.message.starts_with('"'), "{}", rejected.failure.message);
                prop_assert_eq!(rejected.id.as_ref(), object.get("id"));
            }
        }
    }

    #[test]
    fn any_message_request_survives_the_line(
        to in ".*", content in "(?s).*", payload in prop::option::of(any_json()), wait in prop::option::of(0..1u64 << 40),
        acting in prop::option::of(".*"), id in prop::option::of(any_json()),
    ) {
        let request = Request::Send {
            to,
            content: text(&content),
            payload: payload.filter(|payload| !payload.is_null()),
            reply_to: None,
            wait: wait.map(|wait| Duration::from_millis(wait.min(1 << 38))),
            expires: None,
        };
        let call = Call { acting, id, request };
        let line = call.to_value().to_string();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(Call::from_line(line.as_bytes()), Ok(call));
    }
}
