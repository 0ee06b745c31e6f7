//! The deterministic subset of CBOR that `chat/1` and `px-1` speak, read in place.
//!
//! A message may have megabytes and comes from a stranger: nothing here allocates, and there is exactly one
//! accepted spelling of every value (RFC 8949 §4.2.1), so a signature covers one meaning.

/// Deepest nesting of arrays and maps in anything read, the outermost map included.
const MAX_DEPTH: u32 = 16;

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
/// `false`, `true` and `null`, the only values of major type 7 in use.
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;

/// Why bytes are not one map in the encoding `chat/1` and `px-1` speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodingError {
    /// An item ends behind the last byte.
    #[error("the encoding breaks off")]
    Truncated,
    /// Bytes follow the map.
    #[error("bytes follow the end of the map")]
    Trailing,
    /// A number or length is not written in its shortest form.
    #[error("a number is not in its shortest form")]
    NotShortest,
    /// Indefinite lengths, tags, floating point numbers and simple values have no place here.
    #[error("an item of a kind this protocol does not use")]
    Unsupported,
    /// A map's keys are not in ascending order of their bytes, or one stands twice.
    #[error("map keys out of order, or one twice")]
    KeyOrder,
    /// Arrays and maps nested too deep.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A text string is not UTF-8.
    #[error("a text string is not UTF-8")]
    NotUtf8,
    /// A value is not of the type its place asks for.
    #[error("a value of the wrong type")]
    WrongType,
    /// A field that must be there is not.
    #[error("the field \"{field}\" is missing")]
    Missing {
        /// The field's key.
        field: &'static str,
    },
    /// A field has the right type but an impossible value.
    #[error("the field \"{field}\" has an impossible value")]
    BadValue {
        /// The field's key.
        field: &'static str,
    },
}

/// Reads `bytes` as exactly one map with text keys, calling `field` on each value in turn.
///
/// `field` must consume the value: with one of the typed readers, or with [`Reader::skip`].
pub(crate) fn read_map<'a>(
    bytes: &'a [u8],
    mut field: impl FnMut(&'a str, &mut Reader<'a>) -> Result<(), EncodingError>,
) -> Result<(), EncodingError> {
    let mut reader = Reader { rest: bytes };
    let entries = reader.expect(MAP)?;
    let mut previous: &[u8] = &[];
    for _ in 0..entries {
        let start = reader.rest;
        let key = reader.text()?;
        previous = ascending(previous, start, reader.rest)?;
        field(key, &mut reader)?;
    }
    if reader.rest.is_empty() {
        Ok(())
    } else {
        Err(EncodingError::Trailing)
    }
}

/// The key between `start` and `rest`, if it sorts behind `previous`.
fn ascending<'a>(previous: &[u8], start: &'a [u8], rest: &[u8]) -> Result<&'a [u8], EncodingError> {
    let key = &start[..start.len() - rest.len()];
    if previous < key {
        Ok(key)
    } else {
        Err(EncodingError::KeyOrder)
    }
}

