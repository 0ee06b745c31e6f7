//! Where the vectors of frames, sessions and hints come from. `CLAWCHAT_SNAP2P_WRITE_VECTORS=1 cargo test -p
//! clawchat-snap2p vectors` writes them; without it, what is made here must equal what the repository holds.

use clawchat_testkit::Person;
use clawchat_types::{MAX_CONTENT_BYTES, UnixMillis};
use serde_json::Value;

use super::pair::{auth, hello};
use super::scripts::{FrameCase, SessionCase, events};
use super::vectors::{HintCase, bobs_session, check, cut, hint};
use crate::ErrorCode;
use crate::clawchat1::message::{AuthFail, Message, StreamData};
use crate::clawchat1::px1::{self, MAX_MULTIADDRS, MAX_PEERS, PeerInfo};
use crate::clawchat1::{ChatMessage, MAX_FRAME, MAX_PRE_AUTH_FRAME, MAX_PX1_FRAME, PingNonce, chat, frame};
use crate::tests::vectors::{enhex, unhex};

#[test]
fn vectors_of_frames() {
    let case = |name: &str, must: &str, limit: usize, bytes: &[u8], refused: bool| {
        let cut = cut(limit, bytes);
        assert_eq!(cut.1, refused, "{name}");
        FrameCase {
            name: name.to_owned(),
            must: must.to_owned(),
            limit,
            bytes: enhex(bytes),
            frames: cut.0,
            refused,
        }
    };
    let header = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    let strangers = MAX_PRE_AUTH_FRAME;
    check(
        "frames.json",
        &[
            case(
                "two frames and a header",
                "F1",
                MAX_FRAME,
                &[0, 0, 0, 1, 0xa0, 0, 0, 0, 0, 0, 0, 0, 9],
                false,
            ),
            case(
                "the largest is announced",
                "F1",
                MAX_FRAME,
                &header(MAX_FRAME),
                false,
            ),
            case(
                "more than the largest is announced",
                "F1",
                MAX_FRAME,
                &header(MAX_FRAME + 1),
                true,
            ),
            case("2^32 - 1 bytes are announced", "F1", MAX_FRAME, &[0xff; 4], true),
            case(
                "as long as a stranger's may be",
                "F2",
                strangers,
                &frame(&[0xee; MAX_PRE_AUTH_FRAME]),
                false,
            ),
            case(
                "longer than a stranger's may be",
                "F2",
                strangers,
                &header(strangers + 1),
                true,
            ),
        ],
    );
}

fn alices_chat(change: impl FnOnce(&mut ChatMessage)) -> Vec<u8> {
    let mut message = ChatMessage {
        id: "7d4cbb48149e05655ef7bb64b01062fa".to_owned(),
        from: Person::Alice.principal().to_string(),
        nick: Some("alice".to_owned()),
        content: "Hello!".to_owned(),
        timestamp: UnixMillis(1_767_225_600_456),
    };
    change(&mut message);
    data(&chat::encode(&message))
}

fn data(data: &[u8]) -> Vec<u8> {
    Message::StreamData(StreamData {
        stream_id: 0,
        fin: false,
        data: data.into(),
    })
    .encode()
}

/// A chat map of Alice's with one value given in hexadecimal.
fn odd_chat(key: &str, value: &str) -> Vec<u8> {
    let from = Person::Alice.principal().to_string();
    let mut map = vec![0xa4];
    for (name, usual) in [
        ("id", "6131".to_owned()),
        ("from", format!("78{:02x}{}", from.len(), hex::encode(&from))),
        ("content", "6161".to_owned()),
        ("timestamp", "01".to_owned()),
    ] {
        map.push(0x60 | u8::try_from(name.len()).unwrap());
        map.extend_from_slice(name.as_bytes());
        map.extend_from_slice(&unhex(if name == key { value } else { &usual }));
    }
    data(&map)
}

