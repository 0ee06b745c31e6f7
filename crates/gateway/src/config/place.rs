//! Where in the text a key stands, for error messages.

use std::fmt;

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into the value of a key.
    Key(&'static str),
    /// Into an array, counted from 0.
    Index(usize),
}

/// A way into a document, shown as `identities[0].nick`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Step>);

impl KeyPath {
    /// Whether it means the document itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This path and one step more.
    #[must_use]
    pub fn key(&self, key: &'static str) -> Self {
        self.with(Step::Key(key))
    }

    /// This path and one step more.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The line (from 1) at which the value of `path` starts, or that of the innermost part of the path there is.
///
/// `text` must be JSON that the parser has accepted: that bounds its depth, and nothing is checked again.
pub(super) fn line_of(text: &[u8], path: &KeyPath) -> usize {
    let mut scanner = Scanner {
        text,
        at: 0,
        found: 0,
    };
    scanner.value(Some(&path.0));
    let before = text.get(..scanner.found).unwrap_or(text);
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// Offset of the innermost value of the path met so far.
    found: usize,
}

impl Scanner<'_> {
    /// Passes over one value; `path` is what remains of the path inside it, `None` when it leads elsewhere.
    fn value(&mut self, path: Option<&[Step]>) {
        self.space();
        if path.is_some() {
            self.found = self.at;
        }
        match self.peek() {
            Some(b'{') => self.object(path),
            Some(b'[') => self.array(path),
            Some(b'"') => {
                self.string();
            }
            _ => self.scalar(),
        }
    }

    fn object(&mut self, path: Option<&[Step]>) {
        self.at += 1;
        loop {
            self.space();
            match self.peek() {
                Some(b'"') => {
                    let key = self.string();
                    self.space();
                    self.at += 1; // the colon
                    // A key given twice: the last one counts, and is found last.
                    let inside = path.and_then(|path| match path.split_first() {
                        Some((Step::Key(wanted), rest)) if *wanted == key => Some(rest),
                        _ => None,
                    });
                    self.value(inside);
                }
                Some(b',') => self.at += 1,
                _ => break,
            }
        }
        self.at += 1;
    }

    fn array(&mut self, path: Option<&[Step]>) {
        self.at += 1;
        let mut index = 0;
        loop {
            self.space();
            match self.peek() {
                None | Some(b']') => break,
                Some(b',') => self.at += 1,
                Some(_) => {
                    let inside = path.and_then(|path| match path.split_first() {
                        Some((Step::Index(wanted), rest)) if *wanted == index => Some(rest),
                        _ => None,
                    });
                    let before = self.at;
                    self.value(inside);
                    if self.at == before {
                        break; // not JSON
                    }
                    index += 1;
                }
            }
        }
        self.at += 1;
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        let quoted = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_slice(quoted).unwrap_or_default()
    }

    fn scalar(&mut self) {
        while let Some(byte) = self.peek() {
            if matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace() {
                break;
            }
            self.at += 1;
        }
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "{\n \"a\": [\n  1,\n  {\"b\\u0062\": \"}\\\"\\n\",\n   \"nick\": 2}\n ],\n \"a\" :\n [ [], { \"nick\"\n : 3 } ]\n}";

    #[test]
    fn lines_are_those_of_the_last_key_of_that_name() {
        let a = KeyPath::default().key("a");
        assert_eq!(line_of(TEXT.as_bytes(), &KeyPath::default()), 1);
        assert_eq!(line_of(TEXT.as_bytes(), &a), 8);
        assert_eq!(line_of(TEXT.as_bytes(), &a.index(1).key("nick")), 9);
        assert_eq!(line_of(TEXT.as_bytes(), &a.index(1).key("other")), 8);
        assert_eq!(line_of(TEXT.as_bytes(), &KeyPath::default().key("none")), 1);
        assert_eq!(a.index(1).key("nick").to_string(), "a[1].nick");
    }

    proptest! {
        #[test]
        fn arbitrary_text_ends_with_some_line(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let path = KeyPath::default().key("a").index(0).key("b");
            prop_assert!(line_of(&text, &path) >= 1);
        }
    }
}
