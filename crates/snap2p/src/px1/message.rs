//! The three messages, as maps in deterministic CBOR.

use std::sync::Arc;

use clawchat_types::Principal;

use crate::cbor::{EncodingError, Reader, Writer, read_map};
use crate::prefixed::{PREFIX_BYTES, write_frame};

/// Largest frame, in bytes, its length field not counted.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Most cards in one message.
pub const MAX_CARDS: usize = 64;
/// Largest card, in bytes.
pub const MAX_CARD_BYTES: usize = 16 * 1024;
/// Most cards a question can ask for.
pub const MAX_WANTED: u8 = 16;

const RESOLVE: u64 = 1;
const FOUND: u64 = 2;
const PUSH: u64 = 3;

/// One message. Cards are bytes that nobody has looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Where is this principal?
    Resolve {
        /// To be repeated in the answer.
        id: u64,
        /// Who is looked for.
        principal: Principal,
        /// Most cards wanted: 1 to [`MAX_WANTED`].
        max: u8,
    },
    /// The answer.
    Found {
        /// That of the question.
        id: u64,
        /// Up to [`MAX_CARDS`] cards of 1 to [`MAX_CARD_BYTES`] bytes; none if there are none to give.
        cards: Vec<Arc<[u8]>>,
    },
    /// Cards that nobody asked for.
    Push {
        /// 1 to [`MAX_CARDS`] cards of 1 to [`MAX_CARD_BYTES`] bytes.
        cards: Vec<Arc<[u8]>>,
    },
}

/// Why a stream of `px-1` has to be reset, or a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Px1Error {
    /// A frame longer than any may be.
    #[error("a frame of {bytes} bytes; at most {MAX_FRAME_BYTES} are allowed")]
    FrameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A frame that is not one map in the right encoding, or whose fields are not what they must be.
    #[error("a malformed frame: {0}")]
    Malformed(#[from] EncodingError),
    /// A message of a type unknown here, or that only the other side may send.
    #[error("message type {kind} has no place here")]
    UnexpectedMessage {
        /// The type number.
        kind: u64,
    },
}

/// Reads a frame's body.
///
/// # Errors
/// [`Px1Error`]: the stream is to be reset.
pub fn decode(body: &[u8]) -> Result<Message, Px1Error> {
    check_frame(body.len())?;
    let kind = read_kind(body)?;
    // A key that this type of message does not have is ignored, whatever it is to another type.
    let has_id = kind != PUSH;
    let has_cards = kind != RESOLVE;
    let (mut id, mut max, mut principal, mut cards) = (None, None, None, None);
    read_map(body, |key, value| {
        match key {
            "i" if has_id => id = Some(value.uint()?),
            "c" if has_cards => cards = Some(read_cards(value)?),
            "m" if kind == RESOLVE => max = Some(value.uint()?),
            "p" if kind == RESOLVE => principal = Some(value.text()?),
            _ => value.skip()?,
        }
        Ok(())
    })?;
    let id = id.ok_or(EncodingError::Missing { field: "i" });
    let cards = cards.ok_or(EncodingError::Missing { field: "c" });
    match kind {
        RESOLVE => {
            let max = max.ok_or(EncodingError::Missing { field: "m" })?;
            let principal = principal.ok_or(EncodingError::Missing { field: "p" })?;
            let bad = |field| EncodingError::BadValue { field };
            Ok(Message::Resolve {
                id: id?,
                principal: principal.parse().map_err(|_| bad("p"))?,
                max: u8::try_from(max)
                    .ok()
                    .filter(|max| (1..=MAX_WANTED).contains(max))
                    .ok_or(bad("m"))?,
            })
        }
        FOUND => Ok(Message::Found {
            id: id?,
            cards: cards?,
        }),
        PUSH => {
            let cards = cards?;
            if cards.is_empty() {
                return Err(EncodingError::BadValue { field: "c" }.into());
            }
            Ok(Message::Push { cards })
        }
        kind => Err(Px1Error::UnexpectedMessage { kind }),
    }
}

