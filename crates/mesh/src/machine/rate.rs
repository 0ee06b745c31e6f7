//! How much may come in how much time.

use std::time::Duration;

/// An allowance that fills with time: so much a period, and a burst on top. Time is [`clawchat_types::Moment::mono`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Time that one unit takes, in nanoseconds.
    nanos_each: u64,
    /// Units that may come at once.
    burst: u64,
    /// When it will be, or was, full.
    full_at: Duration,
}

impl Rate {
    /// `units` a `period`, and at most `burst` at once.
    pub(super) fn new(units: u32, period: Duration, burst: u64) -> Self {
        let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        Self {
            nanos_each: nanos / u64::from(units.max(1)),
            burst,
            full_at: Duration::ZERO,
        }
    }

    /// Takes what came, there or not. When the next unit is there.
    pub(super) fn take(&mut self, units: u64, now: Duration) -> Duration {
        let cost = Duration::from_nanos(self.nanos_each.saturating_mul(units));
        self.full_at = self.full_at.max(now).saturating_add(cost);
        self.ready_at()
    }

    /// Takes one unit if it is there.
    pub(super) fn allow(&mut self, now: Duration) -> bool {
        let allowed = self.ready_at() <= now;
        if allowed {
            self.take(1, now);
        }
        allowed
    }

    fn ready_at(&self) -> Duration {
        let held = self.nanos_each.saturating_mul(self.burst.saturating_sub(1));
        self.full_at.saturating_sub(Duration::from_nanos(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let second = Duration::from_secs(1);
        let mut rate = Rate::new(10, second, 3);
        assert!((0..3).all(|_| rate.allow(second)));
        assert!(!rate.allow(second));
        assert!(rate.allow(second + Duration::from_millis(100)));
        assert!(!rate.allow(second + Duration::from_millis(199)));
        // Five more than there are: half a second of debt.
        let mut rate = Rate::new(10, second, 1);
        assert_eq!(rate.take(1, second), second + Duration::from_millis(100));
        assert_eq!(rate.take(5, second), second + Duration::from_millis(600));
    }
}
