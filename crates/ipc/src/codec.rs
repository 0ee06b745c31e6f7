//! Lines: requests and answers to and from JSON text, and lines out of a stream of bytes.

use std::ops::Range;

use serde_json::{Map, Value};
use zeroize::Zeroize;

use crate::failure::{ErrorCode, Failure};
use crate::request::{Request, unknown_command};

/// Longest line in either direction, in bytes without its newline.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;
/// A line buffer that grew beyond this many bytes is given back once it is empty.
const KEEP_BYTES: usize = 256 * 1024;

/// One request line: `{"cmd":…, "as"?:…, "id"?:…, …}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The acting identity (`as`): principal or nickname. The first loaded one when absent.
    pub acting: Option<String>,
    /// Echoed in every line that answers, whatever JSON it is.
    pub id: Option<Value>,
    /// What to do.
    pub request: Request,
}

impl Call {
    /// A call as the first loaded identity, without an id.
    #[must_use]
    pub fn new(request: Request) -> Self {
        Self {
            acting: None,
            id: None,
            request,
        }
    }

    /// The same, acting as that identity.
    #[must_use]
    pub fn acting(mut self, who: Option<String>) -> Self {
        self.acting = who;
        self
    }

    /// The same with an id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Value>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Reads one line, with or without its line end.
    ///
    /// # Errors
    /// [`Rejected`], which holds the answer the caller gets.
    pub fn from_line(line: &[u8]) -> Result<Self, Rejected> {
        let text =
            std::str::from_utf8(line).map_err(|_| Failure::invalid("the request is not valid UTF-8"))?;
        let value = serde_json::from_str(text)
            .map_err(|error| Failure::invalid(format!("the request is not valid JSON: {error}")))?;
        Self::from_value(value)
    }

    /// Reads a request object.
    ///
    /// # Errors
    /// [`Rejected`], which holds the answer the caller gets.
    pub fn from_value(value: Value) -> Result<Self, Rejected> {
        let Value::Object(mut object) = value else {
            let hint = "a request is one JSON object a line: {\"cmd\":\"status\"}";
            return Err(unknown_command().with_hint(hint).into());
        };
        let id = object.remove("id");
        match Self::fields(&mut object) {
            Ok((acting, request)) => Ok(Self { acting, id, request }),
            Err(failure) => Err(Rejected {
                id,
                failure: Box::new(failure),
            }),
        }
    }

    fn fields(object: &mut Map<String, Value>) -> Result<(Option<String>, Request), Failure> {
        let Some(Value::String(command)) = object.remove("cmd") else {
            return Err(unknown_command());
        };
        let acting = crate::field::take(object, "as")?;
        Ok((acting, Request::take_from(&command, object)?))
    }

    /// The request object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut object = Map::new();
        self.request.put_into(&mut object);
        if let Some(acting) = &self.acting {
            object.insert("as".to_owned(), Value::from(acting.as_str()));
        }
        if let Some(id) = &self.id {
            object.insert("id".to_owned(), id.clone());
        }
        Value::Object(object)
    }

    /// Appends the request line with its newline.
    pub(crate) fn append_line(&self, out: &mut Vec<u8>) {
        let mut value = self.to_value();
        append_json(&value, out);
        if self.request.holds_secrets()
            && let Value::Object(object) = &mut value
        {
            for value in object.values_mut() {
                if let Value::String(text) = value {
                    text.zeroize();
                }
            }
        }
    }
}

/// A line that is not a request, with what to answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{failure}")]
pub struct Rejected {
    /// The `id` of the line, as far as it could be read.
    pub id: Option<Value>,
    /// Why.
    pub failure: Box<Failure>,
}

impl From<Rejected> for Answer {
    fn from(rejected: Rejected) -> Self {
        Self {
            id: rejected.id,
            result: Err(*rejected.failure),
        }
    }
}

impl From<Failure> for Rejected {
    fn from(failure: Failure) -> Self {
        let failure = Box::new(failure);
        Self { id: None, failure }
    }
}

/// One answer line: `{"ok":true,"data":…}` or `{"ok":false,"error":…,"code":…}`, with the request's `id`.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The `id` of the request.
    pub id: Option<Value>,
    /// How it went.
    pub result: Result<Value, Failure>,
}

