//! What can be asked of a channel log, and what comes back.

use std::sync::Arc;

use clawchat_types::{NodeId, UnixMillis};

use crate::StoreError;
use crate::write::{MAX_BATCH_BYTES, MAX_BATCH_WRITES, check_limit};

/// Longest name of a channel, in bytes.
pub const MAX_CHANNEL_BYTES: usize = 256;
/// Longest id of an entry, in bytes.
pub const MAX_ENTRY_ID_BYTES: usize = 128;
/// Longest name of a peer, in bytes.
pub const MAX_PEER_BYTES: usize = 128;
/// Longest text of an entry, in bytes. 15 MiB.
pub const MAX_TEXT_BYTES: usize = 15 * 1024 * 1024;
/// Longest note about a neighbour's log, in bytes: an id, and a word of the noter's.
pub const MAX_CURSOR_BYTES: usize = 256;
/// Most channels. When a further one comes, the one kept for others that was quiet for longest is forgotten.
pub const MAX_CHANNELS: usize = 10_000;
/// Most cursors. When a further one comes, some other is forgotten, which costs that neighbour a walk from the
/// beginning.
pub const MAX_CURSORS: u64 = 65_536;
/// Most keys remembered. When a further one comes, the oldest is forgotten.
pub const MAX_KEYS: u64 = 10_000;

/// What an entry counts for beside its id and text, in bytes.
const ENTRY_OVERHEAD: usize = 64;
/// What a small write takes beside its texts, in bytes. An estimate from above.
const WRITE_OVERHEAD: usize = 512;

/// An entry to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// Its channel, at most [`MAX_CHANNEL_BYTES`]. A channel that is not there yet is made, as one kept for others.
    pub channel: Box<str>,
    /// Its id, unique in the channel, at most [`MAX_ENTRY_ID_BYTES`].
    pub id: Box<str>,
    /// Its place in the order of display, together with the id.
    pub time: UnixMillis,
    /// Now.
    pub received_at: UnixMillis,
    /// Whether its author is proven.
    pub verified: bool,
    /// The entry itself, at most [`MAX_TEXT_BYTES`].
    pub text: Arc<str>,
}

impl NewEntry {
    /// What it counts for under a quota, in bytes: id, text, and 64 for what goes with them.
    #[must_use]
    pub fn size(&self) -> u64 {
        size(&self.id, &self.text)
    }
}

/// What an entry counts for under a quota.
pub(crate) fn size(id: &str, text: &str) -> u64 {
    u64::try_from(id.len() + text.len() + ENTRY_OVERHEAD).unwrap_or(u64::MAX)
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogWrite {
    /// Take an entry. Gives [`LogOutcome::Append`].
    Append(NewEntry),
    /// Follow a channel, which makes it, or stop following it: it is then one kept for others, and forgotten if it
    /// is empty. Gives [`LogOutcome::Done`].
    SetFollowed {
        /// The channel.
        channel: Box<str>,
        /// Whether somebody here follows it from now on.
        followed: bool,
    },
    /// Note how far a neighbour's log of a channel is known; replaces what was noted. Gives [`LogOutcome::Done`].
    SetCursor {
        /// The neighbour's name.
        peer: Box<str>,
        /// The channel.
        channel: Box<str>,
        /// What is noted, at most [`MAX_CURSOR_BYTES`].
        id: Box<str>,
    },
    /// Remember the first key seen with an id. Gives [`LogOutcome::Done`] if that is now the key of the id, or
    /// [`LogOutcome::OtherKey`].
    RememberKey {
        /// The id.
        id: Box<str>,
        /// The key.
        key: NodeId,
    },
    /// Forget a channel with everything in it. Gives [`LogOutcome::Done`] or [`LogOutcome::NotFound`]. The disk
    /// space comes back with later writes.
    Forget {
        /// The channel.
        channel: Box<str>,
    },
    /// Drop a bounded number of entries that are beyond their age or quota. Every other write does that in passing,
    /// too. Gives [`LogOutcome::Expired`].
    Expire {
        /// Now.
        now: UnixMillis,
    },
}

impl LogWrite {
    /// About how many bytes it takes on disk, never less than its texts. Used for bounds.
    #[must_use]
    pub fn size(&self) -> usize {
        let variable = match self {
            Self::Append(entry) => entry.channel.len() + entry.id.len() + entry.text.len(),
            Self::SetFollowed { channel, .. } | Self::Forget { channel } => channel.len(),
            Self::SetCursor { peer, channel, id } => peer.len() + channel.len() + id.len(),
            Self::RememberKey { id, .. } => id.len(),
            Self::Expire { .. } => 0,
        };
        variable + WRITE_OVERHEAD
    }

    /// Whether it keeps all limits. [`commit`](crate::ChannelLog::commit) checks this first and refuses the whole
    /// batch for one bad write; a [`ChannelLogHandle`](crate::ChannelLogHandle) refuses the bad one alone.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub fn check(&self) -> Result<(), StoreError> {
        let channel = |name: &str| check_limit("channel name", name.len(), MAX_CHANNEL_BYTES);
        let id = |id: &str| check_limit("entry id", id.len(), MAX_ENTRY_ID_BYTES);
        let peer = |name: &str| check_limit("peer name", name.len(), MAX_PEER_BYTES);
        match self {
            Self::Append(entry) => {
                channel(&entry.channel)?;
                id(&entry.id)?;
                check_limit("text", entry.text.len(), MAX_TEXT_BYTES)
            }
            Self::SetFollowed { channel: name, .. } | Self::Forget { channel: name } => channel(name),
            Self::SetCursor {
                peer: of,
                channel: name,
                id: last,
            } => {
                peer(of)?;
                channel(name)?;
                check_limit("cursor", last.len(), MAX_CURSOR_BYTES)
            }
            Self::RememberKey { id: of, .. } => peer(of),
            Self::Expire { .. } => Ok(()),
        }
    }
}

/// Checks a whole batch, as every backend does before it touches anything.
pub(crate) fn check_batch(batch: &[LogWrite]) -> Result<(), StoreError> {
    check_limit("number of writes", batch.len(), MAX_BATCH_WRITES)?;
    let mut bytes = 0;
    for write in batch {
        write.check()?;
        bytes += write.size();
    }
    if batch.len() > 1 {
        check_limit("batch", bytes, MAX_BATCH_BYTES)?;
    }
    Ok(())
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Taken.
    New {
        /// Its place.
        arrival: u64,
    },
    /// There is an entry of this id in the channel already; nothing was written.
    Known {
        /// Its place.
        arrival: u64,
    },
    /// There was an unverified entry of this id; this verified one stands in its place now.
    Verified {
        /// Its place.
        arrival: u64,
    },
    /// The channel is full, and this entry is not later than what was dropped from it already; nothing was written.
    TooOld,
    /// There is no room: the entry alone exceeds the quota, or everything kept belongs to channels followed here
    /// and this one is not. Nothing was written.
    ChannelFull,
}

/// What became of a [`LogWrite`]. By the time a caller sees it, it is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOutcome {
    /// What became of an entry.
    Append(Appended),
    /// Written, or true already.
    Done,
    /// Another key is remembered for this id; nothing was written.
    OtherKey(NodeId),
    /// There is nothing of that name; nothing was written.
    NotFound,
    /// Dropped.
    Expired {
        /// How many entries.
        entries: u64,
        /// Whether there is more to drop.
        more: bool,
    },
}
