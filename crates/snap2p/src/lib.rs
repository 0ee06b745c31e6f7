//! SNaP2P sessions as state machines: proving an identity to a peer, streams, chat delivery.
//!
//! Bytes, time and randomness come in as arguments; bytes and events go out. Nothing here opens a connection,
//! reads a clock, draws a random number or starts a task. The bytes are fixed in `spec/snap2p-2.md`.
//!
//! One substream of `/snap2p/2.0.0` carries one session between one local and one remote *identity*:
//!
//! 1. [`FrameReader`] cuts the incoming bytes into frames.
//! 2. A [`Dialer`] or an [`Answerer`] runs the handshake on them: drain `poll_frame`, feed `handle_frame`, obey
//!    `poll_timeout`, and once `is_done`, `finish` gives a [`Session`] or the reason why there is none.
//! 3. The [`Session`] carries up to [`MAX_STREAMS`] flow-controlled streams; [`chat`] delivers messages over one.
//!
//! The only way to a [`Session`] is a handshake that proved, on this very channel, that the peer holds the node
//! key its principal attested.

mod cbor;
pub mod chat;
pub mod clawchat1;
mod error_code;
mod handshake;
mod limits;
mod prefixed;
pub mod px1;
mod session;
#[cfg(test)]
mod tests;
mod wire;

pub use crate::error_code::ErrorCode;
pub use crate::handshake::{
    Answerer, Credentials, Dialer, Gatekeeper, HandshakeEntropy, HandshakeError, PeerPair,
};
pub use crate::limits::{
    HANDSHAKE_DEADLINE, INITIAL_WINDOW, MAX_DATA_BYTES, MAX_FRAME, MAX_LABEL_BYTES, MAX_PRE_AUTH_FRAME,
    MAX_SEND_BUFFER, MAX_STREAMS, PING_AFTER, PONG_WITHIN, PONG_WITHIN_WHEN_DOUBTED, PROTOCOL, TOKEN_BYTES,
};
pub use crate::session::{OpenError, Session, SessionError, SessionEvent, StreamId};
pub use crate::wire::{FrameError, FrameReader, WireError, refusal};
