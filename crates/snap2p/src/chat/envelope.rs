//! Envelopes: one message as its sender signed it.

use std::fmt;

use clawchat_identity::{NodeKey, verify_node_signature};
use clawchat_types::{
    Content, MAX_CONTENT_BYTES, MAX_PAYLOAD_BYTES, Message, MessageId, NodeId, Payload, Principal, UnixMillis,
};

use super::payload;
use crate::cbor::{EncodingError, Reader, Writer, read_map};

/// Largest envelope, in bytes: the largest content and payload, and 512 KiB for everything else.
pub const MAX_ENVELOPE_BYTES: usize = MAX_CONTENT_BYTES + MAX_PAYLOAD_BYTES + 512 * 1024;
/// Longest content type, in bytes of printable ASCII.
pub const MAX_CONTENT_TYPE_BYTES: usize = 127;
/// Longest nickname in an envelope, in characters of any script.
pub const MAX_WIRE_NICK_CHARS: usize = 64;

/// The version of the envelope's layout.
const VERSION: u64 = 1;
/// What a node key signs is this, then the envelope: its signature fits nothing else it ever signs.
const DOMAIN: &[u8] = b"clawchat-envelope-v1\0";

/// A message in the bytes its sender signed, and that signature.
///
/// Opaque and storable: kept as they came, the two prove for ever who wrote the message, to anybody who has the
/// sender's attestation. Neither is checked before [`open_envelope`].
#[derive(Clone, PartialEq, Eq)]
pub struct SignedEnvelope {
    /// The envelope: deterministic CBOR of at most [`MAX_ENVELOPE_BYTES`].
    pub bytes: Vec<u8>,
    /// The sender's node key over the domain string and `bytes`.
    pub signature: [u8; 64],
}

/// Shows the length only: contents do not belong into logs.
impl fmt::Debug for SignedEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedEnvelope({} bytes)", self.bytes.len())
    }
}

/// Writes a message as an envelope and signs it with the sender's node key.
///
/// # Errors
/// What [`open_envelope`] would refuse at the other side, so that it fails where it can be mended:
/// [`EnvelopeError::Encoding`] naming the content type, the payload or the sequence number.
pub fn seal_envelope(message: &Message, key: &NodeKey) -> Result<SignedEnvelope, EnvelopeError> {
    check_content_type(&message.content_type)?;
    check_sequence(message.sequence)?;
    if let Some(payload) = &message.payload {
        check_payload(payload.as_str())?;
    }
    let bytes = encode(message);
    let signature = key.sign(&signed_bytes(&bytes));
    Ok(SignedEnvelope { bytes, signature })
}

/// Checks the signature and every limit, and reads the message.
///
/// `signer` is the node key attested by the session the envelope came over. What remains to the caller: that
/// [`Message::from`] is that session's principal, that [`Message::to`] is hosted here, and that
/// [`Message::expires_at`] is not past.
///
/// # Errors
/// [`EnvelopeError`]; none of them can be mended by sending the same envelope again.
pub fn open_envelope(envelope: &SignedEnvelope, signer: &NodeId) -> Result<Message, EnvelopeError> {
    let bytes = envelope.bytes.as_slice();
    if bytes.len() > MAX_ENVELOPE_BYTES {
        return Err(EnvelopeError::TooLarge { bytes: bytes.len() });
    }
    verify_node_signature(signer, &signed_bytes(bytes), &envelope.signature)
        .map_err(|_| EnvelopeError::Signature)?;
    decode(bytes)
}

/// Why an envelope is not accepted, or a message cannot become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Longer than [`MAX_ENVELOPE_BYTES`].
    #[error("an envelope of {bytes} bytes is too large (at most {MAX_ENVELOPE_BYTES})")]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// The signature is not the sender's over these bytes.
    #[error("the envelope is not signed by its sender's node key")]
    Signature,
    /// The layout is of another version.
    #[error("envelope version {found} is not known here")]
    Version {
        /// The version it claims.
        found: u64,
    },
    /// A field is wrong or the encoding is not the deterministic one.
    #[error("not an envelope: {0}")]
    Encoding(#[from] EncodingError),
}

fn signed_bytes(envelope: &[u8]) -> Vec<u8> {
    [DOMAIN, envelope].concat()
}

