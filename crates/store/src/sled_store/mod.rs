//! The store on disk: sled, with guards around it. The format is described in `spec/store.md`.

mod base;
mod clean;
mod engine;
mod files;
mod format;
mod high_water;
mod layout;
mod meta;
mod open;
mod plan;
mod read;
mod scan;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use clawchat_types::{MessageId, Principal, UnixMillis};

use self::base::Base;
use self::layout::Tree;
use self::plan::Plan;
use crate::write::check_batch;
use crate::{
    AttemptState, InboxEntry, MessageStore, OpenError, OutboxEntry, Outcome, PeerRecord, StoreError,
    StoreOptions, Write,
};

/// How much the engine may write for each byte given to it, while it rearranges its pages.
const WRITE_AMPLIFICATION: u64 = 8;

/// The store of one identity on disk.
///
/// One process at a time; many threads. Dropping it closes it.
pub struct SledStore {
    folder: PathBuf,
    options: StoreOptions,
    base: RwLock<Option<Base>>,
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
        let base = open::open(dir, key, &options)?;
        Ok(Self {
            folder: dir.to_owned(),
            options,
            base: RwLock::new(Some(base)),
        })
    }

    fn base(&self) -> Result<OpenBase<'_>, StoreError> {
        let guard = self.base.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            return Err(StoreError::Closed);
        }
        Ok(OpenBase(guard))
    }

    /// Refuses a write that would eat into the reserve.
    fn check_space(&self, bytes: usize) -> Result<(), StoreError> {
        let growth = u64::try_from(bytes)
            .unwrap_or(u64::MAX)
            .saturating_mul(WRITE_AMPLIFICATION);
        let needed = self.options.reserve_bytes.saturating_add(growth);
        // A disk that cannot say is tried.
        let free = (self.options.free_space)(&self.folder).unwrap_or(u64::MAX);
        if free < needed {
            return Err(StoreError::StorageFull {
                path: self.folder.clone(),
                free,
                needed,
            });
        }
        Ok(())
    }
}

impl MessageStore for SledStore {
    fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        let guard = self.base()?;
        let base = guard.get()?;
        check_batch(&batch)?;
        let mut writer = base.writer();
        if let Some(reason) = &writer.failed {
            return Err(base.failed(reason.clone()));
        }
        self.check_space(batch.iter().map(Write::size).sum())?;

        let mut plan = Plan::new(base);
        let outcomes = batch
            .into_iter()
            .map(|write| plan.apply(write))
            .collect::<Result<Vec<_>, _>>()?;
        let Some((changes, meta)) = plan.finish()? else {
            return Ok(outcomes);
        };

        base.begun.store(meta.commit, Ordering::SeqCst);
        // From here on an error leaves open what is on disk, so it ends all writing.
        let written = base
            .engine
            .apply(&changes)
            .map_err(|error| error.to_string())
            .and_then(|()| {
                writer
                    .high_water
                    .raise(&base.keys, &meta)
                    .map_err(|error| error.to_string())
            });
        if let Err(reason) = written {
            tracing::error!(store = %self.folder.display(), reason, "writing failed");
            writer.failed = Some(reason.clone());
            return Err(base.failed(reason));
        }
        *base.published.write().unwrap_or_else(PoisonError::into_inner) = meta;
        Ok(outcomes)
    }

    fn inbox(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        self.base()?.get()?.inbox(after, limit)
    }

    fn arrival_at(&self, time: UnixMillis) -> Result<u64, StoreError> {
        self.base()?.get()?.arrival_at(time)
    }

    fn inbox_by_id(&self, id: &MessageId) -> Result<Vec<InboxEntry>, StoreError> {
        self.base()?.get()?.inbox_by_id(id)
    }

    fn inbox_count(&self) -> Result<u64, StoreError> {
        Ok(self.base()?.get()?.durable(Tree::Inbox))
    }

    fn unread(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        self.base()?.get()?.unread(after, limit)
    }

    fn unread_count(&self) -> Result<u64, StoreError> {
        Ok(self.base()?.get()?.durable(Tree::Unread))
    }

    fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.base()?.get()?.outbox(after, limit)
    }

    fn outbox_by_id(&self, id: &MessageId) -> Result<Option<OutboxEntry>, StoreError> {
        self.base()?.get()?.outbox_by_id(id)
    }

    fn outbox_count(&self) -> Result<u64, StoreError> {
        Ok(self.base()?.get()?.durable(Tree::Outbox))
    }

    fn pending(&self, to: &Principal, after: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.base()?.get()?.pending(to, after, limit)
    }

    fn has_pending(&self, to: &Principal) -> Result<bool, StoreError> {
        self.base()?.get()?.has_pending(to)
    }

    fn pending_recipients(&self) -> Result<Vec<Principal>, StoreError> {
        self.base()?.get()?.pending_recipients()
    }

    fn pending_count(&self, to: &Principal) -> Result<u64, StoreError> {
        self.base()?.get()?.pending_count(to)
    }

    fn due_expiries(&self, now: UnixMillis, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.base()?.get()?.due_expiries(now, limit)
    }

    fn next_expiry(&self) -> Result<Option<UnixMillis>, StoreError> {
        self.base()?.get()?.next_expiry()
    }

    fn attempt_state(&self, to: &Principal) -> Result<Option<AttemptState>, StoreError> {
        self.base()?.get()?.attempt_state(to)
    }

    fn peers(&self) -> Result<Vec<PeerRecord>, StoreError> {
        self.base()?.get()?.peers()
    }

    fn peer(&self, principal: &Principal) -> Result<Option<PeerRecord>, StoreError> {
        self.base()?.get()?.peer(principal)
    }

    fn close(&self) -> Result<(), StoreError> {
        let base = self.base.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Base {
            folder,
            engine,
            keys,
            published,
            begun: _,
            writer,
            lock,
        }) = base
        else {
            return Ok(());
        };
        let meta = published.into_inner().unwrap_or_else(PoisonError::into_inner);
        let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Everything acknowledged is on disk already. Only a store that is in order gets the mark which spares
        // it the examination; one without it loses nothing.
        let tidy = engine.close() && writer.failed.is_none();
        if tidy && writer.high_water.settle(&keys, &meta).is_ok() {
            drop(writer);
            if let Err(error) = clean::leave(&folder, &keys) {
                tracing::warn!(%error, "the store will be examined when it is opened next");
            }
        }
        drop(lock);
        Ok(())
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

/// The base, kept open while it is used.
struct OpenBase<'a>(RwLockReadGuard<'a, Option<Base>>);

impl OpenBase<'_> {
    fn get(&self) -> Result<&Base, StoreError> {
        self.0.as_ref().ok_or(StoreError::Closed)
    }
}
