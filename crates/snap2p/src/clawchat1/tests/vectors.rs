//! The vectors of `spec/vectors/clawchat1`: that this implementation obeys them, and that every rule of
//! `spec/clawchat-1.md` has its cases. `CLAWCHAT_SNAP2P_VECTORS_DIR` names another folder; they are read from
//! `clawchat1` beside it, if that is there.

use std::path::{Path, PathBuf};

use clawchat_types::UnixMillis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pair::{Hosted, run};
use super::scripts::{FrameCase, HandshakeCase, HandshakeResult, SessionCase, events, play, result};
use crate::clawchat1::px1::{self, PeerInfo};
use crate::clawchat1::{FrameReader, Session};
use crate::tests::marks;
use crate::tests::vectors::{enhex, unhex};

const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/clawchat1");

/// A hint, and what is read of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct HintCase {
    pub(super) name: String,
    pub(super) must: String,
    /// The body of a frame.
    pub(super) body: String,
    /// `None` when it is refused.
    pub(super) message: Option<Value>,
}

fn folder() -> PathBuf {
    let given = std::env::var_os("CLAWCHAT_SNAP2P_VECTORS_DIR").map(PathBuf::from);
    given
        .map(|folder| folder.join("../clawchat1"))
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(|| OURS.into())
}

fn read<T: DeserializeOwned>(folder: &Path, file: &str) -> Vec<T> {
    let text = std::fs::read(folder.join(file)).unwrap();
    let cases: Vec<T> = serde_json::from_slice(&text).unwrap();
    assert!(!cases.is_empty(), "no cases in {file}");
    cases
}

/// Compares what is made here with what the repository holds, or writes it.
pub(super) fn check<T: Serialize>(file: &str, cases: &[T]) {
    let mut text = serde_json::to_string_pretty(cases).unwrap();
    text.push('\n');
    let path = Path::new(OURS).join(file);
    if std::env::var_os("CLAWCHAT_SNAP2P_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(OURS).unwrap();
        std::fs::write(&path, &text).unwrap();
    } else {
        assert!(
            std::fs::read_to_string(path).unwrap() == text,
            "{file} is not what is made here"
        );
    }
}

/// Bob's session with Alice.
pub(super) fn bobs_session() -> Session {
    run(usize::MAX, &Hosted::bob(), &[]).1.unwrap()
}

pub(super) fn cut(limit: usize, bytes: &[u8]) -> (Vec<String>, bool) {
    let mut reader = FrameReader::new();
    reader.set_limit(limit);
    reader.push(bytes);
    let mut frames = Vec::new();
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => frames.push(enhex(frame)),
            Ok(None) => return (frames, false),
            Err(_) => return (frames, true),
        }
    }
}

pub(super) fn hint(body: &[u8]) -> Option<Value> {
    let peer = |peer: PeerInfo| {
        let PeerInfo {
            principal,
            multiaddrs,
            last_seen: UnixMillis(last_seen),
            peer_id,
        } = peer;
        json!({ "principal": principal, "multiaddrs": multiaddrs, "last_seen": last_seen, "peer_id": peer_id })
    };
    let message = match px1::decode(body).ok()? {
        px1::Message::ResolveRequest {
            principal,
            request_id,
        } => {
            json!({ "resolve_request": { "principal": principal, "request_id": request_id } })
        }
        px1::Message::ResolveResponse {
            request_id,
            peer: found,
            error,
        } => json!({ "resolve_response": {
            "request_id": request_id, "peer": found.map(peer), "error": error,
        }}),
        px1::Message::Push { peers } => json!({ "push": peers.into_iter().map(peer).collect::<Vec<_>>() }),
    };
    Some(message)
}

#[test]
fn frames_obey_the_vectors() {
    for case in read::<FrameCase>(&folder(), "frames.json") {
        let cut = cut(case.limit, &unhex(&case.bytes));
        assert_eq!(cut, (case.frames, case.refused), "{}", case.name);
    }
}

#[test]
fn handshakes_obey_the_vectors() {
    for case in read::<HandshakeCase>(&folder(), "handshake.json") {
        let (steps, outcome) = play(&case);
        assert_eq!(steps, case.steps, "{}", case.name);
        assert_eq!(result(outcome), case.result, "{}", case.name);
    }
}

#[test]
fn sessions_obey_the_vectors() {
    for case in read::<SessionCase>(&folder(), "session.json") {
        assert_eq!(
            events(bobs_session(), &case.receive),
            case.events,
            "{}",
            case.name
        );
    }
}

#[test]
fn hints_obey_the_vectors() {
    for case in read::<HintCase>(&folder(), "px1.json") {
        assert_eq!(hint(&unhex(&case.body)), case.message, "{}", case.name);
    }
}

#[test]
fn every_rule_has_an_accepted_and_a_refused_case() {
    let ours = Path::new(OURS);
    let mut shown: Vec<(String, bool)> = Vec::new();
    let frames = read::<FrameCase>(ours, "frames.json").into_iter();
    shown.extend(frames.map(|case| (case.must, case.refused)));
    let handshakes = read::<HandshakeCase>(ours, "handshake.json").into_iter();
    shown.extend(handshakes.map(|case| {
        let refused = matches!(case.result, HandshakeResult::Refuses(_));
        (case.must, refused)
    }));
    let sessions = read::<SessionCase>(ours, "session.json").into_iter();
    shown.extend(sessions.map(|case| {
        let refused = |event: &Value| event == "dropped" || event == "ended";
        (case.must, case.events.iter().any(refused))
    }));
    let hints = read::<HintCase>(ours, "px1.json").into_iter();
    shown.extend(hints.map(|case| (case.must, case.message.is_none())));
    let specification = include_str!("../../../../../spec/clawchat-1.md");
    assert_eq!(marks::gaps(specification, &shown), [""; 0]);
}
