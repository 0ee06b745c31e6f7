//! Frames and verdicts recorded from existing gateways: `wire.json` and `attestation.json`. `CLAWCHAT_VECTORS_DIR`
//! names another folder to read.

use std::path::PathBuf;

use clawchat_identity::{Attestation, AttestationParts};
use clawchat_types::{Network, UnixMillis, UnixSeconds};
use serde_json::Value;

use crate::clawchat1::cbor::{self, Writer};
use crate::clawchat1::message::{Message, PingNonce};
use crate::clawchat1::{ChatMessage, FrameReader, MAX_FRAME, attestation, chat, encode_chat, frame, px1};

fn json(name: &str) -> Value {
    let ours = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/clawchat").into();
    let folder: PathBuf = std::env::var_os("CLAWCHAT_VECTORS_DIR").map_or_else(ours, PathBuf::from);
    let path = folder.join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

fn cases(file: &Value, key: &str) -> Vec<Value> {
    let cases = file[key].as_array().unwrap().clone();
    assert!(!cases.is_empty(), "no cases under {key}");
    cases
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn ints(value: &Value) -> Vec<u8> {
    serde_json::from_value(value.clone()).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn every_recorded_message_is_read_and_written_back_byte_for_byte() {
    let file = json("wire.json");
    let mut chats = 0;
    for case in cases(&file, "cases") {
        let name = case["name"].as_str().unwrap();
        let kind = case["kind"].as_str().unwrap();
        let body = unhex(&case["cbor_hex"]);
        let fields = &case["message"];
        let written = if kind.starts_with("PX_") {
            let message = px1::decode(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
            agrees_px1(&message, fields, name);
            px1::encode(&message)
        } else {
            let message = Message::decode(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
            agrees(&message, kind, fields, name);
            message.encode()
        };
        assert_eq!(hex::encode(&written), hex::encode(&body), "{name}");
        assert_eq!(frame(&written), unhex(&case["framed_hex"]), "{name}");
        let mut reader = FrameReader::new();
        reader.set_limit(MAX_FRAME);
        reader.push(&unhex(&case["framed_hex"]));
        assert_eq!(reader.next_frame(), Ok(Some(body)), "{name}");
        if case["chat"].is_object() {
            chats += 1;
            agrees_chat(&case, name);
        }
    }
    assert!(chats > 10);
}

fn agrees(message: &Message<'_>, kind: &str, fields: &Value, name: &str) {
    match message {
        Message::Hello(hello) => {
            assert_eq!(kind, "HELLO");
            assert_eq!(
                hello.node_public_key[..],
                unhex(&fields["nodePublicKey"]["hex"]),
                "{name}"
            );
            assert_eq!(hello.nonce, unhex(&fields["nonce"]["hex"]), "{name}");
            assert_eq!(hello.timestamp, fields["timestamp"].as_i64().unwrap(), "{name}");
        }
        Message::Auth(auth) => {
            assert_eq!(kind, "AUTH");
            assert_eq!(auth.principal, text(&fields["principal"]), "{name}");
            assert_eq!(auth.attestation, wire_parts(&fields["attestation"]), "{name}");
            assert_eq!(
                auth.session_nonce,
                unhex(&fields["sessionNonce"]["hex"]),
                "{name}"
            );
        }
        Message::AuthOk => assert_eq!(kind, "AUTH_OK"),
        Message::AuthFail(fail) => {
            assert_eq!(kind, "AUTH_FAIL");
            assert_eq!(u64::from(fail.code), fields["code"].as_u64().unwrap(), "{name}");
            assert_eq!(fail.reason, text(&fields["reason"]), "{name}");
        }
        Message::StreamData(stream) => {
            assert_eq!(kind, "STREAM_DATA");
            assert_eq!(stream.data[..], unhex(&fields["data"]["hex"]), "{name}");
            assert_eq!(stream.fin, fields["fin"].as_bool().unwrap(), "{name}");
            let big = || fields["streamId"]["bigint"].as_str().unwrap().parse().unwrap();
            assert_eq!(
                stream.stream_id,
                fields["streamId"].as_u64().unwrap_or_else(big),
                "{name}"
            );
        }
        Message::Ping(nonce) | Message::Pong(nonce) => {
            assert_eq!(
                kind,
                if matches!(message, Message::Ping(_)) {
                    "PING"
                } else {
                    "PONG"
                }
            );
            let expected = fields["nonce"]["hex"]
                .as_str()
                .map(|nonce| hex::decode(nonce).unwrap());
            assert_eq!(*nonce, PingNonce(expected), "{name}");
        }
        Message::Unknown { .. } => panic!("{name} is not known"),
    }
}

fn agrees_px1(message: &px1::Message, fields: &Value, name: &str) {
    match message {
        px1::Message::ResolveRequest {
            principal,
            request_id,
        } => {
            assert_eq!(*principal, text(&fields["principal"]), "{name}");
            assert_eq!(*request_id, text(&fields["requestId"]), "{name}");
        }
        px1::Message::ResolveResponse {
            request_id,
            peer,
            error,
        } => {
            assert_eq!(*request_id, text(&fields["requestId"]), "{name}");
            let expected = Some(&fields["peer"])
                .filter(|peer| peer.is_object())
                .map(peer_info);
            assert_eq!(*peer, expected, "{name}");
            assert_eq!(error.as_deref(), fields["error"].as_str(), "{name}");
        }
        px1::Message::Push { peers } => {
            let expected: Vec<_> = fields["peers"]
                .as_array()
                .unwrap()
                .iter()
                .map(peer_info)
                .collect();
            assert_eq!(*peers, expected, "{name}");
        }
    }
}

fn peer_info(fields: &Value) -> px1::PeerInfo {
    px1::PeerInfo {
        principal: text(&fields["principal"]),
        multiaddrs: fields["multiaddrs"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect(),
        last_seen: UnixMillis(fields["lastSeen"].as_u64().unwrap()),
        peer_id: fields["peerId"].as_str().map(str::to_owned),
    }
}

fn agrees_chat(case: &Value, name: &str) {
    let fields = &case["chat"];
    let data = unhex(&case["chat_cbor_hex"]);
    let message = chat::decode(&data).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(
        message,
        ChatMessage {
            id: text(&fields["id"]),
            from: text(&fields["from"]),
            nick: fields["nick"].as_str().map(str::to_owned),
            content: text(&fields["content"]),
            timestamp: UnixMillis(fields["timestamp"].as_u64().unwrap()),
        },
        "{name}"
    );
    // An absent nick has two spellings; we write the shorter one.
    if !fields["nick"].is_object() {
        assert_eq!(
            encode_chat(&message).unwrap(),
            unhex(&case["framed_hex"]),
            "{name}"
        );
    }
}

#[test]
fn odd_cbor_is_read_or_refused_as_existing_gateways_do() {
    let file = json("wire.json");
    for case in cases(&file, "decode") {
        let name = case["name"].as_str().unwrap();
        let verdict = &case["reference_decodeMessage"];
        let body = unhex(&case["cbor_hex"]);
        assert_eq!(cbor::read(&body).is_ok(), verdict["error"].is_null(), "{name}");
        let Ok(message) = Message::decode(&body) else {
            continue;
        };
        match verdict["ok"]["type"].as_u64() {
            Some(3) => assert_eq!(message, Message::AuthOk, "{name}"),
            Some(4) => assert!(matches!(message, Message::AuthFail(_)), "{name}"),
            _ => assert!(matches!(message, Message::Unknown { .. }), "{name}"),
        }
    }
}

/// Nesting that existing gateways read and we do not, and why.
const REFUSED_NESTING: [(u64, &str); 1] = [(
    1000,
    "no message nests deeper than 4; ours is a fixed limit, theirs is the stack",
)];

#[test]
fn nesting_has_a_limit() {
    let file = json("wire.json");
    for case in cases(&file, "nesting") {
        let depth = case["nested_arrays"].as_u64().unwrap();
        let mut bytes = vec![0x81; usize::try_from(depth).unwrap()];
        bytes.push(0);
        let deviates = REFUSED_NESTING.iter().any(|(refused, _)| *refused == depth);
        let accepted = case["reference"]["error"].is_null() && !deviates;
        assert_eq!(cbor::read(&bytes).is_ok(), accepted, "{depth}");
    }
}

#[test]
fn frames_are_cut_as_existing_gateways_do() {
    let file = json("wire.json");
    for case in cases(&file, "framing") {
        let name = case["name"].as_str().unwrap();
        let verdict = &case["reference_unframe"];
        let bytes = unhex(&case["bytes_hex"]);
        let mut reader = FrameReader::new();
        reader.set_limit(MAX_FRAME);
        reader.push(&bytes);
        let frame = reader.next_frame();
        if verdict["error"].is_string() {
            assert!(frame.is_err(), "{name}");
        } else if verdict["ok"].is_string() {
            assert_eq!(frame, Ok(None), "{name}");
        } else {
            assert_eq!(frame, Ok(Some(unhex(&verdict["ok"]["data_hex"]))), "{name}");
            assert_eq!(
                reader.buffered(),
                unhex(&verdict["ok"]["remaining_hex"]).len(),
                "{name}"
            );
        }
    }
}

#[test]
fn the_largest_frame_is_written_and_no_larger_one() {
    let file = json("wire.json");
    let message = |bytes: usize| ChatMessage {
        id: "1".to_owned(),
        from: "alice".to_owned(),
        nick: None,
        content: "x".repeat(bytes),
        timestamp: UnixMillis(1),
    };
    let around = encode_chat(&message(1 << 20)).unwrap().len() - (1 << 20) - 4;
    for case in cases(&file, "encode_limits") {
        let bytes = usize::try_from(case["payload_bytes"].as_u64().unwrap()).unwrap();
        let written = encode_chat(&message(bytes - around));
        match case["reference_frameMessage"]["ok"].as_u64() {
            Some(length) => assert_eq!(written.unwrap().len() as u64, length),
            None => assert_eq!(written.unwrap_err().bytes, bytes),
        }
    }
    assert!(encode_chat(&message(MAX_FRAME + 1)).is_err());
}

/// The map inside AUTH, as JSON.
fn wire_parts(fields: &Value) -> AttestationParts {
    AttestationParts {
        version: fields["version"].as_u64().unwrap(),
        principal: text(&fields["principal"]),
        node_public_key: ints(&fields["nodePublicKey"]),
        issued_at: fields["issuedAt"].as_i64().unwrap(),
        expires_at: fields["expiresAt"].as_i64().unwrap(),
        nonce: ints(&fields["nonce"]),
        domain: text(&fields["domain"]),
        signature: ints(&fields["signature"]),
    }
}

#[test]
fn recorded_attestations_are_the_same_inside_auth() {
    for case in cases(&json("attestation.json"), "cases") {
        let name = case["name"].as_str().unwrap();
        let parts = wire_parts(&case["wire_auth_attestation"]);
        let mut writer = Writer::map_of(1);
        attestation::write(writer.key("a"), &parts);
        let bytes = writer.into_bytes();
        let [read] = cbor::read(&bytes).unwrap().map().unwrap().pick(["a"]);
        assert_eq!(read.and_then(attestation::read).as_ref(), Some(&parts), "{name}");
        let attestation = Attestation::from_parts(&parts).unwrap();
        assert_eq!(attestation.to_bytes(), unhex(&case["serialized_hex"]), "{name}");
        assert_eq!(attestation::parts_of(&attestation), parts, "{name}");
        for verdict in cases(&case, "verify") {
            let testnet = verdict["testnet"].as_bool().unwrap();
            let network = if testnet {
                Network::Testnet
            } else {
                Network::Mainnet
            };
            let now = UnixSeconds(verdict["now"].as_i64().unwrap());
            let held = attestation.clone().verify(network, now).is_ok();
            assert_eq!(held, verdict["valid"].as_bool().unwrap(), "{name} {verdict}");
        }
    }
}
