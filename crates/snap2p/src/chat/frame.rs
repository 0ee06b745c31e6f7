//! Frames of `chat/1`: a 4-byte big-endian length and one deterministic CBOR map.

use super::envelope::{MAX_ENVELOPE_BYTES, SignedEnvelope};
use crate::cbor::{EncodingError, read_map};
use crate::prefixed::{PREFIX_BYTES, write_frame};

/// Messages a sender may have beyond the last one acknowledged, in messages.
pub const WINDOW_MESSAGES: usize = 256;
/// The same in bytes of MSG frames, their length fields not counted. One message alone may have more.
pub const WINDOW_BYTES: usize = 1024 * 1024;
/// Largest MSG frame, in bytes: an envelope, its signature and what may be added later.
pub const MAX_MSG_FRAME_BYTES: usize = MAX_ENVELOPE_BYTES + 1024;
/// Largest ACK or NACK frame, in bytes.
pub const MAX_REPLY_FRAME_BYTES: usize = 1024;
/// Longest explanation in a NACK, in bytes of UTF-8.
pub const MAX_NACK_TEXT_BYTES: usize = 256;

const MSG: u64 = 1;
const ACK: u64 = 2;
const NACK: u64 = 3;

/// Why a receiver refuses a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NackCode {
    /// The recipient does not accept messages from this sender. Wire code 1.
    NotAllowed,
    /// The recipient is not hosted here. Wire code 2.
    UnknownRecipient,
    /// The envelope is not acceptable, whenever it is sent. Wire code 3.
    Invalid,
    /// The message's expiry is past. Wire code 4.
    Expired,
    /// Larger than the recipient accepts. Wire code 5.
    TooLarge,
    /// No room at the receiver. Wire code 6.
    StorageFull,
    /// The receiver cannot take messages at the moment. Wire code 7.
    Busy,
    /// A code this version does not know.
    Other(u16),
}

impl NackCode {
    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u16 {
        match self {
            Self::NotAllowed => 1,
            Self::UnknownRecipient => 2,
            Self::Invalid => 3,
            Self::Expired => 4,
            Self::TooLarge => 5,
            Self::StorageFull => 6,
            Self::Busy => 7,
            Self::Other(code) => code,
        }
    }

    /// The code of a number on the wire. Total: unknown numbers survive.
    #[must_use]
    pub const fn from_wire(code: u16) -> Self {
        match code {
            1 => Self::NotAllowed,
            2 => Self::UnknownRecipient,
            3 => Self::Invalid,
            4 => Self::Expired,
            5 => Self::TooLarge,
            6 => Self::StorageFull,
            7 => Self::Busy,
            code => Self::Other(code),
        }
    }
}

/// How the other side broke the protocol. Nothing more can be done with the stream but reset it; the session
/// around it is unharmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// A frame longer than any may be.
    #[error("a frame of {bytes} bytes, of at most {limit}")]
    FrameTooLong {
        /// The length announced.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A frame that is not one map in the right encoding, or lacks a field.
    #[error("a malformed frame: {0}")]
    Malformed(#[from] EncodingError),
    /// A frame of a type unknown here, or that only the other side may send.
    #[error("frame type {kind} has no place here")]
    UnexpectedFrame {
        /// The type number.
        kind: u64,
    },
    /// More than the window beyond the last acknowledged message.
    #[error(
        "more unacknowledged messages than the window of {WINDOW_MESSAGES} messages, {WINDOW_BYTES} bytes"
    )]
    WindowExceeded,
    /// An answer to a message that was not sent on this stream.
    #[error("an answer to message {number}, but only {sent} were sent")]
    NotSent {
        /// The message answered.
        number: u64,
        /// How many were sent.
        sent: u64,
    },
    /// An acknowledgement below an earlier answer.
    #[error("acknowledged up to {number} after {decided}")]
    AckBackwards {
        /// The new acknowledgement.
        number: u64,
        /// The last message decided before.
        decided: u64,
    },
    /// A refusal of a message that is not the next one without an answer.
    #[error("message {number} refused out of order: {decided} were decided")]
    NackOutOfOrder {
        /// The message refused.
        number: u64,
        /// The last message decided before.
        decided: u64,
    },
    /// Bytes behind a retryable refusal, which ends the stream.
    #[error("bytes after the end of the stream")]
    AfterEnd,
}

/// What a receiver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Ack {
        number: u64,
    },
    Nack {
        number: u64,
        code: NackCode,
        retryable: bool,
        text: Option<String>,
    },
}

