//! JSON as JavaScript reads and prints it: `JSON.stringify(JSON.parse(text))`.
//!
//! Differs from what other JSON libraries do in five ways, all of which signatures depend on: every number is a
//! double and printed as ECMAScript prints it; a number too large becomes `null`; the last of two equal keys wins
//! but keeps the first one's place; keys that are array indices come first; lone surrogates are kept.

mod raw;

use std::collections::BTreeMap;

pub(crate) use self::raw::{elements, fields, unquote};

/// Longest text read, in bytes.
pub const MAX_JSON_BYTES: usize = 1024 * 1024;
/// Deepest nesting of arrays and objects.
pub const MAX_JSON_DEPTH: u32 = 128;

/// The last array index of ECMAScript. Keys up to it, without leading zeros, sort as numbers.
const MAX_INDEX: u32 = u32::MAX - 1;

/// The text JavaScript prints for what it reads in `text`.
///
/// # Errors
/// [`JsonError`] when `text` is not one JSON document within [`MAX_JSON_BYTES`] and [`MAX_JSON_DEPTH`].
pub fn reprint(text: &str) -> Result<String, JsonError> {
    reprint_within(text, MAX_JSON_BYTES)
}

/// [`reprint`] with another limit than [`MAX_JSON_BYTES`], of the text and of what is printed.
pub(crate) fn reprint_within(text: &str, max_bytes: usize) -> Result<String, JsonError> {
    let mut out = String::with_capacity(text.len().min(max_bytes));
    let mut parser = Parser::within(text, max_bytes)?;
    parser.value(0, &mut out)?;
    parser.end()?;
    if out.len() > max_bytes {
        return Err(JsonError::TooLong);
    }
    Ok(out)
}

/// Why a text is not accepted as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Longer than [`MAX_JSON_BYTES`], or than the caller allows.
    #[error("longer than allowed")]
    TooLong,
    /// Nested deeper than [`MAX_JSON_DEPTH`].
    #[error("nested deeper than {MAX_JSON_DEPTH} levels")]
    TooDeep,
    /// Not JSON.
    #[error("not JSON at byte {at}")]
    Syntax {
        /// How many bytes were fine.
        at: usize,
    },
}

/// The members of one object, each value as JavaScript prints it.
#[derive(Default)]
pub(crate) struct Members {
    /// In the order in which the keys came, the keys as they stand between quotes in a printed string.
    printed: Vec<(String, String)>,
    /// Where each key stands in `printed`.
    places: BTreeMap<String, usize>,
}

impl Members {
    /// Reads a text that is one object.
    pub(crate) fn read(text: &str) -> Result<Self, JsonError> {
        let mut parser = Parser::new(text)?;
        parser.space();
        let members = parser.members(0)?;
        parser.end()?;
        Ok(members)
    }

    /// A member's value as printed. `key` must need no escapes.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let place = self.places.get(key)?;
        self.printed.get(*place).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, key: String, value: String) {
        let place = self.places.get(&key).copied();
        if let Some((_, old)) = place.and_then(|place| self.printed.get_mut(place)) {
            *old = value;
        } else {
            self.places.insert(key.clone(), self.printed.len());
            self.printed.push((key, value));
        }
    }

    fn print(mut self, out: &mut String) {
        // The sort is stable, so the other keys keep their order.
        self.printed
            .sort_by_key(|(key, _)| index(key).map_or(u64::MAX, u64::from));
        out.push('{');
        for (place, (key, value)) in self.printed.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            out.push('"');
            out.push_str(key);
            out.push_str("\":");
            out.push_str(value);
        }
        out.push('}');
    }
}

/// The number a key stands for, if it is an array index in its one spelling.
fn index(key: &str) -> Option<u32> {
    let plain = key == "0" || (key.bytes().all(|byte| byte.is_ascii_digit()) && !key.starts_with('0'));
    key.parse().ok().filter(|index| plain && *index <= MAX_INDEX)
}

