//! The text of every request, and that nothing a caller writes upsets the reader.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use clawchat_ipc::{Answer, Call, ErrorCode, EventKind, Failure, Line, Request, Secret};
use clawchat_types::{Content, MessageId, Network, Principal, UnixMillis};
use proptest::prelude::*;
use serde_json::{Value, json};

const ALICE: &str = "stacks:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF";

fn text(text: &str) -> Content {
    Content::new(text).unwrap()
}

fn id() -> MessageId {
    MessageId::new([0xab; 16])
}

const ID: &str = "abababababababababababababababab";

/// One full and, where there are optional fields, one bare example of every request, with its JSON form.
fn messages() -> Vec<(Request, Value)> {
    let second = Some(Duration::from_secs(1));
    vec![
        (
            Request::Send {
                to: "bob".into(),
                content: text("hi"),
                payload: Some(json!({"a": [1, null]})),
                reply_to: Some(id()),
                wait: second,
                expires: second,
            },
            json!({"cmd": "send", "to": "bob", "content": "hi", "payload": {"a": [1, null]}, "replyTo": ID,
                   "wait": 1000, "expires": 1000}),
        ),
        (
            Request::Send {
                to: "bob".into(),
                content: text(""),
                payload: None,
                reply_to: None,
                wait: None,
                expires: None,
            },
            json!({"cmd": "send", "to": "bob", "content": ""}),
        ),
        (
            Request::Recv {
                since: Some(UnixMillis(7)),
                timeout: second,
                from: Some("bob".into()),
                limit: Some(3),
                unread: true,
                after: Some(9),
            },
            json!({"cmd": "recv", "since": 7, "timeout": 1000, "from": "bob", "limit": 3, "unread": true, "after": 9}),
        ),
        (
            Request::Recv {
                since: None,
                timeout: None,
                from: None,
                limit: None,
                unread: false,
                after: None,
            },
            json!({"cmd": "recv"}),
        ),
        (
            Request::Inbox {
                after: Some(1),
                limit: Some(2),
            },
            json!({"cmd": "inbox", "after": 1, "limit": 2}),
        ),
        (
            Request::Outbox {
                after: None,
                limit: None,
            },
            json!({"cmd": "outbox"}),
        ),
        (
            Request::Ask {
                to: "bob".into(),
                content: text("?"),
                payload: Some(json!(1)),
                timeout: second,
            },
            json!({"cmd": "ask", "to": "bob", "content": "?", "payload": 1, "timeout": 1000}),
        ),
        (
            Request::Reply {
                reply_to: id(),
                content: text("!"),
                payload: None,
                wait: second,
                expires: None,
            },
            json!({"cmd": "reply", "replyTo": ID, "content": "!", "wait": 1000}),
        ),
        (
            Request::Subscribe {
                after: Some(4),
                from: None,
                events: vec![EventKind::Message, EventKind::State, EventKind::Peer],
                channels: vec![],
            },
            json!({"cmd": "subscribe", "after": 4, "events": ["message", "state", "peer"]}),
        ),
        (
            Request::Subscribe {
                after: None,
                from: None,
                events: vec![],
                channels: vec![],
            },
            json!({"cmd": "subscribe"}),
        ),
        (
            Request::Subscribe {
                after: Some(3),
                from: None,
                events: vec![],
                channels: vec!["lobby".into()],
            },
            json!({"cmd": "subscribe", "after": 3, "channels": ["lobby"]}),
        ),
    ]
}

fn channels() -> Vec<(Request, Value)> {
    let file = json!({"name": "a.png", "data": "AA=="});
    vec![
        (
            Request::ChannelJoin {
                channel: "#dev".into(),
            },
            json!({"cmd": "channel_join", "channel": "#dev"}),
        ),
        (
            Request::ChannelLeave {
                channel: "#dev".into(),
            },
            json!({"cmd": "channel_leave", "channel": "#dev"}),
        ),
        (Request::ChannelList, json!({"cmd": "channel_list"})),
        (
            Request::ChannelSend {
                channel: "lobby".into(),
                body: text("hi"),
                payload: Some(json!({"a": 1})),
                file: Some(file.clone()),
            },
            json!({"cmd": "channel_send", "channel": "lobby", "body": "hi", "payload": {"a": 1}, "file": file}),
        ),
        (
            Request::ChannelHistory {
                channel: "lobby".into(),
                limit: Some(5),
                before: Some("m1".into()),
                after: None,
            },
            json!({"cmd": "channel_history", "channel": "lobby", "limit": 5, "before": "m1"}),
        ),
        (
            Request::ChannelMembers {
                channel: "lobby".into(),
            },
            json!({"cmd": "channel_members", "channel": "lobby"}),
        ),
        (Request::MeshCheck, json!({"cmd": "mesh_check"})),
        (
            Request::ChannelSave {
                message: "m1".into(),
                channel: None,
            },
            json!({"cmd": "channel_save", "message": "m1"}),
        ),
        (
            Request::DmSend {
                to: "bob".into(),
                body: text("hi"),
                payload: None,
                file: None,
            },
            json!({"cmd": "dm_send", "to": "bob", "body": "hi"}),
        ),
        (
            Request::DmHistory {
                with: "bob".into(),
                limit: None,
                before: None,
                after: Some("m1".into()),
            },
            json!({"cmd": "dm_history", "with": "bob", "after": "m1"}),
        ),
    ]
}

