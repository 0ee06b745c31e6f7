//! `chat/1`: messages over one session stream, each acknowledged once it is durably stored
//! (`spec/chat-1.md`).
//!
//! Whoever has messages opens the stream and drives a [`ChatSender`]; the other side answers on the same
//! stream with a [`ChatReceiver`]. Both are plain state machines: bytes in, bytes and events out. What they
//! carry is a [`SignedEnvelope`], made by [`seal_envelope`] and read by [`open_envelope`]; its bytes are stored
//! as they came, so that a message can be proven to come from its sender for ever.
//!
//! Delivery is at least once on the wire. A stream that breaks leaves every message without an
//! acknowledgement to be sent again on a new one; the receiver's store drops what it has by (sender, id).

mod envelope;
mod frame;
mod payload;
mod receiver;
mod sender;

pub use self::envelope::{
    EnvelopeError, MAX_CONTENT_TYPE_BYTES, MAX_ENVELOPE_BYTES, MAX_WIRE_NICK_CHARS, SignedEnvelope,
    open_envelope, seal_envelope,
};
pub use self::frame::{
    ChatError, MAX_MSG_FRAME_BYTES, MAX_NACK_TEXT_BYTES, MAX_REPLY_FRAME_BYTES, NackCode, WINDOW_BYTES,
    WINDOW_MESSAGES,
};
pub use self::payload::MAX_PAYLOAD_DEPTH;
pub use self::receiver::{ChatReceiver, Decision};
pub use self::sender::{ChatEvent, ChatSender, QueueError};
pub use crate::cbor::EncodingError;

/// The label a stream of this protocol is opened with.
pub const CHAT_LABEL: &str = "chat/1";
