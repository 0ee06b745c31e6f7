//! How a store on disk is to be run.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Free disk space below which nothing is written any more, in bytes. 32 MiB: room for the engine to finish
/// what it has begun, and for others on the same disk to stay alive.
pub const DEFAULT_RESERVE_BYTES: u64 = 32 * 1024 * 1024;

/// Tells how many bytes are free for us on the disk that holds a folder.
pub type FreeSpace = Arc<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

/// How a [`SledStore`](crate::SledStore) is to be run.
#[derive(Clone)]
pub struct StoreOptions {
    /// Free disk space that writes leave untouched, in bytes. Default [`DEFAULT_RESERVE_BYTES`].
    pub reserve_bytes: u64,
    /// How free space is found out. Default: the file system's own answer.
    pub free_space: FreeSpace,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            reserve_bytes: DEFAULT_RESERVE_BYTES,
            free_space: Arc::new(free_space),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("reserve_bytes", &self.reserve_bytes)
            .finish_non_exhaustive()
    }
}

fn free_space(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
