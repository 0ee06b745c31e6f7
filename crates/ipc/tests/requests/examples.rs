//! Examples of every request with their JSON forms.

use std::time::Duration;

use clawchat_ipc::{EventKind, Request, Secret};
use clawchat_types::{Content, MessageId, Network, Principal, UnixMillis};
use serde_json::{Value, json};

pub(crate) const ALICE: &str = "stacks:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF";

pub(crate) fn text(text: &str) -> Content {
    Content::new(text).unwrap()
}

pub(crate) fn id() -> MessageId {
    MessageId::new([0xab; 16])
}

pub(crate) const ID: &str = "abababababababababababababababab";

/// One full and, where there are optional fields, one bare example of every request, with its JSON form.
pub(crate) fn messages() -> Vec<(Request, Value)> {
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

pub(crate) fn channels() -> Vec<(Request, Value)> {
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

pub(crate) fn administration() -> Vec<(Request, Value)> {
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
