//! The durable log of channels: what each peer of the mesh keeps, in the order of arrival.
//!
//! Texts are opaque here. [`ChannelLog`] is the trait, [`MemoryChannelLog`] forgets at the end of the process,
//! [`SledChannelLog`] keeps it on disk with the guarantees of [`SledStore`](crate::SledStore). Async code writes through a
//! [`ChannelLogHandle`].

mod handle;
mod memory;
mod quota;
mod sled_log;
mod table;
mod write;

pub use self::handle::ChannelLogHandle;
pub use self::memory::MemoryChannelLog;
pub use self::quota::{ChannelQuota, LogQuota};
pub use self::sled_log::{ChannelLogOptions, DEFAULT_RECENT_ENTRIES, SledChannelLog};
pub use self::write::{
    Appended, LogOutcome, LogWrite, MAX_CHANNEL_BYTES, MAX_CHANNELS, MAX_CURSOR_BYTES, MAX_CURSORS,
    MAX_ENTRY_ID_BYTES, MAX_KEYS, MAX_PEER_BYTES, MAX_TEXT_BYTES, NewEntry,
};

use std::sync::Arc;

use clawchat_types::{NodeId, UnixMillis};

use crate::StoreError;

/// An entry of a channel's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the order of arrival in this channel: each one more than the one before. The first is 1, or
    /// follows on the highest arrival of any channel forgotten before.
    pub arrival: u64,
    /// Its id, unique in the channel.
    pub id: Box<str>,
    /// Its place in the order of display, together with the id.
    pub time: UnixMillis,
    /// When it was received, by the clock of the receiver.
    pub received_at: UnixMillis,
    /// Whether its author is proven.
    pub verified: bool,
    /// The entry itself.
    pub text: Arc<str>,
}

/// What is known about a channel without reading its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub name: Box<str>,
    /// Whether somebody here follows it. The others are kept for others, under the smaller quota.
    pub followed: bool,
    /// Entries kept.
    pub count: u64,
    /// What they count for under the quota, in bytes; see [`NewEntry::size`].
    pub bytes: u64,
    /// Arrival of the oldest entry kept; one more than [`last`](Self::last) when there is none.
    pub first: u64,
    /// Arrival of the latest entry ever taken, 0 when there was none.
    pub last: u64,
    /// When the latest entry was received, 0 when there was none.
    pub last_received_at: UnixMillis,
    /// Greatest [`LogEntry::time`] ever taken, 0 when there was none.
    pub newest_time: UnixMillis,
}

/// Where a page of history begins. The order of display is by time, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryFrom<'a> {
    /// The latest entries.
    Newest,
    /// The entries right before this place, whether or not there is an entry at it.
    Before {
        /// Time of the place.
        time: UnixMillis,
        /// Id of the place.
        id: &'a str,
    },
    /// The entries right behind this place, whether or not there is an entry at it.
    After {
        /// Time of the place.
        time: UnixMillis,
        /// Id of the place.
        id: &'a str,
    },
    /// The earliest entries.
    Oldest,
}

/// The logs of all channels of one peer, the positions of its neighbours in them, and the keys it has seen.
///
/// All methods block: on cached data for microseconds, [`commit`](Self::commit) for a disk sync. Readers see
/// nothing that is not on disk yet. A channel nobody wrote to is an empty one.
///
/// # Errors
/// Reads give [`StoreError::Damaged`] rather than leave out what they cannot read, and
/// [`StoreError::Closed`] after [`close`](Self::close).
pub trait ChannelLog: Send + Sync {
    /// Applies the writes in order, all or none, and returns when they are on disk. One outcome for each.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing of the batch was applied then, except that after
    /// [`StoreError::Failed`] only reopening tells.
    fn commit(&self, batch: Vec<LogWrite>) -> Result<Vec<LogOutcome>, StoreError>;

    /// Entries with an arrival after `after`, in the order of arrival: at most `limit`, and texts of at most
    /// `max_bytes` together, but always one if there is one. Costs the same wherever it begins. An empty page is
    /// the end.
    fn page(
        &self,
        channel: &str,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, StoreError>;
    /// The arrival of the entry of that id.
    fn arrival_of(&self, channel: &str, id: &str) -> Result<Option<u64>, StoreError>;
    /// The entry of that id.
    fn entry(&self, channel: &str, id: &str) -> Result<Option<LogEntry>, StoreError>;
    /// At most `limit` entries in the order of display, given in that order. Ends early at
    /// [`MAX_PAGE_BYTES`](crate::MAX_PAGE_BYTES) of text, but always has one if there is one.
    fn history(
        &self,
        channel: &str,
        from: HistoryFrom<'_>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError>;

    /// All channels, by name.
    fn channels(&self) -> Result<Vec<ChannelInfo>, StoreError>;
    /// One channel.
    fn channel(&self, name: &str) -> Result<Option<ChannelInfo>, StoreError>;
    /// What the last [`LogWrite::SetCursor`] noted.
    fn cursor(&self, peer: &str, channel: &str) -> Result<Option<Box<str>>, StoreError>;
    /// The key remembered for an id.
    fn key_of(&self, id: &str) -> Result<Option<NodeId>, StoreError>;

    /// Writes out what is left and lets go of the files. Everything else gives [`StoreError::Closed`] then.
    /// Closing twice is fine.
    fn close(&self) -> Result<(), StoreError>;
}

/// Counts the bytes of a page.
pub(crate) struct PageBytes {
    left: usize,
    first: bool,
}

impl PageBytes {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            left: limit,
            first: true,
        }
    }

    /// Whether a text still belongs to the page. The first always does.
    pub(crate) fn admits(&mut self, text: &str) -> bool {
        let first = std::mem::take(&mut self.first);
        match self.left.checked_sub(text.len()) {
            Some(left) => self.left = left,
            None if first => self.left = 0,
            None => {
                // What comes after one that does not fit does not belong to the page either.
                self.left = 0;
                return false;
            }
        }
        true
    }
}
