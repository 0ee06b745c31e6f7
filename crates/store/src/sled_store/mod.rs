//! The store on disk: sled, with guards around it. The format is described in `spec/store.md`.

#[cfg(test)]
mod format_1;
mod layout;
mod owed;
mod plan;
mod read;

use std::path::Path;
use std::sync::{PoisonError, RwLock};

use clawchat_types::{MessageId, Principal, UnixMillis};

use self::layout::{LAYOUT, trees};
use self::owed::Owed;
use self::plan::Plan;
use crate::guarded::Guarded;
use crate::write::check_batch;
use crate::{
    AttemptState, InboxEntry, MessageStore, OpenError, OutboxEntry, Outcome, PeerRecord, StoreError,
    StoreOptions, Write,
};

/// The store of one identity on disk.
///
/// One process at a time; many threads. Dropping it closes it.
pub struct SledStore {
    store: Guarded,
    owed: RwLock<Owed>,
}

impl SledStore {
    /// Opens the store in folder `dir`, or makes one if the folder is missing or empty. `key` seals every
    /// value; the same one must be given each time.
    ///
    /// A store that was closed in order opens at once. Otherwise, as after a crash, it is first examined on a
    /// copy beside it (`<dir>.check`), which takes time and disk space in proportion to its size.
    ///
    /// # Errors
    /// [`OpenError`]; what the folder holds is as it was then.
    pub fn open(dir: &Path, key: &[u8; 32], options: StoreOptions) -> Result<Self, OpenError> {
        let store = Guarded::open(&LAYOUT, dir, key, options)?;
        let owed = store.load(Owed::load)?;
        Ok(Self {
            store,
            owed: RwLock::new(owed),
        })
    }
}

impl MessageStore for SledStore {
    fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        let guard = self.store.base()?;
        let base = guard.get()?;
        check_batch(&batch)?;
        let turn = base.turn()?;
        self.store.check_space(batch.iter().map(Write::size).sum())?;
        let mut plan = Plan::new(base, &self.owed);
        let outcomes = batch
            .into_iter()
            .map(|write| plan.apply(write))
            .collect::<Result<Vec<_>, _>>()?;
        let (batch, owed) = plan.finish()?;
        turn.commit(batch, || {
            let mut shown = self.owed.write().unwrap_or_else(PoisonError::into_inner);
            shown.change(owed);
        })?;
        Ok(outcomes)
    }

    fn inbox(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        self.store.base()?.get()?.inbox(after, limit)
    }

    fn arrival_at(&self, time: UnixMillis) -> Result<u64, StoreError> {
        self.store.base()?.get()?.arrival_at(time)
    }

    fn inbox_by_id(&self, id: &MessageId) -> Result<Vec<InboxEntry>, StoreError> {
        self.store.base()?.get()?.inbox_by_id(id)
    }

    fn inbox_count(&self) -> Result<u64, StoreError> {
        Ok(self.store.base()?.get()?.durable(trees::INBOX))
    }

    fn unread(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        self.store.base()?.get()?.unread(after, limit)
    }

    fn unread_count(&self) -> Result<u64, StoreError> {
        Ok(self.store.base()?.get()?.durable(trees::UNREAD))
    }

    fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.store.base()?.get()?.outbox(&self.owed, after, limit)
    }

    fn outbox_by_id(&self, id: &MessageId) -> Result<Option<OutboxEntry>, StoreError> {
        self.store.base()?.get()?.outbox_by_id(&self.owed, id)
    }

    fn outbox_count(&self) -> Result<u64, StoreError> {
        Ok(self.store.base()?.get()?.durable(trees::OUTBOX))
    }

    fn pending(&self, to: &Principal, after: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.store.base()?.get()?.pending(&self.owed, to, after, limit)
    }

    fn has_pending(&self, to: &Principal) -> Result<bool, StoreError> {
        Ok(self.store.base()?.get()?.has_pending(&self.owed, to))
    }

    fn pending_recipients(&self) -> Result<Vec<Principal>, StoreError> {
        Ok(self.store.base()?.get()?.pending_recipients(&self.owed))
    }

    fn pending_count(&self, to: &Principal) -> Result<u64, StoreError> {
        Ok(self.store.base()?.get()?.pending_count(&self.owed, to))
    }

    fn due_expiries(&self, now: UnixMillis, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.store.base()?.get()?.due_expiries(&self.owed, now, limit)
    }

    fn next_expiry(&self) -> Result<Option<UnixMillis>, StoreError> {
        Ok(self.store.base()?.get()?.next_expiry(&self.owed))
    }

    fn attempt_state(&self, to: &Principal) -> Result<Option<AttemptState>, StoreError> {
        self.store.base()?.get()?.attempt_state(to)
    }

    fn peers(&self) -> Result<Vec<PeerRecord>, StoreError> {
        self.store.base()?.get()?.peers()
    }

    fn peer(&self, principal: &Principal) -> Result<Option<PeerRecord>, StoreError> {
        self.store.base()?.get()?.peer(principal)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.store.close();
        Ok(())
    }
}
