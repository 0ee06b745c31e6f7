//! `chat/1` against `spec/vectors/chat1`: every accepted and every refused case.
//!
//! If `CLAWCHAT_SNAP2P_VECTORS_DIR` names another folder for `snap2p2`, these are read from `chat1` beside that, if it
//! is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The error enums are open to growth; a new variant fails by its name.
#![allow(clippy::wildcard_enum_match_arm)]

mod marks;

use std::path::{Path, PathBuf};

use clawchat_identity::NodeKey;
use clawchat_snap2p::chat::{
    ChatError, ChatEvent, ChatReceiver, ChatSender, Decision, EncodingError, EnvelopeError, NackCode,
    QueueError, SignedEnvelope, open_envelope, seal_envelope,
};
use clawchat_types::{Content, Message, NodeId, Payload, UnixMillis};
use serde_json::{Value, json};

/// The repository's own vectors.
const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/chat1");

/// The folder to test against.
fn folder() -> PathBuf {
    let given = std::env::var_os("CLAWCHAT_SNAP2P_VECTORS_DIR").map(PathBuf::from);
    let beside = given.map(|given| given.join("../chat1"));
    beside
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(|| OURS.into())
}

fn read(folder: &Path, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}

fn cases(folder: &Path, name: &str) -> Vec<Value> {
    read(folder, name)["cases"].as_array().unwrap().clone()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn envelope(case: &Value) -> SignedEnvelope {
    SignedEnvelope {
        bytes: bytes(&case["envelope"]),
        signature: bytes(&case["signature"]).try_into().unwrap(),
    }
}

/// The specification's name of an error.
fn encoding_name(error: EncodingError) -> String {
    match error {
        EncodingError::Missing { field } => format!("Missing:{field}"),
        EncodingError::BadValue { field } => format!("BadValue:{field}"),
        plain => format!("{plain:?}"),
    }
}

/// An enum variant's name, without its values.
fn variant(error: impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.split([' ', '(']).next().unwrap().to_owned()
}

fn envelope_name(error: EnvelopeError) -> String {
    match error {
        EnvelopeError::Encoding(error) => encoding_name(error),
        other => variant(other),
    }
}

fn chat_name(error: ChatError) -> String {
    match error {
        ChatError::Malformed(error) => encoding_name(error),
        other => variant(other),
    }
}

fn message(value: &Value) -> Message {
    let text = |key: &str| value[key].as_str();
    Message {
        id: text("id").unwrap().parse().unwrap(),
        from: text("from").unwrap().parse().unwrap(),
        to: text("to").unwrap().parse().unwrap(),
        timestamp: UnixMillis(value["timestamp"].as_u64().unwrap()),
        sequence: value["sequence"].as_u64().unwrap(),
        from_nick: text("from_nick").map(|nick| nick.parse().unwrap()),
        content_type: text("content_type").unwrap().to_owned(),
        content: Content::new(text("content").unwrap()).unwrap(),
        payload: text("payload").map(|json| Payload::new(json).unwrap()),
        reply_to: text("reply_to").map(|id| id.parse().unwrap()),
        expires_at: UnixMillis(value["expires_at"].as_u64().unwrap()),
    }
}

#[test]
fn envelopes() {
    let file = read(&folder(), "envelope.json");
    let key = NodeKey::from_seed(bytes(&file["seed"]).try_into().unwrap());
    let signer: NodeId = file["node_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(key.node_id(), signer);
    for case in &cases(&folder(), "envelope.json") {
        let id = case["id"].as_str().unwrap();
        let envelope = envelope(case);
        let opened = open_envelope(&envelope, &signer);
        if let Some(error) = case["error"].as_str() {
            assert_eq!(opened.map_err(envelope_name), Err(error.to_owned()), "{id}");
            continue;
        }
        let expected = message(&case["message"]);
        assert_eq!(
            opened.unwrap_or_else(|error| panic!("{id}: {error}")),
            expected,
            "{id}"
        );
        let sealed = seal_envelope(&expected, &key).unwrap();
        assert_eq!(sealed == envelope, case["sealed_alike"] == true, "{id}");
        assert_eq!(open_envelope(&sealed, &signer).unwrap(), expected, "{id}");
        let nack = case
            .get("session")
            .and_then(|session| refused_in(session, &expected));
        assert_eq!(json!(nack.map(NackCode::to_wire)), case["nack"], "{id}");
    }
}

/// What the receiver of a message owes its sender (rule V3), as far as it does not depend on its access list.
fn refused_in(session: &Value, message: &Message) -> Option<NackCode> {
    if json!(message.from.to_string()) != session["remote"] {
        Some(NackCode::Invalid)
    } else if json!(message.to.to_string()) != session["local"] {
        Some(NackCode::UnknownRecipient)
    } else {
        let past = message.expires_at.0 <= session["now"].as_u64().unwrap();
        past.then_some(NackCode::Expired)
    }
}

/// Either end of a stream, as the scripts speak of it.
enum End {
    Sender(ChatSender),
    Receiver(ChatReceiver),
}

impl End {
    fn input(&mut self, bytes: &[u8]) -> Result<(), ChatError> {
        match self {
            Self::Sender(sender) => sender.handle_bytes(bytes),
            Self::Receiver(receiver) => receiver.handle_bytes(bytes),
        }
    }

    fn output(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Sender(sender) => while sender.poll_write(&mut out) {},
            Self::Receiver(receiver) => while receiver.poll_write(&mut out) {},
        }
        out
    }

    fn is_ended(&self) -> bool {
        match self {
            Self::Sender(sender) => sender.is_ended(),
            Self::Receiver(receiver) => receiver.is_ended(),
        }
    }

    fn sender(&mut self) -> &mut ChatSender {
        match self {
            Self::Sender(sender) => sender,
            Self::Receiver(_) => panic!("not a sender"),
        }
    }

    fn receiver(&mut self) -> &mut ChatReceiver {
        match self {
            Self::Receiver(receiver) => receiver,
            Self::Sender(_) => panic!("not a receiver"),
        }
    }
}

fn code(step: &Value) -> NackCode {
    NackCode::from_wire(u16::try_from(step["code"].as_u64().unwrap()).unwrap())
}

/// Runs one step; `last` is the result of the last input.
fn run(end: &mut End, step: &Value, last: &mut Result<(), ChatError>) -> Result<(), String> {
    let number = |key: &str| step[key].as_u64();
    let expect = |found: Value, wanted: Value| {
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found} instead of {wanted}"))
        }
    };
    if let Some(input) = step.get("input") {
        last.map_err(|error| format!("unexpected {error:?}"))?;
        for _ in 0..number("times").unwrap_or(1) {
            *last = last.and(end.input(&bytes(input)));
        }
        Ok(())
    } else if let Some(error) = step.get("error") {
        let found = std::mem::replace(last, Ok(())).err().map(chat_name);
        expect(json!(found), error.clone())
    } else if let Some(output) = step.get("output") {
        expect(json!(hex::encode(end.output())), output.clone())
    } else if let Some(ended) = step.get("ended") {
        expect(json!(end.is_ended()), ended.clone())
    } else if let Some(tag) = number("queue") {
        end.sender()
            .queue(tag, envelope(step))
            .map_err(|error| error.to_string())
    } else if let Some(error) = step.get("queue_error") {
        let refused = SignedEnvelope {
            bytes: Vec::new(),
            signature: [0; 64],
        };
        let found = end
            .sender()
            .queue(0, refused)
            .err()
            .map(|error: QueueError| variant(error));
        expect(json!(found), error.clone())
    } else if let Some(tag) = number("acked") {
        let found = end.sender().poll_event();
        if found == Some(ChatEvent::Acked { tag }) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    } else if let Some(tag) = number("nacked") {
        let wanted = ChatEvent::Nacked {
            tag,
            code: code(step),
            retryable: step["retryable"].as_bool().unwrap(),
            text: step["text"].as_str().map(str::to_owned),
        };
        let found = end.sender().poll_event();
        if found == Some(wanted) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    } else if let Some(message) = number("message") {
        let (found, envelope) = end.receiver().poll_message().ok_or("no message")?;
        expect(
            json!([found, hex::encode(envelope.bytes)]),
            json!([message, step["envelope"]]),
        )
    } else {
        let refused = Decision::Refused {
            code: if step["code"].is_null() {
                NackCode::Busy
            } else {
                code(step)
            },
            retryable: step["retryable"] == true,
        };
        let (number, decision) = match number("stored") {
            Some(number) => (number, Decision::Stored),
            None => (number("refused").ok_or("an unknown step")?, refused),
        };
        expect(json!(end.receiver().decide(number, decision)), json!(true))
    }
}

