//! Looking into JSON without building it: fields of an object and elements of an array as the text they are.

use std::borrow::Cow;

use super::{JsonError, UNIT_BYTES, plain_bytes};

/// The values of named fields of a text that is one object; the last of equal keys wins. The whole text is checked to
/// be JSON, to any depth.
pub(crate) fn fields<'a, const N: usize>(
    text: &'a str,
    names: &[&str; N],
) -> Result<[Option<&'a str>; N], JsonError> {
    let mut scan = Scan { text, at: 0 };
    let mut found = [None; N];
    scan.space();
    scan.expect(b'{')?;
    scan.space();
    if !scan.take(b'}') {
        loop {
            let key = scan.key()?;
            scan.space();
            let value = scan.value()?;
            if let Some(key) = unquote(key).filter(|key| key.whole)
                && let Some(place) = names.iter().position(|name| key.text == *name)
                && let Some(slot) = found.get_mut(place)
            {
                *slot = Some(value);
            }
            scan.space();
            if !scan.take(b',') {
                scan.expect(b'}')?;
                break;
            }
            scan.space();
        }
    }
    scan.end()?;
    Ok(found)
}

/// The elements of a value that [`fields`] gave, if it is an array.
pub(crate) fn elements(value: &str) -> Option<Elements<'_>> {
    let mut scan = Scan { text: value, at: 0 };
    scan.take(b'[').then(|| {
        scan.space();
        Elements {
            ended: scan.take(b']'),
            scan,
        }
    })
}

/// See [`elements`].
pub(crate) struct Elements<'a> {
    scan: Scan<'a>,
    ended: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.ended {
            return None;
        }
        self.scan.space();
        let value = self.scan.value().ok();
        self.scan.space();
        self.ended = value.is_none() || !self.scan.take(b',');
        value
    }
}

/// Whether a text is one JSON value and white space.
#[cfg(test)]
pub(crate) fn is_json(text: &str) -> bool {
    let mut scan = Scan { text, at: 0 };
    scan.space();
    scan.value().and_then(|_| scan.end()).is_ok()
}

/// What a string of JSON says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unquoted<'a> {
    pub(crate) text: Cow<'a, str>,
    /// False when half of a surrogate pair stands in it, here as U+FFFD.
    pub(crate) whole: bool,
}

/// What a value that [`fields`] or [`super::reprint`] gave says, if it is a string.
pub(crate) fn unquote(value: &str) -> Option<Unquoted<'_>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Unquoted {
            text: Cow::Borrowed(inner),
            whole: true,
        });
    }
    let mut text = String::with_capacity(inner.len());
    let mut whole = true;
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(rest.get(..at)?);
        rest = rest.get(at..)?;
        let character = match *rest.as_bytes().get(1)? {
            b'u' => {
                let unit = unit(rest)?;
                let low = rest.get(UNIT_BYTES..).and_then(self::unit);
                let mut units = char::decode_utf16([Some(unit), low].into_iter().flatten());
                let character = units.next()?.unwrap_or(char::REPLACEMENT_CHARACTER);
                let is_half = matches!(unit, 0xd800..=0xdfff) && character.len_utf16() == 1;
                whole &= !is_half;
                rest = rest.get(UNIT_BYTES * character.len_utf16()..)?;
                text.push(character);
                continue;
            }
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            plain => char::from(plain),
        };
        text.push(character);
        rest = rest.get(2..)?;
    }
    text.push_str(rest);
    Some(Unquoted {
        text: Cow::Owned(text),
        whole,
    })
}

/// The UTF-16 unit of the `\uXXXX` that a text begins with.
fn unit(text: &str) -> Option<u16> {
    let digits = text.get(..UNIT_BYTES)?.strip_prefix("\\u")?;
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        u16::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

struct Scan<'a> {
    text: &'a str,
    /// How far it has been read; always between two characters, for what ends a step is ASCII.
    at: usize,
}

impl<'a> Scan<'a> {
    /// A key with its quotes, and the colon behind it.
    fn key(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.string()?;
        let key = self.text.get(start..self.at).ok_or(self.wrong())?;
        self.space();
        self.expect(b':')?;
        Ok(key)
    }

