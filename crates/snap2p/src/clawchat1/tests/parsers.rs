//! Every parser: arbitrary bytes never panic, and what is written is read back.

use std::borrow::Cow;

use clawchat_identity::AttestationParts;
use clawchat_types::UnixMillis;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::clawchat1::cbor::{self, CborError, MAX_NESTING};
use crate::clawchat1::message::{Auth, AuthFail, Hello, Message, PingNonce, StreamData};
use crate::clawchat1::{ChatError, ChatMessage, MAX_TIMESTAMP, chat, px1};

#[test]
fn megabytes_of_junk_are_walked_over() {
    // As many arrays, maps and keys as fit, in a field nobody knows.
    let items = 2 * 1024 * 1024;
    let mut body = vec![0xa2, 0x64];
    body.extend_from_slice(b"type");
    body.extend_from_slice(&[0x03, 0x61, b'x', 0x9f]);
    body.resize(items, 0x80);
    body.push(0xff);
    assert_eq!(Message::decode(&body), Ok(Message::AuthOk));
    body.pop();
    assert_eq!(cbor::read(&body).unwrap_err(), CborError::Truncated);
    body.fill(0x9f);
    assert_eq!(cbor::read(&body).unwrap_err(), CborError::TooDeep);
}

#[test]
fn nesting_is_read_up_to_the_limit() {
    for (depth, deep) in [(MAX_NESTING, false), (MAX_NESTING + 1, true)] {
        let mut bytes = vec![0x81; depth];
        bytes.push(0);
        assert_eq!(
            cbor::read(&bytes).is_err_and(|error| error == CborError::TooDeep),
            deep
        );
        let mut bytes = b"\xa1\x61a".repeat(depth);
        bytes.push(0);
        assert_eq!(
            cbor::read(&bytes).is_err_and(|error| error == CborError::TooDeep),
            deep
        );
    }
}

#[test]
fn announced_sizes_are_not_believed() {
    for hex in [
        "9bffffffffffffffff",
        "bbffffffffffffffff",
        "5bffffffffffffffff",
        "7bffffffffffffffff6161",
        "a1616100ff",
        "bf6161ff",
        "9f01",
        "ff",
        "1c",
        "f818",
        "5f4100ff",
    ] {
        assert!(cbor::read(&hex::decode(hex).unwrap()).is_err(), "{hex}");
    }
}

#[test]
fn numbers_are_read_in_every_spelling() {
    for (hex, number) in [
        ("00", Some(0)),
        ("1bffffffffffffffff", Some(i128::from(u64::MAX))),
        ("3bffffffffffffffff", Some(-(1 << 64))),
        ("20", Some(-1)),
        ("f93c00", Some(1)),
        ("f90000", Some(0)),
        ("f90001", None),
        ("f97bff", Some(65504)),
        ("f9fc00", None),
        ("f97e00", None),
        ("fac7c35000", Some(-100_000)),
        ("fb3ff8000000000000", None),
        ("fb7fefffffffffffff", None),
        ("fb43f0000000000000", Some(1 << 64)),
        ("6131", None),
    ] {
        let bytes = hex::decode(hex).unwrap();
        assert_eq!(cbor::read(&bytes).unwrap().integer(), number, "{hex}");
    }
}

#[test]
fn contents_that_are_not_text_are_shown_as_existing_gateways_show_them() {
    for (content, shown) in [
        ("6161", Some("a")),
        ("60", Some("")),
        ("62c328", Some("\u{fffd}(")),
        ("18ff", Some("255")),
        ("1bffffffffffffffff", Some("18446744073709551615")),
        ("3863", Some("-100")),
        ("f93e00", Some("1.5")),
        ("f97e00", Some("NaN")),
        ("f4", Some("false")),
        ("f5", Some("true")),
        ("f6", None),
        ("f7", None),
        ("80", None),
        ("a0", None),
        ("4161", None),
    ] {
        let data = format!("a4 626964 6131 6466726f6d 6161 67636f6e74656e74{content} 6974696d657374616d7001");
        let data = hex::decode(data.replace(' ', "")).unwrap();
        match shown {
            Some(shown) => assert_eq!(chat::decode(&data).unwrap().content, shown, "{content}"),
            None => assert_eq!(chat::decode(&data), Err(ChatError::Field { field: "content" })),
        }
    }
}

