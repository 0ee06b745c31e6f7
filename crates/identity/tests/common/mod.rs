//! Reading the shared test vectors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    dead_code
)]

use std::path::PathBuf;

use serde_json::Value;

/// The folder with the vectors: `CLAWCHAT_VECTORS_DIR`, or the repository's own.
pub fn folder() -> PathBuf {
    match std::env::var_os("CLAWCHAT_VECTORS_DIR") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/clawchat"),
    }
}

pub fn bytes(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn json(name: &str) -> Value {
    serde_json::from_slice(&bytes(name)).unwrap()
}

/// The list under a key; an absent or empty one is a mistake, not a pass.
pub fn list<'a>(file: &'a Value, key: &str) -> &'a [Value] {
    let list = file[key].as_array().unwrap_or_else(|| panic!("no list {key:?}"));
    assert!(!list.is_empty(), "no cases under {key:?}");
    list
}

pub fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text {key:?} in {case}"))
}

pub fn unhex(case: &Value, key: &str) -> Vec<u8> {
    hex::decode(text(case, key)).unwrap()
}

pub fn unhex_array<const N: usize>(case: &Value, key: &str) -> [u8; N] {
    unhex(case, key).try_into().unwrap()
}

pub fn integer(case: &Value, key: &str) -> i64 {
    case[key]
        .as_i64()
        .unwrap_or_else(|| panic!("no integer {key:?} in {case}"))
}

pub fn flag(case: &Value, key: &str) -> bool {
    case[key]
        .as_bool()
        .unwrap_or_else(|| panic!("no boolean {key:?} in {case}"))
}