impl Answer {
    /// The answer object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut object = Map::new();
        object.insert("ok".to_owned(), Value::Bool(self.result.is_ok()));
        match &self.result {
            Ok(data) => {
                object.insert("data".to_owned(), data.clone());
            }
            Err(failure) => failure.write_into(&mut object),
        }
        if let Some(id) = &self.id {
            object.insert("id".to_owned(), id.clone());
        }
        Value::Object(object)
    }

    /// Appends the answer line with its newline, or, when it would be longer than [`MAX_FRAME_BYTES`], a line
    /// that says so.
    pub(crate) fn append_line(self, out: &mut Vec<u8>) {
        let before = out.len();
        let mut object = Map::new();
        object.insert("ok".to_owned(), Value::Bool(self.result.is_ok()));
        match self.result {
            Ok(data) => {
                object.insert("data".to_owned(), data);
            }
            Err(failure) => failure.write_into(&mut object),
        }
        if let Some(id) = &self.id {
            object.insert("id".to_owned(), id.clone());
        }
        append_json(&Value::Object(object), out);
        if out.len() - before > MAX_FRAME_BYTES + 1 {
            out.truncate(before);
            let failure = Failure::new(
                ErrorCode::TooLarge,
                format!("the answer is longer than {MAX_FRAME_BYTES} bytes"),
            )
            .with_hint("ask for a part of it, with \"limit\" and \"after\"");
            // An id so long that even this line is too long is not worth an echo.
            let id = self.id.filter(|id| id.to_string().len() < MAX_FRAME_BYTES / 2);
            let result = Err(failure);
            append_json(&Self { id, result }.to_value(), out);
        }
    }
}

/// One line from the daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The answer to a request.
    Answer(Answer),
    /// A line of a stream: `{"event":…}`, with the request's `id` inside.
    Event(Value),
}

impl Line {
    /// Reads one line, with or without its line end.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_line(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let Value::Object(mut object) = value else {
            return Err("not a JSON object".to_owned());
        };
        let result = match object.get("ok") {
            Some(Value::Bool(true)) => Ok(object.remove("data").unwrap_or(Value::Null)),
            Some(Value::Bool(false)) => Err(Failure::take_from(&mut object)),
            Some(_) => return Err("\"ok\" is not true or false".to_owned()),
            None if object.get("event").is_some_and(Value::is_string) => {
                return Ok(Self::Event(Value::Object(object)));
            }
            None => return Err("neither \"ok\" nor \"event\"".to_owned()),
        };
        let id = object.remove("id");
        Ok(Self::Answer(Answer { id, result }))
    }
}

/// Appends JSON text and a newline. JSON text itself never contains one.
pub(crate) fn append_json(value: &Value, out: &mut Vec<u8>) {
    let before = out.len();
    // Writing a value with string keys into memory cannot fail; if it ever did, no half line would stay.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        out.extend_from_slice(br#"{"ok":false,"error":"the answer has no JSON form","code":"internal"}"#);
    }
    out.push(b'\n');
}

/// Cuts a stream of bytes into lines.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the first unread line starts.
    start: usize,
    /// Up to where no newline was found.
    scanned: usize,
    /// Whether the rest of a line that was too long is being thrown away.
    discarding: bool,
    limit: usize,
}

/// One line out of a [`LineBuffer`], or the news that there was one beyond the limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Where it stands, for [`LineBuffer::line`]. Good until the next `push`.
    Line(Range<usize>),
    TooLong,
}

