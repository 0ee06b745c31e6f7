//! The fields of a frame as they stand in its text, and a message made of them.

use clawchat_types::UnixMillis;
use data_encoding::{BASE64, BASE64_NOPAD};

use super::{
    MAX_BODY_BYTES, MAX_MESSAGE_ID_BYTES, MAX_TIMESTAMP_BYTES, Message, MessageError, payload_text,
    print_time, within,
};
use crate::json::{fields, reprint_within, unquote};
use crate::{ChannelId, ChannelIdError, JsonError, MAX_CHANNEL_ID_BYTES, MAX_PEER_NAME_BYTES, PeerName};

/// How much longer than its content a string may be written (`\u0041`).
const ESCAPED: usize = 6;
/// Longest text read as a signature, in bytes. One has 88; line ends may stand between.
const MAX_SIGNATURE_TEXT: usize = 256;

/// The values of every key that some frame has, as JSON.
pub(crate) struct Fields<'a> {
    pub(crate) kind: Option<&'a str>,
    pub(crate) version: Option<&'a str>,
    pub(crate) peer_id: Option<&'a str>,
    pub(crate) public_key: Option<&'a str>,
    pub(crate) capabilities: Option<&'a str>,
    pub(crate) channel_id: Option<&'a str>,
    message_id: Option<&'a str>,
    sender_id: Option<&'a str>,
    body: Option<&'a str>,
    payload: Option<&'a str>,
    timestamp: Option<&'a str>,
    signature: Option<&'a str>,
    pub(crate) after_message_id: Option<&'a str>,
    pub(crate) limit: Option<&'a str>,
    pub(crate) messages: Option<&'a str>,
    pub(crate) more: Option<&'a str>,
    pub(crate) last: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
    pub(crate) message: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Reads a text that is one object.
    pub(crate) fn read(text: &'a str) -> Result<Self, JsonError> {
        const NAMES: [&str; 19] = [
            "type",
            "version",
            "peer_id",
            "public_key",
            "capabilities",
            "channel_id",
            "message_id",
            "sender_id",
            "body",
            "payload",
            "timestamp",
            "signature",
            "after_message_id",
            "limit",
            "messages",
            "more",
            "last",
            "code",
            "message",
        ];
        let [
            kind,
            version,
            peer_id,
            public_key,
            capabilities,
            channel_id,
            message_id,
            sender_id,
            body,
            payload,
            timestamp,
            signature,
            after_message_id,
            limit,
            messages,
            more,
            last,
            code,
            message,
        ] = fields(text, &NAMES)?;
        Ok(Self {
            kind,
            version,
            peer_id,
            public_key,
            capabilities,
            channel_id,
            message_id,
            sender_id,
            body,
            payload,
            timestamp,
            signature,
            after_message_id,
            limit,
            messages,
            more,
            last,
            code,
            message,
        })
    }

    /// The message these are the fields of. In a page of a sync, `channel` is the page's.
    pub(crate) fn message(
        &self,
        channel: Option<&ChannelId>,
        max_payload: usize,
        now: UnixMillis,
    ) -> Result<Message, MessageError> {
        let id = text(self.message_id, "message_id", MAX_MESSAGE_ID_BYTES)?;
        let sender = text(self.sender_id, "sender_id", MAX_PEER_NAME_BYTES)?;
        let sender = sender
            .parse::<PeerName>()
            .map_err(|_| MessageError::Missing { field: "sender_id" })?;
        let channel = match (channel, self.channel_id) {
            (Some(channel), None) => channel.clone(),
            (expected, value) => {
                let channel = self::channel(value)?;
                if expected.is_some_and(|expected| *expected != channel) {
                    return Err(MessageError::OtherChannel);
                }
                channel
            }
        };
        let body = self
            .body
            .filter(|value| value.starts_with('"'))
            .ok_or(MessageError::Missing { field: "body" })?;
        let too_long = MessageError::TooLong {
            field: "body",
            limit: MAX_BODY_BYTES,
        };
        if body.len() > ESCAPED * MAX_BODY_BYTES {
            return Err(too_long);
        }
        let body = reprint_within(body, body.len() + 2).map_err(|_| MessageError::NotJson)?;
        if body.len() > MAX_BODY_BYTES {
            return Err(too_long);
        }
        let payload = match self.payload {
            Some(json) => payload_text(json, max_payload)?,
            None => None,
        };
        let signature = signature(self.signature)?;
        let timestamp = match self.timestamp {
            // Whoever takes it first says when that was, unless that would spoil the signature.
            None | Some("null" | "\"\"") if signature.is_none() => print_time(now),
            None | Some("null" | "\"\"") => return Err(MessageError::NotASignature),
            value => text(value, "timestamp", MAX_TIMESTAMP_BYTES)?,
        };
        Ok(Message {
            id: id.into(),
            channel,
            sender,
            body: body.into(),
            payload,
            timestamp: timestamp.into(),
            signature,
        })
    }
}

/// The channel a value names.
pub(crate) fn channel(value: Option<&str>) -> Result<ChannelId, MessageError> {
    let name = text(value, "channel_id", MAX_CHANNEL_ID_BYTES)?;
    name.parse().map_err(|error| match error {
        ChannelIdError::Empty => MessageError::Missing { field: "channel_id" },
        ChannelIdError::TooLong { .. } => MessageError::TooLong {
            field: "channel_id",
            limit: MAX_CHANNEL_ID_BYTES,
        },
    })
}

/// What a value says, if it is a string that says something, and nothing that UTF-8 cannot.
pub(crate) fn text(value: Option<&str>, field: &'static str, limit: usize) -> Result<String, MessageError> {
    let value = value.ok_or(MessageError::Missing { field })?;
    if value.len() > ESCAPED * limit + 2 {
        return Err(MessageError::TooLong { field, limit });
    }
    let says = unquote(value)
        .filter(|says| says.whole)
        .ok_or(MessageError::Missing { field })?;
    within(&says.text, field, limit).map(str::to_owned)
}

/// A signature as it is printed: base64 with padding.
pub(crate) fn signature_text(signature: &[u8; 64]) -> String {
    BASE64.encode(signature)
}

/// The signature a value is, if any. Read as leniently as Node does where that loses nothing: both alphabets, with or
/// without padding, line ends between.
fn signature(value: Option<&str>) -> Result<Option<[u8; 64]>, MessageError> {
    let value = match value {
        None | Some("null" | "\"\"" | "false" | "0") => return Ok(None),
        Some(value) if value.len() > MAX_SIGNATURE_TEXT => return Err(MessageError::NotASignature),
        Some(value) => value,
    };
    let says = unquote(value).ok_or(MessageError::NotASignature)?;
    let plain: String = says
        .text
        .chars()
        .filter(|character| !character.is_ascii_whitespace())
        .map(|character| match character {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    let bytes = BASE64_NOPAD
        .decode(plain.trim_end_matches('=').as_bytes())
        .map_err(|_| MessageError::NotASignature)?;
    bytes
        .try_into()
        .map(Some)
        .map_err(|_| MessageError::NotASignature)
}
