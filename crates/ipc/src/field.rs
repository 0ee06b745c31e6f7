//! One field of a request: how it is read, with an error that names it, and how it is written.

use std::str::FromStr;
use std::time::Duration;

use clawchat_types::{Content, MessageId, Network, Nick, Principal, UnixMillis};
use serde_json::{Map, Value};

use crate::failure::{ErrorCode, Failure};
use crate::secret::Secret;

/// Longest time a request can ask for, in milliseconds (ten years): a wait, an expiry. Longer is cut to it.
pub(crate) const MAX_DURATION_MS: u64 = 10 * 366 * 24 * 3600 * 1000;
/// Most entries of a list in a request.
const MAX_LIST_ENTRIES: usize = 1024;

pub(crate) trait Field: Sized {
    /// Reads the value of the field `name`; `None` when it is absent or null.
    fn read(value: Option<Value>, name: &str) -> Result<Self, Failure>;
    /// The value to write; `None` leaves the field out.
    fn write(&self) -> Option<Value>;
}

/// Takes the field out of a request object.
pub(crate) fn take<T: Field>(object: &mut Map<String, Value>, name: &str) -> Result<T, Failure> {
    T::read(object.remove(name).filter(|value| !value.is_null()), name)
}

/// Puts the field into a request object.
pub(crate) fn put<T: Field>(object: &mut Map<String, Value>, name: &str, value: &T) {
    if let Some(value) = value.write() {
        object.insert(name.to_owned(), value);
    }
}

/// A required field; the values of this trait are never absent.
trait Required: Sized {
    /// What the field has to be, for the error.
    const KIND: &'static str;
    fn parse(value: Value, name: &str) -> Result<Self, Failure>;
    fn to_value(&self) -> Value;
}

impl<T: Required> Field for T {
    fn read(value: Option<Value>, name: &str) -> Result<Self, Failure> {
        match value {
            Some(value) => T::parse(value, name),
            None => Err(Failure::invalid(format!(
                "\"{name}\" is missing: it must be {}",
                T::KIND
            ))),
        }
    }

    fn write(&self) -> Option<Value> {
        Some(self.to_value())
    }
}

impl<T: Required> Field for Option<T> {
    fn read(value: Option<Value>, name: &str) -> Result<Self, Failure> {
        value.map(|value| T::parse(value, name)).transpose()
    }

    fn write(&self) -> Option<Value> {
        self.as_ref().map(Required::to_value)
    }
}

/// A switch: absent means no.
impl Field for bool {
    fn read(value: Option<Value>, name: &str) -> Result<Self, Failure> {
        Ok(Option::<Flag>::read(value, name)?.is_some_and(|flag| flag.0))
    }

    fn write(&self) -> Option<Value> {
        self.then_some(Value::Bool(true))
    }
}

/// A list: absent means empty.
impl<T: Required> Field for Vec<T> {
    fn read(value: Option<Value>, name: &str) -> Result<Self, Failure> {
        match value {
            None => Ok(Self::new()),
            Some(Value::Array(items)) if items.len() <= MAX_LIST_ENTRIES => {
                items.into_iter().map(|item| T::parse(item, name)).collect()
            }
            Some(Value::Array(_)) => Err(Failure::invalid(format!(
                "\"{name}\" has more than {MAX_LIST_ENTRIES} entries"
            ))),
            Some(_) => Err(wrong(name, "a list")),
        }
    }

    fn write(&self) -> Option<Value> {
        (!self.is_empty()).then(|| self.iter().map(Required::to_value).collect())
    }
}

fn wrong(name: &str, kind: &str) -> Failure {
    Failure::invalid(format!("\"{name}\" must be {kind}"))
}

fn text(value: Value, name: &str, kind: &str) -> Result<String, Failure> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(wrong(name, kind))
        }
    }
}

