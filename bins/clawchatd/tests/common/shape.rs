//! Comparing an answer with a recorded one.

use std::collections::HashMap;

use serde_json::Value;

/// What stands in a recording for a time in Unix milliseconds.
const TIME: &str = "<ms>";
/// What stands for true or false.
const BOOL: &str = "<bool>";
/// No time we meet is earlier: September 2020.
const EARLIEST_MS: u64 = 1_600_000_000_000;

/// The ids behind the placeholders seen so far.
#[derive(Default)]
pub(crate) struct Ids(HashMap<String, String>);

/// Whether `actual` has everything `expected` has: the same values, and for placeholders the same kind of value. An
/// object may have more; a list of addresses too.
pub(crate) fn compare(expected: &Value, actual: &Value, ids: &mut Ids) -> Result<(), String> {
    compare_at("", expected, actual, ids)
}

fn compare_at(place: &str, expected: &Value, actual: &Value, ids: &mut Ids) -> Result<(), String> {
    let fits = match (expected, actual) {
        (Value::String(placeholder), _) if placeholder == TIME => {
            actual.as_u64().is_some_and(|time| time > EARLIEST_MS)
        }
        (Value::String(placeholder), _) if placeholder == BOOL => actual.is_boolean(),
        (Value::String(placeholder), Value::String(id)) if placeholder.starts_with("<id:") => {
            let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_id && ids.0.entry(placeholder.clone()).or_insert_with(|| id.clone()) == id
        }
        (Value::String(expected), Value::String(actual)) if place.ends_with(".address") => {
            let actual: Vec<&str> = actual.split(',').collect();
            let expected: Vec<&str> = expected.split(',').collect();
            actual.first() == expected.first() && expected.iter().all(|address| actual.contains(address))
        }
        (Value::Array(expected), Value::Array(actual)) if is_addresses(expected) => {
            expected.iter().all(|address| actual.contains(address))
        }
        (Value::Array(expected), Value::Array(actual)) => {
            if expected.len() != actual.len() {
                return Err(format!(
                    "{place}: {} entries instead of {}",
                    actual.len(),
                    expected.len()
                ));
            }
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare_at(&format!("{place}[{index}]"), expected, actual, ids)?;
            }
            true
        }
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, expected) in expected {
                let place = format!("{place}.{key}");
                let actual = actual.get(key).ok_or_else(|| format!("{place} is missing"))?;
                compare_at(&place, expected, actual, ids)?;
            }
            true
        }
        (expected, actual) => expected == actual,
    };
    if fits {
        Ok(())
    } else {
        Err(format!("{place}: {actual} instead of {expected}"))
    }
}

fn is_addresses(list: &[Value]) -> bool {
    let is_address = |text: &Value| text.as_str().is_some_and(|text| text.starts_with("/ip4/"));
    !list.is_empty() && list.iter().all(is_address)
}
