//! The side that opened the substream.

use std::time::Duration;

use clawchat_types::{Moment, Principal};
use snow::{HandshakeState, TransportState};

use super::exchange::{Channel, Exchange, Tell, read_refusal, refused, split_frame, verify};
use super::{Credentials, HandshakeEntropy, HandshakeError, PeerPair, noise};
use crate::limits::TOKEN_BYTES;
use crate::session::{Role, Session};
use crate::wire::{
    Auth, Control, Hello, KIND_KNOCK, KIND_NOISE, KIND_REFUSAL, Knock, NONCE_BYTES, Parser, read_one,
};

/// The initiator's half of the handshake.
///
/// Loop: send every [`Dialer::poll_frame`]; stop when [`Dialer::is_done`]; wait for a frame or
/// [`Dialer::poll_timeout`] and hand over what came first. The frames may include a refusal owed to the peer,
/// so drain them before looking at `is_done`.
pub struct Dialer {
    exchange: Exchange,
    credentials: Credentials,
    target: Option<Principal>,
    nonce: [u8; NONCE_BYTES],
    state: State,
}

enum State {
    /// Message 1 is out; message 2 is due.
    Hello {
        noise: Box<HandshakeState>,
    },
    /// Message 3 is out; the responder's AUTH is due.
    Auth {
        transport: Box<TransportState>,
        channel: Channel,
    },
    Done,
}

impl Dialer {
    /// Starts a handshake as the identity of `credentials`, with the identity `target` or with whatever identity
    /// answers by default.
    ///
    /// `knock` is the invite token to knock with first, for an identity that is not shown to strangers. One of
    /// another length than [`TOKEN_BYTES`] cannot be valid anywhere and is left out.
    #[must_use]
    pub fn new(
        credentials: Credentials,
        peers: &PeerPair,
        target: Option<Principal>,
        knock: Option<&[u8]>,
        entropy: HandshakeEntropy,
        now: Moment,
    ) -> Self {
        let mut dialer = Self {
            exchange: Exchange::new(now),
            credentials,
            target,
            nonce: entropy.nonce,
            state: State::Done,
        };
        if let Err(error) = dialer.start(peers, knock, &entropy) {
            dialer.exchange.fail(error, Tell::Nothing);
        }
        dialer
    }

    fn start(
        &mut self,
        peers: &PeerPair,
        knock: Option<&[u8]>,
        entropy: &HandshakeEntropy,
    ) -> Result<(), HandshakeError> {
        let mut noise = noise::start(true, &self.credentials.node_key, peers, entropy)?;
        let hello = Control::Hello(Hello {
            nonce: self.nonce,
            target: self.target,
            capabilities: Vec::new(),
        });
        let message = noise::write(&mut noise, &hello.to_vec())?;
        if let Some(token) = knock.filter(|token| TOKEN_BYTES.contains(&token.len())) {
            let knock = Control::Knock(Knock {
                nonce: self.nonce,
                token,
            });
            self.exchange.send(KIND_KNOCK, &knock.to_vec());
        }
        self.exchange.send(KIND_NOISE, &message);
        self.state = State::Hello {
            noise: Box::new(noise),
        };
        Ok(())
    }

    /// Takes a frame of the peer: kind byte and body, as [`crate::FrameReader`] gives it. Ignored when done.
    pub fn handle_frame(&mut self, frame: &[u8], now: Moment) {
        if self.exchange.is_done() {
            return;
        }
        self.handle_timeout(now);
        match std::mem::replace(&mut self.state, State::Done) {
            State::Hello { noise } => self.on_hello(noise, frame),
            State::Auth { transport, channel } => self.on_auth(transport, &channel, frame, now),
            State::Done => {}
        }
    }

    /// The next complete outer frame to send, length included.
    pub fn poll_frame(&mut self) -> Option<Vec<u8>> {
        self.exchange.poll_frame()
    }

