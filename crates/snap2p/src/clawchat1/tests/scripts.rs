//! One side of a handshake or a session, played from a case of `spec/vectors/clawchat1`.

use std::time::Duration;

use clawchat_identity::{Attestation, Verified};
use clawchat_testkit::Clock;
use clawchat_types::{Network, NodeId, Principal, UnixMillis, UnixSeconds};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pair::Hosted;
use crate::clawchat1::{Answerer, Binding, Channel, Dialer, Event, Gate, HandshakeError, PingNonce, Session};
use crate::tests::vectors::{enhex, unhex};

/// Frames cut out of a byte stream.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FrameCase {
    pub(super) name: String,
    pub(super) must: String,
    pub(super) limit: usize,
    pub(super) bytes: String,
    pub(super) frames: Vec<String>,
    pub(super) refused: bool,
}

/// One side of a handshake: what it is, what it receives, what it must send, how it must end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct HandshakeCase {
    pub(super) name: String,
    pub(super) must: String,
    pub(super) side: Side,
    /// Unix seconds.
    pub(super) time: i64,
    pub(super) network: Network,
    /// Node keys of the two ends of the connection.
    pub(super) local_key: NodeId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remote_key: Option<NodeId>,
    /// Whether an unbound peer is taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unbound: bool,
    pub(super) nonce: String,
    /// The attestation of each local identity, serialized, and whom it does not admit.
    pub(super) identities: Vec<IdentityCase>,
    pub(super) steps: Vec<Step>,
    pub(super) result: HandshakeResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Initiator,
    Responder,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct IdentityCase {
    pub(super) attestation: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) refuses: Vec<Principal>,
}

/// Frames with their headers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    /// Seconds that pass first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) wait: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) receive: Option<String>,
    pub(super) send: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HandshakeResult {
    /// A bound session with this principal.
    Session(String),
    /// A session with this principal, which did not prove that it is there.
    Unbound(String),
    /// This side refuses, with this code.
    Refuses(String),
    /// The peer refused, with this code.
    Refused(String),
}

/// What a peer says in a session, and what comes of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionCase {
    pub(super) name: String,
    pub(super) must: String,
    /// Bodies of frames.
    pub(super) receive: Vec<String>,
    /// What each of them is.
    pub(super) events: Vec<Value>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde wants it
fn is_zero(number: &u64) -> bool {
    *number == 0
}

enum Machine {
    Dialer(Box<Dialer>),
    Answerer(Box<Answerer>, Hosted),
}

/// Plays a handshake: the steps with what was sent, and the outcome.
pub(super) fn play(case: &HandshakeCase) -> (Vec<Step>, Result<Session, HandshakeError>) {
    let time = UnixSeconds(case.time);
    let clock = Clock::at(UnixMillis(u64::try_from(case.time).unwrap() * 1000));
    let verified = |identity: &IdentityCase| -> Attestation<Verified> {
        let unverified = Attestation::from_bytes(&unhex(&identity.attestation)).unwrap();
        let network = unverified.principal().network();
        unverified.verify(network, time).unwrap()
    };
    let channel = Channel {
        local: case.local_key,
        remote: case.remote_key,
    };
    let binding = if case.unbound {
        Binding::Optional
    } else {
        Binding::Required
    };
    let nonce = unhex(&case.nonce).try_into().unwrap();
    let now = clock.now();
    let mut machine = match case.side {
        Side::Initiator => {
            let local = verified(&case.identities[0]);
            Machine::Dialer(Box::new(Dialer::new(local, channel, binding, nonce, now)))
        }
        Side::Responder => {
            let hosted = case.identities.iter();
            let hosted = hosted.map(|identity| (verified(identity), identity.refuses.clone()));
            let answerer = Answerer::new(channel, binding, case.network, nonce, now);
            Machine::Answerer(Box::new(answerer), Hosted(hosted.collect()))
        }
    };
    let mut steps = case.steps.clone();
    for step in &mut steps {
        let now = clock.advance(Duration::from_secs(step.wait));
        let received = step.receive.as_deref().map(unhex);
        step.send = match &mut machine {
            Machine::Dialer(dialer) => {
                dialer.handle_timeout(now);
                for frame in received.iter() {
                    dialer.handle_frame(&frame[4..], now);
                }
                std::iter::from_fn(|| dialer.poll_frame()).map(enhex).collect()
            }
            Machine::Answerer(answerer, hosted) => {
                answerer.handle_timeout(now);
                for frame in received.iter() {
                    answerer.handle_frame(&frame[4..], now, hosted as &dyn Gate);
                }
                std::iter::from_fn(|| answerer.poll_frame()).map(enhex).collect()
            }
        };
    }
    let outcome = match machine {
        Machine::Dialer(dialer) => dialer.finish(),
        Machine::Answerer(answerer, _) => answerer.finish(),
    };
    (steps, outcome)
}

pub(super) fn result(outcome: Result<Session, HandshakeError>) -> HandshakeResult {
    match outcome {
        Ok(session) if session.is_bound() => HandshakeResult::Session(session.remote().to_string()),
        Ok(session) => HandshakeResult::Unbound(session.remote().to_string()),
        Err(HandshakeError::Refused { code, .. }) => HandshakeResult::Refused(code.to_string()),
        Err(error) => HandshakeResult::Refuses(error.wire_code().to_string()),
    }
}

/// What comes of each frame.
pub(super) fn events(mut session: Session, receive: &[String]) -> Vec<Value> {
    let now = Clock::new().now();
    let event = |frame: &String| match session.handle_frame(&unhex(frame), now) {
        Ok(None) => json!("ignored"),
        Ok(Some(Event::Ping(nonce))) => json!({ "ping": hex_of(&nonce) }),
        Ok(Some(Event::Pong(nonce))) => json!({ "pong": hex_of(&nonce) }),
        Ok(Some(Event::Chat(chat))) => json!({ "chat": {
            "id": chat.id, "from": chat.from, "nick": chat.nick, "content": chat.content,
            "timestamp": chat.timestamp.0,
        }}),
        Err(error) if error.is_fatal() => json!("ended"),
        Err(_) => json!("dropped"),
    };
    receive.iter().map(event).collect()
}

fn hex_of(nonce: &PingNonce) -> Option<String> {
    nonce.as_bytes().map(hex::encode)
}
