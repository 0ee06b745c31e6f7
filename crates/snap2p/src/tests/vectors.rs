//! The vectors of `spec/vectors/snap2p2`: what they look like, and that this implementation obeys them.
//!
//! `CLAWCHAT_SNAP2P_VECTORS_DIR` names another folder to read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::{Attestation, NodeKey};
use clawchat_types::{Moment, Principal, UnixMillis};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::marks;
use super::pair::{Gate, Hosted, Raw, raw_and_session};
use crate::wire::{Control, read_one};
use crate::{
    Answerer, Credentials, Dialer, ErrorCode, FrameReader, HandshakeEntropy, HandshakeError, PeerPair,
    Session, SessionEvent,
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
    #[serde(flatten)]
    pub(super) play: Play,
    /// Control messages, one behind the other.
    pub(super) send: Vec<String>,
    /// Each stream with bytes, and how many of them.
    pub(super) delivered: BTreeMap<u64, usize>,
    /// The code it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<String>,
}

/// What happens to a responder's session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Play {
    pub(super) owner: Owner,
    /// Streams the owner opens first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) opens: usize,
    /// Plaintexts of Noise messages.
    pub(super) receive: Vec<String>,
    /// Seconds of silence that follow, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) silence: Vec<u64>,
}

/// What the owner does with the peer's streams.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Owner {
    /// Accepts every stream, and consumes its bytes at once.
    Reads,
    /// Accepts every stream, and consumes so many bytes in all.
    ReadsOnly(usize),
    /// Nothing at all.
    Waits,
    /// Refuses every stream.
    Refuses,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The repository's own vectors.
const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/snap2p2");

/// The folder to test against.
pub(super) fn folder() -> PathBuf {
    std::env::var_os("CLAWCHAT_SNAP2P_VECTORS_DIR").map_or_else(|| OURS.into(), PathBuf::from)
}

fn read<T: DeserializeOwned>(file: &str) -> Vec<T> {
    read_from(&folder(), file)
}

fn read_from<T: DeserializeOwned>(folder: &Path, file: &str) -> Vec<T> {
    let text = std::fs::read(folder.join(file)).unwrap();
    let cases: Vec<T> = serde_json::from_slice(&text).unwrap();
    assert!(!cases.is_empty());
    cases
}

/// Runs of one byte this long are written as `xx*length`.
const RUN: usize = 64;

/// Hexadecimal digits in groups; a group `xx*length` is that byte, so many times.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let group = |group: &str| match group.split_once('*') {
        Some((byte, length)) => hex::decode(byte).unwrap().repeat(length.parse().unwrap()),
        None => hex::decode(group).unwrap(),
    };
    text.split(' ').flat_map(group).collect()
}