    /// When [`Dialer::handle_timeout`] is due, on the monotonic clock of [`Moment`]. `None` when done.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.exchange.poll_timeout()
    }

    /// Gives up if the deadline is reached.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.exchange.is_late(now) {
            self.state = State::Done;
            self.exchange.fail(HandshakeError::Timeout, Tell::Nothing);
        }
    }

    /// Whether there is an outcome. Frames may still wait to be sent.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.exchange.is_done()
    }

    /// The session, if both sides accepted.
    ///
    /// # Errors
    /// Why there is none: [`HandshakeError::Refused`] when the peer refused us, any other when we did.
    pub fn finish(self) -> Result<Session, HandshakeError> {
        self.exchange.finish()
    }

    fn on_hello(&mut self, mut noise: Box<HandshakeState>, frame: &[u8]) {
        if let Ok((KIND_REFUSAL, body)) = split_frame(frame) {
            return self.exchange.fail(read_refusal(body), Tell::Nothing);
        }
        match self.read_hello(&mut noise, frame) {
            Ok(channel) => match self.send_auth(*noise, &channel) {
                Ok(transport) => {
                    self.state = State::Auth {
                        transport: Box::new(transport),
                        channel,
                    };
                }
                Err(error) => self.exchange.fail(error, Tell::InClear),
            },
            Err(error) => self.exchange.fail(error, Tell::InClear),
        }
    }

    fn read_hello(&self, noise: &mut HandshakeState, frame: &[u8]) -> Result<Channel, HandshakeError> {
        let message = match split_frame(frame)? {
            (KIND_NOISE, message) => message,
            (kind, _) => return Err(HandshakeError::FrameKind { kind }),
        };
        let payload = noise::read(noise, message)?;
        let hello = read_one(&payload)?.hello()?;
        Ok(Channel {
            initiator_nonce: self.nonce,
            responder_nonce: hello.nonce,
            remote_static: noise::remote_static(noise).ok_or(HandshakeError::Noise)?,
        })
    }

    fn send_auth(
        &mut self,
        mut noise: HandshakeState,
        channel: &Channel,
    ) -> Result<TransportState, HandshakeError> {
        let auth = Control::Auth(Auth {
            principal: *self.credentials.principal(),
            attestation: &self.credentials.attestation.to_bytes(),
            initiator_nonce: channel.initiator_nonce,
            responder_nonce: channel.responder_nonce,
        });
        let message = noise::write(&mut noise, &auth.to_vec())?;
        let transport = noise.into_transport_mode().map_err(|_| HandshakeError::Noise)?;
        self.exchange.send(KIND_NOISE, &message);
        Ok(transport)
    }

    fn on_auth(&mut self, mut transport: Box<TransportState>, channel: &Channel, frame: &[u8], now: Moment) {
        if let Ok((KIND_REFUSAL, body)) = split_frame(frame) {
            return self.exchange.fail(read_refusal(body), Tell::Nothing);
        }
        match self.read_auth(&mut transport, channel, frame, now) {
            Ok(remote) => match noise::seal(&mut transport, &Control::AuthOk.to_vec()) {
                Ok(message) => {
                    self.exchange.send(KIND_NOISE, &message);
                    let local = *self.credentials.principal();
                    self.exchange
                        .accept(Session::new(*transport, Role::Initiator, local, remote, now));
                }
                Err(error) => self.exchange.fail(error, Tell::Nothing),
            },
            Err(error @ HandshakeError::Refused { .. }) => self.exchange.fail(error, Tell::Nothing),
            Err(error) => self.exchange.fail(error, Tell::Sealed(transport)),
        }
    }

    fn read_auth(
        &self,
        transport: &mut TransportState,
        channel: &Channel,
        frame: &[u8],
        now: Moment,
    ) -> Result<super::Proven, HandshakeError> {
        let message = match split_frame(frame)? {
            (KIND_NOISE, message) => message,
            (kind, _) => return Err(HandshakeError::FrameKind { kind }),
        };
        let plaintext = noise::unseal(transport, message)?;
        let mut messages = Parser::new(&plaintext);
        let first = super::next(&mut messages)?;
        if let Some(refused) = refused(&first) {
            return Err(alone(messages).err().unwrap_or(refused));
        }
        let auth = first.auth()?;
        super::next(&mut messages)?.auth_ok()?;
        alone(messages)?;
        let network = self.credentials.principal().network();
        let remote = verify(&auth, channel, network, now)?;
        match self.target {
            Some(wanted) if wanted != *remote.principal() => Err(HandshakeError::WrongTarget {
                wanted,
                answered: *remote.principal(),
            }),
            _ => Ok(remote),
        }
    }
}

/// Nothing may follow.
fn alone(mut rest: Parser<'_>) -> Result<(), HandshakeError> {
    match rest.next() {
        None => Ok(()),
        Some(message) => Err(message?.unexpected().into()),
    }
}
