//! Reading a JSON list record by record, so that a large file is never in memory as a whole.

use std::fmt;
use std::io::{self, BufReader, Read};

use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Why a list could not be read to its end.
#[derive(Debug)]
pub(super) enum ListError<E> {
    /// It is not JSON, or not a list. The place is counted from 1.
    Syntax {
        /// Where.
        line: usize,
        /// Where in the line, in bytes.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The file cannot be read.
    Io(io::Error),
    /// Whoever took the records gave up.
    Taker(E),
}

/// Hands every record of a JSON list to `take`, with its number from 1.
///
/// # Errors
/// [`ListError`]; records before the place of the error were handed out.
pub(super) fn each<E>(
    source: impl Read,
    take: impl FnMut(usize, &RawValue) -> Result<(), E>,
) -> Result<(), ListError<E>> {
    let mut stopped = None;
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(source));
    let records = Records {
        take,
        stopped: &mut stopped,
    };
    let read = records.deserialize(&mut json).and_then(|()| json.end());
    match (stopped, read) {
        (Some(error), _) => Err(ListError::Taker(error)),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) if error.is_io() => Err(ListError::Io(error.into())),
        (None, Err(error)) => Err(ListError::Syntax {
            line: error.line().max(1),
            column: error.column().max(1),
            reason: without_place(&error),
        }),
    }
}

/// The text of an error, without the place, which is told apart.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

struct Records<'a, T, E> {
    take: T,
    stopped: &'a mut Option<E>,
}

impl<'de, T, E> DeserializeSeed<'de> for Records<'_, T, E>
where
    T: FnMut(usize, &RawValue) -> Result<(), E>,
{
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, T, E> Visitor<'de> for Records<'_, T, E>
where
    T: FnMut(usize, &RawValue) -> Result<(), E>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(record) = list.next_element::<Box<RawValue>>()? {
            number += 1;
            if let Err(error) = (self.take)(number, &record) {
                *self.stopped = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Result<(), ListError<&'static str>>) {
        let mut found = Vec::new();
        let result = each(text.as_bytes(), |number, record| {
            found.push(format!("{number}:{}", record.get()));
            if record.get() == "\"stop\"" {
                Err("enough")
            } else {
                Ok(())
            }
        });
        (found, result)
    }

    #[test]
    fn records_come_in_order_whatever_they_are() {
        let (found, result) = read(" [ {\"a\": [1, 2]}, 7,\n\"\\ud83d\" ] \n");
        result.unwrap();
        assert_eq!(found, ["1:{\"a\": [1, 2]}", "2:7", "3:\"\\ud83d\""]);
        assert!(read("[]").1.is_ok());
    }

    #[test]
    fn what_is_no_list_is_told_with_its_place() {
        for (text, line, column, part) in [
            ("", 1, 1, "EOF"),
            ("[\n  {\"a\": 1},\n  {\"a\": }\n]", 3, 9, "expected value"),
            ("[{}", 1, 3, "EOF"),
            ("[{}]x", 1, 5, "trailing characters"),
            ("{\"a\": []}", 1, 1, "expected a list of records"),
            ("null", 1, 4, "expected a list of records"),
        ] {
            match read(text).1 {
                Err(ListError::Syntax {
                    line: l,
                    column: c,
                    reason,
                }) => {
                    assert!(reason.contains(part), "{text}: {reason}");
                    assert_eq!((l, c), (line, column), "{text}: {reason}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_taker_may_stop() {
        let (found, result) = read("[1, \"stop\", 3]");
        assert_eq!(found.len(), 2);
        assert!(matches!(result, Err(ListError::Taker("enough"))));
    }
}
