//! The side the substream was opened to.

use std::time::Duration;

use clawchat_types::{Moment, Principal};
use snow::{HandshakeState, TransportState};

use super::exchange::{Channel, Exchange, Tell, read_refusal, refused, split_frame, verify};
use super::{Credentials, Gatekeeper, HandshakeEntropy, HandshakeError, PeerPair, Proven, noise};
use crate::ErrorCode;
use crate::session::{Role, Session};
use crate::wire::{Auth, Control, Hello, KIND_KNOCK, KIND_NOISE, KIND_REFUSAL, NONCE_BYTES, read_one};

/// The responder's half of the handshake. Driven like a [`crate::Dialer`]; starts with nothing to send.
///
/// Picks the identity the peer asks for through the [`Gatekeeper`], and shows that identity's attestation only
/// to a peer that has proven its own and is admitted.
pub struct Answerer {
    exchange: Exchange,
    peers: PeerPair,
    entropy: HandshakeEntropy,
    state: State,
}

enum State {
    /// KNOCK or message 1 is due.
    Start,
    /// The peer knocked; message 1 is due.
    Knocked {
        nonce: [u8; NONCE_BYTES],
        token: Vec<u8>,
    },
    /// Message 2 is out; message 3 is due.
    Auth {
        noise: Box<HandshakeState>,
        credentials: Credentials,
        initiator_nonce: [u8; NONCE_BYTES],
        knock: Option<Vec<u8>>,
    },
    /// Our proof is out; the initiator's AUTH_OK is due.
    Ok {
        transport: Box<TransportState>,
        local: Principal,
        remote: Proven,
    },
    Done,
}

/// What the initiator asked for in its first frames, and what it is answered with.
struct Asked<'a> {
    credentials: &'a Credentials,
    initiator_nonce: [u8; NONCE_BYTES],
    knock: Option<&'a [u8]>,
}

impl Answerer {
    /// Waits for the first frame of a substream a peer opened.
    #[must_use]
    pub fn new(peers: &PeerPair, entropy: HandshakeEntropy, now: Moment) -> Self {
        Self {
            exchange: Exchange::new(now),
            peers: peers.clone(),
            entropy,
            state: State::Start,
        }
    }

    /// Takes a frame of the peer: kind byte and body, as [`crate::FrameReader`] gives it. Ignored when done.
    pub fn handle_frame(&mut self, frame: &[u8], now: Moment, gate: &dyn Gatekeeper) {
        if self.exchange.is_done() {
            return;
        }
        self.handle_timeout(now);
        match std::mem::replace(&mut self.state, State::Done) {
            State::Start => self.on_first(None, frame, gate),
            State::Knocked { nonce, token } => self.on_first(Some((nonce, token)), frame, gate),
            State::Auth {
                noise,
                credentials,
                initiator_nonce,
                knock,
            } => {
                let asked = Asked {
                    credentials: &credentials,
                    initiator_nonce,
                    knock: knock.as_deref(),
                };
                self.on_auth(noise, &asked, frame, now, gate);
            }
            State::Ok {
                transport,
                local,
                remote,
            } => self.on_ok(transport, local, remote, frame, now),
            State::Done => {}
        }
    }

    /// The next complete outer frame to send, length included.
    pub fn poll_frame(&mut self) -> Option<Vec<u8>> {
        self.exchange.poll_frame()
    }

    /// When [`Answerer::handle_timeout`] is due, on the monotonic clock of [`Moment`]. `None` when done.
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

    fn on_first(&mut self, knock: Option<([u8; NONCE_BYTES], Vec<u8>)>, frame: &[u8], gate: &dyn Gatekeeper) {
        let next = match (split_frame(frame), &knock) {
            (Ok((KIND_KNOCK, body)), None) => read_knock(body),
            (Ok((KIND_NOISE, message)), _) => self.read_hello(knock, message, gate),
            (Ok((kind, _)), _) => Err(HandshakeError::FrameKind { kind }),
            (Err(error), _) => Err(error),
        };
        match next {
            Ok(state) => self.state = state,
            Err(error) => self.exchange.fail(error, Tell::InClear),
        }
    }

    /// Message 1: `e`, and behind it the HELLO in clear, read before any key agreement is computed.
    fn read_hello(
        &mut self,
        knock: Option<([u8; NONCE_BYTES], Vec<u8>)>,
        message: &[u8],
        gate: &dyn Gatekeeper,
    ) -> Result<State, HandshakeError> {
        let payload = message.get(noise::KEY_BYTES..).ok_or(HandshakeError::Noise)?;
        let hello = read_one(payload)?.hello()?;
        // A KNOCK belongs to one handshake; with another nonce it is as good as none.
        let token = knock
            .filter(|(nonce, _)| *nonce == hello.nonce)
            .map(|(_, token)| token);
        let credentials = gate
            .credentials_for(hello.target.as_ref(), token.as_deref())
            .filter(|credentials| {
                hello
                    .target
                    .is_none_or(|target| target == *credentials.principal())
            })
            .ok_or(HandshakeError::UnknownPrincipal { target: hello.target })?;

        let mut noise = noise::start(false, &credentials.node_key, &self.peers, &self.entropy)?;
        noise::read(&mut noise, message)?;
        let answer = Control::Hello(Hello {
            nonce: self.entropy.nonce,
            target: None,
            capabilities: Vec::new(),
        });
        let answer = noise::write(&mut noise, &answer.to_vec())?;
        self.exchange.send(KIND_NOISE, &answer);
        Ok(State::Auth {
            noise: Box::new(noise),
            credentials,
            initiator_nonce: hello.nonce,
            knock: token,
        })
    }

