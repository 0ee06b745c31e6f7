//! The side on which the stream was opened.

use std::time::Duration;

use clawchat_types::{Moment, Network};

use super::exchange::{Exchange, Step};
use super::{Binding, Channel, Gate, HandshakeError};
use crate::clawchat1::Session;
use crate::clawchat1::message::Message;

/// The responder's half of the handshake. Says nothing of itself before the caller has proven who it is and is
/// admitted.
///
/// Driven like [`super::Dialer`].
#[derive(Debug)]
pub struct Answerer {
    exchange: Exchange,
}

impl Answerer {
    /// Waits for a handshake of a peer of `network`. `nonce` is fresh random bytes.
    #[must_use]
    pub fn new(channel: Channel, binding: Binding, network: Network, nonce: [u8; 16], now: Moment) -> Self {
        Self {
            exchange: Exchange::new(channel, binding, network, nonce, now),
        }
    }

    /// Takes a frame of the peer, as [`crate::clawchat1::FrameReader`] gives it. Ignored when done.
    pub fn handle_frame(&mut self, frame: &[u8], now: Moment, gate: &dyn Gate) {
        match self.exchange.handle_frame(frame, now) {
            Step::Going => {}
            Step::Authenticated(remote) => {
                let answered = gate
                    .answer_as(remote.principal())
                    .map_err(|code| HandshakeError::NotAdmitted {
                        remote: *remote.principal(),
                        code,
                    })
                    .and_then(|local| {
                        self.exchange.introduce(&local, now)?;
                        Ok(*local.principal())
                    });
                match answered {
                    Ok(local) => self.exchange.await_ok(local, *remote),
                    Err(error) => self.exchange.fail(error),
                }
            }
            Step::Accepted { local, remote } => {
                self.exchange.send(&Message::AuthOk);
                self.exchange.accept(local, *remote, false, now);
            }
        }
    }

    /// The next complete frame to send, header included.
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
