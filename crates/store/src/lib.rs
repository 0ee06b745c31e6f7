//! What is remembered across restarts: inbox, outbox, peers and conversation counters of an identity, and the
//! channels of a peer of the mesh.
//!
//! [`MessageStore`] is the trait, [`SledStore`] keeps it on disk and [`MemoryStore`] in memory. Async code
//! writes through a [`StoreHandle`], which lets many writes share one disk sync. [`ChannelLog`],
//! [`SledChannelLog`], [`MemoryChannelLog`] and [`ChannelLogHandle`] are the same for channels, with the same
//! guarantees. `spec/store.md` describes the bytes on disk. This crate opens no socket, reads no clock and decides
//! nothing about delivery.
//!
//! # What an acknowledgement means
//! When [`MessageStore::commit`] returns, its writes survive a killed process and a power cut. The engine, sled
//! 0.34, never calls `fsync` on its own, so each commit ends with two `fdatasync`: one of the database, then one
//! of the file `high-water`, which says how far acknowledged commits went. Counted over 100 commits of one
//! message each, opening and closing included:
//!
//! ```text
//! $ strace -f -c -e trace=fdatasync,fsync,sync_file_range <measure test> --ignored --exact a_hundred_commits
//!   201 fdatasync          two per commit, one when the store was made
//!    19 fsync              making, opening and closing the store
//!   213 sync_file_range    the engine's own flush, which the disk's cache does not notice
//! ```
//!
//! Readers see nothing that is not on disk yet.
//!
//! # What damage means
//! The engine opens a file that lost its end without a word, skips what it cannot read, and overwrites it. So
//! nothing here lets it: a store that was not closed in order, or whose files were touched since, is examined on
//! a copy first, and compared with the mark, the counts and a digest over all values. Either everything
//! acknowledged is there, or [`SledStore::open`] gives [`OpenError::Damaged`], which names the file and what to
//! do, and leaves the folder as it was, byte for byte. (A medium that decays under unchanged lengths and times
//! after an orderly close is noticed too, but perhaps after the engine has rewritten the end of its log.) Values are sealed (AES-256-GCM) to their place under a
//! key of the identity, and a page of entries with a gap in it is [`StoreError::Damaged`], never a shorter page.
//!
//! A store whose commit failed half-way gives [`StoreError::Failed`] until it is opened anew. A disk that is
//! nearly full is [`StoreError::StorageFull`]: nothing was touched, and writing goes on once there is space.

mod channel_log;
mod error;
mod group;
mod guard;
mod guarded;
mod handle;
mod memory;
mod model;
mod options;
mod record;
mod sealed;
mod sled_store;
mod store;
mod write;

pub use crate::channel_log::{
    Appended, ChannelInfo, ChannelLog, ChannelLogHandle, ChannelLogOptions, ChannelQuota,
    DEFAULT_RECENT_ENTRIES, HistoryFrom, LogEntry, LogOutcome, LogQuota, LogWrite, MAX_CHANNEL_BYTES,
    MAX_CHANNELS, MAX_CURSOR_BYTES, MAX_CURSORS, MAX_ENTRY_ID_BYTES, MAX_KEYS, MAX_PEER_BYTES,
    MAX_TEXT_BYTES, MemoryChannelLog, NewEntry, SledChannelLog,
};
pub use crate::error::{Damage, OpenError, StoreError};
pub use crate::group::{GROUP_BYTES, GROUP_WRITES, QUEUE_REQUESTS};
pub use crate::handle::StoreHandle;
pub use crate::memory::MemoryStore;
pub use crate::model::{AttemptState, InboxEntry, OutboundDraft, OutboxEntry, PeerRecord, Proof};
pub use crate::options::{DEFAULT_RESERVE_BYTES, FreeSpace, StoreOptions};
pub use crate::sled_store::SledStore;
pub use crate::store::{MAX_PAGE_BYTES, MessageStore};
pub use crate::write::{
    MAX_ALIAS_BYTES, MAX_ALIAS_CARD_BYTES, MAX_ATTESTATION_BYTES, MAX_BATCH_BYTES, MAX_BATCH_WRITES,
    MAX_CONTENT_TYPE_BYTES, MAX_ERROR_BYTES, MAX_MARKS, MAX_PEER_LOCATORS, MAX_PENDING, MAX_RECORD_BYTES,
    Outcome, Write,
};
