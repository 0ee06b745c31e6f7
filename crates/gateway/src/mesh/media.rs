//! Small files in the payload of a message: `{"file":{"name","type","size","sha256","data"}}`, the data in base64.

use clawchat_ipc::{ErrorCode, Failure};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The key of the payload that holds the file.
const FILE: &str = "file";
/// Longest name of a file, in bytes: what common file systems take.
const MAX_NAME_BYTES: usize = 255;
/// Longest media type, in bytes.
const MAX_TYPE_BYTES: usize = 127;
/// The type of what is not known better.
const UNKNOWN_TYPE: &str = "application/octet-stream";
/// Types of files by the ends of their names.
const TYPES: &[(&str, &str)] = &[
    ("aac", "audio/aac"),
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("csv", "text/csv"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("m4a", "audio/mp4"),
    ("md", "text/markdown"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("xml", "application/xml"),
    ("zip", "application/zip"),
];

/// The payload of a message with a file in it. `file` is `{"name","type"?,"data"}` as callers give it; a payload beside
/// it is an object without a file of its own.
///
/// # Errors
/// `invalid_request` when one of the two is not like that.
pub(crate) fn attach(payload: Option<Value>, file: Option<Value>) -> Result<Option<Value>, Failure> {
    let Some(file) = file else { return Ok(payload) };
    let mut payload = match payload {
        None => Map::new(),
        Some(Value::Object(payload)) if !payload.contains_key(FILE) => payload,
        Some(_) => {
            return Err(Failure::invalid(
                "\"payload\" beside a file must be an object without a \"file\" of its own",
            ));
        }
    };
    payload.insert(FILE.to_owned(), described(&file)?);
    Ok(Some(Value::Object(payload)))
}

/// The file in a payload: `{"name","type","size","sha256","data"}`. What it says of itself is true.
///
/// # Errors
/// `failed`: there is none, or its data are not what it says.
pub(crate) fn checked(payload: Option<&Value>) -> Result<Value, Failure> {
    let file = payload
        .and_then(|payload| payload.get(FILE))
        .and_then(Value::as_object)
        .ok_or_else(|| {
            Failure::new(ErrorCode::Failed, "there is no file in this message")
                .with_hint("'clawchat channel history' shows which messages have one")
        })?;
    let text = |field: &str| file.get(field).and_then(Value::as_str);
    let damaged = |why: &str| {
        Failure::new(
            ErrorCode::Failed,
            format!("the file in this message is damaged: {why}"),
        )
        .with_hint("ask the sender to send it again; nothing was written")
    };
    let name = text("name").ok_or_else(|| damaged("it has no name"))?;
    let data = text("data").ok_or_else(|| damaged("it has no data"))?;
    let bytes = BASE64
        .decode(data.as_bytes())
        .map_err(|_| damaged("its data are not base64"))?;
    let hash = HEXLOWER.encode(&Sha256::digest(&bytes));
    match text("sha256") {
        Some(told) if told.eq_ignore_ascii_case(&hash) => {}
        Some(_) => return Err(damaged("its hash is another one than it says")),
        None => return Err(damaged("it has no hash")),
    }
    if file
        .get("size")
        .is_some_and(|size| size.as_u64() != Some(bytes.len() as u64))
    {
        return Err(damaged("its size is another one than it says"));
    }
    Ok(json!({
        "name": name, "type": text("type").unwrap_or(UNKNOWN_TYPE), "size": bytes.len(), "sha256": hash, "data": data,
    }))
}

fn described(file: &Value) -> Result<Value, Failure> {
    let invalid = |what: &str| Failure::invalid(format!("\"file\" {what}"));
    let text = |field: &str| file.get(field).and_then(Value::as_str);
    let name = text("name").ok_or_else(|| invalid("must have a \"name\""))?;
    let plain = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name
            .chars()
            .any(|letter| letter.is_control() || matches!(letter, '/' | '\\'));
    if !plain {
        return Err(invalid("must have a plain file name of at most 255 bytes"));
    }
    let data = text("data").ok_or_else(|| invalid("must have its \"data\" in base64"))?;
    let bytes = BASE64
        .decode(data.as_bytes())
        .map_err(|_| invalid("must have its \"data\" in base64"))?;
    let kind = match text("type") {
        Some(kind)
            if kind.len() <= MAX_TYPE_BYTES && kind.chars().all(|letter| letter.is_ascii_graphic()) =>
        {
            kind
        }
        Some(_) => return Err(invalid("has a \"type\" that is no media type")),
        None => type_of(name),
    };
    Ok(json!({
        "name": name, "type": kind, "size": bytes.len(), "sha256": HEXLOWER.encode(&Sha256::digest(&bytes)),
        "data": data,
    }))
}

fn type_of(name: &str) -> &'static str {
    let end = name
        .rsplit_once('.')
        .map_or("", |(_, end)| end)
        .to_ascii_lowercase();
    TYPES
        .iter()
        .find(|(known, _)| *known == end)
        .map_or(UNKNOWN_TYPE, |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Value {
        json!({"name": "a.PNG", "data": BASE64.encode(b"abc")})
    }

    #[test]
    fn a_file_comes_out_as_it_went_in() {
        let payload = attach(Some(json!({"note": 1})), Some(file())).unwrap().unwrap();
        assert_eq!(payload["note"], 1);
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let expected =
            json!({"name": "a.PNG", "type": "image/png", "size": 3, "sha256": hash, "data": "YWJj"});
        assert_eq!(payload["file"], expected);
        assert_eq!(checked(Some(&payload)).unwrap(), expected);
        assert_eq!(attach(Some(json!(1)), None).unwrap(), Some(json!(1)));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for payload in [json!([1]), json!({"file": 1})] {
            assert!(attach(Some(payload), Some(file())).is_err());
        }
        for wrong in [
            json!({"data": "YWJj"}),
            json!({"name": "a"}),
            json!({"name": "a/b", "data": "YWJj"}),
            json!({"name": "", "data": "YWJj"}),
            json!({"name": "a\n", "data": "YWJj"}),
            json!({"name": "a", "data": "?"}),
            json!({"name": "a", "data": "YWJj", "type": "a b"}),
            json!(7),
        ] {
            let failure = attach(None, Some(wrong)).unwrap_err();
            assert_eq!(failure.code, ErrorCode::InvalidRequest);
        }
    }

    #[test]
    fn what_is_not_what_it_says_is_not_given_out() {
        let good = attach(None, Some(file())).unwrap().unwrap();
        for (field, value) in [
            ("data", json!("YWJk")),
            ("data", json!("?")),
            ("sha256", json!("00")),
            ("sha256", Value::Null),
            ("size", json!(4)),
            ("name", json!(1)),
        ] {
            let mut bad = good.clone();
            bad["file"][field] = value;
            assert!(checked(Some(&bad)).is_err(), "{field}");
        }
        assert!(checked(None).is_err());
        assert!(checked(Some(&json!({"file": 1}))).is_err());
    }
}
