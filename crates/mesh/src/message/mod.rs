//! Messages: one JSON text each, the same on the wire, in the log and in a page of a sync.

mod check;
mod fields;
mod time;

use std::borrow::Cow;

use clawchat_identity::NodeKey;
use clawchat_types::UnixMillis;

use crate::json::{quote, reprint_within, unquote};
use crate::{ChannelId, PeerName};

pub(crate) use self::check::may_go_live;
pub use self::check::{Came, Checked, MAX_TIME_AHEAD, Refusal, Trust, check};
pub(crate) use self::fields::{Fields, channel, signature_text, text};
pub(crate) use self::time::print_time;
pub use self::time::read_time;

/// Longest id of a message, in bytes of UTF-8.
pub const MAX_MESSAGE_ID_BYTES: usize = 128;
/// Longest body, in bytes of JSON as printed, the quotes included.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
/// Longest timestamp, in bytes.
pub const MAX_TIMESTAMP_BYTES: usize = 64;
/// Longest payload unless configured otherwise, in bytes of JSON as printed.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// A message within the limits. Whether its sender wrote it is another question: see [`check()`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    id: Box<str>,
    channel: ChannelId,
    sender: PeerName,
    /// As it is printed, with its quotes: a body may hold half a surrogate pair, and its signature covers that.
    body: Box<str>,
    payload: Option<Box<str>>,
    timestamp: Box<str>,
    signature: Option<[u8; 64]>,
}

impl Message {
    /// A new message that is not signed yet. Its timestamp is `now`.
    ///
    /// # Errors
    /// [`MessageError`] when the body, the payload (any JSON text) or the id does not fit.
    pub fn draft(
        channel: ChannelId,
        sender: PeerName,
        body: &str,
        payload: Option<&str>,
        now: UnixMillis,
        id: &str,
    ) -> Result<Self, MessageError> {
        let mut quoted = String::with_capacity(body.len() + 2);
        quote(body, &mut quoted);
        let payload = payload
            .map(|json| payload_text(json, DEFAULT_MAX_PAYLOAD_BYTES))
            .transpose()?
            .flatten();
        Ok(Self {
            id: within(id, "message_id", MAX_MESSAGE_ID_BYTES)?.into(),
            channel,
            sender,
            body: within(&quoted, "body", MAX_BODY_BYTES)?.into(),
            payload,
            timestamp: print_time(now).into(),
            signature: None,
        })
    }

    /// Reads a message from its text, as it stands in a log.
    ///
    /// # Errors
    /// [`MessageError`] when it is not one message within the limits.
    pub fn from_text(text: &str) -> Result<Self, MessageError> {
        let fields = Fields::read(text).map_err(|_| MessageError::NotJson)?;
        fields.message(None, usize::MAX, UnixMillis(0))
    }

    /// Takes it as a message of ours without a signature.
    ///
    /// # Errors
    /// [`MessageError::OtherKey`] when the sender's name spells a key: its messages must be signed.
    pub fn unsigned(self) -> Result<Checked, MessageError> {
        if self.sender.as_key().is_some() {
            return Err(MessageError::OtherKey);
        }
        Ok(Checked::signed(self))
    }

    /// Signs it. The key's name must be the sender's, or the sender's name one that spells no key.
    ///
    /// # Errors
    /// [`MessageError::OtherKey`].
    pub fn sign(self, key: &NodeKey) -> Result<Checked, MessageError> {
        let own = key.node_id();
        if self.sender.as_key().is_some_and(|spelled| spelled != own) {
            return Err(MessageError::OtherKey);
        }
        let signature = key.sign(self.signing_text().as_bytes());
        Ok(Checked::signed(Self {
            signature: Some(signature),
            ..self
        }))
    }

