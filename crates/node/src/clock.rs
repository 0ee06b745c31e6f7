//! The system's clocks and randomness, for the state machines that must not read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clawchat_types::{Moment, UnixMillis};
use tokio::time::Instant;

/// Both clocks, the steady one counted from when this was made. Copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the steady clock.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// What both clocks show.
    pub(crate) fn now(self) -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment {
            wall: UnixMillis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
            mono: self.start.elapsed(),
        }
    }

    /// Waits for a point on the steady clock; for ever if there is none.
    pub(crate) async fn sleep_until(self, deadline: Option<Duration>) {
        match deadline.and_then(|deadline| self.start.checked_add(deadline)) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// A random share of `most`.
pub(crate) fn jitter(most: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness nothing is spread, and nothing else is wrong.
    let _ = getrandom::fill(&mut byte);
    most.mul_f64(f64::from(byte[0]) / f64::from(u8::MAX))
}
