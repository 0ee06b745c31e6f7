//! Records of the channel log as its format version 1 writes them. Frozen, as those in [`v1`](super::v1).

use bincode::{Decode, Encode};

/// A value of tree `blocks`.
#[derive(Encode, Decode)]
pub(crate) struct BlockV1 {
    pub(crate) entries: Vec<EntryV1>,
}

/// An entry. Its arrival is that of the block and its place in it.
#[derive(Clone, Encode, Decode)]
pub(crate) struct EntryV1 {
    pub(crate) time: u64,
    pub(crate) received_at: u64,
    pub(crate) verified: bool,
    pub(crate) id: Box<str>,
    pub(crate) text: std::sync::Arc<str>,
}

/// A value of tree `channels`.
#[derive(Encode, Decode)]
pub(crate) struct ChannelV1 {
    pub(crate) name: String,
    /// Nobody can read it any more; its blocks are being removed.
    pub(crate) forgotten: bool,
    pub(crate) followed: bool,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) first_received_at: u64,
    pub(crate) last_received_at: u64,
    pub(crate) newest_time: u64,
    pub(crate) dropped_time: Option<u64>,
    pub(crate) indexed: u64,
}

/// A value of tree `runs`.
#[derive(Encode, Decode)]
pub(crate) struct RunV1 {
    /// Entries indexed in it.
    pub(crate) entries: u64,
    /// Which ids may be in it.
    pub(crate) filter: Vec<u8>,
    /// First key of each chunk of ids.
    pub(crate) ids: Vec<Vec<u8>>,
    /// First key of each chunk of places.
    pub(crate) places: Vec<Vec<u8>>,
    /// Last place of each channel, in order.
    pub(crate) ends: Vec<Vec<u8>>,
}

/// A value of tree `cursors`.
#[derive(Encode, Decode)]
pub(crate) struct CursorV1 {
    pub(crate) peer: String,
    pub(crate) channel: String,
    pub(crate) id: String,
}

/// A value of tree `keys`.
#[derive(Encode, Decode)]
pub(crate) struct KeyV1 {
    pub(crate) id: String,
    pub(crate) key: [u8; 32],
    /// Its number in tree `key_order`.
    pub(crate) number: u64,
}
