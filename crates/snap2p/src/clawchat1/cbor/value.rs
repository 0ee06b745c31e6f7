//! Values borrowed from bytes that the walk went over.

use std::borrow::Cow;

use super::CborError;
use super::walk::{Head, split_item};

/// One value. Arrays and maps are not built; their items are read when they are asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::clawchat1) enum Value<'a> {
    Unsigned(u64),
    /// Stands for `-1 - n`.
    Negative(u64),
    Float(f64),
    Bytes(&'a [u8]),
    /// Maybe not UTF-8.
    Text(&'a [u8]),
    Array(Items<'a>),
    Map(Map<'a>),
    Bool(bool),
    Null,
    Undefined,
}

/// Reads bytes that hold exactly one value.
///
/// # Errors
/// [`CborError`].
pub(in crate::clawchat1) fn read(bytes: &[u8]) -> Result<Value<'_>, CborError> {
    let (item, rest) = split_item(bytes)?;
    if !rest.is_empty() {
        return Err(CborError::TrailingBytes);
    }
    value(item)
}

impl<'a> Value<'a> {
    /// The map, if it is one.
    pub(in crate::clawchat1) fn map(self) -> Option<Map<'a>> {
        match self {
            Self::Map(map) => Some(map),
            Self::Unsigned(_)
            | Self::Negative(_)
            | Self::Float(_)
            | Self::Bytes(_)
            | Self::Text(_)
            | Self::Array(_)
            | Self::Bool(_)
            | Self::Null
            | Self::Undefined => None,
        }
    }

    /// The items, if it is an array.
    pub(in crate::clawchat1) fn items(self) -> Option<Items<'a>> {
        match self {
            Self::Array(items) => Some(items),
            Self::Unsigned(_)
            | Self::Negative(_)
            | Self::Float(_)
            | Self::Bytes(_)
            | Self::Text(_)
            | Self::Map(_)
            | Self::Bool(_)
            | Self::Null
            | Self::Undefined => None,
        }
    }

    /// The text, if it is one of at most so many bytes; what is not UTF-8 becomes replacement characters.
    pub(in crate::clawchat1) fn text(self, max_bytes: usize) -> Option<Cow<'a, str>> {
        let Self::Text(bytes) = self else { return None };
        // Replacement never makes it shorter, so the first comparison saves work and loses nothing.
        let text = (bytes.len() <= max_bytes).then(|| String::from_utf8_lossy(bytes))?;
        (text.len() <= max_bytes).then_some(text)
    }

    /// The first characters of a text of any length, read as [`Value::text`] reads it. Costs no more than they do.
    pub(in crate::clawchat1) fn first_chars(self, count: usize) -> Option<String> {
        const MAX_CHAR_BYTES: usize = 4;
        let Self::Text(bytes) = self else { return None };
        // Should this cut a character in two, there are enough whole ones before it.
        let beginning = bytes.get(..count * MAX_CHAR_BYTES).unwrap_or(bytes);
        Some(String::from_utf8_lossy(beginning).chars().take(count).collect())
    }

    /// A byte string, or an array of integers from 0 to 255, of at most so many bytes.
    pub(in crate::clawchat1) fn bytes(self, max_bytes: usize) -> Option<Cow<'a, [u8]>> {
        if let Self::Bytes(bytes) = self {
            return (bytes.len() <= max_bytes).then_some(Cow::Borrowed(bytes));
        }
        let mut bytes = Vec::new();
        for item in self.items()? {
            let byte = u8::try_from(item.integer()?).ok()?;
            if bytes.len() == max_bytes {
                return None;
            }
            bytes.push(byte);
        }
        Some(Cow::Owned(bytes))
    }

    /// The integer, also one that is spelled as a float.
    pub(in crate::clawchat1) fn integer(self) -> Option<i128> {
        match self {
            Self::Unsigned(number) => Some(number.into()),
            Self::Negative(number) => Some(-1 - i128::from(number)),
            #[allow(clippy::cast_possible_truncation)] // whole, and small enough
            Self::Float(number) => {
                (number.fract() == 0.0 && number.abs() <= 2_f64.powi(64)).then_some(number as i128)
            }
            Self::Bytes(_)
            | Self::Text(_)
            | Self::Array(_)
            | Self::Map(_)
            | Self::Bool(_)
            | Self::Null
            | Self::Undefined => None,
        }
    }

    /// The number without its fraction, moved into the range if it is outside. NaN counts as 0.
    pub(in crate::clawchat1) fn clamped(self, most: u64) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(number.min(most)),
            Self::Negative(_) => Some(0),
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            // saturates, which is what is wanted
            Self::Float(number) => Some((number as u64).min(most)),
            Self::Bytes(_)
            | Self::Text(_)
            | Self::Array(_)
            | Self::Map(_)
            | Self::Bool(_)
            | Self::Null
            | Self::Undefined => None,
        }
    }
}

/// The items of an array, one after the other.
#[derive(Clone, Copy, Debug)]
pub(in crate::clawchat1) struct Items<'a> {
    /// Begins with the next item.
    rest: &'a [u8],
    /// How many there are; `None`: until a break.
    left: Option<u64>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        match &mut self.left {
            Some(0) => return None,
            Some(left) => *left -= 1,
            None => {}
        }
        // Fails at a break only: the walk went over these bytes.
        let (item, rest) = split_item(self.rest).ok()?;
        self.rest = rest;
        value(item).ok()
    }
}

/// A map with text keys.
#[derive(Clone, Copy, Debug)]
pub(in crate::clawchat1) struct Map<'a>(Items<'a>);

impl<'a> Map<'a> {
    /// The values of some keys. Of equal keys, the last one counts; `undefined` counts as absent.
    pub(in crate::clawchat1) fn pick<const N: usize>(self, keys: [&str; N]) -> [Option<Value<'a>>; N] {
        let mut picked = [None; N];
        let mut items = Items {
            left: self.0.left.map(|pairs| pairs.saturating_mul(2)),
            ..self.0
        };
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let Value::Text(key) = key else { continue };
            if let Some(at) = keys.iter().position(|wanted| wanted.as_bytes() == key) {
                picked[at] = Some(value);
            }
        }
        picked.map(|value| value.filter(|value| !matches!(value, Value::Undefined)))
    }
}

/// The value of the bytes of exactly one item.
fn value(item: &[u8]) -> Result<Value<'_>, CborError> {
    let (head, rest) = Head::split(item)?;
    Ok(match head {
        Head::Unsigned(number) => Value::Unsigned(number),
        Head::Negative(number) => Value::Negative(number),
        Head::Float(number) => Value::Float(number),
        Head::Bytes(_) => Value::Bytes(rest),
        Head::Text(_) => Value::Text(rest),
        Head::Array(left) => Value::Array(Items { rest, left }),
        Head::Map(left) => Value::Map(Map(Items { rest, left })),
        Head::Bool(value) => Value::Bool(value),
        Head::Null => Value::Null,
        Head::Undefined => Value::Undefined,
        Head::Break => return Err(CborError::Malformed),
    })
}