#[test]
fn vectors_of_sessions() {
    let case = |name: &str, must: &str, receive: Vec<Vec<u8>>, kinds: &[&str]| {
        let receive: Vec<String> = receive.iter().map(enhex).collect();
        let events = events(bobs_session(), &receive);
        let kind = |event: &Value| {
            let inner = event.as_object().and_then(|event| event.keys().next().cloned());
            inner.unwrap_or_else(|| event.as_str().unwrap().to_owned())
        };
        assert_eq!(events.iter().map(kind).collect::<Vec<_>>(), kinds, "{name}");
        SessionCase {
            name: name.to_owned(),
            must: must.to_owned(),
            receive,
            events,
        }
    };
    let hexes = |bodies: &[&str]| bodies.iter().map(|body| unhex(body)).collect::<Vec<_>>();
    let carol = Person::Carol.principal().to_string();
    check(
        "session.json",
        &[
            case(
                "other spellings of a PING",
                "C1",
                hexes(&[
                    "a164747970651820",
                    "bf6474797065182061789fff6179bfffff",
                    "a2656e6f6e636541016474797065190020",
                    "a16474797065f95000",
                    "a3647479706503656e6f6e6365410164747970651820",
                    "a364747970651820616662c3286175f7",
                    "a26474797065182061789f81a0f97e00ff",
                    "a264747970651820656e6f6e6365820118ff",
                ]),
                &["ping"; 8],
            ),
            case("a tag", "C1", hexes(&["c1a1647479706503"]), &["ended"]),
            case(
                "a simple value",
                "C1",
                hexes(&["a2647479706518206166e0"]),
                &["ended"],
            ),
            case(
                "text in chunks",
                "C1",
                hexes(&["a26474797065182061667f6161ff"]),
                &["ended"],
            ),
            case(
                "a key that is no text",
                "C1",
                hexes(&["a2647479706518200101"]),
                &["ended"],
            ),
            case(
                "bytes behind it",
                "C1",
                hexes(&["a16474797065182000"]),
                &["ended"],
            ),
            case("an empty frame", "C1", vec![Vec::new()], &["ended"]),
            case(
                "nested 129 deep",
                "C1",
                vec![[b"\xa2\x64type\x18\x20\x61x".as_slice(), &[0x81; 128], &[0]].concat()],
                &["ended"],
            ),
            case(
                "types nobody knows",
                "C3",
                hexes(&[
                    "a164747970651863",
                    "a1647479706522",
                    "a164747970656133",
                    "a0",
                    "80",
                    "f6",
                ]),
                &["ignored"; 6],
            ),
            case("a message of Alice's", "S1", vec![alices_chat(|_| {})], &["chat"]),
            case(
                "a message in another's name",
                "S1",
                vec![alices_chat(|chat| chat.from = carol), alices_chat(|_| {})],
                &["dropped", "chat"],
            ),
            case(
                "without a nick, on another stream, at the end of it",
                "S2",
                vec![
                    alices_chat(|chat| chat.nick = None),
                    Message::StreamData(StreamData {
                        stream_id: u64::MAX,
                        fin: true,
                        data: chat::encode(&ChatMessage {
                            id: "1".to_owned(),
                            from: Person::Alice.principal().to_string(),
                            nick: None,
                            content: String::new(),
                            timestamp: UnixMillis(0),
                        })
                        .into(),
                    })
                    .encode(),
                ],
                &["chat", "chat"],
            ),
            case(
                "times out of range",
                "S2",
                vec![
                    odd_chat("timestamp", "20"),
                    odd_chat("timestamp", "1bffffffffffffffff"),
                    odd_chat("timestamp", "f93e00"),
                ],
                &["chat"; 3],
            ),
            case(
                "fields of another kind",
                "S2",
                vec![
                    odd_chat("id", "60"),
                    odd_chat("id", "01"),
                    odd_chat("timestamp", "6131"),
                    odd_chat("timestamp", "f7"),
                    odd_chat("from", "f6"),
                    data(&[0xa0]),
                    data(&[0xff]),
                    data(&[]),
                    alices_chat(|chat| chat.id = "x".repeat(65)),
                    unhex("a1647479706512"),
                ],
                &["dropped"; 10],
            ),
            case(
                "contents that are no text",
                "S3",
                vec![
                    odd_chat("content", "18ff"),
                    odd_chat("content", "f97e00"),
                    odd_chat("content", "fb444b1ae4d6e2ef50"),
                    odd_chat("content", "f4"),
                    odd_chat("content", "62c328"),
                ],
                &["chat"; 5],
            ),
            case(
                "contents that cannot be shown",
                "S3",
                vec![
                    odd_chat("content", "f7"),
                    odd_chat("content", "f6"),
                    odd_chat("content", "4161"),
                    odd_chat("content", "80"),
                ],
                &["dropped"; 4],
            ),
            case(
                "a text above the limit",
                "S3",
                vec![alices_chat(|chat| {
                    chat.content = "x".repeat(MAX_CONTENT_BYTES + 1)
                })],
                &["dropped"],
            ),
            case(
                "barriers",
                "S4",
                vec![
                    Message::Ping(PingNonce::from([7; 16])).encode(),
                    Message::Ping(PingNonce(None)).encode(),
                    Message::Pong(PingNonce(None)).encode(),
                    Message::Pong(PingNonce::from([8; 16])).encode(),
                    unhex("a364747970651820656e6f6e636541006178f6"),
                ],
                &["ping", "ping", "pong", "pong", "ping"],
            ),
            case(
                "a nonce that is none",
                "S4",
                vec![
                    Message::Ping(PingNonce(Some(vec![0; 65]))).encode(),
                    unhex("a264747970651820656e6f6e63656161"),
                ],
                &["dropped", "dropped"],
            ),
            case(
                "the handshake again",
                "S5",
                vec![
                    Message::Hello(hello()).encode(),
                    Message::Auth(auth()).encode(),
                    Message::AuthOk.encode(),
                ],
                &["ignored"; 3],
            ),
            case(
                "a late refusal",
                "S5",
                vec![
                    Message::AuthFail(AuthFail::of(ErrorCode::NotAllowed)).encode(),
                    alices_chat(|_| {}),
                ],
                &["ended", "ended"],
            ),
        ],
    );
}

