//! Frames whose messages are checked, ready for the machine.

use clawchat_types::{NodeId, UnixMillis};

use super::{Frame, FrameError, FrameLimits, Handshake, SyncRequest, read_frame};
use crate::ChannelId;
use crate::message::{Came, Checked, Message, Refusal, check};

/// A frame as the machine takes it: read, its messages checked. Made on the link's own task, so that signatures of
/// different links are verified in parallel.
#[derive(Clone, Debug)]
pub struct Received {
    pub(crate) bytes: usize,
    pub(crate) content: Content,
}

/// What a frame says.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Handshake(Handshake),
    /// The name belongs to another key.
    Impostor,
    Subscribe(ChannelId),
    Unsubscribe(ChannelId),
    Message(Checked),
    /// A message that is not taken.
    Refused(Refusal),
    Request(SyncRequest),
    Response(Response),
    Error,
    Ping,
    /// Nothing that needs an answer.
    Nothing,
    /// What could not be read.
    Bad(FrameError),
}

/// A page of a neighbour's log.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) channel: ChannelId,
    /// What can be read.
    pub(crate) entries: Vec<Entry>,
    /// How many entries cannot.
    pub(crate) unreadable: usize,
    pub(crate) more: Option<bool>,
    pub(crate) last: Option<Box<str>>,
}

/// A message of a page.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: Box<str>,
    pub(crate) timestamp: Box<str>,
    pub(crate) message: Result<Checked, Refusal>,
}

impl Received {
    /// How long the frame was.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it is a handshake that may be taken: longer frames may follow it.
    #[must_use]
    pub const fn is_handshake(&self) -> bool {
        matches!(self.content, Content::Handshake(_))
    }
}

impl Frame {
    /// Checks who a handshake and the messages of a frame of `bytes` bytes are from.
    ///
    /// `key_of` tells the key an opaque name used in a handshake before ([`crate::Output::RememberKey`]).
    #[must_use]
    pub fn check(self, bytes: usize, key_of: &dyn Fn(&str) -> Option<NodeId>, now: UnixMillis) -> Received {
        let content = match self {
            Self::Handshake(handshake) if is_impostor(&handshake, key_of) => Content::Impostor,
            Self::Handshake(handshake) => Content::Handshake(handshake),
            Self::Subscribe(channel) => Content::Subscribe(channel),
            Self::Unsubscribe(channel) => Content::Unsubscribe(channel),
            Self::Message(message) => match check(*message, Came::Live, key_of, now) {
                Ok(message) => Content::Message(message),
                Err(why) => Content::Refused(why),
            },
            Self::SyncRequest(request) => Content::Request(request),
            Self::SyncResponse(response) => {
                let all = response.messages.len();
                let entries: Vec<Entry> = response
                    .messages
                    .into_iter()
                    .flatten()
                    .map(|message| entry(message, key_of, now))
                    .collect();
                Content::Response(Response {
                    channel: response.channel,
                    unreadable: all - entries.len(),
                    entries,
                    more: response.more,
                    last: response.last,
                })
            }
            Self::Error { .. } => Content::Error,
            Self::Ping => Content::Ping,
            Self::Pong | Self::Unknown => Content::Nothing,
        };
        Received { bytes, content }
    }
}

/// Reads and checks a frame. Never fails: what is wrong with it is for the machine to answer.
///
/// `key_of` tells the key an opaque name used in a handshake before ([`crate::Output::RememberKey`]).
#[must_use]
pub fn receive(
    bytes: &[u8],
    limits: &FrameLimits,
    key_of: &dyn Fn(&str) -> Option<NodeId>,
    now: UnixMillis,
) -> Received {
    match read_frame(bytes, limits, now) {
        Ok(frame) => frame.check(bytes.len(), key_of, now),
        Err(error) => Received {
            bytes: bytes.len(),
            content: Content::Bad(error),
        },
    }
}

/// Whether a handshake uses a name that belongs to another key.
fn is_impostor(handshake: &Handshake, key_of: &dyn Fn(&str) -> Option<NodeId>) -> bool {
    let Some(key) = handshake.key else {
        return false;
    };
    handshake
        .peer
        .as_key()
        .or_else(|| key_of(handshake.peer.as_str()))
        .is_some_and(|known| known != key)
}

fn entry(message: Message, key_of: &dyn Fn(&str) -> Option<NodeId>, now: UnixMillis) -> Entry {
    Entry {
        id: message.id().into(),
        timestamp: message.timestamp().into(),
        message: check(message, Came::Asked, key_of, now),
    }
}