/// Keys in ascending order of their encoding: by length, then by bytes.
fn encode(message: &Message) -> Vec<u8> {
    let optional = [
        message.from_nick.is_some(),
        message.reply_to.is_some(),
        message.payload.is_some(),
    ];
    let mut bytes = Vec::new();
    let mut writer = Writer(&mut bytes);
    writer.map(9 + optional.iter().filter(|present| **present).count());
    writer.text("v").uint(VERSION);
    writer.text("ct").text(&message.content_type);
    writer.text("id").bytes(message.id.as_bytes());
    writer.text("to").text(&message.to.to_string());
    writer.text("ts").uint(message.timestamp.0);
    writer.text("exp").uint(message.expires_at.0);
    writer.text("seq").uint(message.sequence);
    writer.text("body").text(message.content.as_str());
    writer.text("from").text(&message.from.to_string());
    if let Some(nick) = &message.from_nick {
        writer.text("nick").text(nick.as_str());
    }
    if let Some(reply_to) = &message.reply_to {
        writer.text("reply").bytes(reply_to.as_bytes());
    }
    if let Some(payload) = &message.payload {
        writer.text("payload").text(payload.as_str());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<Message, EnvelopeError> {
    let fields = Fields::read(bytes)?;
    // A later version may have other fields and rules; say so rather than name a field.
    match fields.version {
        Some(VERSION) => Ok(fields.message()?),
        Some(found) => Err(EnvelopeError::Version { found }),
        None => Err(missing("v").into()),
    }
}

/// The fields found, before anything is known about their values but the type.
#[derive(Default)]
struct Fields<'a> {
    version: Option<u64>,
    content_type: Option<&'a str>,
    id: Option<&'a [u8]>,
    to: Option<&'a str>,
    timestamp: Option<u64>,
    expires_at: Option<u64>,
    sequence: Option<u64>,
    body: Option<&'a str>,
    from: Option<&'a str>,
    nick: Option<&'a str>,
    reply_to: Option<&'a [u8]>,
    payload: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, EncodingError> {
        let mut fields = Self::default();
        read_map(bytes, |key, value: &mut Reader<'a>| {
            match key {
                "v" => fields.version = Some(value.uint()?),
                "ct" => fields.content_type = Some(value.text()?),
                "id" => fields.id = Some(value.bytes()?),
                "to" => fields.to = Some(value.text()?),
                "ts" => fields.timestamp = Some(value.uint()?),
                "exp" => fields.expires_at = Some(value.uint()?),
                "seq" => fields.sequence = Some(value.uint()?),
                "body" => fields.body = Some(value.text()?),
                "from" => fields.from = Some(value.text()?),
                "nick" => fields.nick = Some(value.text()?),
                "reply" => fields.reply_to = Some(value.bytes()?),
                "payload" => fields.payload = Some(value.text()?),
                _ => value.skip()?,
            }
            Ok(())
        })?;
        Ok(fields)
    }

    fn message(&self) -> Result<Message, EncodingError> {
        let content_type = self.content_type.ok_or(missing("ct"))?;
        check_content_type(content_type)?;
        let sequence = self.sequence.ok_or(missing("seq"))?;
        check_sequence(sequence)?;
        if self
            .nick
            .is_some_and(|nick| nick.chars().count() > MAX_WIRE_NICK_CHARS)
        {
            return Err(bad("nick"));
        }
        Ok(Message {
            id: message_id("id", self.id.ok_or(missing("id"))?)?,
            from: principal("from", self.from)?,
            to: principal("to", self.to)?,
            timestamp: UnixMillis(self.timestamp.ok_or(missing("ts"))?),
            sequence,
            // Only for people to read: one we cannot show is as good as none.
            from_nick: self.nick.and_then(|nick| nick.parse().ok()),
            content_type: content_type.to_owned(),
            content: Content::new(self.body.ok_or(missing("body"))?).map_err(|_| bad("body"))?,
            payload: self.payload.map(checked_payload).transpose()?,
            reply_to: self.reply_to.map(|id| message_id("reply", id)).transpose()?,
            expires_at: UnixMillis(self.expires_at.ok_or(missing("exp"))?),
        })
    }
}

fn missing(field: &'static str) -> EncodingError {
    EncodingError::Missing { field }
}

fn bad(field: &'static str) -> EncodingError {
    EncodingError::BadValue { field }
}

fn message_id(field: &'static str, bytes: &[u8]) -> Result<MessageId, EncodingError> {
    Ok(MessageId::new(bytes.try_into().map_err(|_| bad(field))?))
}

fn principal(field: &'static str, text: Option<&str>) -> Result<Principal, EncodingError> {
    text.ok_or(missing(field))?.parse().map_err(|_| bad(field))
}

fn check_content_type(text: &str) -> Result<(), EncodingError> {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable && (1..=MAX_CONTENT_TYPE_BYTES).contains(&text.len()) {
        Ok(())
    } else {
        Err(bad("ct"))
    }
}

fn check_sequence(sequence: u64) -> Result<(), EncodingError> {
    if sequence == 0 { Err(bad("seq")) } else { Ok(()) }
}

fn check_payload(json: &str) -> Result<(), EncodingError> {
    if payload::is_json(json) {
        Ok(())
    } else {
        Err(bad("payload"))
    }
}

fn checked_payload(json: &str) -> Result<Payload, EncodingError> {
    let payload = Payload::new(json).map_err(|_| bad("payload"))?;
    check_payload(json)?;
    Ok(payload)
}
