//! Frames of stream protocols: a 4-byte big-endian length and one deterministic CBOR map.

use crate::cbor::Writer;

/// Length of the length field.
pub(crate) const PREFIX_BYTES: usize = 4;

/// Appends a frame: the length of what `map` writes, and that.
pub(crate) fn write_frame(out: &mut Vec<u8>, map: impl FnOnce(&mut Writer<'_>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    map(&mut Writer(out));
    // Every map written here is far below 4 GiB: each kind has a limit that is checked before.
    let length = u32::try_from(out.len() - start - PREFIX_BYTES).unwrap_or(u32::MAX);
    out[start..start + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Cuts incoming bytes into frames. Holds at most one unfinished frame, and of that only what has arrived: an
/// announced length reserves nothing.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    /// The length field, as far as it has arrived.
    prefix: Vec<u8>,
    /// The map, as far as it has arrived.
    body: Vec<u8>,
    /// The map's length, once known and found acceptable.
    expected: Option<usize>,
}

impl FrameBuffer {
    /// The body of the next frame, taking from `input` what it needs. `None` when all input is used up and the
    /// frame is not complete.
    ///
    /// `check` is asked once per frame whether its announced length is acceptable.
    pub(crate) fn next_frame<E>(
        &mut self,
        input: &mut &[u8],
        check: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<Option<Vec<u8>>, E> {
        let expected = match self.expected {
            Some(expected) => expected,
            None => {
                fill(&mut self.prefix, input, PREFIX_BYTES);
                let Ok(prefix) = <[u8; PREFIX_BYTES]>::try_from(self.prefix.as_slice()) else {
                    return Ok(None);
                };
                let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
                check(length)?;
                self.expected = Some(length);
                length
            }
        };
        fill(&mut self.body, input, expected);
        if self.body.len() < expected {
            return Ok(None);
        }
        self.prefix.clear();
        self.expected = None;
        Ok(Some(std::mem::take(&mut self.body)))
    }

    /// Bytes held of a frame that is not complete.
    pub(crate) fn held(&self) -> usize {
        self.prefix.len() + self.body.len()
    }

    /// Memory taken by a frame that is not complete, in bytes.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.prefix.capacity() + self.body.capacity()
    }

    /// Gives up what is held.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Moves bytes from `input` until `buffer` has `length` of them.
fn fill(buffer: &mut Vec<u8>, input: &mut &[u8], length: usize) {
    let missing = length.saturating_sub(buffer.len());
    let (taken, rest) = input.split_at(missing.min(input.len()));
    buffer.extend_from_slice(taken);
    *input = rest;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(_: usize) -> Result<(), ()> {
        Ok(())
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut buffer = FrameBuffer::default();
        let mut input: &[u8] = &[0x00, 0x50, 0x00, 0x00, 1, 2, 3];
        assert_eq!(buffer.next_frame(&mut input, accept), Ok(None));
        assert!(input.is_empty());
        assert!(buffer.capacity() < 64, "{}", buffer.capacity());
    }

    #[test]
    fn no_more_is_held_than_has_arrived_twice_over() {
        let mut buffer = FrameBuffer::default();
        let mut input: &[u8] = &0x0010_0000_u32.to_be_bytes();
        assert_eq!(buffer.next_frame(&mut input, accept), Ok(None));
        for arrived in 1..1000 {
            assert_eq!(buffer.next_frame(&mut [7_u8; 100].as_slice(), accept), Ok(None));
            assert!(buffer.capacity() <= 2 * arrived * 100 + 64);
        }
    }
}
