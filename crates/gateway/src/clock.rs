//! The system's clock and randomness: the one place where the gateway reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use clawchat_types::{MessageId, UnixMillis};

/// Wall time now. A clock before 1970 reads as 1970.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `N` random bytes of the operating system.
///
/// # Errors
/// When the system has no randomness to give; nothing secret may be made then.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// A random number for jitter; constant where the system has no randomness, which only costs spread.
pub(crate) fn jitter() -> u64 {
    random().map_or(0, u64::from_le_bytes)
}

/// A fresh message id.
///
/// # Errors
/// As [`random`].
pub(crate) fn message_id() -> Result<MessageId, getrandom::Error> {
    random().map(MessageId::new)
}