pub(crate) fn enhex(bytes: impl AsRef<[u8]>) -> String {
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
    /// The handshake is over.
    Over(Result<Box<Session>, HandshakeError>),
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
        let sent = match self {
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
            Self::Over(Ok(session)) => {
                session.handle_frame(&frame.unwrap(), now).unwrap();
                let mut sent = vec![Vec::new()];
                while session.poll_transmit(sent.last_mut().unwrap()) {
                    sent.push(Vec::new());
                }
                sent.pop();
                sent
            }
            Self::Over(Err(_)) => Vec::new(),
        };
        self.settle();
        sent
    }

    fn settle(&mut self) {
        *self = match std::mem::replace(self, Self::Over(Err(HandshakeError::Unfinished))) {
            Self::Dialer(dialer) if dialer.is_done() => Self::Over(dialer.finish().map(Box::new)),
            Self::Answerer(answerer, _) if answerer.is_done() => Self::Over(answerer.finish().map(Box::new)),
            going_on => going_on,
        };
    }

    pub(super) fn result(self) -> HandshakeResult {
        let Self::Over(result) = self else {
            panic!("the handshake goes on");
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

/// Replies, deliveries, end.
pub(super) type Played = (Vec<String>, BTreeMap<u64, usize>, Option<String>);

impl Play {
    /// Plays it to a session.
    pub(super) fn run(&self) -> Played {
        let (mut raw, mut session, clock): (Raw, _, _) = raw_and_session();
        let mut stage = Stage {
            owner: self.owner,
            send: Vec::new(),
            delivered: BTreeMap::new(),
            ended: None,
        };
        for _ in 0..self.opens {
            session.open("").unwrap();
        }
        for plaintext in &self.receive {
            let _ = session.handle_frame(&raw.frame(&unhex(plaintext)), clock.now());
            stage.look(&mut raw, &mut session);
        }
        for seconds in &self.silence {
            session.handle_timeout(clock.advance(Duration::from_secs(*seconds)));
            stage.look(&mut raw, &mut session);
        }
        (stage.send, stage.delivered, stage.ended)
    }
}

/// What is seen of a session.
struct Stage {
    owner: Owner,
    send: Vec<String>,
    delivered: BTreeMap<u64, usize>,
    ended: Option<String>,
}

impl Stage {
    /// Takes its events and what it sends, until there is nothing.
    fn look(&mut self, raw: &mut Raw, session: &mut Session) {
        loop {
            while let Some(event) = session.poll_event() {
                self.on_event(event, session);
            }
            let replies = raw.replies(session);
            if replies.is_empty() {
                break;
            }
            self.send.extend(replies.iter().map(enhex));
        }
    }

    fn on_event(&mut self, event: SessionEvent, session: &mut Session) {
        match event {
            SessionEvent::Opened { id, .. } => match self.owner {
                Owner::Reads | Owner::ReadsOnly(_) => session.accept(id),
                Owner::Waits => {}
                Owner::Refuses => session.refuse(id, ErrorCode::StreamRefused),
            },
            SessionEvent::Data { id, bytes } => {
                *self.delivered.entry(id.get()).or_default() += bytes.len();
                let consumed = match &mut self.owner {
                    Owner::Reads => bytes.len(),
                    Owner::ReadsOnly(left) => {
                        let consumed = bytes.len().min(*left);
                        *left -= consumed;
                        consumed
                    }
                    Owner::Waits | Owner::Refuses => 0,
                };
                session.consumed(id, consumed);
            }
            SessionEvent::GoneAway { code } => self.ended = Some(code.to_string()),
            SessionEvent::Finished { .. }
            | SessionEvent::StreamWritable { .. }
            | SessionEvent::Closed { .. } => {}
        }
    }
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
        let played = case.play.run();
        assert_eq!(played, (case.send, case.delivered, case.ended), "{}", case.name);
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

/// A case is refused if this side says so: with an error, by refusing its peer, by GOODBYE, or by CLOSE with a code.
fn marks_shown() -> Vec<(String, bool)> {
    let ours = Path::new(OURS);
    let mut shown: Vec<(String, bool)> = Vec::new();
    shown.extend(
        read_from(ours, "frames.json")
            .into_iter()
            .map(|case: FrameCase| (case.must, case.refused)),
    );
    let handshakes = read_from(ours, "handshake.json").into_iter();
    shown.extend(handshakes.map(|case: HandshakeCase| {
        let refused = matches!(case.result, HandshakeResult::Refuses(_));
        (case.must, refused)
    }));
    let says_no = |message: &String| {
        let message = unhex(message);
        let message = read_one(&message).unwrap();
        matches!(
            message,
            Control::Goodbye { .. } | Control::Close { code: Some(_), .. }
        )
    };
    let sessions = read_from(ours, "session.json").into_iter();
    shown.extend(sessions.map(|case: SessionCase| (case.must, case.send.iter().any(says_no))));
    shown
}

#[test]
fn every_rule_has_an_accepted_and_a_refused_case() {
    let specification = include_str!("../../../../spec/snap2p-2.md");
    assert_eq!(marks::gaps(specification, &marks_shown()), [""; 0]);
}
