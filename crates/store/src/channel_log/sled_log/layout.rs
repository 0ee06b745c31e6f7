//! Which trees the log has, and the shape of their keys.

use crate::guarded::{Layout, SLOT_BYTES, Tree};

/// Bytes of a slot that a value's seal and what a record begins with may take. More than they do.
const SLOT_OVERHEAD: usize = 64;
/// Longest block of entries and longest chunk of the index, in bytes, unless a single entry is longer: four slots. Shorter
/// ones would take more memory, as the engine keeps in memory where most of them lie; longer ones more time to read.
pub(crate) const BLOCK_BYTES: usize = 4 * SLOT_BYTES - SLOT_OVERHEAD;

/// The log of channels.
pub(crate) static LAYOUT: Layout = Layout {
    trees: &[
        trees::BLOCKS,
        trees::CHANNELS,
        trees::INDEX,
        trees::RUNS,
        trees::REPLACED,
        trees::CURSORS,
        trees::KEYS,
        trees::KEY_ORDER,
        trees::PIECES,
        trees::META,
    ],
    numbered: &[],
    extents: &[trees::BLOCKS, trees::INDEX, trees::RUNS],
    pieces: trees::PIECES,
    label: b"clawchat-channels-v1 ",
    version: 1,
    cache_bytes: 4 * 1024 * 1024,
};

/// Its trees.
pub(crate) mod trees {
    use super::Tree;

    /// channel number, arrival of the first entry → entries that follow each other.
    pub(crate) const BLOCKS: Tree = Tree::new(0, "blocks");
    /// channel number → channel.
    pub(crate) const CHANNELS: Tree = Tree::new(1, "channels");
    /// run, kind of rows, number → rows of the index.
    pub(crate) const INDEX: Tree = Tree::new(2, "index");
    /// run → what is to be known about it without reading it.
    pub(crate) const RUNS: Tree = Tree::new(3, "runs");
    /// channel number, arrival → nothing; the entry was replaced since it was indexed.
    pub(crate) const REPLACED: Tree = Tree::new(4, "replaced");
    /// hidden peer and channel → cursor.
    pub(crate) const CURSORS: Tree = Tree::new(5, "cursors");
    /// hidden id → key.
    pub(crate) const KEYS: Tree = Tree::new(6, "keys");
    /// number → hidden id, in the order in which keys were seen.
    pub(crate) const KEY_ORDER: Tree = Tree::new(7, "key_order");
    /// tree number, key there, piece number → piece of a large record. No record of the log is large: what is lies in extents.
    pub(crate) const PIECES: Tree = Tree::new(8, "pieces");
    /// one key → counts and digest of everything else.
    pub(crate) const META: Tree = Tree::new(9, "meta");
}

/// The key of an arrival in a channel.
pub(crate) fn place(channel: u32, arrival: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&channel.to_be_bytes());
    key[4..].copy_from_slice(&arrival.to_be_bytes());
    key
}

/// The arrival in such a key.
pub(crate) fn arrival_in(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The channel in such a key.
pub(crate) fn channel_in(key: &[u8]) -> Option<u32> {
    key.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The key of a chunk of rows.
pub(crate) fn chunk_key(run: u64, kind: u8, number: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[..8].copy_from_slice(&run.to_be_bytes());
    key[8] = kind;
    key[9..].copy_from_slice(&number.to_be_bytes());
    key
}

/// What a cursor's key is made of.
pub(crate) fn cursor_name(peer: &str, channel: &str) -> Vec<u8> {
    // Names are shorter than 256 bytes; the length keeps them apart.
    let mut name = vec![u8::try_from(peer.len()).unwrap_or(u8::MAX)];
    name.extend_from_slice(peer.as_bytes());
    name.extend_from_slice(channel.as_bytes());
    name
}