/// A number, or a text that spells one (existing clients send `"1000"`). Below zero counts as zero, fractions
/// are cut off, beyond `u64` is `u64::MAX`.
fn number(value: &Value, name: &str, kind: &str) -> Result<u64, Failure> {
    let float = match value {
        Value::Number(number) => match number.as_u64() {
            Some(exact) => return Ok(exact),
            None => number.as_f64(),
        },
        Value::String(text) => match text.trim().parse::<u64>() {
            Ok(exact) => return Ok(exact),
            Err(_) => text.trim().parse::<f64>().ok().filter(|float| float.is_finite()),
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    // A float-to-integer cast saturates at both ends, which is what is wanted here.
    float.map(|float| float as u64).ok_or_else(|| wrong(name, kind))
}

/// A type that is a JSON string with rules of its own.
fn parsed<T: FromStr>(value: Value, name: &str, kind: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    text(value, name, kind)?
        .parse()
        .map_err(|error| Failure::invalid(format!("\"{name}\" must be {kind}: {error}")))
}

impl Required for String {
    const KIND: &'static str = "a string";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        text(value, name, Self::KIND)
    }
    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl Required for Secret {
    const KIND: &'static str = "a string";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        text(value, name, Self::KIND).map(Self::new)
    }
    fn to_value(&self) -> Value {
        Value::from(self.expose())
    }
}

impl Required for Content {
    const KIND: &'static str = "a string";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        Self::new(text(value, name, Self::KIND)?)
            .map_err(|error| Failure::new(ErrorCode::TooLarge, format!("\"{name}\": {error}")))
    }
    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl Required for MessageId {
    const KIND: &'static str = "a message id";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        parsed(value, name, Self::KIND)
    }
    fn to_value(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl Required for Principal {
    const KIND: &'static str = "a principal";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        parsed(value, name, Self::KIND)
    }
    fn to_value(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl Required for Nick {
    const KIND: &'static str = "a nickname";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        parsed(value, name, Self::KIND)
    }
    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl Required for Network {
    const KIND: &'static str = "\"testnet\" or \"mainnet\"";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        match text(value, name, Self::KIND)?.as_str() {
            "testnet" => Ok(Self::Testnet),
            "mainnet" => Ok(Self::Mainnet),
            _ => Err(wrong(name, Self::KIND)),
        }
    }
    fn to_value(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl Required for u64 {
    const KIND: &'static str = "a number";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        number(&value, name, Self::KIND)
    }
    fn to_value(&self) -> Value {
        Value::from(*self)
    }
}

impl Required for u16 {
    const KIND: &'static str = "a number from 0 to 65535";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        let negative = value.as_f64().is_some_and(|float| float < 0.0);
        let number = number(&value, name, Self::KIND)?;
        if negative {
            return Err(wrong(name, Self::KIND));
        }
        Self::try_from(number).map_err(|_| wrong(name, Self::KIND))
    }
    fn to_value(&self) -> Value {
        Value::from(*self)
    }
}

impl Required for UnixMillis {
    const KIND: &'static str = "a time in milliseconds since 1970";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        number(&value, name, Self::KIND).map(Self)
    }
    fn to_value(&self) -> Value {
        Value::from(self.0)
    }
}

impl Required for Duration {
    const KIND: &'static str = "a number of milliseconds";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        number(&value, name, Self::KIND).map(|millis| Self::from_millis(millis.min(MAX_DURATION_MS)))
    }
    fn to_value(&self) -> Value {
        Value::from(
            u64::try_from(self.as_millis())
                .unwrap_or(u64::MAX)
                .min(MAX_DURATION_MS),
        )
    }
}

/// Structured data of any form.
impl Required for Value {
    const KIND: &'static str = "a JSON value";
    fn parse(value: Value, _name: &str) -> Result<Self, Failure> {
        Ok(value)
    }
    fn to_value(&self) -> Value {
        self.clone()
    }
}

/// A switch that can be left alone.
struct Flag(bool);

impl Required for Flag {
    const KIND: &'static str = "true or false";
    fn parse(value: Value, name: &str) -> Result<Self, Failure> {
        value.as_bool().map(Self).ok_or_else(|| wrong(name, Self::KIND))
    }
    fn to_value(&self) -> Value {
        Value::Bool(self.0)
    }
}

/// A switch with a default of the daemon's choosing.
impl Field for Option<bool> {
    fn read(value: Option<Value>, name: &str) -> Result<Self, Failure> {
        Ok(Option::<Flag>::read(value, name)?.map(|flag| flag.0))
    }

    fn write(&self) -> Option<Value> {
        self.map(Value::Bool)
    }
}

/// A word out of a fixed list.
pub(crate) fn word<T: Copy>(value: Value, name: &str, words: &[(&str, T)]) -> Result<T, Failure> {
    let kind = || {
        words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let text = text(value, name, "a string")?;
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| Failure::invalid(format!("\"{name}\" must be one of {}", kind())))
}
