//! Streams of a session: bytes both ways, in order, with backpressure.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use clawchat_snap2p::{ErrorCode, StreamId};

use super::handle::Owner;
use super::shared::{Read, Signals};
use crate::StreamError;

/// One stream of a session, readable and writable.
///
/// Dropping it before [`finish`](Self::finish) resets it: the peer sees [`StreamError::Reset`], and what was
/// not sent yet is discarded. After `finish` everything written is still delivered.
pub struct Stream {
    reader: StreamReader,
    writer: StreamWriter,
    label: String,
}

impl Stream {
    pub(super) fn new(owner: Arc<Owner>, id: StreamId, signals: Arc<Signals>, label: String) -> Self {
        let reader = StreamReader {
            owner: Arc::clone(&owner),
            id,
            signals: Arc::clone(&signals),
        };
        let writer = StreamWriter {
            owner,
            id,
            signals,
            finished: false,
        };
        Self {
            reader,
            writer,
            label,
        }
    }

    /// What the stream is for.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// See [`StreamReader::read`].
    pub async fn read(&mut self) -> Option<Result<Bytes, StreamError>> {
        self.reader.read().await
    }

    /// See [`StreamWriter::write_all`].
    ///
    /// # Errors
    /// As there.
    pub async fn write_all(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.writer.write_all(bytes).await
    }

    /// See [`StreamWriter::finish`].
    pub fn finish(&mut self) {
        self.writer.finish();
    }

    /// See [`StreamWriter::reset`].
    pub fn reset(self, code: ErrorCode) {
        self.writer.reset(code);
    }

    /// Splits it for two tasks.
    #[must_use]
    pub fn split(self) -> (StreamReader, StreamWriter) {
        (self.reader, self.writer)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({}, {:?})", self.reader.id, self.label)
    }
}

/// The reading half of a [`Stream`]. Dropping it discards what still arrives.
pub struct StreamReader {
    owner: Arc<Owner>,
    id: StreamId,
    signals: Arc<Signals>,
}

impl StreamReader {
    /// The next bytes, in pieces as they arrived; `None` after the peer finished. The peer may send more
    /// (than 256 KiB) only as this is called. Safe to drop: nothing is lost.
    ///
    /// # Errors
    /// [`StreamError::Reset`] when the peer reset it, [`StreamError::SessionClosed`] when the session ended
    /// before the stream did. Both come after the bytes that arrived before.
    pub async fn read(&mut self) -> Option<Result<Bytes, StreamError>> {
        loop {
            match self.owner.shared.read(self.id) {
                Read::Bytes(bytes) => return Some(Ok(bytes)),
                Read::End => return None,
                Read::Failed(error) => return Some(Err(error)),
                Read::Wait => self.signals.readable.notified().await,
            }
        }
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.owner.shared.drop_reader(self.id);
    }
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamReader({})", self.id)
    }
}

/// The writing half of a [`Stream`]. Dropping it without [`finish`](Self::finish) resets the stream.
pub struct StreamWriter {
    owner: Arc<Owner>,
    id: StreamId,
    signals: Arc<Signals>,
    finished: bool,
}

impl StreamWriter {
    /// Hands all `bytes` to the session, waiting while the send buffer (256 KiB) is full. Returning says
    /// nothing about delivery. Not safe to drop: a part may have been taken.
    ///
    /// # Errors
    /// [`StreamError::Reset`], [`StreamError::Finished`] or [`StreamError::SessionClosed`].
    pub async fn write_all(&mut self, mut bytes: Bytes) -> Result<(), StreamError> {
        if self.finished {
            return Err(StreamError::Finished);
        }
        loop {
            let taken = self.owner.shared.write(self.id, &bytes)?;
            bytes.advance(taken);
            if bytes.is_empty() {
                return Ok(());
            }
            self.signals.writable.notified().await;
        }
    }

    /// Says that nothing more comes. What was written is still delivered.
    pub fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            self.owner.shared.finish(self.id);
        }
    }

    /// Breaks the stream off in both directions, telling the peer why.
    pub fn reset(mut self, code: ErrorCode) {
        self.finished = true;
        self.owner.shared.reset(self.id, code);
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.owner.shared.reset(self.id, ErrorCode::NoError);
        }
        self.owner.shared.drop_writer(self.id);
    }
}

impl std::fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamWriter({})", self.id)
    }
}