/// Reads items one after the other from bytes in memory.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn uint(&mut self) -> Result<u64, EncodingError> {
        self.expect(UINT)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], EncodingError> {
        let length = self.expect(BYTES)?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, EncodingError> {
        let length = self.expect(TEXT)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| EncodingError::NotUtf8)
    }

    /// The number of items of an array, which then have to be read one by one.
    pub(crate) fn array(&mut self) -> Result<u64, EncodingError> {
        self.expect(ARRAY)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, EncodingError> {
        match self.take(1)? {
            [TRUE] => Ok(true),
            [FALSE] => Ok(false),
            _ => Err(EncodingError::WrongType),
        }
    }

    /// Passes over one item of any kind, checking it as strictly as one that is used. The item is a value of
    /// the outermost map.
    pub(crate) fn skip(&mut self) -> Result<(), EncodingError> {
        self.skip_at(1)
    }

    fn skip_at(&mut self, depth: u32) -> Result<(), EncodingError> {
        if let Some((&(FALSE | TRUE | NULL), rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(());
        }
        let (major, argument) = self.head()?;
        match major {
            UINT | NEGATIVE => Ok(()),
            BYTES => self.take(argument).map(drop),
            TEXT => std::str::from_utf8(self.take(argument)?)
                .map(drop)
                .map_err(|_| EncodingError::NotUtf8),
            ARRAY | MAP if depth >= MAX_DEPTH => Err(EncodingError::TooDeep),
            ARRAY => (0..argument).try_for_each(|_| self.skip_at(depth + 1)),
            MAP => {
                let mut previous: &[u8] = &[];
                for _ in 0..argument {
                    let start = self.rest;
                    self.skip_at(depth + 1)?;
                    previous = ascending(previous, start, self.rest)?;
                    self.skip_at(depth + 1)?;
                }
                Ok(())
            }
            _ => Err(EncodingError::Unsupported),
        }
    }

    fn expect(&mut self, wanted: u8) -> Result<u64, EncodingError> {
        match self.head()? {
            (major, argument) if major == wanted => Ok(argument),
            _ => Err(EncodingError::WrongType),
        }
    }

    /// An item's major type and argument.
    fn head(&mut self) -> Result<(u8, u64), EncodingError> {
        let (&first, rest) = self.rest.split_first().ok_or(EncodingError::Truncated)?;
        self.rest = rest;
        let major = first >> 5;
        if major > MAP {
            return Err(EncodingError::Unsupported);
        }
        // The smallest argument that needs each length; shorter ones have a shorter spelling.
        let (length, least) = match first & 0x1f {
            small @ 0..=23 => return Ok((major, u64::from(small))),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(EncodingError::Unsupported),
        };
        let argument = self
            .take(length)?
            .iter()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        if argument < least {
            return Err(EncodingError::NotShortest);
        }
        Ok((major, argument))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], EncodingError> {
        let (taken, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length))
            .ok_or(EncodingError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Writes items in their one spelling. The caller brings map keys in ascending order.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn map(&mut self, entries: usize) -> &mut Self {
        self.head(MAP, entries as u64)
    }

    pub(crate) fn array(&mut self, items: usize) -> &mut Self {
        self.head(ARRAY, items as u64)
    }

    pub(crate) fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value)
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.head(TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.0.push(if value { TRUE } else { FALSE });
        self
    }

    fn head(&mut self, major: u8, argument: u64) -> &mut Self {
        let [.., b4, b5, b6, b7] = argument.to_be_bytes();
        let major = major << 5;
        match argument {
            0..=23 => self.0.push(major | b7),
            24..=0xff => self.0.extend_from_slice(&[major | 24, b7]),
            0x100..=0xffff => self.0.extend_from_slice(&[major | 25, b6, b7]),
            0x1_0000..=0xffff_ffff => self.0.extend_from_slice(&[major | 26, b4, b5, b6, b7]),
            _ => {
                self.0.push(major | 27);
                self.0.extend_from_slice(&argument.to_be_bytes());
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cbor2::Value;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    /// Whatever the subset can say.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u64>().prop_map(Value::from),
            (0_u64..300).prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            vec(any::<u8>(), 0..30).prop_map(Value::Bytes),
            ".{0,30}".prop_map(Value::Text),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Value::Array),
                vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    fn map() -> impl Strategy<Value = Value> {
        btree_map(".{0,30}", value(), 0..6).prop_map(|map| {
            Value::Map(
                map.into_iter()
                    .map(|(key, value)| (Value::Text(key), value))
                    .collect(),
            )
        })
    }

    fn accepts(bytes: &[u8]) -> Result<(), EncodingError> {
        read_map(bytes, |_, value| value.skip())
    }

    /// Whether CBOR's own canonical writer gives the same bytes back.
    fn is_canonical(bytes: &[u8]) -> bool {
        cbor2::validate_slice(bytes).is_ok()
            && cbor2::from_slice::<Value>(bytes)
                .is_ok_and(|value| cbor2::to_canonical_vec(&value).is_ok_and(|again| again == bytes))
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the enum of another crate, open to growth"
    )]
    fn has_only_our_kinds(value: &Value) -> bool {
        let fits = |value: &Value| cbor2::to_vec(value).is_ok_and(|bytes| bytes[0] < 0xc0);
        match value {
            Value::Integer(_) => fits(value),
            Value::Bytes(_) | Value::Text(_) | Value::Bool(_) | Value::Null => true,
            Value::Array(items) => items.iter().all(has_only_our_kinds),
            Value::Map(entries) => entries
                .iter()
                .all(|(key, value)| has_only_our_kinds(key) && has_only_our_kinds(value)),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn every_canonical_map_is_accepted(map in map()) {
            if let Ok(bytes) = cbor2::to_canonical_vec(&map) {
                prop_assert_eq!(accepts(&bytes), Ok(()));
            }
        }

        #[test]
        fn what_is_accepted_is_canonical(map in map(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            if let Ok(mut bytes) = cbor2::to_canonical_vec(&map) {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                if accepts(&bytes).is_ok() {
                    prop_assert!(is_canonical(&bytes), "{}", hex::encode(&bytes));
                } else if is_canonical(&bytes) {
                    let value: Value = cbor2::from_slice(&bytes).unwrap();
                    let text_keys = matches!(&value, Value::Map(entries) if entries.iter().all(|(key, _)| matches!(key, Value::Text(_))));
                    prop_assert!(!text_keys || !has_only_our_kinds(&value), "{}", hex::encode(&bytes));
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), maps in vec(prop::sample::select(vec![0xa1, 0x61, 0x81, 0xbb, 0xff, 0x00, 0x9b]), 0..200)) {
            for bytes in [bytes, maps] {
                if accepts(&bytes).is_ok() {
                    prop_assert!(is_canonical(&bytes));
                }
            }
        }

        #[test]
        fn numbers_are_written_as_cbor_writes_them(number in any::<u64>(), shift in 0_u32..64) {
            let number = number >> shift;
            let mut bytes = Vec::new();
            Writer(&mut bytes).map(1).text("n").uint(number);
            prop_assert_eq!(&bytes, &cbor2::to_vec(&std::collections::BTreeMap::from([("n", number)])).unwrap());
            let mut read = None;
            read_map(&bytes, |_, value| { read = Some(value.uint()?); Ok(()) }).unwrap();
            prop_assert_eq!(read, Some(number));
        }
    }

    #[test]
    fn a_value_that_nobody_reads_is_still_checked() {
        // {"a": [1]}, read by somebody who forgets to: what follows is no key.
        let bytes = [0xa1, 0x61, b'a', 0x81, 0x01];
        assert_eq!(read_map(&bytes, |_, _| Ok(())), Err(EncodingError::Trailing));
    }
}