    /// One value. Does not recurse: depth costs a byte a level.
    fn value(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        // What is open around the value; true for objects.
        let mut open: Vec<bool> = Vec::new();
        loop {
            self.space();
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    self.space();
                    if !self.take(b'}') {
                        self.key()?;
                        open.push(true);
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    self.space();
                    if !self.take(b']') {
                        open.push(false);
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                _ => self.word()?,
            }
            loop {
                let Some(object) = open.last().copied() else {
                    return self.text.get(start..self.at).ok_or(self.wrong());
                };
                self.space();
                if self.take(b',') {
                    if object {
                        self.space();
                        self.key()?;
                    }
                    break;
                }
                self.expect(if object { b'}' } else { b']' })?;
                open.pop();
            }
        }
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.expect(b'"')?;
        loop {
            self.at += plain_bytes(self.text.as_bytes().get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    let rest = self.text.get(self.at..).ok_or(self.wrong())?;
                    self.at += match rest.as_bytes().get(1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u') if unit(rest).is_some() => UNIT_BYTES,
                        _ => return Err(self.wrong()),
                    };
                }
                None | Some(_) => return Err(self.wrong()),
            }
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
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
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    fn word(&mut self) -> Result<(), JsonError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let word = [&b"null"[..], b"true", b"false"]
            .into_iter()
            .find(|word| rest.starts_with(word))
            .ok_or(self.wrong())?;
        self.at += word.len();
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
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

    const fn wrong(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::{reprint, reprint_within};

    #[test]
    fn fields_are_found_by_what_their_keys_say() {
        let text = r#" {"a":1 , "b" : [ {"a":2},"}" ] ,"\u0061":"x\"y","c":{"d":{}}} "#;
        let [a, b, c, d] = fields(text, &["a", "b", "c", "d"]).unwrap();
        assert_eq!(a, Some(r#""x\"y""#));
        assert_eq!(
            elements(b.unwrap()).unwrap().collect::<Vec<_>>(),
            [r#"{"a":2}"#, r#""}""#]
        );
        assert_eq!((c, d), (Some(r#"{"d":{}}"#), None));
        assert!(elements("[ ]").unwrap().next().is_none() && elements("{}").is_none());
        for bad in [
            "",
            "[]",
            "null",
            "{",
            "{\"a\":1,}",
            "{\"a\":1}x",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\" 1}",
        ] {
            assert!(fields(bad, &["a"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn strings_say_what_they_said() {
        let says = |value: &str| unquote(value).map(|says| (says.text.into_owned(), says.whole));
        assert_eq!(says(r#""aé""#), Some(("aé".to_owned(), true)));
        assert_eq!(
            says(r#""\u0041\n\/\\\"\ud83d\ude00""#),
            Some(("A\n/\\\"😀".to_owned(), true))
        );
        assert_eq!(says(r#""x\ud83dy""#), Some(("x\u{fffd}y".to_owned(), false)));
        assert_eq!(
            says(r#""\ud83d\u0041\ude00""#),
            Some(("\u{fffd}A\u{fffd}".to_owned(), false))
        );
        assert_eq!(says("7"), None);
        assert_eq!(says("\""), None);
    }

    #[test]
    fn any_depth_is_skipped() {
        let deep = 1_000_000;
        let text = format!("{{\"a\":{}{},\"b\":2}}", "[".repeat(deep), "]".repeat(deep));
        assert_eq!(fields(&text, &["b"]).unwrap(), [Some("2")]);
        assert!(fields(&text.replacen(']', "", 1), &["b"]).is_err());
    }

    proptest! {
        #[test]
        fn the_two_readers_agree_on_what_is_json(text in r#"[\[\]{}",:0-9.eE+\-a-fu\\ntrlsé ]{0,24}"#) {
            prop_assert_eq!(is_json(&text), reprint(&text).is_ok(), "{}", text);
        }

        #[test]
        fn garbage_is_no_panic(text in ".{0,64}") {
            let _ = (fields(&text, &["a"]), unquote(&text), is_json(&text));
            if let Some(elements) = elements(&text) {
                prop_assert!(elements.count() <= text.len());
            }
        }

        #[test]
        fn every_string_comes_back(text in "\\PC{0,32}|[\"\\\\/\u{0}-\u{1f}]{0,16}") {
            let mut quoted = String::new();
            crate::json::quote(&text, &mut quoted);
            prop_assert_eq!(unquote(&quoted).unwrap(), Unquoted { text: Cow::Borrowed(&text), whole: true });
            prop_assert_eq!(reprint_within(&quoted, 1000).unwrap(), quoted);
        }
    }
}
