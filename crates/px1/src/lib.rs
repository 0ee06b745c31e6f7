//! PX-1 peer exchange (SNaP2P v0.1): who may be told what, and what others told us.
//!
//! [`Exchange`] is PX-1 of one identity between native sessions: it keeps an [`AddressBook`] of signed contact cards,
//! answers questions, tells neighbours what is new, and searches for principals. [`Visibility`] says what an identity
//! gives away about where it can be reached. [`Book`] keeps the unsigned hints of ClawChat 1.0 peers apart from all
//! that: addresses to try last. [`DialGuard`] says how often an address may be tried, so that no card makes us a weapon.
//!
//! Messages are encoded by the crate that speaks with peers; cards are verified by the caller. Never opens a
//! connection, reads a clock, draws randomness, or trusts a hint: whoever answers at an address proves who it is in a
//! handshake.

mod address_book;
mod book;
mod bucket;
mod card;
mod counters;
mod dial;
mod exchange;
mod message;
mod rank;
mod visibility;

pub use crate::address_book::{
    AddressBook, BookConfig, Known, MAX_BOOK_BYTES, MAX_BYTES_PER_SOURCE, MAX_CARDS, MAX_CARDS_PER_SOURCE,
};
pub use crate::book::{
    Book, DEFAULT_HINT_TTL, Hint, MAX_HINTS, MAX_HINTS_PER_PRINCIPAL, MAX_HINTS_PER_SOURCE,
};
pub use crate::card::{ASKED_CAPABILITY, Card, PUBLIC_CAPABILITY};
pub use crate::counters::Counters;
pub use crate::dial::{
    DIAL_BACKOFF_FIRST, DIAL_BACKOFF_MAX, DIALS_PER_HOST, DIALS_PER_PRINCIPAL, DialGuard, Held,
};
pub use crate::exchange::{
    Exchange, FORWARD_FANOUT, MAX_ASKED, MAX_RESOLVES, Output, PUSH_INTERVAL, QUESTIONS_BURST,
    QUESTIONS_REFILL, RESOLVE_FANOUT, RESOLVE_WAVE, RESOLVE_WITHIN, Unverified,
};
pub use crate::message::{CARD_OVERHEAD_BYTES, MAX_CARD_BYTES_PER_MESSAGE, MAX_CARDS_PER_MESSAGE, Message};
pub use crate::visibility::Visibility;
