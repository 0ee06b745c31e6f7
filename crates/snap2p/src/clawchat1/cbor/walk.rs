//! The walk over bytes: where an item ends, and whether it is one that is read at all.

use super::{CborError, MAX_NESTING};

/// What an item begins with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head {
    Unsigned(u64),
    /// Stands for `-1 - n`.
    Negative(u64),
    /// That many bytes follow.
    Bytes(usize),
    /// That many bytes of text follow.
    Text(usize),
    /// That many items follow; `None`: as many as there are before a break.
    Array(Option<u64>),
    /// That many pairs follow; `None`: as many as there are before a break.
    Map(Option<u64>),
    Bool(bool),
    Null,
    Undefined,
    Float(f64),
    Break,
}

impl Head {
    /// Splits a head off. The length of a string is not compared with what follows.
    pub(super) fn split(bytes: &[u8]) -> Result<(Self, &[u8]), CborError> {
        let (&first, rest) = bytes.split_first().ok_or(CborError::Truncated)?;
        let (major, short) = (first >> 5, first & 0x1f);
        let (argument, rest) = match short {
            0..=23 => (Some(u64::from(short)), rest),
            24 => number::<1>(rest)?,
            25 => number::<2>(rest)?,
            26 => number::<4>(rest)?,
            27 => number::<8>(rest)?,
            31 => (None, rest),
            _ => return Err(CborError::Malformed),
        };
        let head = match (major, argument) {
            (0, Some(n)) => Self::Unsigned(n),
            (1, Some(n)) => Self::Negative(n),
            (2, Some(n)) => Self::Bytes(length(n)?),
            (3, Some(n)) => Self::Text(length(n)?),
            (4, items) => Self::Array(items),
            (5, pairs) => Self::Map(pairs),
            (7, argument) => Self::other(short, argument)?,
            _ => return Err(CborError::Malformed),
        };
        Ok((head, rest))
    }

    fn other(short: u8, argument: Option<u64>) -> Result<Self, CborError> {
        match (short, argument) {
            (20, _) => Ok(Self::Bool(false)),
            (21, _) => Ok(Self::Bool(true)),
            (22, _) => Ok(Self::Null),
            (23, _) => Ok(Self::Undefined),
            (25, Some(bits)) => u16::try_from(bits)
                .map(|bits| Self::Float(half(bits)))
                .map_err(|_| CborError::Malformed),
            (26, Some(bits)) => u32::try_from(bits)
                .map(|bits| Self::Float(f32::from_bits(bits).into()))
                .map_err(|_| CborError::Malformed),
            (27, Some(bits)) => Ok(Self::Float(f64::from_bits(bits))),
            (31, None) => Ok(Self::Break),
            _ => Err(CborError::Malformed),
        }
    }
}

/// Splits the bytes of the first item off. Neither recurses nor builds anything.
pub(super) fn split_item(bytes: &[u8]) -> Result<(&[u8], &[u8]), CborError> {
    let mut open: Vec<Open> = Vec::new();
    let mut rest = bytes;
    loop {
        let (head, behind) = Head::split(rest)?;
        rest = behind;
        if matches!(head, Head::Break) {
            if !open.pop().is_some_and(|open| open.may_break()) {
                return Err(CborError::Malformed);
            }
        } else {
            if let Some(open) = open.last_mut() {
                open.take(head)?;
            }
            match head {
                Head::Bytes(length) | Head::Text(length) => {
                    rest = rest.get(length..).ok_or(CborError::Truncated)?;
                }
                Head::Array(left) | Head::Map(left) => {
                    if open.len() == MAX_NESTING {
                        return Err(CborError::TooDeep);
                    }
                    let is_map = matches!(head, Head::Map(_));
                    open.push(Open {
                        left,
                        is_map,
                        value_due: false,
                    });
                }
                Head::Unsigned(_)
                | Head::Negative(_)
                | Head::Bool(_)
                | Head::Null
                | Head::Undefined
                | Head::Float(_)
                | Head::Break => {}
            }
        }
        while open.last().is_some_and(Open::is_full) {
            open.pop();
        }
        if open.is_empty() {
            return Ok(bytes.split_at(bytes.len() - rest.len()));
        }
    }
}

/// An array or map whose end was not reached yet.
struct Open {
    /// Items or pairs that must follow; `None` before a break.
    left: Option<u64>,
    is_map: bool,
    /// A key was read.
    value_due: bool,
}

impl Open {
    fn take(&mut self, head: Head) -> Result<(), CborError> {
        if self.value_due {
            self.value_due = false;
            return Ok(());
        }
        if self.is_map {
            if !matches!(head, Head::Text(_)) {
                return Err(CborError::Malformed);
            }
            self.value_due = true;
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.left == Some(0) && !self.value_due
    }

    fn may_break(&self) -> bool {
        self.left.is_none() && !self.value_due
    }
}

fn number<const N: usize>(bytes: &[u8]) -> Result<(Option<u64>, &[u8]), CborError> {
    let (digits, rest) = bytes.split_first_chunk::<N>().ok_or(CborError::Truncated)?;
    let number = digits
        .iter()
        .fold(0, |number, digit| number << 8 | u64::from(*digit));
    Ok((Some(number), rest))
}

/// A length no slice can have is one that is cut short.
fn length(number: u64) -> Result<usize, CborError> {
    usize::try_from(number).map_err(|_| CborError::Truncated)
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}
