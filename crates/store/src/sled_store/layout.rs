//! Names of files and trees, and the shape of keys.

use crate::sealed::HIDDEN_BYTES;

/// Says which format the folder has. Written once.
pub(crate) const FORMAT_FILE: &str = "format";
/// Says how far acknowledged writes went.
pub(crate) const HIGH_WATER_FILE: &str = "high-water";
/// Says that the store was closed in order, and what its files looked like then.
pub(crate) const CLEAN_FILE: &str = "clean";
/// The engine's folder.
pub(crate) const ENGINE_FOLDER: &str = "sled";
/// The engine's main file, in its folder.
pub(crate) const ENGINE_FILE: &str = "db";
/// The engine's settings, in its folder. Written once.
pub(crate) const ENGINE_SETTINGS: &str = "conf";
/// How the names of the engine's snapshots begin.
pub(crate) const SNAPSHOT_PREFIX: &str = "snap.";
/// How the name of a snapshot ends that the engine had not finished.
pub(crate) const UNFINISHED_SUFFIX: &str = ".generating";
/// Added to the store's own name for the copy it is examined on.
pub(crate) const CHECK_SUFFIX: &str = ".check";
/// Added to the store's own name while it is being made.
pub(crate) const CREATING_SUFFIX: &str = ".creating";

/// The engine's allocation unit, in bytes. Part of the format.
pub(crate) const SEGMENT_BYTES: usize = 512 * 1024;
/// Longest piece of a record in one value, in bytes. The engine puts pages above a quarter of a segment into
/// files that it never syncs; a page has at most 20 values (16 and a split or merge under way).
pub(crate) const PIECE_BYTES: usize = 6 * 1024;

/// A tree of the engine. The number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tree {
    /// arrival → message, proof, time of receipt.
    Inbox,
    /// message id, hidden sender → arrival.
    InboxIds,
    /// arrival → nothing.
    Unread,
    /// position → message.
    Outbox,
    /// position → how far it came.
    OutboxState,
    /// message id → position.
    OutboxIds,
    /// hidden recipient, position → nothing.
    Pending,
    /// expiry, position → nothing.
    Expiry,
    /// hidden principal → peer.
    Peers,
    /// hidden principal → counters, tries.
    Conversations,
    /// tree number, key, piece number → piece of a large record.
    Pieces,
    /// one key → counts and digest of everything else.
    Meta,
}

impl Tree {
    /// All trees by number.
    pub(crate) const ALL: [Self; 12] = [
        Self::Inbox,
        Self::InboxIds,
        Self::Unread,
        Self::Outbox,
        Self::OutboxState,
        Self::OutboxIds,
        Self::Pending,
        Self::Expiry,
        Self::Peers,
        Self::Conversations,
        Self::Pieces,
        Self::Meta,
    ];
    /// Trees that are counted and digested: all but `meta`.
    pub(crate) const COUNTED: usize = Self::ALL.len() - 1;

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::InboxIds => "inbox_ids",
            Self::Unread => "unread",
            Self::Outbox => "outbox",
            Self::OutboxState => "outbox_state",
            Self::OutboxIds => "outbox_ids",
            Self::Pending => "pending",
            Self::Expiry => "expiry",
            Self::Peers => "peers",
            Self::Conversations => "conversations",
            Self::Pieces => "pieces",
            Self::Meta => "meta",
        }
    }

    pub(crate) fn number(self) -> usize {
        self as usize
    }
}

/// The only key of tree `meta`.
pub(crate) const META_KEY: &[u8] = b"state";

/// A hidden name or message id, and a number behind it.
pub(crate) fn joined(name: &[u8; HIDDEN_BYTES], number: u64) -> [u8; HIDDEN_BYTES + 8] {
    let mut key = [0; HIDDEN_BYTES + 8];
    key[..HIDDEN_BYTES].copy_from_slice(name);
    key[HIDDEN_BYTES..].copy_from_slice(&number.to_be_bytes());
    key
}

/// A message id and its hidden sender.
pub(crate) fn id_and_sender(id: &[u8; 16], sender: &[u8; HIDDEN_BYTES]) -> [u8; 16 + HIDDEN_BYTES] {
    let mut key = [0; 16 + HIDDEN_BYTES];
    key[..16].copy_from_slice(id);
    key[16..].copy_from_slice(sender);
    key
}

/// Two numbers in order.
pub(crate) fn numbers(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

/// The number a key ends with.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The number a key starts with.
pub(crate) fn first_number(key: &[u8]) -> Option<u64> {
    key.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The key of one piece of a large record.
pub(crate) fn piece(owner: Tree, key: &[u8], number: u32) -> Vec<u8> {
    let mut piece = Vec::with_capacity(key.len() + 5);
    piece.push(owner as u8);
    piece.extend_from_slice(key);
    piece.extend_from_slice(&number.to_be_bytes());
    piece
}
