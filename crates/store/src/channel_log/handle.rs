//! The way async code writes to a channel log.

use std::sync::Arc;

use super::write::check_batch;
use super::{ChannelLog, LogOutcome, LogWrite};
use crate::StoreError;
use crate::group::{Backend, Group};

/// A channel log together with its writer thread. Clones share both.
///
/// Writes are applied in the order in which their futures were first polled. Many waiting writes share one disk
/// sync. A write that breaks a limit fails alone. Dropping a future does not take its write back. When the
/// last clone is dropped the thread finishes what is queued, closes the log and ends.
#[derive(Clone)]
pub struct ChannelLogHandle(Group<Channels>);

/// A channel log, of any kind.
struct Channels(Arc<dyn ChannelLog>);

impl Backend for Channels {
    type Write = LogWrite;
    type Outcome = LogOutcome;

    fn commit_all(&self, batch: Vec<LogWrite>) -> Result<Vec<LogOutcome>, StoreError> {
        self.0.commit(batch)
    }

    fn close_files(&self) -> Result<(), StoreError> {
        self.0.close()
    }

    fn size_of(write: &LogWrite) -> usize {
        write.size()
    }
}

impl ChannelLogHandle {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread.
    pub fn start(log: Arc<dyn ChannelLog>) -> std::io::Result<Self> {
        Group::start("channel log", Arc::new(Channels(log))).map(Self)
    }

    /// The log, for reading. Reads block briefly; see [`ChannelLog`].
    #[must_use]
    pub fn log(&self) -> &dyn ChannelLog {
        &*self.0.store().0
    }

    /// Writes, and returns when the write is on disk.
    ///
    /// # Errors
    /// As [`ChannelLog::commit`]; [`StoreError::Closed`] after [`close`](Self::close).
    pub async fn submit(&self, write: LogWrite) -> Result<LogOutcome, StoreError> {
        write.check()?;
        self.0.submit(write).await
    }

    /// Writes all or none, and returns when they are on disk. One outcome for each.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_all(&self, writes: Vec<LogWrite>) -> Result<Vec<LogOutcome>, StoreError> {
        check_batch(&writes)?;
        self.0.submit_all(writes).await
    }

    /// Takes no more writes, finishes those queued, and closes the log. Closing twice is fine.
    ///
    /// # Errors
    /// As [`ChannelLog::close`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.close().await
    }
}
