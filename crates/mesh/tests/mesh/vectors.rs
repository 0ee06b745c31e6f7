//! What existing peers send and answer, `spec/vectors/mesh/frames.json`, and where we do not.

use clawchat_mesh::{
    Came, LinkId, MeshLimits, Message, PeerName, Refusal, Side, Trust, bootstrap, check, read_public_key_pem,
};
use serde_json::Value;

use crate::one::{NOW, One};

fn file(name: &str) -> Value {
    let path = format!("{}/../../spec/vectors/mesh/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[derive(Debug, PartialEq)]
struct Outcome {
    replies: Vec<String>,
    relayed: Vec<String>,
    stored: Vec<String>,
    closed: bool,
}

fn reference(identities: &Value) -> One {
    let key = read_public_key_pem(identities["reference"]["public_pem"].as_str().unwrap()).unwrap();
    let mut one = One::new(PeerName::of_key(&key), Some(key), MeshLimits::default());
    one.follow("lobby");
    one
}

/// What we add to the frames of existing peers.
fn plain(texts: Vec<String>) -> Vec<String> {
    texts
        .into_iter()
        .map(|text| {
            text.replace(",\"arrival_order\":true", "")
                .replace("\"limit\":500}", "\"limit\":100}")
        })
        .collect()
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().unwrap();
    list.iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

fn exchange(identities: &Value, case: &Value) -> Outcome {
    let mut one = reference(identities);
    if let Some(earlier) = case["setup"]["prestored"].as_array() {
        let link = one.neighbour(3, "earlier", "");
        for text in earlier {
            one.get(link, text.as_str().unwrap());
        }
    }
    let subscriber = one.neighbour(2, "subscriber", "");
    one.get(subscriber, r#"{"type":"subscribe","channel_id":"lobby"}"#);
    let sender = one.open(1, Side::Accepted);
    if let Some(handshake) = case["setup"]["sender_handshake"].as_str() {
        one.get(sender, handshake);
    }
    let before = one.log.clone();
    one.sent.clear();
    for frame in case["send"].as_array().unwrap() {
        match frame.as_str() {
            Some(text) => one.get(sender, text),
            None => {
                let hex = frame["binary_hex"].as_str().unwrap();
                let bytes: Vec<u8> = (0..hex.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                    .collect();
                one.get_bytes(sender, &bytes);
            }
        }
    }
    let stored = one.log.channels.iter().flat_map(|(channel, records)| {
        let known = before.channels.get(channel).map_or(0, Vec::len);
        records
            .iter()
            .skip(known)
            .map(|entry| entry.message().id().to_owned())
    });
    Outcome {
        stored: stored.collect(),
        replies: plain(one.take_sent(sender)),
        relayed: plain(one.take_sent(subscriber)),
        closed: one.closed.contains_key(&LinkId(1)),
    }
}

/// Where we do not do what the reference was seen to do, and why.
const DIFFERENCES: &[(&str, &[&str])] = &[
    (
        "A neighbour without a name cannot be told from another one",
        &["hs-peer-id-missing", "hs-peer-id-empty", "hs-peer-id-number"],
    ),
    (
        "A name belongs to one key, and a link to one name",
        &["hs-public-key-mismatch", "hs-rename", "msg-key-poisoned"],
    ),
    (
        "A second handshake of the same peer changes nothing",
        &["hs-twice"],
    ),
    (
        "Before the handshake nothing else is taken",
        &["sub-before-handshake", "sync-before-handshake"],
    ),
    (
        "Names, bodies and timestamps are texts; a frame where they are not is answered with an error and ends nothing",
        &[
            "sub-object-channel",
            "msg-timestamp-number",
            "msg-body-number",
            "msg-body-null",
            "msg-body-array",
            "msg-body-true",
            "msg-id-number",
            "msg-id-object",
            "msg-channel-number",
            "sync-channel-object",
            "sync-after-object",
            "syncresp-messages-number",
            "syncresp-messages-object",
            "syncresp-body-object",
            "json-null",
            "json-string",
            "json-true",
            "json-array",
            "deep-nesting-5000",
        ],
    ),
    (
        "A live message in a key's name needs a signature that holds",
        &["msg-signed-bad-unknown-key", "msg-unsigned-known-key"],
    ),
    ("A time far ahead is not believed", &["msg-timestamp-far-future"]),
    (
        "Channels that nobody here follows are not stored",
        &["msg-channel-unsubscribed"],
    ),
    (
        "Pages are in the order of arrival, so nothing with an equal timestamp is passed over",
        &["sync-after-equal-timestamps"],
    ),
    (
        "What nobody asked for is not taken",
        &[
            "syncresp-unsolicited",
            "syncresp-bad-signature",
            "syncresp-other-channel-inside",
            "syncresp-incomplete-entry",
        ],
    ),
    ("A ping is answered", &["ping"]),
];

#[test]
fn we_answer_as_existing_peers_do_but_for_named_differences() {
    let file = file("frames.json");
    let mut differ = Vec::new();
    let mut same = 0;
    for case in file["cases"].as_array().unwrap() {
        if case["kind"] != "exchange" {
            continue;
        }
        let observed = &case["observed"];
        let records = observed["stored"].as_array().unwrap();
        let theirs = Outcome {
            replies: texts(&observed["replies"]),
            relayed: texts(&observed["relayed_to_subscriber"]),
            stored: records
                .iter()
                .map(|record| record["message_id"].as_str().unwrap().to_owned())
                .collect(),
            closed: observed["socket"] != "open",
        };
        let ours = exchange(&file["identities"], case);
        let id = case["id"].as_str().unwrap();
        if ours == theirs {
            same += 1;
        } else {
            println!(
                "{id}: ours {ours:?}\n   theirs {theirs:?} {}\n",
                observed["process"]
            );
            differ.push(id);
        }
    }
    let mut named: Vec<&str> = DIFFERENCES.iter().flat_map(|(_, ids)| *ids).copied().collect();
    named.sort_unstable();
    differ.sort_unstable();
    assert_eq!(differ, named);
    assert!(same > 60, "{same}");
}

/// A case of the file by its id.
fn case<'a>(file: &'a Value, id: &str) -> &'a Value {
    let cases = file["cases"].as_array().unwrap();
    cases.iter().find(|case| case["id"] == id).unwrap()
}

#[test]
fn we_send_what_existing_peers_send() {
    let file = file("frames.json");
    let raw = |id: &str| case(&file, id)["raw"].as_str().unwrap().to_owned();
    // Answering a handshake; a peer that stores is asked at once.
    let mut one = reference(&file["identities"]);
    let link = one.neighbour(1, "p", r#""relay":true,"store":true"#);
    assert_eq!(
        plain(one.take_sent(link)),
        [
            raw("emit-handshake-reply-with-key"),
            raw("emit-subscribe-after-handshake"),
            raw("emit-sync-request-after-handshake"),
        ]
    );
    one.get(link, r#"{"type":"sync_request","channel_id":"nobody"}"#);
    assert_eq!(one.take_sent(link), [raw("emit-sync-response-empty")]);
    // Dialing.
    let mut one = reference(&file["identities"]);
    let link = one.open(1, Side::Dialed);
    assert_eq!(plain(one.take_sent(link)), [raw("emit-handshake-initiator")]);
    let after = case(&file, "emit-initiator-after-reply");
    one.get(link, after["send"][0].as_str().unwrap());
    assert_eq!(plain(one.take_sent(link)), texts(&after["raw"]));
    // Without a key.
    let mut one = One::new("peer-opaque".parse().unwrap(), None, MeshLimits::default());
    let link = one.neighbour(1, "p", "");
    assert_eq!(plain(one.take_sent(link)), [raw("emit-handshake-reply-no-key")]);
    // Their messages are printed as they came.
    for id in [
        "emit-message-signed",
        "emit-message-empty-body",
        "emit-message-unsigned",
    ] {
        assert_eq!(Message::from_text(&raw(id)).unwrap().to_text(), raw(id), "{id}");
    }
}

#[test]
fn messages_are_signed_and_checked_as_existing_peers_do() {
    let file = file("signing.json");
    let mut counts = [0; 2];
    for case in file["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let (Some(wire), Some(canonical)) = (case["wire"].as_str(), case["canonical"].as_str()) else {
            continue;
        };
        // A body that is a number is no text.
        let Ok(message) = Message::from_text(wire) else {
            assert_eq!(id, "rx-body-number-float");
            continue;
        };
        assert_eq!(message.signing_text(), canonical, "{id}");
        let live = check(message.clone(), Came::Live, &|_| None, NOW);
        let is_key = message.sender().as_key().is_some();
        match (is_key, case["reference_verifies"].as_bool().unwrap()) {
            (true, true) => assert_eq!(live.unwrap().trust(), Trust::Verified, "{id}"),
            (true, false) => assert_eq!(live.unwrap_err(), Refusal::InvalidSignature, "{id}"),
            (false, _) => assert_eq!(live.unwrap().trust(), Trust::Unverified, "{id}"),
        }
        // Printing it again loses nothing of what is signed.
        let again = Message::from_text(&message.to_text()).unwrap();
        assert_eq!(again, message, "{id}");
        counts[usize::from(is_key)] += 1;
    }
    assert!(counts[1] > 50 && counts[0] > 0, "{counts:?}");
}

/// Texts that Node takes for the same signature and we do not, or takes from keys we do not.
const STRICTER_SIGNATURES: [&str; 3] = [
    "verify-trailing-garbage",
    "verify-small-order-key",
    "verify-p256-key",
];

#[test]
fn signatures_are_read_as_existing_peers_read_them() {
    let file = file("signing.json");
    let mut counted = 0;
    for case in file["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        // How a key is spelled in a PEM is another matter.
        if case["kind"] != "verify" || id.starts_with("verify-key") {
            continue;
        }
        let canonical: Value = serde_json::from_str(case["canonical"].as_str().unwrap()).unwrap();
        let key = read_public_key_pem(case["public_key"].as_str().unwrap());
        let mut wire = canonical.clone();
        wire["signature"] = case["signature"].clone();
        if case["signature"] == "" {
            continue;
        }
        let holds = key.is_ok_and(|key| {
            wire["sender_id"] = PeerName::of_key(&key).as_str().into();
            let text = wire.to_string();
            // The vectors name another sender than the key that signs in a few cases.
            let message = Message::from_text(&text);
            message.is_ok_and(|message| check(message, Came::Live, &|_| None, NOW).is_ok())
        });
        let expected = case["reference_verifies"] == true && !STRICTER_SIGNATURES.contains(&id);
        assert_eq!(holds, expected, "{id}");
        counted += 1;
    }
    assert!(counted >= 10, "{counted}");
}

#[test]
fn lists_of_peers_are_read_by_their_document() {
    let file = file("bootstrap.json");
    for case in file["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let carried = case["http_status"].is_null() && case["never_answers"].is_null();
        if !carried {
            continue;
        }
        let mut bytes = if case["bytes_before_text_hex"] == "efbbbf" {
            vec![0xef, 0xbb, 0xbf]
        } else {
            Vec::new()
        };
        let text = case["text"].as_str().unwrap();
        let text = text
            .replace("{{A}}", "ws://127.0.0.1:4001")
            .replace("{{B}}", "ws://127.0.0.1:4002")
            .replace("{{HTTP_A}}", "http://127.0.0.1:4001")
            .replace("{{SELF}}", "ws://127.0.0.1:4003");
        bytes.extend_from_slice(text.as_bytes());
        let read = bootstrap::read(&bytes);
        if case["valid"] == true {
            let list = read.expect(id);
            assert_eq!(list.left_out, 0, "{id}");
            let own = "peer-self".parse().unwrap();
            let connections = bootstrap::choose(&list, &own, 100, 1).len() as u64;
            let expected = match id {
                // Ourselves under another name: found out in the handshake.
                "valid-own-url-other-id" => 1,
                // Once is enough.
                "valid-duplicate-entry" => 1,
                // One of them is dead, which is seen when it is dialed.
                "peer-refused-port" => 2,
                _ => {
                    let seen = &case["reference"];
                    seen["connections_to_A"].as_u64().unwrap() + seen["connections_to_B"].as_u64().unwrap()
                }
            };
            assert_eq!(connections, expected, "{id}");
        } else if id.starts_with("peer-") {
            // An entry that is wrong does not cost the others.
            let list = read.expect(id);
            assert_eq!(list.left_out, 1, "{id}");
            let good = text.contains("\"b\"") || id.starts_with("peer-null");
            assert_eq!(list.peers.len(), usize::from(good), "{id}");
        } else {
            assert!(read.is_err(), "{id}");
        }
    }
}
