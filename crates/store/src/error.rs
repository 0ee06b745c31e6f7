//! What can go wrong, and what to do about it.

use std::path::PathBuf;

/// Why a store could not be opened. Nothing in its folder was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path}: in use by another clawchatd; stop that one first (clawchat daemon stop)")]
    InUse {
        /// The store's folder.
        path: PathBuf,
    },
    /// The key is not the one the store was made with.
    #[error(
        "{path}: sealed with another key: this store belongs to another identity, put it back where it was"
    )]
    WrongKey {
        /// The store's folder.
        path: PathBuf,
    },
    /// Written by a later version of this program.
    #[error("{path}: has format {found}, this clawchatd knows up to {supported}; install a newer clawchatd")]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest this build knows.
        supported: u32,
    },
    /// What is on disk is not what was acknowledged.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Not enough room to open it safely.
    #[error("{path}: {free} bytes free, {needed} needed to open it; free some space and try again")]
    StorageFull {
        /// The store's folder.
        path: PathBuf,
        /// Bytes free now.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The operating system refused something.
    #[error("{path}: cannot {action}: {detail}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        detail: String,
    },
}

/// Why a read or a write failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A write breaks a limit. Nothing was written; the store is fine.
    #[error("the {what} is too large: {size}, at most {limit}")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// Its size, in bytes or entries.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk is full, or nearly. Nothing was written; writing works again once there is space.
    #[error("{path}: only {free} bytes free on this disk, {needed} are needed; free some space")]
    StorageFull {
        /// The store's folder.
        path: PathBuf,
        /// Bytes free now.
        free: u64,
        /// Bytes that must be free for this write, the reserve included.
        needed: u64,
    },
    /// A record is missing or not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// An earlier write failed half-way, so nothing more is written until the store has been opened anew.
    /// Nothing that was acknowledged is lost.
    #[error("{path}: writing failed ({reason}); nothing unsaved was acknowledged; restart clawchatd")]
    Failed {
        /// The store's folder.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Damage found, in words for an operator. The files are left as they were found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path}: damaged: {what}. Nothing was changed. Restore this identity's store folder from a backup, or move it \
     away to start with an empty one; the messages in it stay readable to a repair only while it is kept"
)]
pub struct Damage {
    /// The file or folder found damaged.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}
