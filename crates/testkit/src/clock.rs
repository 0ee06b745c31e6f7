//! A clock that moves only when told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawchat_types::{Moment, UnixMillis};

/// Where every [`Clock`] starts: 2026-01-01 00:00:00 UTC.
pub const START: UnixMillis = UnixMillis(1_767_225_600_000);

/// A hand-driven clock. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    now: Arc<Mutex<Moment>>,
}

impl Clock {
    /// A clock at [`START`], its monotonic side at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::at(START)
    }

    /// A clock at some other wall time, its monotonic side at zero.
    #[must_use]
    pub fn at(wall: UnixMillis) -> Self {
        let mono = Duration::ZERO;
        Self {
            now: Arc::new(Mutex::new(Moment { wall, mono })),
        }
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Moment {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time passes, on both sides. Gives back the new time.
    pub fn advance(&self, duration: Duration) -> Moment {
        self.change(|now| {
            now.wall = now.wall.after(duration);
            now.mono = now.mono.saturating_add(duration);
        })
    }

    /// Somebody sets the wall clock, forwards or back; the monotonic side does not notice.
    pub fn set_wall(&self, wall: UnixMillis) -> Moment {
        self.change(|now| now.wall = wall)
    }

    fn change(&self, change: impl FnOnce(&mut Moment)) -> Moment {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut now);
        *now
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_advance_and_only_the_wall_is_set() {
        let clock = Clock::new();
        let shared = clock.clone();
        shared.advance(Duration::from_millis(1500));
        let now = clock.now();
        assert_eq!(
            (now.wall, now.mono),
            (UnixMillis(START.0 + 1500), Duration::from_millis(1500))
        );
        let set = clock.set_wall(UnixMillis(7));
        assert_eq!((set.wall, set.mono), (UnixMillis(7), Duration::from_millis(1500)));
    }
}
