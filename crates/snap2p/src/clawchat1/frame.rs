//! Frames: `u32` big-endian length, then that many bytes of CBOR.

use super::{MAX_FRAME, MAX_PRE_AUTH_FRAME};

/// Bytes of the length field.
pub(super) const HEADER_BYTES: usize = 4;

/// Cuts a byte stream into frames.
///
/// Push what arrived, then call [`FrameReader::next_frame`] until it gives `None`, then push again: then it
/// never holds more than one unfinished frame of at most the limit. Starts with the limit of strangers,
/// [`MAX_PRE_AUTH_FRAME`]. The limit of a frame is looked at when `next_frame` reaches it, so it may be raised
/// between two frames of one push. Costs time linear in the bytes pushed, whatever the frames are, and never
/// holds more than twice what arrived.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Start of what was not handed out yet.
    start: usize,
    limit: usize,
    failed: Option<FrameError>,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameReader {
    /// An empty reader with the limit [`MAX_PRE_AUTH_FRAME`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            limit: MAX_PRE_AUTH_FRAME,
            failed: None,
        }
    }

    /// Sets the largest frame accepted from here on, in bytes without the header. At most [`MAX_FRAME`].
    ///
    /// To be raised to [`MAX_FRAME`] as soon as the handshake `is_done`, before the next `next_frame`.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_FRAME);
    }

    /// Takes over bytes that arrived. Ignores them after an error.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        // For whoever pushes without taking every frame first: only when at least half of the buffer goes, so
        // that no byte is moved often.
        if self.start > self.buffer.len() / 2 {
            self.forget_taken();
        }
        self.reserve(bytes.len());
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame, without its header; may be empty. `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the header announces too much; from then on, always.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some(length) = self.header() else {
            if self.buffered() == 0 {
                self.release();
            }
            return Ok(None);
        };
        if length > self.limit {
            let error = FrameError::TooLong {
                length,
                limit: self.limit,
            };
            self.release();
            self.failed = Some(error);
            return Err(error);
        }
        let end = self.start + HEADER_BYTES + length;
        if end > self.buffer.len() {
            // At most once for each frame.
            self.forget_taken();
            return Ok(None);
        }
        if self.start == 0 && end == self.buffer.len() {
            // The usual end of a large frame: no second copy of it.
            let mut frame = std::mem::take(&mut self.buffer);
            frame.drain(..HEADER_BYTES);
            return Ok(Some(frame));
        }
        let frame = self.buffer.get(end - length..end).unwrap_or_default().to_vec();
        self.start = end;
        Ok(Some(frame))
    }

    /// Length of the frame whose header is there and whose body is not complete, in bytes without the header.
    #[must_use]
    pub fn announced(&self) -> Option<usize> {
        self.header()
            .filter(|length| *length > self.buffered() - HEADER_BYTES)
    }

    /// Bytes held that were not handed out.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn header(&self) -> Option<usize> {
        let pending = self.buffer.get(self.start..)?;
        let length = u32::from_be_bytes(*pending.first_chunk::<HEADER_BYTES>()?);
        Some(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Room for so many bytes more: twice the room, but no more than the announced frame can use.
    fn reserve(&mut self, more: usize) {
        let needed = self.buffer.len().saturating_add(more);
        if needed <= self.buffer.capacity() {
            return;
        }
        let useful = self.header().map_or(0, |length| {
            self.start
                .saturating_add(HEADER_BYTES)
                .saturating_add(length.min(self.limit))
        });
        let room = needed.max(useful.min(self.buffer.capacity().saturating_mul(2)));
        self.buffer.reserve_exact(room - self.buffer.len());
    }

    /// Makes the buffer begin with what was not handed out.
    fn forget_taken(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
    }

    /// An idle or failed connection holds no buffer.
    fn release(&mut self) {
        self.buffer = Vec::new();
        self.start = 0;
    }
}

/// The peer does not speak this framing. Close the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than is accepted at this time.
    #[error("a frame of {length} bytes where {limit} are accepted")]
    TooLong {
        /// Announced length, in bytes.
        length: usize,
        /// The limit in force, in bytes.
        limit: usize,
    },
}

/// A complete frame around a body, which must not be longer than [`MAX_FRAME`]; nobody accepts another.
#[must_use]
pub fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(body);
    frame
}
