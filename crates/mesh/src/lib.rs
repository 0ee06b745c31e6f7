//! OpenClaw Messaging mesh, version 1: channels, relay and sync as a state machine (`spec/mesh-1.md`).
//!
//! [`Mesh`] is one peer: frames, stored records and time go in; frames, records to store and events come out.
//! [`receive`] reads a frame and checks the signatures in it, [`Message`] is one message, and [`bootstrap`] reads the
//! list of peers. What is signed is what JavaScript's `JSON.stringify` makes of a parsed message ([`signing_text`]), so
//! [`reprint`] knows how JavaScript reads and prints JSON.
//!
//! The machine reads no clock, draws no randomness, and keeps no messages: links and the log are the driver's. [`ws`] is
//! the one module that opens connections.

pub mod bootstrap;
mod channel;
mod frame;
mod json;
mod machine;
mod message;
mod name;
mod pem;
mod random;
mod signing;
mod url;
pub mod ws;

pub use crate::channel::{ChannelId, ChannelIdError, MAX_CHANNEL_ID_BYTES};
pub use crate::frame::{
    Capabilities, Frame, FrameError, FrameLimits, Handshake, MAX_FIRST_FRAME_BYTES, MAX_FRAME_BYTES,
    Received, SyncRequest, SyncResponse, VERSION, read_frame, receive,
};
pub use crate::json::{JsonError, MAX_JSON_BYTES, MAX_JSON_DEPTH, reprint};
pub use crate::machine::{
    After, CloseReason, Counters, LinkId, LinkStatus, MAX_CURSOR_BYTES, MAX_PAGE_BYTES, MAX_PAGE_MESSAGES,
    Mesh, MeshConfig, MeshEvent, MeshLimits, Origin, Output, PageEntry, PublishError, PublishTicket, Side,
    StoredAs, Ticket,
};
pub use crate::message::{
    Came, Checked, DEFAULT_MAX_PAYLOAD_BYTES, MAX_BODY_BYTES, MAX_MESSAGE_ID_BYTES, MAX_TIME_AHEAD,
    MAX_TIMESTAMP_BYTES, Message, MessageError, Refusal, Trust, check, read_time,
};
pub use crate::name::{MAX_PEER_NAME_BYTES, PeerName, PeerNameError};
pub use crate::pem::{
    MAX_PEM_BYTES, PemError, private_key_pem, public_key_pem, read_private_key_pem, read_public_key_pem,
};
pub use crate::signing::{SigningTextError, signing_text};
pub use crate::url::{Host, MAX_URL_BYTES, Reach, WsUrl, WsUrlError};
