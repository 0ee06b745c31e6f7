//! What the signature of a message covers.

use crate::json::{JsonError, Members, quote};

/// The fields that are signed, in the order in which they stand in the text.
const FIELDS: [&str; 6] = [
    "body",
    "channel_id",
    "message_id",
    "payload",
    "sender_id",
    "timestamp",
];
/// The field that stands in the text as a string holding its own JSON.
const PAYLOAD: &str = "payload";

/// The text whose UTF-8 bytes the signature of a message covers.
///
/// `message` is the JSON text of a message as it is on the wire; its type, signature and anything else in it
/// are not covered. What is signed is not those bytes but what JavaScript makes of their values: numbers are
/// doubles, the last of two equal keys wins, keys that are array indices come first. A payload that is absent
/// or `null` is `null`; another one is a string, which holds its JSON.
///
/// # Errors
/// [`SigningTextError::Json`] when `message` is not one JSON object within the limits,
/// [`SigningTextError::Missing`] when another field than the payload is not there.
pub fn signing_text(message: &str) -> Result<String, SigningTextError> {
    let members = Members::read(message)?;
    let mut text = String::from("{");
    for field in FIELDS {
        if text.len() > 1 {
            text.push(',');
        }
        quote(field, &mut text);
        text.push(':');
        match members.get(field) {
            None | Some("null") if field == PAYLOAD => text.push_str("null"),
            None => return Err(SigningTextError::Missing { field }),
            Some(json) if field == PAYLOAD => quote(json, &mut text),
            Some(json) => text.push_str(json),
        }
    }
    text.push('}');
    Ok(text)
}

/// Why there is no text to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningTextError {
    /// Not one JSON object within the limits.
    #[error("the message is not a JSON object: {0}")]
    Json(#[from] JsonError),
    /// A field that is always signed is not there.
    #[error("the message has no \"{field}\"")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
}
