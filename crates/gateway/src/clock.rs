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

/// A fresh message id: the time in milliseconds (6 bytes), then 10 random bytes. Nobody reads the time out of it; it
/// makes the stores of both sides append to their indexes of ids instead of touching pages all over them, which keeps
/// message 100,000 as quick as message 1,000 (`spec/chat-1.md`, "id").
///
/// # Errors
/// As [`random`].
pub(crate) fn message_id() -> Result<MessageId, getrandom::Error> {
    let mut bytes: [u8; 16] = random()?;
    bytes[..6].copy_from_slice(&now().0.to_be_bytes()[2..]);
    Ok(MessageId::new(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_differ_and_begin_with_the_time() {
        let ids: BTreeSet<MessageId> = (0..1000).map(|_| message_id().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let mut time = [0; 8];
            time[2..].copy_from_slice(&id.as_bytes()[..6]);
            assert!(u64::from_be_bytes(time).abs_diff(now().0) < 60_000, "{id}");
        }
    }
}