#[test]
fn of_a_long_nick_the_beginning_is_read() {
    for (nick, read) in [
        ("\u{e4}".repeat(100), "\u{e4}".repeat(64)),
        (
            format!("a{}", "\u{1f980}".repeat(100)),
            format!("a{}", "\u{1f980}".repeat(63)),
        ),
        ("x".repeat(1 << 20), "x".repeat(64)),
        (String::new(), String::new()),
    ] {
        let message = ChatMessage {
            id: "1".to_owned(),
            from: "alice".to_owned(),
            nick: Some(nick),
            content: String::new(),
            timestamp: UnixMillis(0),
        };
        assert_eq!(chat::decode(&chat::encode(&message)).unwrap().nick, Some(read));
    }
}

#[test]
fn timestamps_out_of_range_are_moved_into_it() {
    for (time, read) in [
        ("20", 0),
        ("f9fc00", 0),
        ("f97e00", 0),
        ("f97c00", MAX_TIMESTAMP.0),
        ("1bffffffffffffffff", MAX_TIMESTAMP.0),
        ("f93e00", 1),
        ("00", 0),
    ] {
        let data = format!("a4 626964 6131 6466726f6d 6161 67636f6e74656e7460 6974696d657374616d70{time}");
        let data = hex::decode(data.replace(' ', "")).unwrap();
        assert_eq!(chat::decode(&data).unwrap().timestamp, UnixMillis(read), "{time}");
    }
}

#[test]
fn surplus_peers_and_addresses_are_cut_and_malformed_ones_left_out() {
    let peer = |number: usize, addresses: usize| px1::PeerInfo {
        principal: format!("p{number}"),
        multiaddrs: vec!["/ip4/1.2.3.4/tcp/1".to_owned(); addresses],
        last_seen: UnixMillis(1),
        peer_id: None,
    };
    let mut peers: Vec<_> = (0..=px1::MAX_PEERS).map(|number| peer(number, 1)).collect();
    peers[0] = peer(0, px1::MAX_MULTIADDRS + 1);
    peers[1].principal.clear();
    peers[2].multiaddrs = vec![
        "x".repeat(px1::MAX_MULTIADDR_BYTES + 1),
        String::new(),
        "/ok".to_owned(),
    ];
    let push = px1::Message::Push { peers };
    let px1::Message::Push { peers } = px1::decode(&px1::encode(&push)).unwrap() else {
        panic!("not a push")
    };
    assert_eq!(peers.len(), px1::MAX_PEERS);
    assert_eq!(peers[0].multiaddrs.len(), px1::MAX_MULTIADDRS);
    assert_eq!(peers[1].principal, "p2");
    assert_eq!(peers[1].multiaddrs, ["/ok"]);
    assert_eq!(peers.last().unwrap().principal, format!("p{}", px1::MAX_PEERS));
}

#[test]
fn hints_of_no_use_are_refused() {
    for (hex, error) in [
        ("a0", px1::Px1Error::UnknownType),
        ("03", px1::Px1Error::UnknownType),
        ("a1647479706504", px1::Px1Error::UnknownType),
        ("a1647479706503", px1::Px1Error::Field { field: "peers" }),
        ("a1647479706501", px1::Px1Error::Field { field: "principal" }),
        ("a1647479706502", px1::Px1Error::Field { field: "requestId" }),
        ("", px1::Px1Error::Cbor(CborError::Truncated)),
    ] {
        assert_eq!(px1::decode(&hex::decode(hex).unwrap()), Err(error), "{hex}");
    }
    assert!(matches!(
        px1::decode(&vec![0; crate::clawchat1::MAX_PX1_FRAME + 1]),
        Err(px1::Px1Error::TooLong { .. })
    ));
}

fn bytes(lengths: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), lengths)
}

