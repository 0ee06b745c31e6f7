//! CBOR as this profile reads and writes it (RFC 8949). Not the project's deterministic codec: existing peers
//! read nearly any spelling, and so must we.
//!
//! Read: any order of keys, long integers, floats, indefinite arrays and maps, `undefined`; of equal keys, the last
//! one counts. Not read: tags, simple values, strings in chunks, keys that are not text, bytes left over, and
//! nesting deeper than [`MAX_NESTING`]. Reading first walks over the bytes once without building anything.

mod value;
mod walk;
mod write;

pub(super) use self::value::{Map, Value, read};
pub(super) use self::write::Writer;

/// Deepest nesting of arrays and maps that is read. A flat map has depth 1.
pub(super) const MAX_NESTING: usize = 128;

/// Why bytes were not read. Says nothing about their content: it may be secret or hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// The bytes end inside the item.
    #[error("cut short")]
    Truncated,
    /// There are bytes behind the item.
    #[error("bytes left over behind the item")]
    TrailingBytes,
    /// Arrays and maps are nested deeper than 128.
    #[error("nested deeper than {MAX_NESTING}")]
    TooDeep,
    /// A tag, a simple value, a string in chunks, a key that is not text, or no CBOR at all.
    #[error("malformed, or of a kind that is not read")]
    Malformed,
}