#[test]
fn dialogues() {
    for case in &cases(&folder(), "dialogue.json") {
        let mut end = match case["role"].as_str().unwrap() {
            "sender" => End::Sender(ChatSender::new()),
            _ => End::Receiver(ChatReceiver::new()),
        };
        let mut last = Ok(());
        for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            run(&mut end, step, &mut last)
                .unwrap_or_else(|error| panic!("{} step {index} {step}: {error}", case["id"]));
        }
        assert_eq!(last, Ok(()), "{}", case["id"]);
        if let End::Sender(sender) = &mut end {
            assert_eq!(sender.poll_event(), None, "{}: an event too many", case["id"]);
        }
    }
}

/// A case is refused if it says with what error, or with which NACK.
#[test]
fn every_rule_has_an_accepted_and_a_refused_case() {
    let refused_step = |step: &Value| step["error"].is_string();
    let refused = |case: &Value| {
        let steps = case["steps"].as_array();
        refused_step(case)
            || case["nack"].is_u64()
            || steps.is_some_and(|steps| steps.iter().any(refused_step))
    };
    let all = ["envelope.json", "dialogue.json"].map(|file| cases(Path::new(OURS), file));
    let shown: Vec<(String, bool)> = all
        .iter()
        .flatten()
        .map(|case| (case["must"].as_str().unwrap().to_owned(), refused(case)))
        .collect();
    let specification = include_str!("../../../spec/chat-1.md");
    assert_eq!(marks::gaps(specification, &shown), [""; 0]);
}
