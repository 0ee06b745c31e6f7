//! `px-1` against `spec/vectors/px1`: every accepted and every refused case.
//!
//! `CLAWCHAT_SNAP2P_WRITE_VECTORS=1 cargo test -p clawchat-snap2p px1` writes the cases; without it, what is made here must
//! equal what the repository holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The error enum is open to growth; a new variant fails by its name.
#![allow(clippy::wildcard_enum_match_arm)]

mod marks;

use std::path::Path;
use std::sync::Arc;

use cbor2::Value as Cbor;
use clawchat_snap2p::px1::{
    EncodingError, End, MAX_CARD_BYTES, MAX_CARDS, MAX_FRAME_BYTES, Message, MessageReader, Px1Error, encode,
};
use clawchat_testkit::Person;
use serde_json::{Value, json};

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../spec/vectors/px1/messages.json"
);

const ABOUT: &str = "What one end of a px-1 stream receives. end: whose end is ours. bytes: the stream, in hexadecimal. \
                     messages: what is read, cards by their bytes. error: what the stream is then \
                     reset with. must: the mark in spec/px1.md.";

fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// A frame around a map of these entries, in deterministic encoding.
fn map(entries: &[(&str, Cbor)]) -> Vec<u8> {
    let entries = entries
        .iter()
        .map(|(key, value)| (Cbor::Text((*key).to_owned()), value.clone()));
    frame(&cbor2::to_canonical_vec(&Cbor::Map(entries.collect())).unwrap())
}

fn n(number: u64) -> Cbor {
    Cbor::from(number)
}

fn cards(sizes: &[usize]) -> Cbor {
    Cbor::Array(sizes.iter().map(|size| Cbor::Bytes(vec![0xca; *size])).collect())
}

fn text(text: &str) -> Cbor {
    Cbor::Text(text.to_owned())
}

