//! Databases on disk: sled, with guards around it. What every store here shares, whatever it keeps. The files and
//! the order of writing and opening are described in `spec/store.md`.

mod base;
mod batch;
mod clean;
mod engine;
mod extents;
mod files;
mod format;
mod high_water;
mod layout;
mod meta;
mod open;
mod scan;

pub(crate) use self::base::Base;
pub(crate) use self::batch::Batch;
pub(crate) use self::engine::Bytes;
pub(crate) use self::extents::SLOT_BYTES;
pub(crate) use self::layout::{Layout, Tree};

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use self::base::Writer;
use self::batch::Written;
use self::engine::EngineError;
use crate::{OpenError, StoreError, StoreOptions};

/// How much the engine may write for each byte given to it, while it rearranges its pages.
const WRITE_AMPLIFICATION: u64 = 8;

/// A database that is open until it is closed or dropped.
pub(crate) struct Guarded {
    folder: PathBuf,
    options: StoreOptions,
    base: RwLock<Option<Base>>,
}

impl Guarded {
    /// Opens the database in a folder, or makes one there.
    pub(crate) fn open(
        layout: &'static Layout,
        folder: &Path,
        key: &[u8; 32],
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        let base = open::open(layout, folder, key, &options)?;
        Ok(Self {
            folder: folder.to_owned(),
            options,
            base: RwLock::new(Some(base)),
        })
    }

    /// Reads what is kept in memory, which belongs to opening.
    pub(crate) fn load<T>(&self, load: impl FnOnce(&Base) -> Result<T, StoreError>) -> Result<T, OpenError> {
        let loaded = self.base().and_then(|open| load(open.get()?));
        loaded.map_err(|error| match error {
            StoreError::Damaged(damage) => OpenError::Damaged(damage),
            StoreError::TooLarge { .. }
            | StoreError::StorageFull { .. }
            | StoreError::Failed { .. }
            | StoreError::Closed => OpenError::Io {
                path: self.folder.clone(),
                action: "read",
                detail: error.to_string(),
            },
        })
    }

    /// The database, kept open while it is used.
    pub(crate) fn base(&self) -> Result<OpenBase<'_>, StoreError> {
        let guard = self.base.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            return Err(StoreError::Closed);
        }
        Ok(OpenBase(guard))
    }

    /// Refuses a write that would eat into the reserve.
    pub(crate) fn check_space(&self, bytes: usize) -> Result<(), StoreError> {
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

    /// Writes out what is left and lets go of the files.
    pub(crate) fn close(&self) {
        let base = self.base.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Base {
            layout: _,
            folder,
            engine,
            extents: _,
            keys,
            published,
            begun: _,
            writer,
            locks,
        }) = base
        else {
            return;
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
        drop(locks);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.close();
    }
}

/// The database, kept open while it is used.
pub(crate) struct OpenBase<'a>(RwLockReadGuard<'a, Option<Base>>);

impl OpenBase<'_> {
    pub(crate) fn get(&self) -> Result<&Base, StoreError> {
        self.0.as_ref().ok_or(StoreError::Closed)
    }
}

/// The right to write, which one has at a time.
pub(crate) struct Turn<'a> {
    base: &'a Base,
    writer: MutexGuard<'a, Writer>,
}

impl Base {
    /// Waits for the right to write. An error when writing failed before.
    pub(crate) fn turn(&self) -> Result<Turn<'_>, StoreError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &writer.failed {
            return Err(self.failed(reason.clone()));
        }
        Ok(Turn { base: self, writer })
    }

    /// Writes what the engine is about to be told of, durably.
    fn write_extents(&self, values: &[(u32, Vec<u8>)]) -> Result<(), EngineError> {
        let Some(file) = self.extents.as_ref().filter(|_| !values.is_empty()) else {
            return Ok(());
        };
        let write = || {
            for (slot, value) in values {
                file.write(*slot, value)?;
            }
            file.sync()
        };
        write().map_err(EngineError::from)
    }

    /// Waits until nobody writes.
    pub(crate) fn pause(&self) -> impl Sized + '_ {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Writes a batch, durably, and shows it to readers; first `show` is called, when it is on disk. A batch without
    /// changes writes nothing.
    pub(crate) fn commit(mut self, batch: Batch<'_>, show: impl FnOnce()) -> Result<(), StoreError> {
        let base = self.base;
        let Some(Written {
            changes,
            meta,
            extents,
        }) = batch.finish(&mut self.writer.space)?
        else {
            show();
            return Ok(());
        };
        base.begun.store(meta.commit, Ordering::SeqCst);
        // From here on an error leaves open what is on disk, so it ends all writing.
        let written = base
            .write_extents(&extents.values)
            .and_then(|()| base.engine.apply(&changes))
            .map_err(|error| error.to_string())
            .and_then(|()| {
                let raised = self.writer.high_water.raise(&base.keys, &meta);
                raised.map_err(|error| error.to_string())
            });
        if let Err(reason) = written {
            tracing::error!(store = %base.folder.display(), reason, "writing failed");
            self.writer.failed = Some(reason.clone());
            return Err(base.failed(reason));
        }
        show();
        *base.published.write().unwrap_or_else(PoisonError::into_inner) = meta;
        extents.settle(&mut self.writer.space);
        Ok(())
    }
}
