//! `px-1`: where principals can be reached, asked and told over one session stream (`spec/px1.md`).
//!
//! Whoever wants to ask or tell opens a stream with the label [`PX1_LABEL`] and keeps it: questions and pushes go out on
//! it, answers come back. The other side opens one of its own for what it has to say. Here are only the bytes: messages
//! ([`encode`], [`decode`]) and how they are cut out of a stream ([`MessageReader`]). What they mean, and whether
//! a card holds, is for others to say.

mod message;
mod reader;

pub use self::message::{
    MAX_CARD_BYTES, MAX_CARDS, MAX_FRAME_BYTES, MAX_WANTED, Message, Px1Error, decode, encode,
};
pub use self::reader::{End, MessageReader};
pub use crate::cbor::EncodingError;

/// The label a stream of this protocol is opened with.
pub const PX1_LABEL: &str = "px-1";
