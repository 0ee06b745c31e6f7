//! Messages of channels as JSON.

use clawchat_ipc::{ErrorCode, Failure};
use clawchat_mesh::Message;
use clawchat_store::LogEntry;
use serde_json::{Map, Value, json};

/// `{"id","channel","sender","body","payload"?,"timestamp","receivedAt","verified","arrival"}`.
///
/// # Errors
/// `internal`: what is in the log is not a message.
pub(super) fn message(entry: &LogEntry) -> Result<Value, Failure> {
    let message = parsed(entry)?;
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(message.id()));
    object.insert("channel".to_owned(), json!(message.channel().as_str()));
    object.insert("sender".to_owned(), json!(message.sender().as_str()));
    object.insert("body".to_owned(), json!(message.body()));
    if let Some(payload) = payload(&message) {
        object.insert("payload".to_owned(), payload);
    }
    object.insert("timestamp".to_owned(), json!(message.timestamp()));
    object.insert("receivedAt".to_owned(), json!(entry.received_at));
    object.insert("verified".to_owned(), json!(entry.verified));
    object.insert("arrival".to_owned(), json!(entry.arrival));
    Ok(Value::Object(object))
}

/// The message of an entry.
///
/// # Errors
/// As [`message`].
pub(super) fn parsed(entry: &LogEntry) -> Result<Message, Failure> {
    Message::from_text(&entry.text).map_err(|error| {
        Failure::new(
            ErrorCode::Internal,
            format!("message {} in the log cannot be read: {error}", entry.id),
        )
    })
}

/// Its payload. One with half a surrogate pair, which JavaScript can write and others cannot read, is given as text.
pub(super) fn payload(message: &Message) -> Option<Value> {
    let text = message.payload()?;
    Some(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
}
