//! Streams of a session: bytes both ways, in order, with backpressure.

use bytes::Bytes;
use clawchat_snap2p::ErrorCode;

use crate::StreamError;

/// One stream of a session, readable and writable.
///
/// Dropping it before both directions are finished resets it: the peer sees [`StreamError::Reset`] and what
/// was not yet sent is discarded. After [`finish`](Self::finish) everything written is still delivered.
#[derive(Debug)]
pub struct Stream {
    reader: StreamReader,
    writer: StreamWriter,
}

impl Stream {
    /// What the stream is for.
    #[must_use]
    pub fn label(&self) -> &str {
        todo!()
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

/// The reading half of a [`Stream`]. Dropping it discards what still arrives.
#[derive(Debug)]
pub struct StreamReader {}

impl StreamReader {
    /// The next bytes, in pieces as they arrived; `None` after the peer finished. The peer may send more only
    /// as this is called. Safe to drop: nothing is lost.
    ///
    /// # Errors
    /// [`StreamError::Reset`] when the peer reset it, [`StreamError::SessionClosed`] when the session ended
    /// before the stream did. Both come after the bytes that arrived before.
    pub async fn read(&mut self) -> Option<Result<Bytes, StreamError>> {
        todo!()
    }
}

/// The writing half of a [`Stream`]. Dropping it without [`finish`](Self::finish) resets the stream.
#[derive(Debug)]
pub struct StreamWriter {}

impl StreamWriter {
    /// Hands all `bytes` to the session, waiting while the send buffer (256 KiB) is full. Returning says
    /// nothing about delivery. Not safe to drop: a part may have been taken.
    ///
    /// # Errors
    /// [`StreamError::Reset`], [`StreamError::Finished`] or [`StreamError::SessionClosed`].
    pub async fn write_all(&mut self, _bytes: Bytes) -> Result<(), StreamError> {
        todo!()
    }

    /// Says that nothing more comes. What was written is still delivered.
    pub fn finish(&mut self) {
        todo!()
    }

    /// Breaks the stream off in both directions, telling the peer why.
    pub fn reset(self, _code: ErrorCode) {
        todo!()
    }
}
