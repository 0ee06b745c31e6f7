//! What the machine wants done, and what it tells.

use std::sync::Arc;

use clawchat_types::NodeId;

use crate::frame::Capabilities;
use crate::message::{Checked, Refusal};
use crate::{ChannelId, PeerName};

/// A link, named by the driver. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Who opened a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We did, and shake hands first.
    Dialed,
    /// The peer did.
    Accepted,
}

/// Where a link leads, as its carrier knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// To somebody at this place, a URL or an address, who can call itself anything.
    Place(Box<str>),
    /// To the holder of this key, which is proven.
    Key(NodeId),
}

impl Origin {
    /// Whether whoever is there is the one that has this name.
    #[must_use]
    pub fn proves(&self, name: &PeerName) -> bool {
        match self {
            Self::Place(_) => false,
            Self::Key(key) => name.as_key() == Some(*key),
        }
    }
}

/// A question to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// A message being published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishTicket(pub(crate) u64);

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// With the oldest message.
    Oldest,
    /// Behind an arrival number.
    Arrival(u64),
    /// Behind the message with this id.
    Id(Box<str>),
}

/// What is to be done next.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Output {
    /// Send a frame, after all earlier ones of the link, and report it with [`crate::Mesh::written`].
    Send {
        /// Where.
        link: LinkId,
        /// The frame.
        text: Arc<str>,
    },
    /// Read nothing more from the link for now. Frames read already may still be given to the machine.
    Pause {
        /// Which.
        link: LinkId,
    },
    /// Read again.
    Resume {
        /// Which.
        link: LinkId,
    },
    /// Write what was sent, then close.
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        why: CloseReason,
    },
    /// Append to the log, in this order, durably; answer with [`crate::Mesh::stored`].
    Append {
        /// To answer with.
        ticket: Ticket,
        /// The messages.
        entries: Vec<Checked>,
    },
    /// Read a page in the order of arrival; answer with [`crate::Mesh::page`].
    ReadPage {
        /// To answer with.
        ticket: Ticket,
        /// The channel.
        channel: ChannelId,
        /// Where it begins.
        after: After,
        /// Most messages.
        limit: usize,
        /// Most bytes of text, but always one message.
        max_bytes: usize,
    },
    /// Read what [`Output::SaveCursor`] saved; answer with [`crate::Mesh::cursor_loaded`].
    LoadCursor {
        /// To answer with.
        ticket: Ticket,
        /// The neighbour.
        peer: PeerName,
        /// Where it was met.
        origin: Origin,
        /// The channel.
        channel: ChannelId,
    },
    /// Remember how far the log of a neighbour has been taken over, apart from what is remembered of others that showed the
    /// same name elsewhere. No answer.
    SaveCursor {
        /// The neighbour.
        peer: PeerName,
        /// Where it was met.
        origin: Origin,
        /// The channel.
        channel: ChannelId,
        /// An opaque text of at most [`crate::MAX_CURSOR_BYTES`].
        cursor: Box<str>,
    },
    /// Remember the key that goes with an opaque name. No answer.
    RememberKey {
        /// The name.
        name: PeerName,
        /// The key.
        key: NodeId,
    },
    /// Something happened.
    Event(MeshEvent),
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MeshEvent {
    /// A neighbour shook hands.
    Up {
        /// On which link.
        link: LinkId,
        /// What it calls itself.
        peer: PeerName,
    },
    /// A link with a neighbour ended.
    Down {
        /// Which.
        link: LinkId,
        /// The neighbour.
        peer: PeerName,
    },
    /// A message is new in the log. Once for each.
    Stored {
        /// Its number in the channel.
        arrival: u64,
        /// The message.
        message: Checked,
    },
    /// A message of the log, unverified so far, was replaced by a verified copy.
    Verified {
        /// Its number in the channel.
        arrival: u64,
        /// The message.
        message: Checked,
    },
    /// A message of ours is in the log and goes out.
    Published {
        /// Which.
        ticket: PublishTicket,
        /// Its number in the channel.
        arrival: u64,
    },
    /// A message of ours could not be stored and does not go out.
    PublishFailed {
        /// Which.
        ticket: PublishTicket,
    },
    /// Everything that a neighbour holds of a channel is here.
    Level {
        /// The neighbour.
        peer: PeerName,
        /// The channel.
        channel: ChannelId,
    },
    /// A message was refused.
    Refused {
        /// Who sent it.
        link: LinkId,
        /// Why.
        why: Refusal,
    },
}

/// Why the machine closes a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// No handshake in time.
    NoHandshake,
    /// A handshake of another version, without a name, or one that cannot be read.
    BadHandshake,
    /// The name belongs to another key.
    Unauthorized,
    /// It is us.
    Ourselves,
    /// Too many frames that could not be taken.
    TooManyErrors,
}

/// What the log did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// It is new.
    New {
        /// Its number in the channel.
        arrival: u64,
    },
    /// It was there.
    Known {
        /// Its number in the channel.
        arrival: u64,
    },
    /// It was there unverified and was replaced by this verified copy.
    Verified {
        /// Its number in the channel.
        arrival: u64,
    },
    /// It is too old or there is no room.
    Refused,
}

/// A message of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageEntry {
    /// Its number in the channel.
    pub arrival: u64,
    /// Its id.
    pub id: Box<str>,
    /// Whether its sender is proven.
    pub verified: bool,
    /// Its text.
    pub text: Arc<str>,
}

/// Why a message cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The channel is neither followed nor kept.
    #[error("the channel is not followed here")]
    NotFollowed,
    /// It was published before.
    #[error("the message was published before")]
    Known,
    /// Too much waits to be stored.
    #[error("too many messages wait to be stored")]
    Busy,
}

/// A link as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Its id.
    pub link: LinkId,
    /// Who opened it.
    pub side: Side,
    /// The neighbour, once it shook hands.
    pub peer: Option<PeerName>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How many channels it subscribed to.
    pub subscriptions: usize,
    /// How many channels we have from it completely.
    pub level: usize,
    /// How many channels are still being caught up with it.
    pub behind: usize,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames taken.
    pub frames: u64,
    /// Messages that were new.
    pub stored: u64,
    /// Messages that were known already.
    pub duplicates: u64,
    /// Messages refused.
    pub refused: u64,
    /// Of these, messages with a timestamp too far ahead of our clock.
    pub from_future: u64,
    /// Messages sent live, counted for each neighbour.
    pub fed: u64,
    /// Messages sent in sync responses.
    pub served: u64,
    /// Messages passed on without being stored.
    pub passed_on: u64,
    /// Messages a slow neighbour missed of channels that are not stored.
    pub missed: u64,
    /// Error frames sent.
    pub errors_sent: u64,
    /// Error frames got.
    pub errors_received: u64,
}