    fn on_auth(
        &mut self,
        mut noise: Box<HandshakeState>,
        asked: &Asked<'_>,
        frame: &[u8],
        now: Moment,
        gate: &dyn Gatekeeper,
    ) {
        let opened = match split_frame(frame) {
            Ok((KIND_NOISE, message)) => noise::read(&mut noise, message),
            Ok((KIND_REFUSAL, body)) => {
                return self.exchange.fail(read_refusal(body), Tell::Nothing);
            }
            Ok((kind, _)) => Err(HandshakeError::FrameKind { kind }),
            Err(error) => Err(error),
        };
        let opened = opened.and_then(|payload| {
            let remote_static = noise::remote_static(&noise).ok_or(HandshakeError::Noise)?;
            let transport = noise.into_transport_mode().map_err(|_| HandshakeError::Noise)?;
            Ok((payload, remote_static, transport))
        });
        let (payload, remote_static, mut transport) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.exchange.fail(error, Tell::InClear),
        };
        let channel = Channel {
            initiator_nonce: asked.initiator_nonce,
            responder_nonce: self.entropy.nonce,
            remote_static,
        };
        let local = *asked.credentials.principal();
        let admit = |remote: &Principal| gate.admit(&local, remote, asked.knock);
        let remote = match read_auth(&payload, &channel, &local, now, admit) {
            Ok(remote) => remote,
            Err(error) => return self.exchange.fail(error, Tell::Sealed(Box::new(transport))),
        };
        match noise::seal(&mut transport, &proof(asked.credentials, &channel)) {
            Ok(message) => {
                self.exchange.send(KIND_NOISE, &message);
                let transport = Box::new(transport);
                self.state = State::Ok {
                    transport,
                    local,
                    remote,
                };
            }
            Err(error) => self.exchange.fail(error, Tell::Nothing),
        }
    }

    fn on_ok(
        &mut self,
        mut transport: Box<TransportState>,
        local: Principal,
        remote: Proven,
        frame: &[u8],
        now: Moment,
    ) {
        match read_ok(&mut transport, frame) {
            Ok(()) => {
                self.exchange
                    .accept(Session::new(*transport, Role::Responder, local, remote, now));
            }
            Err(error @ HandshakeError::Refused { .. }) => self.exchange.fail(error, Tell::Nothing),
            Err(error) => self.exchange.fail(error, Tell::Sealed(transport)),
        }
    }
}

fn read_knock(body: &[u8]) -> Result<State, HandshakeError> {
    let knock = read_one(body)?.knock()?;
    Ok(State::Knocked {
        nonce: knock.nonce,
        token: knock.token.to_vec(),
    })
}

/// The initiator's proof, and whether the identity it asked for talks to it.
fn read_auth(
    payload: &[u8],
    channel: &Channel,
    local: &Principal,
    now: Moment,
    admit: impl FnOnce(&Principal) -> Result<(), ErrorCode>,
) -> Result<Proven, HandshakeError> {
    let remote = verify(&read_one(payload)?.auth()?, channel, local.network(), now)?;
    admit(remote.principal()).map_err(|code| HandshakeError::NotAdmitted {
        local: *local,
        remote: *remote.principal(),
        code,
    })?;
    Ok(remote)
}

/// Our AUTH and AUTH_OK.
fn proof(credentials: &Credentials, channel: &Channel) -> Vec<u8> {
    let mut plaintext = Control::Auth(Auth {
        principal: *credentials.principal(),
        attestation: &credentials.attestation.to_bytes(),
        initiator_nonce: channel.initiator_nonce,
        responder_nonce: channel.responder_nonce,
    })
    .to_vec();
    Control::AuthOk.write(&mut plaintext);
    plaintext
}

fn read_ok(transport: &mut TransportState, frame: &[u8]) -> Result<(), HandshakeError> {
    let message = match split_frame(frame)? {
        (KIND_NOISE, message) => message,
        (kind, _) => return Err(HandshakeError::FrameKind { kind }),
    };
    let plaintext = noise::unseal(transport, message)?;
    let message = read_one(&plaintext)?;
    match refused(&message) {
        Some(refused) => Err(refused),
        None => Ok(message.auth_ok()?),
    }
}
