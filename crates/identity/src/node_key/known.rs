//! Public keys that were used a moment ago. Finding the point that a key spells is a tenth of verifying a signature, and
//! most signatures are of a few keys.

use std::sync::{Mutex, MutexGuard, PoisonError};

use clawchat_types::NodeId;
use ed25519_dalek::VerifyingKey;

/// Keys that are kept; each takes a quarter of a KiB.
const PLACES: usize = 64;

/// The keys of this process.
pub(super) static KEYS: Keys = Keys::new();

/// Keys that were used a moment ago. Each has one place, by its first byte; those that share one put each other out.
pub(super) struct Keys(Mutex<[Option<VerifyingKey>; PLACES]>);

impl Keys {
    const fn new() -> Self {
        Self(Mutex::new([None; PLACES]))
    }

    /// The point a key spells; none when it spells none, or one of small order.
    pub(super) fn find(&self, key: &NodeId) -> Option<VerifyingKey> {
        let bytes = key.as_bytes();
        let place = bytes.first().map_or(0, |first| usize::from(*first) % PLACES);
        let known = self.places().get(place).copied().flatten();
        if let Some(known) = known.filter(|known| known.as_bytes() == bytes) {
            return Some(known);
        }
        let point = VerifyingKey::from_bytes(bytes).ok()?;
        if point.is_weak() {
            return None;
        }
        if let Some(place) = self.places().get_mut(place) {
            *place = Some(point);
        }
        Some(point)
    }

    fn places(&self) -> MutexGuard<'_, [Option<VerifyingKey>; PLACES]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKey;

    #[test]
    fn keys_that_share_a_place_are_never_taken_for_each_other() {
        let keys = Keys::new();
        let of = |seed: u8| NodeKey::from_seed([seed; 32]).node_id();
        for _ in 0..2 {
            for key in (0..=u8::MAX).map(of) {
                for _ in 0..2 {
                    assert_eq!(keys.find(&key).unwrap().as_bytes(), key.as_bytes());
                }
            }
        }
    }

    #[test]
    fn weak_keys_and_what_is_no_key_are_not_found() {
        let keys = Keys::new();
        let mut identity = [0; 32];
        identity[0] = 1;
        for bytes in [identity, [0; 32], [2; 32].map(|byte: u8| byte ^ 0xff)] {
            let strict = VerifyingKey::from_bytes(&bytes).is_ok_and(|key| !key.is_weak());
            for _ in 0..2 {
                assert_eq!(keys.find(&NodeId::new(bytes)).is_some(), strict);
            }
        }
        assert!(keys.find(&NodeId::new(identity)).is_none());
    }
}
