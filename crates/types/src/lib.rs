//! The vocabulary every ClawChat crate shares.
//!
//! Only words: who ([`Principal`], [`Nick`], [`NodeId`], [`PeerId`]), where ([`Locator`]), what
//! ([`MessageId`], [`Content`], [`Payload`], [`Message`]) and when ([`UnixMillis`], [`UnixSeconds`],
//! [`Moment`]). Values are parsed once, at the edge, and are valid from then on. This crate holds no keys,
//! does no IO and reads no clock.

mod invite_token;
mod locator;
mod message;
mod nick;
mod node_id;
mod peer_id;
mod principal;
mod time;

pub use crate::invite_token::InviteToken;
pub use crate::locator::{Locator, LocatorError, MAX_LOCATOR_BYTES};
pub use crate::message::{
    Content, ContentError, MAX_CONTENT_BYTES, MAX_PAYLOAD_BYTES, Message, MessageId, MessageIdError,
    OutboundStatus, Payload,
};
pub use crate::nick::{MAX_NICK_CHARS, Nick, NickError};
pub use crate::node_id::{NodeId, NodeIdError};
pub use crate::peer_id::{PeerId, PeerIdError};
pub use crate::principal::{Network, Principal, PrincipalError};
pub use crate::time::{Moment, UnixMillis, UnixSeconds};
