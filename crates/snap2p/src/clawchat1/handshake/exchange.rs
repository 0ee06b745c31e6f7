//! What both roles share: the order of messages, the deadline, the outcome, and the check of the peer's proof.

use std::collections::VecDeque;
use std::time::Duration;

use clawchat_identity::{Attestation, Verified};
use clawchat_types::{Moment, Network, NodeId, Principal};

use super::{Binding, Channel, HandshakeError};
use crate::clawchat1::message::{Auth, AuthFail, Hello, Message, printable};
use crate::clawchat1::{FrameError, HANDSHAKE_DEADLINE, MAX_PRE_AUTH_FRAME, Session, attestation, frame};

/// Most PINGs that are answered during a handshake. More is not what they are for.
const MAX_PINGS: usize = 16;
/// Longest claimed principal that goes into an error, in characters.
const MAX_CLAIM_CHARS: usize = 128;

type Proven = Attestation<Verified>;

/// One handshake.
#[derive(Debug)]
pub(super) struct Exchange {
    channel: Channel,
    binding: Binding,
    network: Network,
    nonce: [u8; 16],
    out: VecDeque<Vec<u8>>,
    deadline: Duration,
    pings: usize,
    state: State,
    outcome: Option<Result<Box<Session>, HandshakeError>>,
}

#[derive(Debug)]
enum State {
    /// The peer's HELLO is due.
    Hello,
    /// Its AUTH is due.
    Auth(Hello),
    /// Whoever drives this decides what comes next.
    Authenticated,
    /// The peer's AUTH_OK is due.
    AuthOk {
        local: Principal,
        remote: Proven,
    },
    Done,
}

/// What a frame brought.
pub(super) enum Step {
    /// Nothing to do but to go on.
    Going,
    /// The peer has proven who it is; answer with [`Exchange::await_ok`] or [`Exchange::fail`].
    Authenticated(Box<Proven>),
    /// The peer has accepted, too; end with [`Exchange::accept`].
    Accepted { local: Principal, remote: Box<Proven> },
}

impl Exchange {
    pub(super) fn new(
        channel: Channel,
        binding: Binding,
        network: Network,
        nonce: [u8; 16],
        now: Moment,
    ) -> Self {
        Self {
            channel,
            binding,
            network,
            nonce,
            out: VecDeque::new(),
            deadline: now.mono.saturating_add(HANDSHAKE_DEADLINE),
            pings: 0,
            state: State::Hello,
            outcome: None,
        }
    }

    /// Sends our HELLO and AUTH.
    pub(super) fn introduce(&mut self, local: &Proven, now: Moment) -> Result<(), HandshakeError> {
        if *local.node_id() != self.channel.local {
            return Err(HandshakeError::LocalKey {
                attested: *local.node_id(),
                connection: self.channel.local,
            });
        }
        self.send(&Message::Hello(Hello {
            node_public_key: *local.node_id().as_bytes(),
            nonce: self.nonce.to_vec(),
            timestamp: now.wall.seconds().0,
        }));
        self.send(&Message::Auth(Auth {
            principal: local.principal().to_string(),
            attestation: attestation::parts_of(local),
            session_nonce: self.nonce.to_vec(),
        }));
        Ok(())
    }

    pub(super) fn send(&mut self, message: &Message<'_>) {
        self.out.push_back(frame(&message.encode()));
    }

    pub(super) fn await_ok(&mut self, local: Principal, remote: Proven) {
        self.state = State::AuthOk { local, remote };
    }

    pub(super) fn accept(&mut self, local: Principal, remote: Proven, initiator: bool, now: Moment) {
        let bound = self.channel.remote == Some(*remote.node_id());
        let session = Session::new(local, remote, bound, initiator, now);
        self.outcome = Some(Ok(Box::new(session)));
    }

    /// Ends without a session, and tells the peer.
    pub(super) fn fail(&mut self, error: HandshakeError) {
        self.send(&Message::AuthFail(AuthFail::of(error.wire_code())));
        self.end(error);
    }

