//! What an identity calls itself.

use std::fmt;
use std::str::FromStr;

use clawchat_types::{MAX_NICK_CHARS, Nick};

/// The name an identity carries in its keystore and sends along: 1 to [`MAX_NICK_CHARS`] characters of any
/// script, without control and text-direction characters and without white space around it.
///
/// Freer than [`Nick`], the name in a configuration file. Self-chosen: for people to read, never for trust.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nickname(String);

impl Nickname {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Nickname {
    type Err = NicknameError;

    fn from_str(text: &str) -> Result<Self, NicknameError> {
        if text.is_empty() {
            return Err(NicknameError::Empty);
        }
        if text.chars().count() > MAX_NICK_CHARS {
            return Err(NicknameError::TooLong);
        }
        if text.trim() != text || !text.chars().all(is_shown) {
            return Err(NicknameError::Character);
        }
        Ok(Self(text.to_owned()))
    }
}

impl From<Nick> for Nickname {
    fn from(nick: Nick) -> Self {
        Self(nick.as_str().to_owned())
    }
}

impl fmt::Display for Nickname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a character may stand in a name: not one that moves the cursor or turns the text around.
fn is_shown(c: char) -> bool {
    let turns_text = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns_text && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Why a text is not a nickname.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NicknameError {
    /// It is empty.
    #[error("a nickname must be a non-empty string")]
    Empty,
    /// It holds a control character or starts or ends with white space.
    #[error("a nickname holds no control characters and no space around it")]
    Character,
    /// It is longer than [`MAX_NICK_CHARS`] characters.
    #[error("a nickname has at most {MAX_NICK_CHARS} characters")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_script_but_nothing_invisible() {
        for good in ["zoë 🦀", "alice", &"n".repeat(64)] {
            assert_eq!(good.parse::<Nickname>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<Nickname>(), Err(NicknameError::Empty));
        assert_eq!("ë".repeat(65).parse::<Nickname>(), Err(NicknameError::TooLong));
        for bad in ["a\nb", "\u{1b}[2J", " a", "a ", "a\u{202e}b"] {
            assert_eq!(bad.parse::<Nickname>(), Err(NicknameError::Character), "{bad:?}");
        }
    }
}