    /// The message as one JSON text: the frame of the wire, keys in the wire's order.
    #[must_use]
    pub fn to_text(&self) -> String {
        let payload = self.payload.as_deref();
        let mut text = String::with_capacity(320 + self.body.len() + payload.map_or(0, str::len));
        text.push_str("{\"type\":\"message\"");
        push_field("message_id", &self.id, &mut text);
        push_field("channel_id", self.channel.as_str(), &mut text);
        push_field("sender_id", self.sender.as_str(), &mut text);
        text.push_str(",\"body\":");
        text.push_str(&self.body);
        if let Some(payload) = payload {
            text.push_str(",\"payload\":");
            text.push_str(payload);
        }
        push_field("timestamp", &self.timestamp, &mut text);
        if let Some(signature) = &self.signature {
            push_field("signature", &signature_text(signature), &mut text);
        }
        text.push('}');
        text
    }

    /// What its signature covers; see [`crate::signing_text`].
    #[must_use]
    pub fn signing_text(&self) -> String {
        let payload = self.payload.as_deref();
        let mut text = String::with_capacity(320 + self.body.len() + payload.map_or(0, str::len));
        text.push_str("{\"body\":");
        text.push_str(&self.body);
        push_field("channel_id", self.channel.as_str(), &mut text);
        push_field("message_id", &self.id, &mut text);
        match payload {
            Some(payload) => push_field("payload", payload, &mut text),
            None => text.push_str(",\"payload\":null"),
        }
        push_field("sender_id", self.sender.as_str(), &mut text);
        push_field("timestamp", &self.timestamp, &mut text);
        text.push('}');
        text
    }

    /// Its id, which is unique within its channel.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The channel it is for.
    #[must_use]
    pub const fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// Who it says it is from.
    #[must_use]
    pub const fn sender(&self) -> &PeerName {
        &self.sender
    }

    /// What it says. Half of a surrogate pair is shown as U+FFFD.
    #[must_use]
    pub fn body(&self) -> Cow<'_, str> {
        unquote(&self.body).map_or(Cow::Borrowed(""), |body| body.text)
    }

    /// Its payload as JavaScript prints it.
    #[must_use]
    pub fn payload(&self) -> Option<&str> {
        self.payload.as_deref()
    }

    /// When its sender says it was sent, in the sender's spelling.
    #[must_use]
    pub fn timestamp(&self) -> &str {
        &self.timestamp
    }

    /// Its signature, verified or not.
    #[must_use]
    pub const fn signature(&self) -> Option<&[u8; 64]> {
        self.signature.as_ref()
    }
}

/// A payload as it is printed; `None` is `null`, which is no payload.
fn payload_text(json: &str, limit: usize) -> Result<Option<Box<str>>, MessageError> {
    let printed = match reprint_within(json, limit) {
        Ok(printed) => printed,
        Err(crate::JsonError::TooLong) => {
            return Err(MessageError::TooLong {
                field: "payload",
                limit,
            });
        }
        Err(crate::JsonError::TooDeep | crate::JsonError::Syntax { .. }) => {
            return Err(MessageError::NotJson);
        }
    };
    Ok((printed != "null").then(|| printed.into()))
}

/// A text that is not empty and not too long.
fn within<'a>(text: &'a str, field: &'static str, limit: usize) -> Result<&'a str, MessageError> {
    match text.len() {
        0 => Err(MessageError::Missing { field }),
        bytes if bytes > limit => Err(MessageError::TooLong { field, limit }),
        _ => Ok(text),
    }
}

fn push_field(name: &str, value: &str, text: &mut String) {
    text.push_str(",\"");
    text.push_str(name);
    text.push_str("\":");
    quote(value, text);
}

/// Why something is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not JSON, or nested too deep.
    #[error("not JSON within the limits")]
    NotJson,
    /// A field that must be there is not, or is not a text.
    #[error("{field:?} is missing or not a text")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A field is too long.
    #[error("{field:?} is longer than {limit} bytes")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// Most bytes it may have.
        limit: usize,
    },
    /// What stands for the signature is not one.
    #[error("the signature is not the base64 of 64 bytes")]
    NotASignature,
    /// It names another channel than the page it came in.
    #[error("the message is of another channel than the page it came in")]
    OtherChannel,
    /// The sender's name spells another key.
    #[error("the sender's name spells another key than the one to sign with")]
    OtherKey,
}
