//! The only file that talks to sled. Every call is guarded: sled panics on damage instead of saying so.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::thread;

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};

use super::extents::ExtentError;
use super::files::{LOCK_PAUSE, lock};
use super::layout::{ENGINE_FILE, Layout, SEGMENT_BYTES, Tree};
use crate::guard::quietly;

/// How often a lock on the engine's file is tried that an earlier instance in this process is letting go of.
const LOCK_TRIES: u32 = 400;

/// A value as the engine returns it.
pub(crate) type Bytes = sled::IVec;

/// New values, or none for a removal, by key, for each tree.
pub(crate) type Changes = Vec<BTreeMap<Vec<u8>, Option<Vec<u8>>>>;

/// Why the engine failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// It cannot read its files.
    #[error("{0}")]
    Damaged(String),
    /// Its snapshot, a file of its own, cannot be read.
    #[error("the engine cannot read its snapshot")]
    Snapshot,
    /// Values too large for it are not what was written.
    #[error("{0}")]
    Extents(String),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// The operating system refused something else.
    #[error("{0}")]
    Failed(String),
}

/// An open database.
pub(crate) struct Engine {
    db: sled::Db,
    trees: Vec<sled::Tree>,
    /// Our own handle of its file: sled's flush leaves the disk's cache alone, so we sync ourselves.
    file: File,
    path: PathBuf,
}

impl Engine {
    /// Opens the database in `folder`, making the trees only when told to.
    pub(crate) fn open(layout: &Layout, folder: &Path, create: bool) -> Result<Self, EngineError> {
        guarded(|| {
            let db = open_database(layout, folder)?;
            let known = db.tree_names();
            let mut trees = Vec::with_capacity(layout.trees.len());
            for tree in layout.trees {
                if !create && !known.iter().any(|name| name == tree.name().as_bytes()) {
                    return Err(EngineError::Damaged(format!(
                        "the tree \"{}\" is gone",
                        tree.name()
                    )));
                }
                trees.push(db.open_tree(tree.name())?);
            }
            let path = folder.join(ENGINE_FILE);
            let file = File::open(&path).map_err(sled::Error::from)?;
            Ok(Self {
                db,
                trees,
                file,
                path,
            })
        })
    }

    /// The database's main file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        guarded(|| Ok(self.tree(tree)?.get(key)?))
    }

    /// The entries from `start` on, to `end` inclusive.
    pub(crate) fn range(&self, tree: Tree, start: &[u8], end: Option<&[u8]>) -> Result<Rows, EngineError> {
        let end = end.map_or(Bound::Unbounded, Bound::Included);
        let rows = guarded(|| Ok(self.tree(tree)?.range::<&[u8], _>((Bound::Included(start), end))))?;
        Ok(Rows { rows: Some(rows) })
    }

    /// The last entry from `start` to `end` inclusive.
    pub(crate) fn last(
        &self,
        tree: Tree,
        start: &[u8],
        end: &[u8],
    ) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        guarded(|| {
            Ok(self
                .tree(tree)?
                .range::<&[u8], _>(start..=end)
                .next_back()
                .transpose()?)
        })
    }

    /// Applies all changes or none, and returns when they are on disk.
    pub(crate) fn apply(&self, changes: &Changes) -> Result<(), EngineError> {
        guarded(|| {
            let done = self.trees[..].transaction(|views| {
                for (view, changes) in views.iter().zip(changes) {
                    for (key, value) in changes {
                        match value {
                            Some(value) => view.insert(key.as_slice(), value.as_slice())?,
                            None => view.remove(key.as_slice())?,
                        };
                    }
                }
                Ok::<(), ConflictableTransactionError<()>>(())
            });
            match done {
                Ok(()) | Err(TransactionError::Abort(())) => {}
                Err(TransactionError::Storage(error)) => return Err(error.into()),
            }
            self.db.flush()?;
            self.file.sync_data().map_err(sled::Error::from)?;
            Ok(())
        })
    }

    /// Lets go of the files. Whether everything was written and nobody in this process holds them any more.
    pub(crate) fn close(self) -> bool {
        let Self {
            db,
            trees,
            file,
            path: _,
        } = self;
        let dropped = guarded(|| {
            drop(trees);
            drop(db);
            Ok(())
        });
        // The engine's own lock goes when its last background task has ended.
        dropped.is_ok() && lock(&file, LOCK_TRIES).unwrap_or(false) && file.sync_all().is_ok()
    }

    fn tree(&self, tree: Tree) -> Result<&sled::Tree, EngineError> {
        self.trees
            .get(tree.number())
            .ok_or_else(|| EngineError::Failed("a tree is not open".to_owned()))
    }
}

/// Entries of a range, in order.
pub(crate) struct Rows {
    rows: Option<sled::Iter>,
}

impl Iterator for Rows {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.rows.as_mut()?;
        let row = guarded(|| rows.next().transpose().map_err(EngineError::from)).transpose();
        if row.as_ref().is_none_or(Result::is_err) {
            self.rows = None;
        }
        row
    }
}

fn open_database(layout: &Layout, folder: &Path) -> Result<sled::Db, EngineError> {
    let mut tries = 0;
    loop {
        let config = sled::Config::new()
            .path(folder)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(layout.cache_bytes)
            .flush_every_ms(None);
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("acquire lock") && tries < LOCK_TRIES =>
            {
                tries += 1;
                thread::sleep(LOCK_PAUSE);
            }
            opened => return Ok(opened?),
        }
    }
}

/// Runs a call into the engine; a panic becomes an error.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    quietly(call).unwrap_or_else(|panic| {
        Err(EngineError::Damaged(format!(
            "the engine gave up reading ({panic})"
        )))
    })
}

impl From<sled::Error> for EngineError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if is_full(&error) => Self::Full,
            sled::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged("a file is shorter than it was".to_owned())
            }
            sled::Error::Io(error) => Self::Failed(error.to_string()),
            // Only snapshots are checked without a place in the log.
            sled::Error::Corruption { at: None, .. } => Self::Snapshot,
            sled::Error::Corruption { .. } => Self::Damaged("a checksum is wrong".to_owned()),
            sled::Error::CollectionNotFound(_)
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_) => Self::Damaged(error.to_string()),
        }
    }
}

impl From<ExtentError> for EngineError {
    fn from(error: ExtentError) -> Self {
        match error {
            ExtentError::Damaged(what) => Self::Extents(what),
            ExtentError::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> Self {
        if is_full(&error) {
            Self::Full
        } else {
            Self::Failed(error.to_string())
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