#[test]
fn vectors_of_hints() {
    let case = |name: &str, must: &str, body: Vec<u8>, refused: bool| {
        let message = hint(&body);
        assert_eq!(message.is_none(), refused, "{name}");
        HintCase {
            name: name.to_owned(),
            must: must.to_owned(),
            body: enhex(body),
            message,
        }
    };
    let peer = |number: usize, addresses: usize| PeerInfo {
        principal: format!("p{number}"),
        multiaddrs: vec!["/ip4/192.0.2.1/tcp/9000".to_owned(); addresses],
        last_seen: UnixMillis(1_767_225_600_031),
        peer_id: None,
    };
    let request = px1::Message::ResolveRequest {
        principal: Person::Alice.principal().to_string(),
        request_id: "99a96220f8656239ba5eb968db1d45cf".to_owned(),
    };
    let response = |peer| px1::Message::ResolveResponse {
        request_id: "1".to_owned(),
        peer,
        error: None,
    };
    let push = |peers| px1::encode(&px1::Message::Push { peers });
    check(
        "px1.json",
        &[
            case("a question", "X1", px1::encode(&request), false),
            case("an answer", "X1", px1::encode(&response(Some(peer(1, 1)))), false),
            case("no answer", "X1", px1::encode(&response(None)), false),
            case("a push", "X1", push(vec![peer(1, 1), peer(2, 0)]), false),
            case("another type", "X1", unhex("a1647479706504"), true),
            case("no map", "X1", unhex("80"), true),
            case(
                "a question without an id",
                "X1",
                unhex("a2647479706501697072696e636970616c6161"),
                true,
            ),
            case(
                "a push of nothing that is a list",
                "X1",
                unhex("a264747970650365706565727301"),
                true,
            ),
            case(
                "more peers than are read",
                "X2",
                push((0..=MAX_PEERS).map(|number| peer(number, 0)).collect()),
                false,
            ),
            case(
                "more addresses than are read",
                "X2",
                push(vec![peer(1, MAX_MULTIADDRS + 1)]),
                false,
            ),
            case(
                "peers that are none",
                "X2",
                unhex(
                    "a26474797065036570656572738301a0a2697072696e636970616c616b6a6d756c746961646472738201612f",
                ),
                false,
            ),
            case(
                "longer than a hint may be",
                "X2",
                vec![0; MAX_PX1_FRAME + 1],
                true,
            ),
        ],
    );
}
