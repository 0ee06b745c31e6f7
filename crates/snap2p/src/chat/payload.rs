//! Checks that a payload is one JSON document, without building it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of arrays and objects in a payload. Leaves room for whoever wraps it into more JSON before
/// common parsers give up (at 128).
pub const MAX_PAYLOAD_DEPTH: u32 = 64;

/// Whether `text` is one JSON document that every reader of the inbox can parse.
pub(super) fn is_json(text: &str) -> bool {
    let mut parser = serde_json::Deserializer::from_str(text);
    Shape {
        levels: MAX_PAYLOAD_DEPTH,
    }
    .deserialize(&mut parser)
    .is_ok()
        && parser.end().is_ok()
}

/// Visits a document and keeps nothing of it.
#[derive(Clone, Copy)]
struct Shape {
    /// Arrays and objects that may still be opened.
    levels: u32,
}

impl Shape {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        let levels = self
            .levels
            .checked_sub(1)
            .ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { levels })
    }
}

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON document")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        while items.next_element_seed(inside)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        while entries.next_key_seed(inside)?.is_some() {
            entries.next_value_seed(inside)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_document_is_known() {
        for good in [
            "null",
            "true",
            "-1",
            "18446744073709551615",
            "1.5e3",
            "\"\\u00e9\"",
            "[]",
            " {\"a\":[{}]} ",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in [
            "",
            " ",
            "nul",
            "[1,]",
            "{1:2}",
            "1 1",
            "'a'",
            "\"\\ud800\"",
            "1e999",
            "\u{feff}1",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| "{\"a\":[".repeat(levels / 2) + "1" + &"]}".repeat(levels / 2);
        assert!(is_json(&nested(64)));
        assert!(!is_json(&nested(66)));
        assert!(!is_json(&"[".repeat(1_000_000)));
    }

    proptest! {
        #[test]
        fn what_is_accepted_can_be_parsed(text in r#"[\[\]{}",:0-9a-z.e+\-\\ u]{0,40}"#) {
            prop_assert_eq!(is_json(&text), serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