/// Writes a message as a whole frame, length field included.
///
/// # Errors
/// What [`decode`] would refuse at the other side: numbers or sizes out of range, [`Px1Error::FrameTooLong`].
pub fn encode(message: &Message) -> Result<Vec<u8>, Px1Error> {
    match message {
        Message::Resolve { max, .. } if !(1..=MAX_WANTED).contains(max) => {
            return Err(EncodingError::BadValue { field: "m" }.into());
        }
        Message::Push { cards } if cards.is_empty() => {
            return Err(EncodingError::BadValue { field: "c" }.into());
        }
        Message::Found { cards, .. } | Message::Push { cards } => check_cards(cards)?,
        Message::Resolve { .. } => {}
    }
    let mut out = Vec::new();
    write_frame(&mut out, |writer| match message {
        Message::Resolve { id, principal, max } => {
            writer.map(4);
            writer.text("i").uint(*id).text("m").uint(u64::from(*max));
            writer.text("p").text(&principal.to_string());
            writer.text("t").uint(RESOLVE);
        }
        Message::Found { id, cards } => {
            writer.map(3);
            write_cards(writer, cards);
            writer.text("i").uint(*id).text("t").uint(FOUND);
        }
        Message::Push { cards } => {
            writer.map(2);
            write_cards(writer, cards);
            writer.text("t").uint(PUSH);
        }
    });
    check_frame(out.len() - PREFIX_BYTES)?;
    Ok(out)
}

impl Message {
    /// Whether the side that opened the stream sends it; the other messages are answers.
    pub(super) fn is_of_opener(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::Push { .. } => true,
            Self::Found { .. } => false,
        }
    }

    /// The type number.
    pub(super) fn kind(&self) -> u64 {
        match self {
            Self::Resolve { .. } => RESOLVE,
            Self::Found { .. } => FOUND,
            Self::Push { .. } => PUSH,
        }
    }
}

/// Refuses a frame length above the limit.
pub(super) fn check_frame(bytes: usize) -> Result<(), Px1Error> {
    if bytes > MAX_FRAME_BYTES {
        return Err(Px1Error::FrameTooLong { bytes });
    }
    Ok(())
}

fn read_kind(body: &[u8]) -> Result<u64, Px1Error> {
    let mut kind = None;
    read_map(body, |key, value| {
        if key == "t" {
            kind = Some(value.uint()?);
            Ok(())
        } else {
            value.skip()
        }
    })?;
    let kind = kind.ok_or(EncodingError::Missing { field: "t" })?;
    if !(RESOLVE..=PUSH).contains(&kind) {
        return Err(Px1Error::UnexpectedMessage { kind });
    }
    Ok(kind)
}

fn read_cards(value: &mut Reader<'_>) -> Result<Vec<Arc<[u8]>>, EncodingError> {
    let count = value.array()?;
    if count > MAX_CARDS as u64 {
        return Err(EncodingError::BadValue { field: "c" });
    }
    let mut cards = Vec::new();
    for _ in 0..count {
        let card = value.bytes()?;
        check_card(card)?;
        cards.push(card.into());
    }
    Ok(cards)
}

fn check_cards(cards: &[Arc<[u8]>]) -> Result<(), EncodingError> {
    if cards.len() > MAX_CARDS {
        return Err(EncodingError::BadValue { field: "c" });
    }
    cards.iter().try_for_each(|card| check_card(card))
}

fn check_card(card: &[u8]) -> Result<(), EncodingError> {
    if (1..=MAX_CARD_BYTES).contains(&card.len()) {
        Ok(())
    } else {
        Err(EncodingError::BadValue { field: "c" })
    }
}

fn write_cards(writer: &mut Writer<'_>, cards: &[Arc<[u8]>]) {
    writer.text("c").array(cards.len());
    for card in cards {
        writer.bytes(card);
    }
}
