//! Nicknames: short local names of identities.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest nickname, in characters.
pub const MAX_NICK_CHARS: usize = 64;

/// A name an operator gives to an identity or a peer: 1 to [`MAX_NICK_CHARS`] of `A-Z a-z 0-9 _ -`.
///
/// Self-chosen and not unique between machines: for people to read, never for trust.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nick(String);

impl Nick {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Nick {
    type Err = NickError;

    fn from_str(text: &str) -> Result<Self, NickError> {
        if text.is_empty() {
            return Err(NickError::Empty);
        }
        if !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        {
            return Err(NickError::Character);
        }
        if text.len() > MAX_NICK_CHARS {
            return Err(NickError::TooLong);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Nick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Nick {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Nick {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Why a text is not a nickname.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NickError {
    /// It is empty.
    #[error("a nickname must be a non-empty string")]
    Empty,
    /// It holds a character outside `A-Z a-z 0-9 _ -`.
    #[error("a nickname must contain only letters, numbers, underscores, and hyphens")]
    Character,
    /// It is longer than [`MAX_NICK_CHARS`].
    #[error("a nickname has at most {MAX_NICK_CHARS} characters")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plain_alphabet_is_accepted() {
        assert_eq!("a_b-C9".parse::<Nick>().unwrap().as_str(), "a_b-C9");
        assert_eq!("n".repeat(64).parse::<Nick>().unwrap().to_string().len(), 64);
        assert_eq!("".parse::<Nick>(), Err(NickError::Empty));
        assert_eq!("n".repeat(65).parse::<Nick>(), Err(NickError::TooLong));
        for bad in ["a b", "zoë", "a.b", "a\n", "stacks:x"] {
            assert_eq!(bad.parse::<Nick>(), Err(NickError::Character), "{bad:?}");
        }
    }
}
