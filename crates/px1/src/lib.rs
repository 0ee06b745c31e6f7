//! PX-1 peer exchange (SNaP2P v0.1): who may be told what, and what others told us.
//!
//! [`Visibility`] says what an identity gives away about where it can be reached. [`Book`] keeps the hints that
//! authenticated peers gave: addresses to try for a principal, for a limited time, with their origin. The
//! messages that carry hints are not encoded here.
//!
//! Never opens a connection, reads a clock, or trusts a hint: whoever answers at an address proves who it is in
//! a handshake.

mod book;
mod visibility;

pub use crate::book::{
    Book, DEFAULT_HINT_TTL, Hint, MAX_HINTS, MAX_HINTS_PER_PRINCIPAL, MAX_HINTS_PER_SOURCE,
};
pub use crate::visibility::Visibility;
