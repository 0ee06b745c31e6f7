//! Reading frames.

use std::borrow::Cow;

use clawchat_types::UnixMillis;

use super::{Capabilities, Frame, FrameError, FrameLimits, Handshake, SyncRequest, SyncResponse, VERSION};
use crate::json::{elements, fields, unquote};
use crate::message::{Fields, MAX_MESSAGE_ID_BYTES, MessageError, channel, text};
use crate::{ChannelId, MAX_PAGE_MESSAGES, MAX_PEER_NAME_BYTES, read_public_key_pem};

/// Most entries taken in one sync response.
const MAX_RESPONSE_MESSAGES: usize = 2 * MAX_PAGE_MESSAGES;
/// Messages in an answer when the question does not say.
const DEFAULT_LIMIT: usize = 100;
/// Longest PEM looked at, in bytes.
const MAX_PEM_BYTES: usize = 4096;
/// How much of an error frame is kept, in bytes.
const MAX_ERROR_BYTES: usize = 256;

/// Reads a frame, text and binary alike; bytes that are not UTF-8 become U+FFFD as in JavaScript.
///
/// `now` is the timestamp of an unsigned message that has none.
///
/// # Errors
/// [`FrameError`], which tells the error frame to answer with.
pub fn read_frame(bytes: &[u8], limits: &FrameLimits, now: UnixMillis) -> Result<Frame, FrameError> {
    // Nearly all are UTF-8, and that is seen faster than what is not is found.
    let text = str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    let fields = Fields::read(&text).map_err(|_| {
        if is_other_json(&text) {
            FrameError::NotAnObject
        } else {
            FrameError::InvalidJson
        }
    })?;
    let kind = fields.kind.and_then(unquote).map(|kind| kind.text);
    match kind.as_deref() {
        Some("handshake") => handshake(&fields),
        Some("subscribe") => Ok(named(&fields)?.map_or(Frame::Unknown, Frame::Subscribe)),
        Some("unsubscribe") => Ok(named(&fields)?.map_or(Frame::Unknown, Frame::Unsubscribe)),
        Some("message") => {
            let message = fields.message(None, limits.payload_bytes, now)?;
            Ok(Frame::Message(Box::new(message)))
        }
        Some("sync_request") => request(&fields),
        Some("sync_response") => response(&fields, limits, now),
        Some("error") => Ok(Frame::Error {
            code: excerpt(fields.code),
            message: excerpt(fields.message),
        }),
        Some("ping") => Ok(Frame::Ping),
        Some("pong") => Ok(Frame::Pong),
        Some(_) | None => Ok(Frame::Unknown),
    }
}

fn handshake(fields: &Fields<'_>) -> Result<Frame, FrameError> {
    // JavaScript's Number(version) === 1.
    let version = fields
        .version
        .and_then(number)
        .ok_or(FrameError::UnsupportedVersion)?;
    if version != f64::from(VERSION) {
        return Err(FrameError::UnsupportedVersion);
    }
    let peer = text(fields.peer_id, "peer_id", MAX_PEER_NAME_BYTES)?;
    Ok(Frame::Handshake(Handshake {
        peer: peer.parse().map_err(|_| FrameError::MissingFields)?,
        key: fields
            .public_key
            .filter(|value| value.len() <= MAX_PEM_BYTES)
            .and_then(unquote)
            .and_then(|pem| read_public_key_pem(&pem.text).ok()),
        capabilities: fields.capabilities.map(capabilities).unwrap_or_default(),
    }))
}

/// What a `capabilities` object says; JavaScript's truth decides.
pub(crate) fn capabilities(value: &str) -> Capabilities {
    let Ok([relay, store, arrival_order]) = fields(value, &["relay", "store", "arrival_order"]) else {
        return Capabilities::default();
    };
    Capabilities {
        relay: is_true(relay),
        store: is_true(store),
        arrival_order: is_true(arrival_order),
    }
}

/// The channel of a frame. Existing peers pass over a frame that has none in silence.
fn named(fields: &Fields<'_>) -> Result<Option<ChannelId>, FrameError> {
    match fields.channel_id {
        None | Some("null" | "\"\"") => Ok(None),
        value => Ok(Some(channel(value)?)),
    }
}

