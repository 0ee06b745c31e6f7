//! What one identity remembers across restarts: inbox, outbox, peers and conversation counters.
//!
//! [`MessageStore`] is the trait, [`SledStore`] keeps it on disk and [`MemoryStore`] in memory. Async code
//! writes through a [`StoreHandle`], which lets many writes share one disk sync.

mod error;
mod handle;
mod memory;
mod model;
mod options;
mod record;
mod sealed;
mod sled_store;
mod store;
mod write;

pub use crate::error::{Damage, OpenError, StoreError};
pub use crate::handle::{GROUP_BYTES, GROUP_WRITES, QUEUE_REQUESTS, StoreHandle};
pub use crate::memory::MemoryStore;
pub use crate::model::{AttemptState, InboxEntry, OutboundDraft, OutboxEntry, PeerRecord, Proof};
pub use crate::options::{DEFAULT_RESERVE_BYTES, FreeSpace, StoreOptions};
pub use crate::sled_store::SledStore;
pub use crate::store::{MAX_PAGE_BYTES, MessageStore};
pub use crate::write::{
    MAX_ALIAS_BYTES, MAX_ATTESTATION_BYTES, MAX_BATCH_BYTES, MAX_BATCH_WRITES, MAX_CONTENT_TYPE_BYTES,
    MAX_ERROR_BYTES, MAX_MARKS, MAX_PEER_LOCATORS, MAX_RECORD_BYTES, Outcome, Write,
};
