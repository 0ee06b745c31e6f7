//! The vectors of `spec/vectors/snap2p2`: what they look like, and that this implementation obeys them.
//!
//! `CLAWCHAT_SNAP2P_VECTORS_DIR` names another folder to read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::{Attestation, NodeKey};
use clawchat_types::{Moment, Principal, UnixMillis};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::pair::{Gate, Hosted, Raw, events, raw_and_session};
use crate::{
    Answerer, Credentials, Dialer, ErrorCode, FrameReader, HandshakeEntropy, HandshakeError, PeerPair,
    SessionEvent,
};

/// Frames cut out of a byte stream.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FrameCase {
    pub(super) name: String,
    pub(super) must: String,
    pub(super) limit: usize,
    pub(super) bytes: String,
    /// Kind byte and body of each frame.
    pub(super) frames: Vec<String>,
    pub(super) refused: bool,
}

/// One side of a handshake: what it is, what it receives, what it must send, how it must end.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct HandshakeCase {
    pub(super) name: String,
    pub(super) must: String,
    pub(super) side: Side,
    /// Unix seconds.
    pub(super) time: i64,
    pub(super) initiator_peer: String,
    pub(super) responder_peer: String,
    pub(super) ephemeral: String,
    pub(super) nonce: String,
    /// The initiator's own identity, or those the responder hosts, the default one first.
    pub(super) identities: Vec<IdentityCase>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    /// The token the initiator knocks with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) knock: Option<String>,
    /// Whom the responder's list does not admit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) refuses: Vec<String>,
    pub(super) steps: Vec<Step>,
    pub(super) result: HandshakeResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Initiator,
    Responder,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct IdentityCase {
    pub(super) node_seed: String,
    pub(super) attestation: String,
    /// The token it must be knocked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
}

/// Outer frames with their length.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) receive: Option<String>,
    pub(super) send: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HandshakeResult {
    /// A session with this principal.
    Session(String),
    /// This side refuses, with this code.
    Refuses(String),
    /// The peer refused, with this code.
    Refused(String),
}

/// An initiator's plaintexts to a responder.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionCase {
    pub(super) name: String,
    pub(super) must: String,
    /// Whether the owner accepts every stream and consumes at once, or does nothing at all.
    pub(super) owner_reads: bool,
    /// Plaintexts of Noise messages.
    pub(super) receive: Vec<String>,
    /// Control messages, after the last of them.
    pub(super) send: Vec<String>,
    /// Stream and number of bytes of each delivery.
    pub(super) delivered: Vec<(u64, usize)>,
    /// The code it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<String>,
}

pub(super) fn folder() -> PathBuf {
    std::env::var_os("CLAWCHAT_SNAP2P_VECTORS_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/snap2p2")),
        PathBuf::from,
    )
}

fn read<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let text = std::fs::read(folder().join(file)).unwrap();
    let cases: Vec<T> = serde_json::from_slice(&text).unwrap();
    assert!(!cases.is_empty());
    cases
}

/// Runs of one byte this long are written as `xx*length`.
const RUN: usize = 64;

/// Hexadecimal digits in groups; a group `xx*length` is that byte, so many times.
pub(super) fn unhex(text: &str) -> Vec<u8> {
    let group = |group: &str| match group.split_once('*') {
        Some((byte, length)) => hex::decode(byte).unwrap().repeat(length.parse().unwrap()),
        None => hex::decode(group).unwrap(),
    };
    text.split(' ').flat_map(group).collect()
}

pub(super) fn enhex(bytes: impl AsRef<[u8]>) -> String {
    let mut text = String::new();
    for run in bytes.as_ref().chunk_by(|a, b| a == b) {
        if run.len() >= RUN {
            text.push_str(&format!(" {:02x}*{} ", run[0], run.len()));
        } else {
            text.push_str(&hex::encode(run));
        }
    }
    text.trim().to_owned()
}

fn array(text: &str) -> [u8; 32] {
    unhex(text).try_into().unwrap()
}

/// The side under test.
pub(super) enum Machine {
    Dialer(Box<Dialer>),
    Answerer(Box<Answerer>, Gate),
}

impl Machine {
    pub(super) fn new(case: &HandshakeCase) -> Self {
        let peers = PeerPair {
            initiator: case.initiator_peer.clone(),
            responder: case.responder_peer.clone(),
        };
        let entropy = HandshakeEntropy {
            ephemeral: array(&case.ephemeral),
            nonce: array(&case.nonce),
        };
        let now = case.now();
        match case.side {
            Side::Initiator => {
                let target = case.target.as_ref().map(|target| target.parse().unwrap());
                let knock = case.knock.as_deref().map(unhex);
                let who = case.identities[0].credentials(now);
                let dialer = Dialer::new(who, &peers, target, knock.as_deref(), entropy, now);
                Self::Dialer(Box::new(dialer))
            }
            Side::Responder => {
                let hosted = case.identities.iter().map(|identity| Hosted {
                    credentials: identity.credentials(now),
                    token: identity.token.as_deref().map(unhex),
                });
                let refuses = case.refuses.iter().map(|principal| principal.parse().unwrap());
                let gate = Gate {
                    hosted: hosted.collect(),
                    refuses: refuses.collect(),
                };
                Self::Answerer(Box::new(Answerer::new(&peers, entropy, now)), gate)
            }
        }
    }