impl LineBuffer {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            scanned: 0,
            discarding: false,
            limit,
        }
    }

    /// Adds bytes that were read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            if self.bytes.capacity() > KEEP_BYTES {
                self.bytes = Vec::new();
            }
            (self.start, self.scanned) = (0, 0);
        } else if self.start > KEEP_BYTES.max(self.bytes.len() / 2) {
            self.bytes.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// No more bytes will come. A rest that is one complete JSON document counts as a line; any other rest may be
    /// half a request, and stays unanswered.
    pub(crate) fn end(&mut self) {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        if !self.discarding && serde_json::from_slice::<Value>(rest).is_ok() {
            self.bytes.push(b'\n');
        }
    }

    /// The next line that is not blank, without its newline.
    pub(crate) fn next_line(&mut self) -> Option<Cut> {
        loop {
            let newline = self
                .bytes
                .get(self.scanned..)?
                .iter()
                .position(|byte| *byte == b'\n');
            let Some(newline) = newline.map(|offset| self.scanned + offset) else {
                return self.without_newline();
            };
            let line = self.start..newline;
            (self.start, self.scanned) = (newline + 1, newline + 1);
            if std::mem::take(&mut self.discarding) {
                continue;
            }
            if line.len() > self.limit {
                return Some(Cut::TooLong);
            }
            if !self.bytes.get(line.clone())?.iter().all(u8::is_ascii_whitespace) {
                return Some(Cut::Line(line));
            }
        }
    }

    /// The bytes of a line that was cut.
    pub(crate) fn line(&mut self, line: Range<usize>) -> &mut [u8] {
        self.bytes.get_mut(line).unwrap_or_default()
    }

    fn without_newline(&mut self) -> Option<Cut> {
        self.scanned = self.bytes.len();
        let pending = self.bytes.len() - self.start;
        if self.discarding {
            self.start = self.bytes.len();
            return None;
        }
        if pending <= self.limit {
            return None;
        }
        self.start = self.bytes.len();
        self.discarding = true;
        Some(Cut::TooLong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that can be cut now; `None` stands for a line that was too long.
    fn cut_all(buffer: &mut LineBuffer) -> Vec<Option<Vec<u8>>> {
        let mut lines = Vec::new();
        while let Some(cut) = buffer.next_line() {
            lines.push(match cut {
                Cut::Line(line) => Some(buffer.line(line).to_vec()),
                Cut::TooLong => None,
            });
        }
        lines
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_once_and_thrown_away() {
        let mut buffer = LineBuffer::new(4);
        buffer.push(b"12345");
        assert_eq!(cut_all(&mut buffer), [None]);
        buffer.push(b"6789");
        assert_eq!(cut_all(&mut buffer), Vec::<Option<Vec<u8>>>::new());
        assert!(buffer.bytes.len() <= 9);
        buffer.push(b"\n1234\n");
        assert_eq!(cut_all(&mut buffer), [Some(b"1234".to_vec())]);
    }

    #[test]
    fn at_the_end_a_complete_document_is_a_line_and_anything_else_is_not() {
        let rest = |bytes: &[u8]| {
            let mut buffer = LineBuffer::new(10);
            buffer.push(b"{}\n");
            buffer.push(bytes);
            assert_eq!(cut_all(&mut buffer).first(), Some(&Some(b"{}".to_vec())));
            buffer.end();
            cut_all(&mut buffer)
        };
        assert_eq!(rest(b"{\"a\":1}\r"), [Some(b"{\"a\":1}\r".to_vec())]);
        for half in [
            &b""[..],
            b" ",
            b"{\"a\":1",
            b"{} {",
            b"{\"a\":\"\xff",
            b"{\"a\":123456789}",
        ] {
            assert_eq!(rest(half), Vec::<Option<Vec<u8>>>::new(), "{half:?}");
        }
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let mut buffer = LineBuffer::new(MAX_FRAME_BYTES);
        buffer.push(&vec![b'x'; 2 * KEEP_BYTES]);
        buffer.push(b"\n");
        assert_eq!(cut_all(&mut buffer).len(), 1);
        buffer.push(b"a\n");
        assert!(buffer.bytes.capacity() <= KEEP_BYTES);
        assert_eq!(cut_all(&mut buffer), [Some(b"a".to_vec())]);
    }

    #[test]
    fn an_answer_beyond_the_limit_becomes_an_error_with_the_id() {
        let mut out = b"before\n".to_vec();
        let data = Value::from("x".repeat(MAX_FRAME_BYTES));
        let answer = Answer {
            id: Some(Value::from(7)),
            result: Ok(data),
        };
        answer.append_line(&mut out);
        let line = out.strip_prefix(b"before\n").unwrap();
        match Line::from_line(line).unwrap() {
            Line::Answer(Answer {
                id,
                result: Err(failure),
            }) => {
                assert_eq!((id, failure.code), (Some(Value::from(7)), ErrorCode::TooLarge));
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'\r'), any::<u8>()], 0..300),
            sizes in prop::collection::vec(1..20usize, 1..40),
            limit in 1..30usize,
        ) {
            let mut expected: Vec<Option<Vec<u8>>> = Vec::new();
            let mut rest = bytes.split(|byte| *byte == b'\n').peekable();
            while let Some(line) = rest.next() {
                let complete = rest.peek().is_some();
                if line.len() > limit {
                    expected.push(None);
                } else if complete && !line.iter().all(u8::is_ascii_whitespace) {
                    expected.push(Some(line.to_vec()));
                }
            }
            let mut buffer = LineBuffer::new(limit);
            let mut found = Vec::new();
            let mut left = bytes.as_slice();
            for size in sizes.iter().cycle() {
                if left.is_empty() {
                    break;
                }
                let (now, later) = left.split_at((*size).min(left.len()));
                buffer.push(now);
                left = later;
                found.extend(cut_all(&mut buffer));
            }
            prop_assert_eq!(found, expected);
        }
    }
}
