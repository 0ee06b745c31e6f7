//! OpenClaw Messaging mesh, version 1: the words two meshes must agree on to the byte.
//!
//! [`ChannelId`] names a channel. [`signing_text`] gives the text that the signature of a message covers; it is what
//! JavaScript's `JSON.stringify` makes of the parsed message, so [`reprint`] knows how JavaScript reads and
//! prints JSON.
//!
//! Holds no keys and checks no signature; opens no connection, keeps no messages, relays nothing.

mod channel;
mod json;
mod signing;

pub use crate::channel::{ChannelId, ChannelIdError, MAX_CHANNEL_ID_BYTES};
pub use crate::json::{JsonError, MAX_JSON_BYTES, MAX_JSON_DEPTH, reprint};
pub use crate::signing::{SigningTextError, signing_text};
