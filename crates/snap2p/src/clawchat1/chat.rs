//! Chat messages: CBOR maps inside STREAM_DATA.

use std::borrow::Cow;
use std::fmt;

use clawchat_types::{MAX_CONTENT_BYTES, MAX_NICK_CHARS, UnixMillis};

use super::cbor::{self, CborError, Value, Writer};
use super::message::{Message, StreamData};
use super::number::float_text;
use super::{MAX_FRAME, frame};

/// Longest id of a message that is read, in bytes. Existing peers use 32 hexadecimal digits.
pub const MAX_CHAT_ID_BYTES: usize = 64;
/// Latest timestamp that is read, in milliseconds: the last one a JavaScript `Date` can hold.
pub const MAX_TIMESTAMP: UnixMillis = UnixMillis(8_640_000_000_000_000);
/// Longest `from` that is read, in bytes; a principal has about 50.
const MAX_FROM_BYTES: usize = 128;

/// A chat message as it goes over the wire. There is no recipient: it is for whom the session is with.
#[derive(Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Made anew for each transmission: 1 to [`MAX_CHAT_ID_BYTES`] bytes of text.
    pub id: String,
    /// The sender's principal. In an [`super::Event`], that of the session.
    pub from: String,
    /// What the sender calls itself: any text of at most [`MAX_NICK_CHARS`] characters, for people to read.
    pub nick: Option<String>,
    /// The text: at most [`MAX_CONTENT_BYTES`].
    pub content: String,
    /// When it was written, by the sender's clock; at most [`MAX_TIMESTAMP`].
    pub timestamp: UnixMillis,
}

impl fmt::Debug for ChatMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatMessage")
            .field("id", &self.id)
            .field("from", &self.from)
            .field("bytes", &self.content.len())
            .finish_non_exhaustive()
    }
}

/// The complete frame, header included, of a message. Without a nick, the key is left out.
///
/// # Errors
/// [`EncodeError`] when it would not fit into one frame.
pub fn encode_chat(message: &ChatMessage) -> Result<Vec<u8>, EncodeError> {
    // Copying a text that cannot be sent anyway would be a waste, so its length is looked at first.
    let too_large = |bytes| EncodeError { bytes };
    if message.content.len() > MAX_FRAME {
        return Err(too_large(message.content.len()));
    }
    let body = Message::StreamData(StreamData {
        stream_id: 0,
        fin: false,
        data: Cow::Owned(encode(message)),
    })
    .encode();
    if body.len() > MAX_FRAME {
        return Err(too_large(body.len()));
    }
    Ok(frame(&body))
}

/// The message does not fit into a frame of [`MAX_FRAME`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes does not fit into a frame of {MAX_FRAME}")]
pub struct EncodeError {
    /// Size of the frame it would take, or of the text alone, in bytes.
    pub bytes: usize,
}

pub(super) fn encode(message: &ChatMessage) -> Vec<u8> {
    let mut writer = Writer::map_of(if message.nick.is_some() { 5 } else { 4 });
    writer.key("id").text(&message.id);
    writer.key("from").text(&message.from);
    if let Some(nick) = &message.nick {
        writer.key("nick").text(nick);
    }
    writer.key("content").text(&message.content);
    writer.key("timestamp").unsigned(message.timestamp.0);
    writer.into_bytes()
}

/// Reads the data of a STREAM_DATA. `from` is not compared with anything here.
pub(super) fn decode(data: &[u8]) -> Result<ChatMessage, ChatError> {
    let map = cbor::read(data)?.map().ok_or(ChatError::Field { field: "map" })?;
    let [id, from, nick, content, timestamp] = map.pick(["id", "from", "nick", "content", "timestamp"]);
    let field = |field| ChatError::Field { field };
    Ok(ChatMessage {
        id: id
            .and_then(|id| id.text(MAX_CHAT_ID_BYTES))
            .filter(|id| !id.is_empty())
            .ok_or(field("id"))?
            .into_owned(),
        from: from
            .and_then(|from| from.text(MAX_FROM_BYTES))
            .ok_or(field("from"))?
            .into_owned(),
        nick: nick.and_then(|nick| nick.first_chars(MAX_NICK_CHARS)),
        content: text_of(content.ok_or(field("content"))?)?,
        timestamp: timestamp
            .and_then(|time| time.clamped(MAX_TIMESTAMP.0))
            .map(UnixMillis)
            .ok_or(field("timestamp"))?,
    })
}

/// What existing peers show of a content of any kind.
fn text_of(content: Value<'_>) -> Result<String, ChatError> {
    match content {
        Value::Text(bytes) => content
            .text(MAX_CONTENT_BYTES)
            .map(Cow::into_owned)
            .ok_or(ChatError::TooLarge { bytes: bytes.len() }),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Float(number) => Ok(float_text(number)),
        Value::Unsigned(number) => Ok(number.to_string()),
        Value::Negative(number) => Ok((-1 - i128::from(number)).to_string()),
        Value::Bytes(_) | Value::Array(_) | Value::Map(_) | Value::Null | Value::Undefined => {
            Err(ChatError::Field { field: "content" })
        }
    }
}

/// Why a chat message was not taken. The session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// Not CBOR as this profile reads it.
    #[error("not CBOR of this protocol: {0}")]
    Cbor(#[from] CborError),
    /// A field is missing, of another kind or too long.
    #[error("{field} is missing, or nothing that can be shown")]
    Field {
        /// The field's name; `map` when there are no fields at all.
        field: &'static str,
    },
    /// The text is longer than [`MAX_CONTENT_BYTES`].
    #[error("a text of {bytes} bytes, where {MAX_CONTENT_BYTES} are taken")]
    TooLarge {
        /// Its length on the wire, in bytes.
        bytes: usize,
    },
}