    /// Takes a frame. What goes wrong is told to the peer.
    pub(super) fn handle_frame(&mut self, frame: &[u8], now: Moment) -> Step {
        self.handle_timeout(now);
        if self.is_done() {
            return Step::Going;
        }
        match self.step(frame, now) {
            Ok(step) => step,
            Err(error @ HandshakeError::Refused { .. }) => {
                self.end(error);
                Step::Going
            }
            Err(error) => {
                self.fail(error);
                Step::Going
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Moment) {
        if !self.is_done() && now.mono >= self.deadline {
            self.end(HandshakeError::Timeout);
        }
    }

    pub(super) fn poll_frame(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.outcome.is_none().then_some(self.deadline)
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

    fn end(&mut self, error: HandshakeError) {
        self.state = State::Done;
        self.outcome = Some(Err(error));
    }

    fn step(&mut self, frame: &[u8], now: Moment) -> Result<Step, HandshakeError> {
        if frame.len() > MAX_PRE_AUTH_FRAME {
            return Err(HandshakeError::Frame(FrameError::TooLong {
                length: frame.len(),
                limit: MAX_PRE_AUTH_FRAME,
            }));
        }
        match Message::decode(frame)? {
            Message::Ping(_) if self.pings == MAX_PINGS => Err(unexpected("PING")),
            Message::Ping(nonce) => {
                self.pings += 1;
                self.send(&Message::Pong(nonce));
                Ok(Step::Going)
            }
            Message::Pong(_) => Ok(Step::Going),
            Message::AuthFail(fail) => Err(HandshakeError::Refused {
                code: fail.error_code(),
                reason: fail.reason,
            }),
            Message::Unknown { kind } => Err(HandshakeError::UnknownType { found: kind }),
            Message::StreamData(_) => Err(unexpected("STREAM_DATA")),
            Message::Hello(hello) => self.on_hello(hello),
            Message::Auth(auth) => self.on_auth(&auth, now),
            Message::AuthOk => self.on_auth_ok(),
        }
    }

    fn on_hello(&mut self, hello: Hello) -> Result<Step, HandshakeError> {
        if !matches!(self.state, State::Hello) {
            return Err(unexpected("HELLO"));
        }
        self.state = State::Auth(hello);
        Ok(Step::Going)
    }

    fn on_auth(&mut self, auth: &Auth, now: Moment) -> Result<Step, HandshakeError> {
        let State::Auth(hello) = &self.state else {
            return Err(unexpected("AUTH"));
        };
        let remote = self.verify(hello, auth, now)?;
        self.state = State::Authenticated;
        Ok(Step::Authenticated(Box::new(remote)))
    }

    fn on_auth_ok(&mut self) -> Result<Step, HandshakeError> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::AuthOk { local, remote } => Ok(Step::Accepted {
                local,
                remote: Box::new(remote),
            }),
            State::Hello | State::Auth(_) | State::Authenticated | State::Done => Err(unexpected("AUTH_OK")),
        }
    }

    /// Checks that the peer's messages agree with each other and with the connection, and that its attestation
    /// holds now. From cheap to costly.
    fn verify(&self, hello: &Hello, auth: &Auth, now: Moment) -> Result<Proven, HandshakeError> {
        if auth.session_nonce != hello.nonce {
            return Err(HandshakeError::NonceMismatch);
        }
        let attestation = Attestation::from_parts(&auth.attestation)?;
        // Compared as text, which for principals has one spelling: AUTH may hold anything.
        if auth.principal != auth.attestation.principal {
            return Err(HandshakeError::AnotherPrincipal {
                claimed: printable(&auth.principal, MAX_CLAIM_CHARS),
                attested: *attestation.principal(),
            });
        }
        let attested = *attestation.node_id();
        let named = NodeId::new(hello.node_public_key);
        if named != attested {
            return Err(HandshakeError::AnotherKey { named, attested });
        }
        if self.binding == Binding::Required && self.channel.remote != Some(attested) {
            return Err(HandshakeError::Unbound {
                attested,
                connection: self.channel.remote,
            });
        }
        Ok(attestation.verify(self.network, now.wall.seconds())?)
    }
}

fn unexpected(message: &'static str) -> HandshakeError {
    HandshakeError::Unexpected { message }
}