fn nonce() -> impl Strategy<Value = PingNonce> {
    option::of(bytes(0..=64)).prop_map(PingNonce)
}

prop_compose! {
    fn parts()(
        version in any::<u64>(), principal in ".{0,32}", key in bytes(0..=40), issued_at in any::<i64>(),
        expires_at in any::<i64>(), nonce in bytes(0..=40), domain in ".{0,32}", signature in bytes(0..=70),
    ) -> AttestationParts {
        AttestationParts {
            version, principal, node_public_key: key, issued_at, expires_at, nonce, domain, signature,
        }
    }
}

fn message() -> impl Strategy<Value = Message<'static>> {
    prop_oneof![
        (any::<[u8; 32]>(), bytes(8..=64), any::<i64>()).prop_map(|(node_public_key, nonce, timestamp)| {
            Message::Hello(Hello {
                node_public_key,
                nonce,
                timestamp,
            })
        }),
        (".{0,32}", parts(), bytes(0..=64)).prop_map(|(principal, attestation, session_nonce)| {
            Message::Auth(Auth {
                principal,
                attestation,
                session_nonce,
            })
        }),
        Just(Message::AuthOk),
        (any::<u16>(), "[ -~]{0,100}")
            .prop_map(|(code, reason)| Message::AuthFail(AuthFail { code, reason })),
        (any::<u64>(), any::<bool>(), bytes(0..=300)).prop_map(|(stream_id, fin, data)| {
            Message::StreamData(StreamData {
                stream_id,
                fin,
                data: Cow::Owned(data),
            })
        }),
        nonce().prop_map(Message::Ping),
        nonce().prop_map(Message::Pong),
        (0x30_u64..).prop_map(|kind| Message::Unknown { kind: Some(kind) }),
    ]
}

prop_compose! {
    fn chat_message()(
        id in ".{1,16}", from in ".{0,32}", nick in option::of(".{0,64}"), content in ".{0,300}",
        timestamp in 0..=MAX_TIMESTAMP.0,
    ) -> ChatMessage {
        ChatMessage { id, from, nick, content, timestamp: UnixMillis(timestamp) }
    }
}

prop_compose! {
    fn peer_info()(
        principal in ".{1,32}", multiaddrs in vec(".{1,64}", 0..=px1::MAX_MULTIADDRS),
        last_seen in 0..=MAX_TIMESTAMP.0, peer_id in option::of(".{1,32}"),
    ) -> px1::PeerInfo {
        px1::PeerInfo { principal, multiaddrs, last_seen: UnixMillis(last_seen), peer_id }
    }
}

fn px1_message() -> impl Strategy<Value = px1::Message> {
    prop_oneof![
        (".{1,32}", ".{1,32}").prop_map(|(principal, request_id)| px1::Message::ResolveRequest {
            principal,
            request_id
        }),
        (".{1,32}", option::of(peer_info()), option::of("[ -~]{0,100}")).prop_map(
            |(request_id, peer, error)| px1::Message::ResolveResponse {
                request_id,
                peer,
                error
            }
        ),
        vec(peer_info(), 0..=4).prop_map(|peers| px1::Message::Push { peers }),
    ]
}

proptest! {
    #[test]
    fn messages_are_read_back(message in message()) {
        let bytes = message.encode();
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn chat_messages_are_read_back(message in chat_message()) {
        prop_assert_eq!(chat::decode(&chat::encode(&message)), Ok(message));
    }

    #[test]
    fn hints_are_read_back(message in px1_message()) {
        prop_assert_eq!(px1::decode(&px1::encode(&message)), Ok(message));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Message::decode(&bytes);
        let _ = chat::decode(&bytes);
        let _ = px1::decode(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic(
        message in message(), chat_message in chat_message(), hint in px1_message(),
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let damage = |mut bytes: Vec<u8>| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let cut = cut.index(bytes.len() * 4);
            bytes.truncate(cut.max(1));
            bytes
        };
        let _ = Message::decode(&damage(message.encode()));
        let _ = chat::decode(&damage(chat::encode(&chat_message)));
        let _ = px1::decode(&damage(px1::encode(&hint)));
    }
}