fn resolve(change: (&'static str, Option<Cbor>)) -> Vec<u8> {
    let bob = text(&Person::Bob.principal().to_string());
    changed(vec![("i", n(7)), ("m", n(1)), ("p", bob), ("t", n(1))], change)
}

fn found(change: (&'static str, Option<Cbor>)) -> Vec<u8> {
    changed(vec![("c", cards(&[3])), ("i", n(u64::MAX)), ("t", n(2))], change)
}

fn push(change: (&'static str, Option<Cbor>)) -> Vec<u8> {
    changed(vec![("c", cards(&[1, 2])), ("t", n(3))], change)
}

/// The same with one field changed, or left out.
fn changed(mut entries: Vec<(&'static str, Cbor)>, (key, value): (&'static str, Option<Cbor>)) -> Vec<u8> {
    entries.retain(|(known, _)| *known != key);
    entries.extend(value.map(|value| (key, value)));
    map(&entries)
}

const AS_IT_IS: (&str, Option<Cbor>) = ("", None);

/// Name, mark, our end, bytes.
type Case = (&'static str, &'static str, End, Vec<u8>);

fn made() -> Vec<Case> {
    use End::{Acceptor, Opener};
    let raw = |hex: &str| frame(&hex::decode(hex).unwrap());
    let announced = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes().to_vec();
    let carol = || text(&Person::Carol.principal().to_string());
    let question = || resolve(AS_IT_IS);
    vec![
        (
            "two messages at once",
            "S1",
            Acceptor,
            [question(), push(AS_IT_IS)].concat(),
        ),
        (
            "a message and half a one",
            "S1",
            Acceptor,
            [question(), push(AS_IT_IS)[..9].to_vec()].concat(),
        ),
        (
            "a frame that is no map",
            "S1",
            Acceptor,
            [question(), raw("80")].concat(),
        ),
        ("an empty frame", "S1", Acceptor, raw("")),
        ("two maps in one frame", "S1", Acceptor, raw("a1617403a1617403")),
        ("a question to the acceptor", "S2", Acceptor, question()),
        ("an answer to the opener", "S2", Opener, found(AS_IT_IS)),
        ("an answer to the acceptor", "S2", Acceptor, found(AS_IT_IS)),
        ("a question to the opener", "S2", Opener, question()),
        ("a push to the opener", "S2", Opener, push(AS_IT_IS)),
        ("a type nobody knows", "S2", Acceptor, push(("t", Some(n(4))))),
        (
            "the largest frame is announced",
            "S3",
            Acceptor,
            announced(MAX_FRAME_BYTES),
        ),
        (
            "a longer one is announced",
            "S3",
            Acceptor,
            announced(MAX_FRAME_BYTES + 1),
        ),
        (
            "a field nobody knows",
            "E1",
            Acceptor,
            push(("zz", Some(Cbor::Array(vec![n(1), text("x")])))),
        ),
        ("a long integer", "E1", Acceptor, raw("a261638141ca61741803")),
        ("keys out of order", "E1", Acceptor, raw("a261740361638141ca")),
        ("a key twice", "E1", Acceptor, raw("a361638141ca617403617403")),
        ("an indefinite array", "E1", Acceptor, raw("a261639f41caff617403")),
        (
            "a field that is a float",
            "E1",
            Acceptor,
            push(("zz", Some(Cbor::from(1.5_f64)))),
        ),
        (
            "a key of another message, of another type",
            "E2",
            Acceptor,
            push(("i", Some(text("x")))),
        ),
        ("cards in a question", "E2", Acceptor, resolve(("c", Some(n(0))))),
        ("no type", "E2", Acceptor, push(("t", None))),
        ("a type in words", "E2", Acceptor, push(("t", Some(text("push"))))),
        (
            "a card in words",
            "E2",
            Acceptor,
            push(("c", Some(Cbor::Array(vec![text("card")])))),
        ),
        ("a question", "M1", Acceptor, resolve(("p", Some(carol())))),
        (
            "the largest numbers",
            "M1",
            Acceptor,
            changed(
                vec![("i", n(u64::MAX)), ("p", carol()), ("t", n(1))],
                ("m", Some(n(16))),
            ),
        ),
        ("no id", "M1", Acceptor, resolve(("i", None))),
        ("no principal", "M1", Acceptor, resolve(("p", None))),
        ("no number of cards", "M1", Acceptor, resolve(("m", None))),
        ("no cards wanted", "M1", Acceptor, resolve(("m", Some(n(0))))),
        (
            "too many cards wanted",
            "M1",
            Acceptor,
            resolve(("m", Some(n(17)))),
        ),
        (
            "a negative id",
            "M1",
            Acceptor,
            resolve(("i", Some(Cbor::from(-1_i64)))),
        ),
        (
            "an address without its prefix",
            "M1",
            Acceptor,
            resolve(("p", Some(text(&Person::Bob.principal().address())))),
        ),
        (
            "a principal in lower case",
            "M1",
            Acceptor,
            resolve((
                "p",
                Some(text(&Person::Bob.principal().to_string().to_lowercase())),
            )),
        ),
        ("an answer", "M2", Opener, found(AS_IT_IS)),
        (
            "an answer without cards",
            "M2",
            Opener,
            found(("c", Some(cards(&[])))),
        ),
        ("no list of cards", "M2", Opener, found(("c", None))),
        ("no id in an answer", "M2", Opener, found(("i", None))),
        (
            "an empty card in an answer",
            "M2",
            Opener,
            found(("c", Some(cards(&[0])))),
        ),
        ("two cards", "M3", Acceptor, push(AS_IT_IS)),
        (
            "as many cards as there may be",
            "M3",
            Acceptor,
            push(("c", Some(cards(&[1; MAX_CARDS])))),
        ),
        (
            "one more",
            "M3",
            Acceptor,
            push(("c", Some(cards(&[1; MAX_CARDS + 1])))),
        ),
        (
            "the largest card",
            "M3",
            Acceptor,
            push(("c", Some(cards(&[MAX_CARD_BYTES])))),
        ),
        (
            "a larger one",
            "M3",
            Acceptor,
            push(("c", Some(cards(&[MAX_CARD_BYTES + 1])))),
        ),
        ("a push of nothing", "M3", Acceptor, push(("c", Some(cards(&[]))))),
        ("a push without a list", "M3", Acceptor, push(("c", None))),
        ("an empty card", "M3", Acceptor, push(("c", Some(cards(&[5, 0]))))),
    ]
}

fn shown(message: &Message) -> Value {
    let hex = |cards: &[Arc<[u8]>]| cards.iter().map(hex::encode).collect::<Vec<String>>();
    match message {
        Message::Resolve { id, principal, max } => {
            json!({ "resolve": { "id": id, "principal": principal.to_string(), "max": max } })
        }
        Message::Found { id, cards } => json!({ "found": { "id": id, "cards": hex(cards) } }),
        Message::Push { cards } => json!({ "push": { "cards": hex(cards) } }),
    }
}

fn name(error: Px1Error) -> String {
    match error {
        Px1Error::Malformed(EncodingError::Missing { field }) => format!("Missing:{field}"),
        Px1Error::Malformed(EncodingError::BadValue { field }) => format!("BadValue:{field}"),
        Px1Error::Malformed(plain) => format!("{plain:?}"),
        other => format!("{other:?}").split(' ').next().unwrap().to_owned(),
    }
}

/// What is read of a stream that comes in pieces of this size.
fn read(end: End, bytes: &[u8], piece: usize) -> (Vec<Message>, Option<Px1Error>) {
    let mut reader = MessageReader::new(end);
    let error = bytes
        .chunks(piece)
        .find_map(|piece| reader.handle_bytes(piece).err());
    (std::iter::from_fn(|| reader.next_message()).collect(), error)
}

fn case((title, must, end, bytes): &Case) -> Value {
    let (messages, error) = read(*end, bytes, usize::MAX);
    json!({
        "name": title,
        "must": must,
        "end": if *end == End::Opener { "opener" } else { "acceptor" },
        "bytes": hex::encode(bytes),
        "messages": messages.iter().map(shown).collect::<Vec<Value>>(),
        "error": error.map(name),
    })
}

#[test]
fn px1_messages_are_read_as_the_vectors_say() {
    let made = json!({ "about": ABOUT, "cases": made().iter().map(case).collect::<Vec<Value>>() });
    if std::env::var_os("CLAWCHAT_SNAP2P_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(Path::new(FILE), text).unwrap();
    }
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    assert_eq!(kept, made);
    for case in kept["cases"].as_array().unwrap() {
        let title = case["name"].as_str().unwrap();
        let end = if case["end"] == "opener" {
            End::Opener
        } else {
            End::Acceptor
        };
        let bytes = hex::decode(case["bytes"].as_str().unwrap()).unwrap();
        let (messages, error) = read(end, &bytes, 1);
        assert_eq!(
            json!(messages.iter().map(shown).collect::<Vec<Value>>()),
            case["messages"],
            "{title}"
        );
        assert_eq!(json!(error.map(name)), case["error"], "{title}");
        // What only this version knows is written again in the same bytes.
        if error.is_none() && case["must"] != "E1" && case["must"] != "E2" && case["must"] != "S3" {
            let again: Vec<u8> = messages
                .iter()
                .flat_map(|message| encode(message).unwrap())
                .collect();
            assert!(bytes.starts_with(&again) && !again.is_empty(), "{title}");
        }
    }
}

#[test]
fn every_rule_has_an_accepted_and_a_refused_case() {
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let shown = |case: &Value| {
        (
            case["must"].as_str().unwrap().to_owned(),
            case["error"].is_string(),
        )
    };
    let cases: Vec<(String, bool)> = kept["cases"].as_array().unwrap().iter().map(shown).collect();
    assert_eq!(marks::gaps(include_str!("../../../spec/px1.md"), &cases), [""; 0]);
}