struct Parser<'a> {
    text: &'a str,
    /// How far it has been read; always between two characters.
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, JsonError> {
        Self::within(text, MAX_JSON_BYTES)
    }

    fn within(text: &'a str, max_bytes: usize) -> Result<Self, JsonError> {
        if text.len() > max_bytes {
            return Err(JsonError::TooLong);
        }
        Ok(Self { text, at: 0 })
    }

    /// Reads one value and appends it as printed. `depth` is how many arrays and objects it stands in.
    fn value(&mut self, depth: u32, out: &mut String) -> Result<(), JsonError> {
        self.space();
        match self.peek() {
            Some(b'{') => {
                self.members(depth)?.print(out);
                Ok(())
            }
            Some(b'[') => self.array(depth, out),
            Some(b'"') => {
                out.push('"');
                self.string(out)?;
                out.push('"');
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(out),
            _ => {
                let word = ["null", "true", "false"]
                    .into_iter()
                    .find(|word| self.rest().starts_with(word))
                    .ok_or(self.wrong())?;
                self.at += word.len();
                out.push_str(word);
                Ok(())
            }
        }
    }

    fn members(&mut self, depth: u32) -> Result<Members, JsonError> {
        self.open(b'{', depth)?;
        let mut members = Members::default();
        if self.take(b'}') {
            return Ok(members);
        }
        loop {
            let mut key = String::new();
            self.space();
            self.string(&mut key)?;
            self.space();
            self.expect(b':')?;
            let mut value = String::new();
            self.value(depth + 1, &mut value)?;
            members.set(key, value);
            self.space();
            if !self.take(b',') {
                self.expect(b'}')?;
                return Ok(members);
            }
        }
    }

    fn array(&mut self, depth: u32, out: &mut String) -> Result<(), JsonError> {
        self.open(b'[', depth)?;
        out.push('[');
        if !self.take(b']') {
            loop {
                self.value(depth + 1, out)?;
                self.space();
                if !self.take(b',') {
                    break;
                }
                out.push(',');
            }
            self.expect(b']')?;
        }
        out.push(']');
        Ok(())
    }

    /// The bracket that begins an array or object, and the white space behind it.
    fn open(&mut self, bracket: u8, depth: u32) -> Result<(), JsonError> {
        self.expect(bracket)?;
        if depth >= MAX_JSON_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.space();
        Ok(())
    }

    /// Reads a string and appends what stands between the quotes when it is printed.
    fn string(&mut self, out: &mut String) -> Result<(), JsonError> {
        self.expect(b'"')?;
        loop {
            let rest = self.rest();
            let plain = rest.get(..plain_bytes(rest.as_bytes())).ok_or(self.wrong())?;
            out.push_str(plain);
            self.at += plain.len();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape(out)?,
                Some(_) | None => return Err(self.wrong()),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), JsonError> {
        let letter = *self.rest().as_bytes().get(1).ok_or(self.wrong())?;
        let character = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(out),
            _ => return Err(self.wrong()),
        };
        self.at += 2;
        push_escaped(character, out);
        Ok(())
    }

    /// One `\uXXXX`, or two that are a surrogate pair.
    fn unicode_escape(&mut self, out: &mut String) -> Result<(), JsonError> {
        let unit = self.unit(0).ok_or(self.wrong())?;
        let pair = self.unit(UNIT_BYTES).and_then(|low| {
            char::decode_utf16([unit, low])
                .next()?
                .ok()
                .filter(|c| c.len_utf16() == 2)
        });
        if let Some(character) = pair {
            self.at += 2 * UNIT_BYTES;
            out.push(character);
        } else {
            self.at += UNIT_BYTES;
            match char::from_u32(u32::from(unit)) {
                Some(character) => push_escaped(character, out),
                None => out.push_str(&format!("\\u{unit:04x}")),
            }
        }
        Ok(())
    }

    /// The UTF-16 unit of the `\uXXXX` that stands `ahead` bytes from here.
    fn unit(&self, ahead: usize) -> Option<u16> {
        let digits = self.rest().get(ahead..ahead + UNIT_BYTES)?.strip_prefix("\\u")?;
        // `from_str_radix` would take a sign.
        if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            u16::from_str_radix(digits, 16).ok()
        } else {
            None
        }
    }

    fn number(&mut self, out: &mut String) -> Result<(), JsonError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let number: f64 = self.text[start..self.at].parse().map_err(|_| self.wrong())?;
        print_number(number, out);
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        if count > 0 { Ok(()) } else { Err(self.wrong()) }
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.rest().bytes().next()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    fn wrong(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }
}

/// Length of `\uXXXX`.
const UNIT_BYTES: usize = 6;

/// Appends a text as a JSON string.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some((plain, special)) = rest.split_at_checked(plain_bytes(rest.as_bytes())) {
        out.push_str(plain);
        let mut characters = special.chars();
        let Some(character) = characters.next() else { break };
        push_escaped(character, out);
        rest = characters.as_str();
    }
    out.push('"');
}

/// How many bytes at the beginning stand inside a string as they are. It ends between two characters.
fn plain_bytes(text: &[u8]) -> usize {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    text.iter().position(special).unwrap_or(text.len())
}

/// Appends a character the way `JSON.stringify` writes it inside a string.
fn push_escaped(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x08' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\x0c' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
        plain => out.push(plain),
    }
}

/// Appends a number as ECMAScript's `Number::toString` writes it, and what is not finite as `null`.
fn print_number(number: f64, out: &mut String) {
    if !number.is_finite() {
        out.push_str("null");
        return;
    }
    if number == 0.0 {
        out.push('0'); // Of either sign.
        return;
    }
    // The shortest digits that read back as the same number, as d.ddde±x.
    let shortest = format!("{:e}", number.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if number < 0.0 {
        out.push('-');
    }
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // Digits in front of the decimal point.
    let whole = exponent + 1;
    match whole {
        1..=21 if count <= whole => out.push_str(&format!("{digits}{}", zeros(whole - count))),
        1..=21 => {
            let (front, back) = digits.split_at(usize::try_from(whole).unwrap_or_default());
            out.push_str(&format!("{front}.{back}"));
        }
        -5..=0 => out.push_str(&format!("0.{}{digits}", zeros(-whole))),
        _ => out.push_str(&format!("{mantissa}e{exponent:+}")),
    }
}
