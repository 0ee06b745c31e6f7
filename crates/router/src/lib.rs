//! Who may talk to whom, which identity receives, and when to try again.
//!
//! Decisions are values ([`Verdict`], [`Refusal`], [`UnknownName`]), so that a caller cannot overlook a case. This
//! crate opens nothing, stores nothing, reads no clock and draws no randomness: names, lists, delays and random
//! numbers are arguments.

mod acl;
mod directory;
mod retry;

pub use crate::acl::{Acl, Pattern};
pub use crate::directory::{Directory, Host, Refusal, UnknownName, Verdict, Visibility};
pub use crate::retry::{Backoff, DEFAULT_EXPIRY, FIRST_DELAY, JITTER_PERCENT, LONGEST_DELAY};
