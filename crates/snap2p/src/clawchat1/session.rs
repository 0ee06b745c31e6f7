//! The session after the handshake: chat messages, barriers, signs of life.

use std::collections::VecDeque;
use std::time::Duration;

use clawchat_identity::{Attestation, Verified};
use clawchat_types::{Moment, NodeId, Principal};

use super::chat::{self, ChatError, ChatMessage};
use super::message::{Message, PingNonce, WireError, printable};
use super::{PING_AFTER, PONG_WITHIN, frame};
use crate::ErrorCode;

/// PINGs and PONGs waiting to be sent. A peer that causes more without reading them is cut off.
const MAX_QUEUED: usize = 1024;
/// How the nonce of a keep-alive PING begins; behind it comes its number. Told from those of the application,
/// whose nonces are random.
const KEEP_ALIVE: [u8; 8] = *b"keep-alv";
/// Longest foreign sender that goes into an error, in characters.
const MAX_CLAIM_CHARS: usize = 128;

/// A session between a local and a remote identity. One stream carries both directions, whoever opened it.
///
/// Loop: hand over frames ([`Session::handle_frame`]) and time ([`Session::handle_timeout`]), and write out
/// everything [`Session::poll_transmit`] gives, until [`Session::is_dead`]. Chat messages are written with
/// [`super::encode_chat`], in between.
#[derive(Debug)]
pub struct Session {
    local: Principal,
    remote: Attestation<Verified>,
    remote_bytes: Vec<u8>,
    /// The peer's principal as it stands in messages.
    remote_text: String,
    bound: bool,
    initiator: bool,
    out: VecDeque<Vec<u8>>,
    heard_at: Duration,
    /// When a peer that was asked for a sign of life is dead.
    dead_at: Option<Duration>,
    pings_sent: u64,
    dead: bool,
}

/// What a frame brought for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, whose `from` is the session's principal.
    Chat(ChatMessage),
    /// The peer wants to know when everything it sent before is dealt with: answer with [`Session::pong`], in the
    /// order of arrival.
    Ping(PingNonce),
    /// Everything sent before the [`Session::ping`] of this nonce was read by the peer.
    Pong(PingNonce),
}

impl Session {
    pub(super) fn new(
        local: Principal,
        remote: Attestation<Verified>,
        bound: bool,
        initiator: bool,
        now: Moment,
    ) -> Self {
        Self {
            local,
            remote_bytes: remote.to_bytes(),
            remote_text: remote.principal().to_string(),
            remote,
            bound,
            initiator,
            out: VecDeque::new(),
            heard_at: now.mono,
            dead_at: None,
            pings_sent: 0,
            dead: false,
        }
    }

    /// The local identity.
    #[must_use]
    pub fn local(&self) -> &Principal {
        &self.local
    }

    /// The peer's identity; proven if the session [is bound](Session::is_bound), else merely claimed.
    #[must_use]
    pub fn remote(&self) -> &Principal {
        self.remote.principal()
    }

    /// The node key the peer's principal attested.
    #[must_use]
    pub fn remote_node(&self) -> &NodeId {
        self.remote.node_id()
    }

    /// The peer's attestation in its serialized form, as [`Attestation::to_bytes`] gives it. It was current when
    /// the session began.
    #[must_use]
    pub fn remote_attestation(&self) -> &[u8] {
        &self.remote_bytes
    }