    /// Takes an outer frame, and gives those it sends.
    pub(super) fn step(&mut self, receive: Option<&[u8]>, now: Moment) -> Vec<Vec<u8>> {
        let frame = receive.map(|frame| {
            let mut reader = FrameReader::new();
            reader.push(frame);
            reader.next_frame().unwrap().unwrap()
        });
        match self {
            Self::Dialer(dialer) => {
                if let Some(frame) = frame {
                    dialer.handle_frame(&frame, now);
                }
                std::iter::from_fn(|| dialer.poll_frame()).collect()
            }
            Self::Answerer(answerer, gate) => {
                if let Some(frame) = frame {
                    answerer.handle_frame(&frame, now, gate);
                }
                std::iter::from_fn(|| answerer.poll_frame()).collect()
            }
        }
    }

    pub(super) fn result(self) -> HandshakeResult {
        let result = match self {
            Self::Dialer(dialer) => dialer.finish(),
            Self::Answerer(answerer, _) => answerer.finish(),
        };
        match result {
            Ok(session) => HandshakeResult::Session(session.remote().to_string()),
            Err(HandshakeError::Refused { code }) => HandshakeResult::Refused(code.to_string()),
            Err(error) => HandshakeResult::Refuses(error.wire_code().to_string()),
        }
    }
}

impl HandshakeCase {
    pub(super) fn now(&self) -> Moment {
        Moment {
            wall: UnixMillis(u64::try_from(self.time).unwrap() * 1000),
            mono: Duration::ZERO,
        }
    }
}

impl IdentityCase {
    fn credentials(&self, now: Moment) -> Credentials {
        let attestation = Attestation::from_bytes(&unhex(&self.attestation)).unwrap();
        let principal: Principal = *attestation.principal();
        Credentials {
            node_key: Arc::new(NodeKey::from_seed(array(&self.node_seed))),
            attestation: attestation
                .verify(principal.network(), now.wall.seconds())
                .unwrap(),
        }
    }
}

/// Plays a peer's plaintexts to a session: replies, deliveries, end.
pub(super) fn play(
    owner_reads: bool,
    plaintexts: &[Vec<u8>],
) -> (Vec<String>, Vec<(u64, usize)>, Option<String>) {
    let (mut raw, mut session, clock): (Raw, _, _) = raw_and_session();
    let (mut delivered, mut ended) = (Vec::new(), None);
    for plaintext in plaintexts {
        let _ = session.handle_frame(&raw.frame(plaintext), clock.now());
        while let Some(event) = session.poll_event() {
            match event {
                SessionEvent::Opened { id, .. } if owner_reads => session.accept(id),
                SessionEvent::Data { id, bytes } => {
                    session.consumed(id, bytes.len());
                    delivered.push((id.get(), bytes.len()));
                }
                SessionEvent::GoneAway { code } => ended = Some(code.to_string()),
                SessionEvent::Opened { .. }
                | SessionEvent::Finished { .. }
                | SessionEvent::StreamWritable { .. }
                | SessionEvent::Closed { .. } => {}
            }
        }
    }
    let replies = raw.replies(&mut session);
    assert_eq!(events(&mut session), []);
    (replies.iter().map(enhex).collect(), delivered, ended)
}

#[test]
fn runs_are_written_short_and_read_back() {
    let bytes = [vec![0xda; 70], vec![1, 2], vec![0; 64]].concat();
    assert_eq!(enhex(&bytes), "da*70 0102 00*64");
    assert_eq!(unhex("da*70 0102 00*64"), bytes);
}

#[test]
fn frames_obey_the_vectors() {
    for case in read::<FrameCase>("frames.json") {
        let mut reader = FrameReader::new();
        reader.set_limit(case.limit);
        reader.push(&unhex(&case.bytes));
        let mut frames = Vec::new();
        let refused = loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(enhex(frame)),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert_eq!((frames, refused), (case.frames, case.refused), "{}", case.name);
    }
}

#[test]
fn handshakes_obey_the_vectors() {
    for case in read::<HandshakeCase>("handshake.json") {
        let mut machine = Machine::new(&case);
        for step in &case.steps {
            let receive = step.receive.as_deref().map(unhex);
            let sent = machine.step(receive.as_deref(), case.now());
            let sent: Vec<String> = sent.iter().map(enhex).collect();
            assert_eq!(sent, step.send, "{}", case.name);
        }
        assert_eq!(machine.result(), case.result, "{}", case.name);
    }
}

#[test]
fn sessions_obey_the_vectors() {
    for case in read::<SessionCase>("session.json") {
        let plaintexts: Vec<Vec<u8>> = case.receive.iter().map(|text| unhex(text)).collect();
        let (send, delivered, ended) = play(case.owner_reads, &plaintexts);
        assert_eq!(
            (send, delivered, ended),
            (case.send, case.delivered, case.ended),
            "{}",
            case.name
        );
    }
}

#[test]
fn the_error_codes_of_the_vectors_exist() {
    for case in read::<HandshakeCase>("handshake.json") {
        if let HandshakeResult::Refuses(name) | HandshakeResult::Refused(name) = case.result {
            let known = (0..64).any(|number| ErrorCode::from_number(number).name() == name);
            assert!(known, "{name}");
        }
    }
}
