//! The one CBOR codec of the project (RFC 8949): deterministic writing, bounded reading.
//!
//! Reading first walks the bytes without building anything, so that a hostile length, nesting or map is
//! refused before any of it is allocated. What is never read: semantic tags, simple values other than
//! false, true, null and undefined, map keys that are not integers or definite strings.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Deepest nesting of arrays and maps that is read. A flat map has depth 1.
pub const MAX_DEPTH: usize = 16;
/// Most entries of one map that are read.
pub const MAX_MAP_ENTRIES: usize = 256;

/// Writes `value` deterministically (RFC 8949 §4.2.1): shortest lengths and integers, no indefinite items,
/// map keys in the bytewise order of their encodings.
///
/// A value whose own `Serialize` fails, or that has a map with equal keys, gives no bytes at all, which no
/// reader accepts; plain structures of ours cannot do either.
#[must_use]
pub fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    cbor2::to_canonical_vec(value).unwrap_or_default()
}

/// Reads exactly one item of at most `max_bytes` bytes, in any well-formed spelling: any order of map keys,
/// long integers, indefinite lengths and floats included.
///
/// # Errors
/// [`CborError`]: too long, nested deeper than [`MAX_DEPTH`], equal or too many map keys, bytes left over, not
/// well-formed, or not what `T` expects.
pub fn from_slice_limited<'a, T: Deserialize<'a>>(bytes: &'a [u8], max_bytes: usize) -> Result<T, CborError> {
    check_one(bytes, max_bytes, Spelling::Any)?;
    read(bytes)
}

/// Reads exactly one item of at most `max_bytes` bytes that is spelled as [`to_canonical`] spells it, without
/// floats and undefined: equal values are equal bytes, so what was signed is what is read.
///
/// # Errors
/// As [`from_slice_limited`], and [`CborError::NotCanonical`].
pub fn from_canonical<'a, T: Deserialize<'a>>(bytes: &'a [u8], max_bytes: usize) -> Result<T, CborError> {
    check_one(bytes, max_bytes, Spelling::Canonical)?;
    read(bytes)
}

/// Splits the first item off a CBOR sequence (RFC 8742): the bytes of the item, and those behind it. The
/// limits of [`from_slice_limited`] hold for the item.
///
/// # Errors
/// [`CborError`], also for an empty input. `max_bytes` bounds the item, not the sequence.
pub fn split_first(bytes: &[u8], max_bytes: usize) -> Result<(&[u8], &[u8]), CborError> {
    let end = Walk::first(bytes, Spelling::Any)?;
    if end > max_bytes {
        return Err(CborError::TooLong { max_bytes });
    }
    Ok(bytes.split_at(end))
}

/// Why bytes were not read. Says nothing about their content: it may be secret or hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// There are more bytes than the caller reads.
    #[error("longer than {max_bytes} bytes")]
    TooLong {
        /// The caller's limit, in bytes.
        max_bytes: usize,
    },
    /// Arrays and maps are nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// A map has more than [`MAX_MAP_ENTRIES`] entries.
    #[error("a map with more than {MAX_MAP_ENTRIES} entries")]
    TooManyEntries,
    /// A map has the same key twice.
    #[error("a map with the same key twice")]
    DuplicateKey,
    /// The bytes end inside the item.
    #[error("cut short")]
    Truncated,
    /// There are bytes behind the item.
    #[error("bytes left over behind the item")]
    TrailingBytes,
    /// A reserved or unsupported head, a stray break, text that is not UTF-8, or an unusual map key.
    #[error("malformed, or of a kind that is not read")]
    Malformed,
    /// Well-formed, but not the one deterministic spelling.
    #[error("not in deterministic form")]
    NotCanonical,
    /// Well-formed, but a field is missing, of another type, or out of range.
    #[error("not the expected structure")]
    Mismatch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Any,
    Canonical,
}

fn check_one(bytes: &[u8], max_bytes: usize, spelling: Spelling) -> Result<(), CborError> {
    if bytes.len() > max_bytes {
        return Err(CborError::TooLong { max_bytes });
    }
    if Walk::first(bytes, spelling)? == bytes.len() {
        Ok(())
    } else {
        Err(CborError::TrailingBytes)
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CborError> {
    cbor2::from_slice(bytes).map_err(|_| CborError::Mismatch)
}

/// The argument of an item's head.
#[derive(Clone, Copy)]
enum Argument {
    Number(u64),
    Indefinite,
}

/// A map key, by value: major type, number or length, and the bytes of a string.
type Key<'a> = (u8, u64, &'a [u8]);

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    spelling: Spelling,
}

impl<'a> Walk<'a> {
    /// Length of the first item.
    fn first(bytes: &'a [u8], spelling: Spelling) -> Result<usize, CborError> {
        let mut walk = Self {
            bytes,
            at: 0,
            spelling,
        };
        walk.item(0)?;
        Ok(walk.at)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(length).map_err(|_| CborError::Truncated)?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or(CborError::Truncated)?;
        self.at += length;
        Ok(taken)
    }