fn request(fields: &Fields<'_>) -> Result<Frame, FrameError> {
    let Some(channel) = named(fields)? else {
        return Ok(Frame::Unknown);
    };
    let after = match fields.after_message_id {
        None | Some("null" | "\"\"") => None,
        value => Some(text(value, "after_message_id", MAX_MESSAGE_ID_BYTES)?.into()),
    };
    Ok(Frame::SyncRequest(SyncRequest {
        channel,
        after,
        limit: limit(fields.limit),
    }))
}

/// The page size a question asks for. As with existing peers, nothing, zero and what is no number are the default and
/// a negative number is as many as there may be.
fn limit(value: Option<&str>) -> usize {
    match value.and_then(number) {
        Some(limit) if limit < 0.0 => MAX_PAGE_MESSAGES,
        Some(limit) if limit >= 1.0 => (1..MAX_PAGE_MESSAGES)
            .find(|whole| u32::try_from(*whole).is_ok_and(|whole| f64::from(whole) + 1.0 > limit))
            .unwrap_or(MAX_PAGE_MESSAGES),
        Some(_) | None => DEFAULT_LIMIT,
    }
}

fn response(fields: &Fields<'_>, limits: &FrameLimits, now: UnixMillis) -> Result<Frame, FrameError> {
    let Some(channel) = named(fields)? else {
        return Ok(Frame::Unknown);
    };
    let mut messages = Vec::new();
    if let Some(value) = fields.messages.filter(|value| *value != "null") {
        for entry in elements(value).ok_or(FrameError::MissingFields)? {
            if messages.len() >= MAX_RESPONSE_MESSAGES {
                return Err(FrameError::TooLong);
            }
            messages.push(
                Fields::read(entry)
                    .map_err(|_| MessageError::NotJson)
                    .and_then(|entry| entry.message(Some(&channel), limits.payload_bytes, now)),
            );
        }
    }
    Ok(Frame::SyncResponse(SyncResponse {
        channel,
        messages,
        more: match fields.more {
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) | None => None,
        },
        last: text(fields.last, "last", MAX_MESSAGE_ID_BYTES)
            .ok()
            .map(Into::into),
    }))
}

/// The number a value is to JavaScript, if it is a number or a string.
fn number(value: &str) -> Option<f64> {
    let digits = match value.as_bytes().first()? {
        b'"' => Cow::Owned(unquote(value)?.text.trim().to_owned()),
        b'-' | b'0'..=b'9' => Cow::Borrowed(value),
        _ => return None,
    };
    // Rust would take "inf" and "nan" too.
    if !digits.ends_with(|last: char| last.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Whether JavaScript takes a value for true.
fn is_true(value: Option<&str>) -> bool {
    match value {
        None | Some("false" | "null" | "\"\"") => false,
        Some(value) if value.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) => {
            number(value).is_none_or(|number| number != 0.0)
        }
        Some(_) => true,
    }
}

/// Whether a text is JSON of another kind than an object.
fn is_other_json(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    !text.starts_with('{')
        && fields(&format!("{{\"a\":{text}}}"), &["a"]).is_ok_and(|found| found == [Some(text)])
}

/// The beginning of a string.
fn excerpt(value: Option<&str>) -> Box<str> {
    let Some(says) = value.and_then(unquote) else {
        return "".into();
    };
    let mut end = MAX_ERROR_BYTES.min(says.text.len());
    while !says.text.is_char_boundary(end) {
        end -= 1;
    }
    says.text.get(..end).unwrap_or_default().into()
}

impl From<MessageError> for FrameError {
    fn from(error: MessageError) -> Self {
        match error {
            // That the frame is JSON is known by then.
            MessageError::NotJson => Self::TooDeep,
            MessageError::Missing { .. } | MessageError::OtherChannel => Self::MissingFields,
            MessageError::TooLong { .. } => Self::TooLong,
            MessageError::NotASignature | MessageError::OtherKey => Self::InvalidSignature,
        }
    }
}
