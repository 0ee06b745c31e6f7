//! Who may talk to whom, which identity receives, and when to try again.
//!
//! Everything here is a pure function of its arguments: no clock, no randomness, no IO. Decisions come back as
//! values ([`Verdict`], [`Route`]), so that whoever asks cannot skip a case.

mod acl;
mod directory;
mod resolve;
mod retry;

pub use crate::acl::{Acl, AllowEntry};
pub use crate::directory::{
    Directory, DirectoryError, HostedIdentity, NoSuchIdentity, Refusal, Verdict, Visibility,
};
pub use crate::resolve::{ResolveError, Route};
pub use crate::retry::{Backoff, DEFAULT_EXPIRY, JITTER_PERCENT, RETRY_FIRST, RETRY_MAX, default_expiry};
