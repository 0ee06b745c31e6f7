//! Token buckets: how often something may happen, with a reserve for bursts.

use std::time::Duration;

/// A bucket of tokens that fills with time. Time is [`clawchat_types::Moment::mono`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Most tokens it holds.
    capacity: u32,
    /// Time in which one token comes back.
    refill: Duration,
    /// When it will be, or was, full.
    full_at: Duration,
}

impl Bucket {
    /// A full bucket of `capacity` tokens, each of which comes back after `refill`.
    pub(crate) const fn new(capacity: u32, refill: Duration) -> Self {
        Self {
            capacity,
            refill,
            full_at: Duration::ZERO,
        }
    }

    /// Takes up to `wanted` tokens; how many there were.
    pub(crate) fn take(&mut self, wanted: u32, now: Duration) -> u32 {
        let missing = self.full_at.saturating_sub(now);
        let held = self.refill.saturating_mul(self.capacity).saturating_sub(missing);
        let tokens = held
            .as_nanos()
            .checked_div(self.refill.as_nanos())
            .unwrap_or_default();
        let taken = wanted.min(u32::try_from(tokens).unwrap_or(u32::MAX));
        self.full_at = self
            .full_at
            .max(now)
            .saturating_add(self.refill.saturating_mul(taken));
        taken
    }

    /// When at least one token is there.
    pub(crate) fn ready_at(&self) -> Duration {
        let most = self.refill.saturating_mul(self.capacity.saturating_sub(1));
        self.full_at.saturating_sub(most)
    }

    /// Whether nothing is missing.
    pub(crate) fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_burst_then_one_at_a_time() {
        let mut bucket = Bucket::new(3, secs(10));
        assert!(bucket.is_full(secs(0)));
        assert_eq!(bucket.take(5, secs(0)), 3);
        assert_eq!(bucket.take(1, secs(9)), 0);
        assert_eq!(bucket.ready_at(), secs(10));
        assert_eq!(bucket.take(1, secs(10)), 1);
        assert_eq!(bucket.take(9, secs(1000)), 3);
        assert!(!bucket.is_full(secs(1029)) && bucket.is_full(secs(1030)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(steps in prop::collection::vec((0_u64..20, 0_u32..10), 1..50)) {
            let mut bucket = Bucket::new(5, secs(3));
            let (mut now, mut taken) = (0, 0);
            for (pause, wanted) in steps {
                now += pause;
                let ready = bucket.ready_at();
                let got = bucket.take(wanted, secs(now));
                prop_assert!(wanted == 0 || (got > 0) == (ready <= secs(now)));
                taken += u64::from(got);
                prop_assert!(taken <= 5 + now / 3);
            }
        }
    }
}
