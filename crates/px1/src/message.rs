//! What peers say to each other. How it is written is fixed in `spec/px1.md`.

use std::fmt;
use std::sync::Arc;

use clawchat_types::Principal;

/// Most cards in one message.
pub const MAX_CARDS_PER_MESSAGE: usize = 64;
/// Most bytes of cards in one message: leaves room for everything around them in a frame of 64 KiB.
pub const MAX_CARD_BYTES_PER_MESSAGE: usize = 63 * 1024;
/// Bytes that a card takes in a message beside its own, at most.
pub const CARD_OVERHEAD_BYTES: usize = 5;

/// One PX-1 message between native sessions. Cards are unverified bytes here.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// Where is this principal?
    Resolve {
        /// Chosen by the asker; the answer repeats it.
        id: u64,
        /// Who is looked for.
        principal: Principal,
        /// Most cards wanted in the answer, at least 1.
        max: u8,
    },
    /// The answer: the cards known, none if there are none (or none that the asker may have).
    Found {
        /// That of the question.
        id: u64,
        /// Cards of the principal asked for.
        cards: Vec<Arc<[u8]>>,
    },
    /// Cards that nobody asked for.
    Push {
        /// At least one, at most [`MAX_CARDS_PER_MESSAGE`].
        cards: Vec<Arc<[u8]>>,
    },
}

/// Cards by their number only.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { id, principal, max } => {
                write!(f, "Resolve {{ id: {id}, principal: {principal}, max: {max} }}")
            }
            Self::Found { id, cards } => write!(f, "Found {{ id: {id}, {} cards }}", cards.len()),
            Self::Push { cards } => write!(f, "Push {{ {} cards }}", cards.len()),
        }
    }
}
