//! The fields of one record, read as leniently as the TypeScript version wrote them.

use clawchat_types::UnixMillis;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::list::without_place;
use super::report::Unusable;

/// The latest time a JavaScript date can be, in milliseconds since 1970. Senders choose their timestamps freely.
const LATEST: u64 = 8_640_000_000_000_000;

/// One record. Of keys that are there twice, the last one counts, as in JavaScript.
pub(super) struct Record(Map<String, Value>);

impl Record {
    /// Reads one.
    ///
    /// # Errors
    /// When it is not an object.
    pub(super) fn read(raw: &RawValue) -> Result<Self, Unusable> {
        let text = raw.get();
        let value = serde_json::from_str(text).or_else(|_| serde_json::from_str(&mended(text)));
        match value {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Unusable("is not an object".to_owned())),
            Err(error) => Err(Unusable(without_place(&error))),
        }
    }

    /// A field as text. Nobody checked what callers of the TypeScript version gave for one, so other values are there
    /// too; they are taken as they print.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Some(other.to_string())
            }
        }
    }

    /// The same of a field that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn required(&self, name: &str) -> Result<String, Unusable> {
        self.text(name)
            .ok_or_else(|| Unusable(format!("has no \"{name}\"")))
    }

    /// A field as a time. What is no number, or before 1970, is 1970.
    pub(super) fn time(&self, name: &str) -> UnixMillis {
        let value = self.0.get(name);
        let whole = value.and_then(Value::as_u64);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, as wanted"
        )]
        let rounded = || value.and_then(Value::as_f64).map(|float| float as u64);
        UnixMillis(whole.or_else(rounded).unwrap_or(0).min(LATEST))
    }

    /// A field as a count. What is none is 0.
    pub(super) fn count(&self, name: &str) -> u32 {
        let count = self.0.get(name).and_then(Value::as_u64).unwrap_or(0);
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// JSON text whose halves of surrogate pairs are replaced. JavaScript writes them for texts that were cut in the middle
/// of a character, and reads them again; no other reader does.
fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let pair = unit(escape)
            .filter(|unit| (0xd800..0xdc00).contains(unit))
            .is_some()
            && escape
                .get(6..)
                .and_then(unit)
                .is_some_and(|unit| (0xdc00..0xe000).contains(&unit));
        let length = match unit(escape) {
            Some(_) if pair => 12,
            Some(half) if (0xd800..0xe000).contains(&half) => {
                mended.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            Some(_) => 6,
            // The backslash and the character behind it.
            None => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    mended.push_str(rest);
    mended
}

/// The number in an escape like `\ud83d` at the beginning of a text.
fn unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Result<Record, Unusable> {
        Record::read(&RawValue::from_string(json.to_owned()).unwrap())
    }

    #[test]
    fn fields_are_read_as_they_print() {
        let record = read(r#"{"a":"x","b":7,"c":true,"d":null,"e":[1],"a":"y"}"#).unwrap();
        let texts = ["a", "b", "c", "d", "e", "f"].map(|name| record.text(name));
        let expected = [Some("y"), Some("7"), Some("true"), None, Some("[1]"), None];
        assert_eq!(texts, expected.map(|text| text.map(str::to_owned)));
        assert!(record.required("d").is_err());
        for json in ["7", "[]", "null", "\"text\""] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn times_are_bounded() {
        let record = read(r#"{"a":1700000000000,"b":1.9,"c":-5,"d":1e300,"e":"7","f":-0.5}"#).unwrap();
        let times = ["a", "b", "c", "d", "e", "f", "g"].map(|name| record.time(name).0);
        assert_eq!(times, [1_700_000_000_000, 1, 0, LATEST, 0, 0, 0]);
    }

    #[test]
    fn half_characters_are_replaced_and_whole_ones_kept() {
        for (json, text) in [
            (r#"{"a":"x\ud83d"}"#, "x\u{fffd}"),
            (r#"{"a":"\ude00x\ud83d\ude00"}"#, "\u{fffd}x😀"),
            (r#"{"a":"\ud83d\ud83d\ude00"}"#, "\u{fffd}😀"),
            (r#"{"a":"\\ud83d\ud83dé"}"#, "\\ud83d\u{fffd}é"),
            (r#"{"a":"\"\n\u00e9\ud800"}"#, "\"\né\u{fffd}"),
        ] {
            assert_eq!(read(json).unwrap().text("a").as_deref(), Some(text), "{json}");
        }
    }

    proptest! {
        #[test]
        fn mending_changes_nothing_else_and_never_panics(text in any::<String>(), junk in r#"[\\ud8390"é]{0,40}"#) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(mended(&json), json);
            let _ = mended(&junk);
        }
    }
}
