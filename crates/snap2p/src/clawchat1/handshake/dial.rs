//! The side that opened the stream.

use std::time::Duration;

use clawchat_identity::{Attestation, Verified};
use clawchat_types::Moment;

use super::exchange::{Exchange, Step};
use super::{Binding, Channel, HandshakeError};
use crate::clawchat1::Session;
use crate::clawchat1::message::Message;

/// The initiator's half of the handshake.
///
/// Loop: send every [`Dialer::poll_frame`]; stop when [`Dialer::is_done`]; wait for a frame or
/// [`Dialer::poll_timeout`] and hand over what came first. The frames may include a refusal owed to the peer,
/// so drain them before looking at `is_done`. Frames behind the one that made it done belong to the session.
#[derive(Debug)]
pub struct Dialer {
    exchange: Exchange,
    local: Attestation<Verified>,
}

impl Dialer {
    /// Starts a handshake as the identity of `local`, which must attest `channel.local`, with whatever identity
    /// answers: this protocol cannot ask for one.
    ///
    /// `nonce` is fresh random bytes.
    #[must_use]
    pub fn new(
        local: Attestation<Verified>,
        channel: Channel,
        binding: Binding,
        nonce: [u8; 16],
        now: Moment,
    ) -> Self {
        let mut exchange = Exchange::new(channel, binding, local.principal().network(), nonce, now);
        if let Err(error) = exchange.introduce(&local, now) {
            exchange.fail(error);
        }
        Self { exchange, local }
    }

    /// Takes a frame of the peer, as [`crate::clawchat1::FrameReader`] gives it. Ignored when done.
    pub fn handle_frame(&mut self, frame: &[u8], now: Moment) {
        match self.exchange.handle_frame(frame, now) {
            Step::Going => {}
            Step::Authenticated(remote) => {
                self.exchange.send(&Message::AuthOk);
                self.exchange.await_ok(*self.local.principal(), *remote);
            }
            Step::Accepted { local, remote } => self.exchange.accept(local, *remote, true, now),
        }
    }

    /// The next complete frame to send, header included.
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
        self.exchange.handle_timeout(now);
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
}
