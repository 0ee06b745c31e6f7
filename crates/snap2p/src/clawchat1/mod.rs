//! Profile A: the sessions of ClawChat 1.0 gateways, `/snap2p/1.0.0` and `/snap2p/px1/1.0.0`, as state machines.
//!
//! Bytes, time and randomness come in as arguments; bytes and events go out. The bytes are fixed in
//! `spec/clawchat-1.md`. This profile has no encryption of its own: a session is as good as the libp2p
//! connection below it, and says whose it is only as far as the attested node key is that connection's
//! ([`Channel`], [`Binding`]).
//!
//! 1. [`FrameReader`] cuts the incoming bytes into frames.
//! 2. A [`Dialer`] or an [`Answerer`] runs the handshake on them: drain `poll_frame`, feed `handle_frame`, obey
//!    `poll_timeout`, and once `is_done`, raise the reader's limit to [`MAX_FRAME`]; `finish` gives a
//!    [`Session`] or the reason why there is none.
//! 3. The [`Session`] reads chat messages and answers signs of life; [`encode_chat`] writes chat messages.
//!
//! [`px1`] reads and writes the address hints that travel in streams of their own, in the same frames.

mod attestation;
mod cbor;
mod chat;
mod frame;
mod handshake;
mod message;
mod number;
pub mod px1;
mod session;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::cbor::CborError;
pub use self::chat::{ChatError, ChatMessage, EncodeError, MAX_CHAT_ID_BYTES, MAX_TIMESTAMP, encode_chat};
pub use self::frame::{FrameError, FrameReader, frame};
pub use self::handshake::{Answerer, Binding, Channel, Dialer, Gate, HandshakeError};
pub use self::message::{MAX_PING_NONCE_BYTES, PingNonce, WireError};
pub use self::session::{Event, Session, SessionError};

/// Name of the libp2p protocol a session is spoken on.
pub const PROTOCOL: &str = "/snap2p/1.0.0";
/// Name of the libp2p protocol of address hints: one exchange for each stream.
pub const PX1_PROTOCOL: &str = "/snap2p/px1/1.0.0";

/// Largest frame of a session, in bytes of CBOR, without the header.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
/// Largest frame accepted before authentication is complete, in bytes; a stranger can make us hold no more.
pub const MAX_PRE_AUTH_FRAME: usize = 4 * 1024;
/// Largest frame of [`PX1_PROTOCOL`], in bytes.
pub const MAX_PX1_FRAME: usize = 32 * 1024;

/// Time from the first step until both sides must have accepted. Existing peers that refuse us just end the
/// stream, or keep silent.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(15);
/// A peer that sent nothing for this long is asked for a sign of life.
pub const PING_AFTER: Duration = Duration::from_secs(60);
/// A peer that sent nothing for this long after a PING is dead.
pub const PONG_WITHIN: Duration = Duration::from_secs(30);

/// The only version in a HELLO that is answered.
const VERSION: u64 = 1;