    /// Whether the attested node key is the one behind the peer's PeerId. Always true with
    /// [`super::Binding::Required`].
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.bound
    }

    /// Whether this side opened the stream.
    #[must_use]
    pub fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// Whether the session has ended: the peer gave no sign of life, broke the protocol or did not read our
    /// answers. Close the stream.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Takes a frame of the peer, as [`super::FrameReader`] gives it. `None`: nothing for the application.
    ///
    /// # Errors
    /// [`SessionError`]; when it is [fatal](SessionError::is_fatal), the session has ended, else only this
    /// message was dropped.
    pub fn handle_frame(&mut self, frame: &[u8], now: Moment) -> Result<Option<Event>, SessionError> {
        if self.dead {
            return Err(SessionError::Ended);
        }
        self.heard(now);
        let event = self.read(frame);
        if event.as_ref().is_err_and(SessionError::is_fatal) {
            self.dead = true;
        }
        event
    }

    /// Part of a frame arrived: a sign of life too, for a large frame on a slow line takes its time.
    pub fn heard(&mut self, now: Moment) {
        self.heard_at = now.mono;
        self.dead_at = None;
    }

    /// Asks the peer, behind everything sent so far, for a PONG of this nonce, which should be random.
    pub fn ping(&mut self, nonce: [u8; 16]) {
        self.send(&Message::Ping(nonce.into()));
    }

    /// Answers an [`Event::Ping`].
    pub fn pong(&mut self, nonce: PingNonce) {
        self.send(&Message::Pong(nonce));
    }

    /// When [`Session::handle_timeout`] is due, on the monotonic clock of [`Moment`]. `None` when dead.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let due = self
            .dead_at
            .unwrap_or_else(|| self.heard_at.saturating_add(PING_AFTER));
        (!self.dead).then_some(due)
    }

    /// Asks a silent peer for a sign of life, or gives it up.
    pub fn handle_timeout(&mut self, now: Moment) {
        match self.dead_at {
            Some(dead_at) if now.mono >= dead_at => self.dead = true,
            Some(_) => {}
            None if now.mono >= self.heard_at.saturating_add(PING_AFTER) => {
                let mut nonce = [0; 16];
                nonce[..8].copy_from_slice(&KEEP_ALIVE);
                nonce[8..].copy_from_slice(&self.pings_sent.to_be_bytes());
                self.pings_sent = self.pings_sent.wrapping_add(1);
                self.dead_at = Some(now.mono.saturating_add(PONG_WITHIN));
                self.ping(nonce);
            }
            None => {}
        }
    }

    /// Appends the next PING or PONG to send, a complete frame, to `out`. False when there is none.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let next = self.out.pop_front();
        out.extend_from_slice(next.as_deref().unwrap_or_default());
        next.is_some()
    }

    fn send(&mut self, message: &Message<'_>) {
        if self.out.len() == MAX_QUEUED {
            self.dead = true;
        } else if !self.dead {
            self.out.push_back(frame(&message.encode()));
        }
    }

    fn read(&self, frame: &[u8]) -> Result<Option<Event>, SessionError> {
        let message = Message::decode(frame).map_err(|error| match error {
            WireError::Cbor(_) => SessionError::Broken(error),
            WireError::Field { .. } | WireError::Version { .. } => SessionError::Malformed(error),
        })?;
        match message {
            Message::StreamData(stream) => {
                let chat = chat::decode(&stream.data)?;
                if chat.from != self.remote_text {
                    return Err(SessionError::ForeignSender {
                        claimed: printable(&chat.from, MAX_CLAIM_CHARS),
                    });
                }
                Ok(Some(Event::Chat(chat)))
            }
            Message::Ping(nonce) => Ok(Some(Event::Ping(nonce))),
            Message::Pong(nonce) if is_keep_alive(&nonce) => Ok(None),
            Message::Pong(nonce) => Ok(Some(Event::Pong(nonce))),
            Message::AuthFail(fail) => Err(SessionError::Refused {
                code: fail.error_code(),
                reason: fail.reason,
            }),
            Message::Hello(_) | Message::Auth(_) | Message::AuthOk | Message::Unknown { .. } => Ok(None),
        }
    }
}

fn is_keep_alive(nonce: &PingNonce) -> bool {
    nonce
        .as_bytes()
        .is_some_and(|nonce| nonce.starts_with(&KEEP_ALIVE))
}

/// What was wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The session has ended before.
    #[error("the session has ended")]
    Ended,
    /// The frame holds something else than CBOR of this protocol. Fatal.
    #[error("the peer broke the protocol: {0}")]
    Broken(WireError),
    /// The peer told us to go, after it had accepted us. Fatal.
    #[error("the peer ended the session: {code} ({reason:?})")]
    Refused {
        /// What its refusal stands for.
        code: ErrorCode,
        /// What it wrote: up to 100 characters, all of them printable ASCII.
        reason: String,
    },
    /// A message lacks a field it must have.
    #[error("a message was dropped: {0}")]
    Malformed(WireError),
    /// A chat message was not one, or was too large.
    #[error("a chat message was dropped: {0}")]
    Chat(#[from] ChatError),
    /// A chat message in somebody else's name.
    #[error("a chat message was dropped: it is said to be from {claimed:?}, who this session is not with")]
    ForeignSender {
        /// The sender named: up to 128 characters, all of them printable ASCII.
        claimed: String,
    },
}

impl SessionError {
    /// Whether the session has ended. Else only one message was dropped.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Ended | Self::Broken(_) | Self::Refused { .. } => true,
            Self::Malformed(_) | Self::Chat(_) | Self::ForeignSender { .. } => false,
        }
    }
}