impl Reply {
    pub(super) fn read(body: &[u8]) -> Result<Self, ChatError> {
        let (mut kind, mut number, mut code, mut retryable, mut text) = (None, None, None, None, None);
        read_map(body, |key, value| {
            match key {
                "t" => kind = Some(value.uint()?),
                "n" => number = Some(value.uint()?),
                "code" => code = Some(value.uint()?),
                "text" => text = Some(value.text()?),
                "retryable" => retryable = Some(value.bool()?),
                _ => value.skip()?,
            }
            Ok(())
        })?;
        let kind = kind.ok_or(EncodingError::Missing { field: "t" })?;
        let number = number.ok_or(EncodingError::Missing { field: "n" });
        match kind {
            ACK => Ok(Self::Ack { number: number? }),
            NACK => {
                let code = code.ok_or(EncodingError::Missing { field: "code" })?;
                let code = u16::try_from(code).map_err(|_| EncodingError::BadValue { field: "code" })?;
                if text.is_some_and(|text| text.len() > MAX_NACK_TEXT_BYTES) {
                    return Err(EncodingError::BadValue { field: "text" }.into());
                }
                Ok(Self::Nack {
                    number: number?,
                    code: NackCode::from_wire(code),
                    retryable: retryable.ok_or(EncodingError::Missing { field: "retryable" })?,
                    text: text.map(str::to_owned),
                })
            }
            kind => Err(ChatError::UnexpectedFrame { kind }),
        }
    }

    /// Appends the whole frame.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_frame(out, |writer| match self {
            Self::Ack { number } => {
                writer.map(2);
                writer.text("n").uint(*number).text("t").uint(ACK);
            }
            Self::Nack {
                number,
                code,
                retryable,
                text,
            } => {
                writer.map(if text.is_some() { 5 } else { 4 });
                writer.text("n").uint(*number).text("t").uint(NACK);
                writer.text("code").uint(u64::from(code.to_wire()));
                if let Some(text) = text {
                    writer.text("text").text(text);
                }
                writer.text("retryable").bool(*retryable);
            }
        });
    }
}

/// The length of a MSG frame's map around an envelope of `envelope` bytes.
pub(super) fn msg_length(envelope: usize) -> usize {
    // Map head, "e" and "s" and "t", the heads of the two byte strings, the signature, the type number.
    const FIXED: usize = 1 + 2 + 2 + 2 + 2 + 64 + 1;
    let head = match envelope {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    };
    envelope.saturating_add(FIXED + head)
}

/// The whole MSG frame of an envelope.
pub(super) fn write_msg(envelope: &SignedEnvelope) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_BYTES + msg_length(envelope.bytes.len()));
    write_frame(&mut out, |writer| {
        writer.map(3);
        writer.text("e").bytes(&envelope.bytes);
        writer.text("s").bytes(&envelope.signature);
        writer.text("t").uint(MSG);
    });
    out
}

pub(super) fn read_msg(body: &[u8]) -> Result<SignedEnvelope, ChatError> {
    let (mut kind, mut envelope, mut signature) = (None, None, None);
    read_map(body, |key, value| {
        match key {
            "t" => kind = Some(value.uint()?),
            "e" => envelope = Some(value.bytes()?),
            "s" => signature = Some(value.bytes()?),
            _ => value.skip()?,
        }
        Ok(())
    })?;
    match kind.ok_or(EncodingError::Missing { field: "t" })? {
        MSG => {}
        kind => return Err(ChatError::UnexpectedFrame { kind }),
    }
    let envelope = envelope.ok_or(EncodingError::Missing { field: "e" })?;
    let signature = signature.ok_or(EncodingError::Missing { field: "s" })?;
    if envelope.len() > MAX_ENVELOPE_BYTES {
        return Err(EncodingError::BadValue { field: "e" }.into());
    }
    Ok(SignedEnvelope {
        bytes: envelope.to_vec(),
        signature: signature
            .try_into()
            .map_err(|_| EncodingError::BadValue { field: "s" })?,
    })
}

/// Refuses an announced length above `limit`.
pub(super) fn check_length(bytes: usize, limit: usize) -> Result<(), ChatError> {
    if bytes > limit {
        Err(ChatError::FrameTooLong { bytes, limit })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_length_of_a_frame_is_known_before_it_is_written(length in prop_oneof![0_usize..400, 65_000_usize..66_000]) {
            let envelope = SignedEnvelope { bytes: vec![1; length], signature: [2; 64] };
            let frame = write_msg(&envelope);
            prop_assert_eq!(frame.len(), PREFIX_BYTES + msg_length(length));
            prop_assert_eq!(read_msg(&frame[PREFIX_BYTES..]), Ok(envelope));
        }

        #[test]
        fn answers_survive_the_wire(number in any::<u64>(), code in any::<u16>(), retryable in any::<bool>(), text in proptest::option::of("[a-z]{0,256}")) {
            for reply in [Reply::Ack { number }, Reply::Nack { number, code: NackCode::from_wire(code), retryable, text }] {
                let mut out = vec![9];
                reply.write(&mut out);
                prop_assert!(out.len() - 1 - PREFIX_BYTES <= MAX_REPLY_FRAME_BYTES);
                prop_assert_eq!(Reply::read(&out[1 + PREFIX_BYTES..]), Ok(reply));
            }
        }

        #[test]
        fn codes_survive_the_wire(code in any::<u16>()) {
            prop_assert_eq!(NackCode::from_wire(code).to_wire(), code);
        }
    }
}
