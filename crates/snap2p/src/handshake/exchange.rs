//! What both roles share: frames to send, the deadline, the outcome, and the check of the peer's proof.

use std::collections::VecDeque;
use std::time::Duration;

use clawchat_identity::{Attestation, Verified, x25519_public};
use clawchat_types::{Moment, Network};
use snow::TransportState;

use super::HandshakeError;
use super::noise::{self, KEY_BYTES};
use crate::limits::{HANDSHAKE_DEADLINE, MAX_PRE_AUTH_FRAME};
use crate::wire::{Auth, Control, KIND_NOISE, NONCE_BYTES, clear_frame, read_one, refusal};
use crate::{FrameError, Session};

/// Frames, deadline and outcome of one handshake.
pub(super) struct Exchange {
    out: VecDeque<Vec<u8>>,
    deadline: Duration,
    outcome: Option<Result<Box<Session>, HandshakeError>>,
}

/// How the peer learns that it is refused.
pub(super) enum Tell {
    /// In a frame of kind REFUSAL: there are no keys yet.
    InClear,
    /// In an encrypted AUTH_FAIL.
    Sealed(Box<TransportState>),
    /// Not at all.
    Nothing,
}

impl Exchange {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            out: VecDeque::new(),
            deadline: now.mono.saturating_add(HANDSHAKE_DEADLINE),
            outcome: None,
        }
    }

    pub(super) fn send(&mut self, kind: u8, body: &[u8]) {
        self.out.push_back(clear_frame(kind, body));
    }

    pub(super) fn accept(&mut self, session: Session) {
        self.outcome = Some(Ok(Box::new(session)));
    }

    pub(super) fn fail(&mut self, error: HandshakeError, tell: Tell) {
        let code = error.wire_code();
        match tell {
            Tell::InClear => self.out.push_back(refusal(code)),
            Tell::Sealed(mut transport) => {
                if let Ok(message) = noise::seal(&mut transport, &Control::AuthFail { code }.to_vec()) {
                    self.send(KIND_NOISE, &message);
                }
            }
            Tell::Nothing => {}
        }
        self.outcome = Some(Err(error));
    }

    pub(super) fn poll_frame(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.outcome.is_none().then_some(self.deadline)
    }

    pub(super) fn is_late(&self, now: Moment) -> bool {
        self.outcome.is_none() && now.mono >= self.deadline
    }

    pub(super) fn is_done(&self) -> bool {
        self.outcome.is_some()
    }

    pub(super) fn finish(self) -> Result<Session, HandshakeError> {
        match self.outcome {
            Some(Ok(session)) => Ok(*session),
            Some(Err(error)) => Err(error),
            None => Err(HandshakeError::Unfinished),
        }
    }
}

/// Kind and body of a stranger's frame.
pub(super) fn split_frame(frame: &[u8]) -> Result<(u8, &[u8]), HandshakeError> {
    if frame.len() > MAX_PRE_AUTH_FRAME {
        return Err(HandshakeError::Frame(FrameError::TooLong {
            length: frame.len(),
            limit: MAX_PRE_AUTH_FRAME,
        }));
    }
    let (&kind, body) = frame.split_first().ok_or(FrameError::Empty)?;
    Ok((kind, body))
}

/// The error a refusal stands for.
pub(super) fn read_refusal(body: &[u8]) -> HandshakeError {
    match read_one(body) {
        Ok(message) => refused(&message).unwrap_or_else(|| message.unexpected().into()),
        Err(error) => error.into(),
    }
}

/// The error of an AUTH_FAIL.
pub(super) fn refused(message: &Control<'_>) -> Option<HandshakeError> {
    message.refusal().map(|code| HandshakeError::Refused { code })
}

/// What the peer's AUTH must agree with.
pub(super) struct Channel {
    pub(super) initiator_nonce: [u8; NONCE_BYTES],
    pub(super) responder_nonce: [u8; NONCE_BYTES],
    pub(super) remote_static: [u8; KEY_BYTES],
}

/// Checks that the peer's AUTH is consistent with itself and about this channel, and that its attestation
/// holds on `network` now. From cheap to costly.
pub(super) fn verify(
    auth: &Auth<'_>,
    channel: &Channel,
    network: Network,
    now: Moment,
) -> Result<Attestation<Verified>, HandshakeError> {
    if auth.initiator_nonce != channel.initiator_nonce || auth.responder_nonce != channel.responder_nonce {
        return Err(HandshakeError::NonceMismatch);
    }
    let attestation = Attestation::from_bytes(auth.attestation)?;
    if auth.principal != *attestation.principal() {
        return Err(HandshakeError::PrincipalMismatch {
            claimed: auth.principal,
            attested: *attestation.principal(),
        });
    }
    if x25519_public(attestation.node_id()) != Some(channel.remote_static) {
        return Err(HandshakeError::KeyMismatch {
            attested: *attestation.node_id(),
        });
    }
    Ok(attestation.verify(network, now.wall.seconds())?)
}
