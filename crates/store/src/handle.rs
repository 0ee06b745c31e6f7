//! The way async code writes: one thread per store, many writes per disk sync.

use std::sync::Arc;

use crate::group::{Backend, Group};
use crate::{MessageStore, Outcome, StoreError, Write};

/// A store together with its writer thread. Clones share both.
///
/// Writes are applied in the order in which their futures were first polled. Many waiting writes share one disk
/// sync. A write that breaks a limit fails alone. Dropping a future does not take its write back. When the
/// last clone is dropped the thread finishes what is queued, closes the store and ends.
#[derive(Clone)]
pub struct StoreHandle(Group<Messages>);

/// A store of messages, of any kind.
struct Messages(Arc<dyn MessageStore>);

impl Backend for Messages {
    type Write = Write;
    type Outcome = Outcome;

    fn commit_all(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        self.0.commit(batch)
    }

    fn close_files(&self) -> Result<(), StoreError> {
        self.0.close()
    }

    fn size_of(write: &Write) -> usize {
        write.size()
    }
}

impl StoreHandle {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread.
    pub fn start(store: Arc<dyn MessageStore>) -> std::io::Result<Self> {
        Group::start("store", Arc::new(Messages(store))).map(Self)
    }

    /// The store, for reading. Reads block briefly; see [`MessageStore`].
    #[must_use]
    pub fn store(&self) -> &dyn MessageStore {
        &*self.0.store().0
    }

    /// Writes, and returns when the write is on disk.
    ///
    /// # Errors
    /// As [`MessageStore::commit`]; [`StoreError::Closed`] after [`close`](Self::close).
    pub async fn submit(&self, write: Write) -> Result<Outcome, StoreError> {
        write.check()?;
        self.0.submit(write).await
    }

    /// Writes all or none, and returns when they are on disk. One outcome for each.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_all(&self, writes: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        crate::write::check_batch(&writes)?;
        self.0.submit_all(writes).await
    }

    /// Requests that wait for the writer thread, at most [`QUEUE_REQUESTS`](crate::QUEUE_REQUESTS); 0 after
    /// [`close`](Self::close).
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }

    /// Takes no more writes, finishes those queued, and closes the store. Closing twice is fine.
    ///
    /// # Errors
    /// As [`MessageStore::close`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.close().await
    }
}
