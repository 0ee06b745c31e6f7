//! Which trees the store has, and the shape of their keys.

use crate::guarded::{Layout, Tree};
use crate::sealed::HIDDEN_BYTES;

/// The store of one identity.
pub(crate) static LAYOUT: Layout = Layout {
    trees: &[
        trees::INBOX,
        trees::INBOX_IDS,
        trees::UNREAD,
        trees::OUTBOX,
        trees::OUTBOX_STATE,
        trees::OUTBOX_IDS,
        trees::PENDING,
        trees::EXPIRY,
        trees::PEERS,
        trees::CONVERSATIONS,
        trees::PIECES,
        trees::META,
    ],
    numbered: &[trees::INBOX, trees::OUTBOX],
    extents: &[],
    pieces: trees::PIECES,
    label: b"clawchat-store-v1 ",
    version: 2,
    cache_bytes: 16 * 1024 * 1024,
};

/// Its trees.
pub(crate) mod trees {
    use super::Tree;

    /// arrival → message, proof, time of receipt.
    pub(crate) const INBOX: Tree = Tree::new(0, "inbox");
    /// message id, hidden sender → arrival.
    pub(crate) const INBOX_IDS: Tree = Tree::new(1, "inbox_ids");
    /// arrival → nothing.
    pub(crate) const UNREAD: Tree = Tree::new(2, "unread");
    /// position → message.
    pub(crate) const OUTBOX: Tree = Tree::new(3, "outbox");
    /// position → how far it came. Nothing for a message still to be delivered about which nothing was noted.
    pub(crate) const OUTBOX_STATE: Tree = Tree::new(4, "outbox_state");
    /// message id → position.
    pub(crate) const OUTBOX_IDS: Tree = Tree::new(5, "outbox_ids");
    /// number of a page of positions → which of them are still to be delivered. In format 1: hidden recipient, position
    /// → nothing.
    pub(crate) const PENDING: Tree = Tree::new(6, "pending");
    /// Empty. In format 1: expiry, position → nothing.
    pub(crate) const EXPIRY: Tree = Tree::new(7, "expiry");
    /// hidden principal → peer.
    pub(crate) const PEERS: Tree = Tree::new(8, "peers");
    /// hidden principal → counters, tries.
    pub(crate) const CONVERSATIONS: Tree = Tree::new(9, "conversations");
    /// tree number, key, piece number → piece of a large record.
    pub(crate) const PIECES: Tree = Tree::new(10, "pieces");
    /// one key → counts and digest of everything else.
    pub(crate) const META: Tree = Tree::new(11, "meta");
}

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