    /// Major type, low five bits, argument.
    fn head(&mut self) -> Result<(u8, u8, Argument), CborError> {
        let first = self.take(1)?.first().copied().ok_or(CborError::Truncated)?;
        let (major, low) = (first >> 5, first & 0x1f);
        let width = match low {
            0..=23 => return Ok((major, low, Argument::Number(u64::from(low)))),
            24..=27 => 1 << (low - 24),
            31 if self.spelling == Spelling::Canonical => return Err(CborError::NotCanonical),
            31 => return Ok((major, low, Argument::Indefinite)),
            _ => return Err(CborError::Malformed),
        };
        let number = self
            .take(width)?
            .iter()
            .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        let shortest = match width {
            1 => 24,
            2 => 1 << 8,
            4 => 1 << 16,
            _ => 1 << 32,
        };
        if self.spelling == Spelling::Canonical && major != 7 && number < shortest {
            return Err(CborError::NotCanonical);
        }
        Ok((major, low, Argument::Number(number)))
    }

    /// Whether the next byte is the break that ends an indefinite item; consumes it.
    fn at_break(&mut self) -> Result<bool, CborError> {
        match self.bytes.get(self.at) {
            None => Err(CborError::Truncated),
            Some(0xff) => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    fn item(&mut self, depth: usize) -> Result<(), CborError> {
        let (major, low, argument) = self.head()?;
        match (major, argument) {
            (0 | 1, Argument::Number(_)) => Ok(()),
            (2 | 3, Argument::Number(length)) => self.string(major, length).map(|_| ()),
            (2 | 3, Argument::Indefinite) => self.chunks(major),
            (4, argument) => self.array(argument, depth),
            (5, argument) => self.map(argument, depth),
            (7, Argument::Number(_)) => self.simple(low),
            _ => Err(CborError::Malformed),
        }
    }

    fn string(&mut self, major: u8, length: u64) -> Result<&'a [u8], CborError> {
        let bytes = self.take(length)?;
        if major == 3 && std::str::from_utf8(bytes).is_err() {
            return Err(CborError::Malformed);
        }
        Ok(bytes)
    }

    fn chunks(&mut self, major: u8) -> Result<(), CborError> {
        while !self.at_break()? {
            match self.head()? {
                (chunk, _, Argument::Number(length)) if chunk == major => self.string(major, length)?,
                _ => return Err(CborError::Malformed),
            };
        }
        Ok(())
    }

    /// Refuses a count that cannot fit before anything is walked.
    fn enter(&self, count: u64, bytes_each: u64, depth: usize) -> Result<(), CborError> {
        if depth >= MAX_DEPTH {
            return Err(CborError::TooDeep);
        }
        let left = (self.bytes.len() - self.at) as u64;
        if count.saturating_mul(bytes_each) > left {
            return Err(CborError::Truncated);
        }
        Ok(())
    }

    fn array(&mut self, argument: Argument, depth: usize) -> Result<(), CborError> {
        match argument {
            Argument::Number(count) => {
                self.enter(count, 1, depth)?;
                for _ in 0..count {
                    self.item(depth + 1)?;
                }
            }
            Argument::Indefinite => {
                self.enter(0, 1, depth)?;
                while !self.at_break()? {
                    self.item(depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn map(&mut self, argument: Argument, depth: usize) -> Result<(), CborError> {
        let mut keys = Keys::default();
        match argument {
            Argument::Number(count) => {
                self.enter(count, 2, depth)?;
                for _ in 0..count {
                    self.entry(&mut keys, depth)?;
                }
            }
            Argument::Indefinite => {
                self.enter(0, 2, depth)?;
                while !self.at_break()? {
                    self.entry(&mut keys, depth)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, keys: &mut Keys<'a>, depth: usize) -> Result<(), CborError> {
        let key = match self.head()? {
            (major @ (0 | 1), _, Argument::Number(number)) => (major, number, [].as_slice()),
            (major @ (2 | 3), _, Argument::Number(length)) => (major, length, self.string(major, length)?),
            _ => return Err(CborError::Malformed),
        };
        keys.add(key, self.spelling)?;
        self.item(depth + 1)
    }

    fn simple(&mut self, low: u8) -> Result<(), CborError> {
        match (low, self.spelling) {
            (20..=22, _) | (23 | 25..=27, Spelling::Any) => Ok(()),
            (23 | 25..=27, Spelling::Canonical) => Err(CborError::NotCanonical),
            _ => Err(CborError::Malformed),
        }
    }
}

/// The keys of one map so far. Compared by (major type, number or length, bytes), which for shortest heads is
/// the bytewise order of the encodings.
#[derive(Default)]
struct Keys<'a> {
    seen: BTreeSet<Key<'a>>,
}

impl<'a> Keys<'a> {
    fn add(&mut self, key: Key<'a>, spelling: Spelling) -> Result<(), CborError> {
        if self.seen.len() >= MAX_MAP_ENTRIES {
            return Err(CborError::TooManyEntries);
        }
        let ascending = self.seen.last().is_none_or(|last| *last < key);
        if !self.seen.insert(key) {
            return Err(CborError::DuplicateKey);
        }
        if spelling == Spelling::Canonical && !ascending {
            return Err(CborError::NotCanonical);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    const LIMIT: usize = 1 << 16;

    fn lenient(bytes: &[u8]) -> Result<(), CborError> {
        from_slice_limited::<IgnoredAny>(bytes, LIMIT).map(|_| ())
    }

    fn strict(bytes: &[u8]) -> Result<(), CborError> {
        from_canonical::<IgnoredAny>(bytes, LIMIT).map(|_| ())
    }

    #[test]
    fn keys_are_written_in_the_order_of_their_encodings() {
        let map = BTreeMap::from([("aa", 1_u64), ("b", 500), ("domain", 0)]);
        let bytes = to_canonical(&map);
        assert_eq!(hex::encode(&bytes), "a361621901f46261610166646f6d61696e00");
        assert_eq!(strict(&bytes), Ok(()));
    }

    #[test]
    fn other_spellings_are_read_but_are_not_canonical() {
        for (name, spelled) in [
            ("keys out of order", "a2616201616100"),
            ("long integer", "a161611900ff"),
            ("long length", "a178016100"),
            ("indefinite map", "bf616100ff"),
            ("indefinite text", "7f61616162ff"),
            ("half float", "f93c00"),
            ("undefined", "f7"),
        ] {
            let bytes = hex::decode(spelled).unwrap();
            assert_eq!(lenient(&bytes), Ok(()), "{name}");
            assert_eq!(strict(&bytes), Err(CborError::NotCanonical), "{name}");
        }
    }

    #[test]
    fn hostile_items_are_refused() {
        for (name, spelled, error) in [
            ("nothing", "", CborError::Truncated),
            ("two items", "0000", CborError::TrailingBytes),
            ("same key twice", "a2616100616101", CborError::DuplicateKey),
            (
                "same key, other spelling",
                "a261610078016101",
                CborError::DuplicateKey,
            ),
            (
                "same integer key, longer",
                "a20000180001",
                CborError::DuplicateKey,
            ),
            ("huge text", "7bffffffffffffffff61", CborError::Truncated),
            ("huge array", "9bffffffffffffffff", CborError::Truncated),
            ("huge map", "bb7fffffffffffffff0000", CborError::Truncated),
            ("map without value", "a100", CborError::Truncated),
            ("reserved head", "1c", CborError::Malformed),
            ("stray break", "ff", CborError::Malformed),
            ("not UTF-8", "61ff", CborError::Malformed),
            ("a tag", "c100", CborError::Malformed),
            ("a simple value", "f820", CborError::Malformed),
            ("a map as key", "a1a000", CborError::Malformed),
            ("bytes among text chunks", "7f4161ff", CborError::Malformed),
        ] {
            assert_eq!(lenient(&hex::decode(spelled).unwrap()), Err(error), "{name}");
        }
        assert_eq!(
            from_slice_limited::<IgnoredAny>(&[0x18, 0x20], 1).map(|_| ()),
            Err(CborError::TooLong { max_bytes: 1 })
        );
    }

    #[test]
    fn depth_and_map_size_are_bounded() {
        let nested = |depth| [vec![0x81; depth], vec![0x00]].concat();
        assert_eq!(lenient(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(lenient(&nested(MAX_DEPTH + 1)), Err(CborError::TooDeep));
        let wide = |entries: usize| to_canonical(&(0..entries).map(|n| (n, 0)).collect::<BTreeMap<_, _>>());
        assert_eq!(lenient(&wide(MAX_MAP_ENTRIES)), Ok(()));
        assert_eq!(
            lenient(&wide(MAX_MAP_ENTRIES + 1)),
            Err(CborError::TooManyEntries)
        );
    }

    #[test]
    fn a_sequence_is_split_item_by_item() {
        let (first, rest) = split_first(&[0x61, 0x61, 0x01], LIMIT).unwrap();
        assert_eq!((first, rest), ([0x61, 0x61].as_slice(), [0x01].as_slice()));
        assert_eq!(split_first(&[], LIMIT), Err(CborError::Truncated));
        assert_eq!(
            split_first(&[0x61, 0x61], 1),
            Err(CborError::TooLong { max_bytes: 1 })
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let read = lenient(&bytes);
            if strict(&bytes).is_ok() {
                prop_assert_eq!(read, Ok(()));
                let value: cbor2::Value = cbor2::from_slice(&bytes).unwrap();
                prop_assert_eq!(to_canonical(&value), bytes.clone());
            }
            if let Ok((first, rest)) = split_first(&bytes, LIMIT) {
                prop_assert_eq!(first.len() + rest.len(), bytes.len());
            }
        }

        #[test]
        fn what_is_written_is_canonical(map in prop::collection::btree_map(".{0,30}", any::<i64>(), 0..20)) {
            let bytes = to_canonical(&map);
            prop_assert_eq!(from_canonical::<BTreeMap<String, i64>>(&bytes, LIMIT).unwrap(), map);
        }
    }
}
