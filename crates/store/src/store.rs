//! The trait every backend implements.

use clawchat_types::{MessageId, Principal, UnixMillis};

use crate::{AttemptState, InboxEntry, OutboxEntry, Outcome, PeerRecord, StoreError, Write};

/// Most bytes of message text and proofs in one page of entries; a page ends early rather than exceed it, but
/// always has one entry. 2 MiB: reading it takes milliseconds, and many readers at once stay within memory.
pub const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// The memory of one identity.
///
/// All methods block: on cached data for microseconds, [`commit`](Self::commit) for a disk sync. Async code
/// writes through a [`StoreHandle`](crate::StoreHandle).
///
/// Pages: `after` is the last key already seen (0 for the beginning), `limit` the most entries wanted. A page
/// shorter than `limit` is the last one, unless it ended at [`MAX_PAGE_BYTES`]; an empty page is always the end.
///
/// # Errors
/// Reads give [`StoreError::Damaged`] rather than leave out what they cannot read, and
/// [`StoreError::Closed`] after [`close`](Self::close).
pub trait MessageStore: Send + Sync {
    /// Applies the writes in order, all or none, and returns when they are on disk. One outcome for each.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing of the batch was applied then, except that after
    /// [`StoreError::Failed`] only reopening tells.
    fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StoreError>;

    /// Inbox entries in the order of arrival.
    fn inbox(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError>;
    /// The arrival of the last entry received at or before `time`, 0 if there is none: the `after` that
    /// continues behind that time. Takes logarithmic time.
    fn arrival_at(&self, time: UnixMillis) -> Result<u64, StoreError>;
    /// Inbox entries received after `time`.
    fn inbox_since(&self, time: UnixMillis, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        self.inbox(self.arrival_at(time)?, limit)
    }
    /// Inbox entries of that id: at most one of each sender.
    fn inbox_by_id(&self, id: &MessageId) -> Result<Vec<InboxEntry>, StoreError>;
    /// Number of inbox entries, which is also the latest arrival.
    fn inbox_count(&self) -> Result<u64, StoreError>;
    /// Unread inbox entries in the order of arrival.
    fn unread(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError>;
    /// Number of unread inbox entries.
    fn unread_count(&self) -> Result<u64, StoreError>;

    /// Outbox entries of every status in the order of acceptance.
    fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError>;
    /// The outbox entry of that id.
    fn outbox_by_id(&self, id: &MessageId) -> Result<Option<OutboxEntry>, StoreError>;
    /// Number of outbox entries of every status, which is also the latest position.
    fn outbox_count(&self) -> Result<u64, StoreError>;

    /// Messages still to be delivered to `to`, which are those of status `pending`, in order.
    fn pending(&self, to: &Principal, after: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError>;
    /// Whether [`pending`](Self::pending) has anything for `to`.
    fn has_pending(&self, to: &Principal) -> Result<bool, StoreError> {
        Ok(!self.pending(to, 0, 1)?.is_empty())
    }
    /// Everybody with messages still to be delivered, each once, in the order of principals.
    fn pending_recipients(&self) -> Result<Vec<Principal>, StoreError>;
    /// Number of messages still to be delivered to `to`. Takes time in proportion to it.
    fn pending_count(&self, to: &Principal) -> Result<u64, StoreError>;
    /// Messages still to be delivered whose time was up at `now`, the earliest first.
    fn due_expiries(&self, now: UnixMillis, limit: usize) -> Result<Vec<OutboxEntry>, StoreError>;
    /// When the next message still to be delivered expires.
    fn next_expiry(&self) -> Result<Option<UnixMillis>, StoreError>;
    /// What the last [`Write::NoteAttempt`] noted about `to`.
    fn attempt_state(&self, to: &Principal) -> Result<Option<AttemptState>, StoreError>;

    /// Every known peer, in the order of principals. Does not wait for a [`commit`](Self::commit) under way.
    fn peers(&self) -> Result<Vec<PeerRecord>, StoreError>;
    /// One peer.
    fn peer(&self, principal: &Principal) -> Result<Option<PeerRecord>, StoreError>;

    /// Writes out what is left and lets go of the files. Everything else gives [`StoreError::Closed`] then.
    /// Closing twice is fine.
    fn close(&self) -> Result<(), StoreError>;
}

/// Counts the bytes of a page.
#[derive(Default)]
pub(crate) struct PageBudget {
    used: usize,
}

impl PageBudget {
    /// Whether an entry of this size still belongs to the page. The first always does.
    pub(crate) fn admits(&mut self, message: &clawchat_types::Message, proof: Option<&crate::Proof>) -> bool {
        let size = message.content.as_str().len()
            + message.payload.as_ref().map_or(0, |p| p.as_str().len())
            + proof.map_or(0, |p| p.envelope.len());
        let first = self.used == 0;
        // Counts the entry itself too, so that entries of empty text do not all look like the first.
        self.used += size + 1;
        first || self.used <= MAX_PAGE_BYTES
    }
}
