//! Outer frames: `u16` big-endian length of what follows, one kind byte, body.

use crate::limits::{FRAME_HEAD, MAX_FRAME, MAX_PRE_AUTH_FRAME};

/// The body is a Noise message.
pub(crate) const KIND_NOISE: u8 = 0;
/// The body is an AUTH_FAIL in clear, instead of the Noise message that was due.
pub(crate) const KIND_REFUSAL: u8 = 1;
/// The body is a KNOCK in clear, before the first Noise message.
pub(crate) const KIND_KNOCK: u8 = 2;
/// Bytes of the length field.
const LENGTH_BYTES: usize = 2;

/// Cuts a byte stream into frames.
///
/// Push what arrived, then call [`FrameReader::next_frame`] until it gives `None`, then push again: then it
/// never holds more than one unfinished frame of at most the limit. Starts with the limit of strangers,
/// [`MAX_PRE_AUTH_FRAME`]. The limit of a frame is looked at when `next_frame` reaches it, so it may be raised
/// between two frames of one push.
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

    /// Sets the largest frame accepted from here on, in bytes without the length field. At most [`MAX_FRAME`].
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
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame: kind byte and body, without the length. `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the length field is unacceptable; from then on, always.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let pending = self.buffer.get(self.start..).unwrap_or_default();
        let Some((&length, rest)) = pending.split_first_chunk::<LENGTH_BYTES>() else {
            self.shrink();
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(length));
        if length == 0 {
            return Err(self.fail(FrameError::Empty));
        }
        if length > self.limit {
            let limit = self.limit;
            return Err(self.fail(FrameError::TooLong { length, limit }));
        }
        let Some(frame) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = frame.to_vec();
        self.start += LENGTH_BYTES + length;
        Ok(Some(frame))
    }

    /// Bytes held that were not handed out.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// An idle connection holds no buffer.
    fn shrink(&mut self) {
        if self.buffered() == 0 {
            self.buffer = Vec::new();
            self.start = 0;
        }
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.buffer = Vec::new();
        self.start = 0;
        self.failed = Some(error);
        error
    }
}

/// The peer does not speak this framing. Nothing can be answered; close the substream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame has at least its kind byte.
    #[error("a frame without a kind")]
    Empty,
    /// Longer than is accepted at this time.
    #[error("a frame of {length} bytes where {limit} are accepted")]
    TooLong {
        /// Announced length, in bytes.
        length: usize,
        /// The limit in force, in bytes.
        limit: usize,
    },
}

/// A complete outer frame around a short body. Only for bodies below [`MAX_PRE_AUTH_FRAME`], which all ours are.
pub(crate) fn clear_frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 1).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(FRAME_HEAD + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.push(kind);
    frame.extend_from_slice(body);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_cut_wherever_the_bytes_are_split() {
        let bytes = [
            clear_frame(0, b"one"),
            clear_frame(1, b""),
            clear_frame(2, b"three"),
        ]
        .concat();
        for step in 1..=bytes.len() {
            let mut reader = FrameReader::new();
            let mut frames = Vec::new();
            for piece in bytes.chunks(step) {
                reader.push(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [b"\0one".to_vec(), vec![1], b"\x02three".to_vec()]);
            assert_eq!(reader.buffered(), 0);
        }
    }

    #[test]
    fn the_limit_of_strangers_is_raised_between_two_frames_of_one_push() {
        let long = clear_frame(0, &[0; MAX_PRE_AUTH_FRAME]);
        let error = FrameError::TooLong {
            length: MAX_PRE_AUTH_FRAME + 1,
            limit: MAX_PRE_AUTH_FRAME,
        };
        let mut reader = FrameReader::new();
        reader.push(&[clear_frame(0, &[0; MAX_PRE_AUTH_FRAME - 1]), long.clone()].concat());
        assert_eq!(reader.next_frame().unwrap().unwrap().len(), MAX_PRE_AUTH_FRAME);
        reader.set_limit(usize::MAX);
        assert_eq!(
            reader.next_frame().unwrap().unwrap().len(),
            MAX_PRE_AUTH_FRAME + 1
        );

        let mut strict = FrameReader::new();
        strict.push(&long[..2]);
        assert_eq!(strict.next_frame(), Err(error), "before the body arrives");
        strict.push(&long);
        assert_eq!(strict.next_frame(), Err(error));
        assert_eq!(strict.buffered(), 0);
    }

    #[test]
    fn a_frame_without_a_kind_is_refused() {
        let mut reader = FrameReader::new();
        reader.push(&[0, 0]);
        assert_eq!(reader.next_frame(), Err(FrameError::Empty));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_pile_up(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..40),
            limit in 0_usize..5000,
        ) {
            let mut reader = FrameReader::new();
            reader.set_limit(limit);
            for piece in pieces {
                reader.push(&piece);
                while let Ok(Some(frame)) = reader.next_frame() {
                    prop_assert!((1..=limit).contains(&frame.len()));
                }
                prop_assert!(reader.buffered() < LENGTH_BYTES + limit.max(1));
            }
        }
    }
}