fn administration() -> Vec<(Request, Value)> {
    let alice: Principal = ALICE.parse().unwrap();
    let nick = || "al".parse().ok();
    let password = || Some(Secret::new("secret"));
    let second = Some(Duration::from_secs(1));
    vec![
        (Request::Peers, json!({"cmd": "peers"})),
        (
            Request::PeerAdd {
                principal: Some(alice),
                address: Some("h:1".into()),
                alias: Some("a".into()),
                invite: None,
            },
            json!({"cmd": "peer_add", "principal": ALICE, "address": "h:1", "alias": "a"}),
        ),
        (
            Request::PeerAdd {
                principal: None,
                address: None,
                alias: None,
                invite: Some("clawchat:x".into()),
            },
            json!({"cmd": "peer_add", "invite": "clawchat:x"}),
        ),
        (
            Request::PeerRemove {
                principal: "bob".into(),
            },
            json!({"cmd": "peer_remove", "principal": "bob"}),
        ),
        (
            Request::PeerResolve {
                principal: "bob".into(),
                through: Some("c".into()),
            },
            json!({"cmd": "peer_resolve", "principal": "bob", "through": "c"}),
        ),
        (
            Request::Connect {
                multiaddr: "/x".into(),
            },
            json!({"cmd": "connect", "multiaddr": "/x"}),
        ),
        (Request::Status, json!({"cmd": "status"})),
        (
            Request::Metrics { text: true },
            json!({"cmd": "metrics", "text": true}),
        ),
        (Request::Multiaddrs, json!({"cmd": "multiaddrs"})),
        (Request::Stop, json!({"cmd": "stop"})),
        (Request::Reload, json!({"cmd": "reload"})),
        (
            Request::GatewayInit {
                port: Some(9000),
                nick: nick(),
                network: Some(Network::Mainnet),
                password: password(),
                mnemonic: password(),
                migrate: Some(false),
            },
            json!({"cmd": "gateway_init", "port": 9000, "nick": "al", "network": "mainnet", "password": "secret",
                   "mnemonic": "secret", "migrate": false}),
        ),
        (
            Request::GatewaySet { port: 9100 },
            json!({"cmd": "gateway_set", "port": 9100}),
        ),
        (Request::IdentityList, json!({"cmd": "identity_list"})),
        (
            Request::IdentityAdd {
                nick: nick(),
                principal: Some(alice),
                autoload: Some(true),
                allow_peers: vec!["*".into()],
                password: password(),
                mnemonic: None,
            },
            json!({"cmd": "identity_add", "nick": "al", "principal": ALICE, "autoload": true, "allowPeers": ["*"],
                   "password": "secret"}),
        ),
        (
            Request::IdentityRemove { who: "al".into() },
            json!({"cmd": "identity_remove", "who": "al"}),
        ),
        (
            Request::IdentityAllow {
                who: "al".into(),
                peer: "*".into(),
            },
            json!({"cmd": "identity_allow", "who": "al", "peer": "*"}),
        ),
        (
            Request::IdentityDeny {
                who: "al".into(),
                peer: "bob".into(),
            },
            json!({"cmd": "identity_deny", "who": "al", "peer": "bob"}),
        ),
        (
            Request::IdentityCreate {
                nick: nick(),
                network: Some(Network::Testnet),
                password: password(),
            },
            json!({"cmd": "identity_create", "nick": "al", "network": "testnet", "password": "secret"}),
        ),
        (
            Request::IdentityRecover {
                mnemonic: Secret::new("w1 w2"),
                nick: None,
                network: None,
                password: None,
            },
            json!({"cmd": "identity_recover", "mnemonic": "w1 w2"}),
        ),
        (
            Request::IdentityShow { password: password() },
            json!({"cmd": "identity_show", "password": "secret"}),
        ),
        (
            Request::IdentitySetNick {
                nick: "al".parse().unwrap(),
                password: None,
            },
            json!({"cmd": "identity_set_nick", "nick": "al"}),
        ),
        (
            Request::IdentityClearNick { password: None },
            json!({"cmd": "identity_clear_nick"}),
        ),
        (
            Request::InviteCreate {
                expires: second,
                uses: Some(3),
            },
            json!({"cmd": "invite_create", "expires": 1000, "uses": 3}),
        ),
        (Request::InviteList, json!({"cmd": "invite_list"})),
        (
            Request::InviteRevoke { invite: "x".into() },
            json!({"cmd": "invite_revoke", "invite": "x"}),
        ),
    ]
}

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
