//! When to try again.

use std::time::Duration;

use clawchat_types::UnixMillis;

/// Pause after the first failure.
pub const RETRY_FIRST: Duration = Duration::from_secs(5);
/// Longest pause, before jitter.
pub const RETRY_MAX: Duration = Duration::from_secs(5 * 60);
/// How far a pause may be off its plan to either side, in percent, so that many gateways do not call at once.
pub const JITTER_PERCENT: u32 = 20;
/// How long a message is worth trying unless its sender said otherwise.
pub const DEFAULT_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// When a message accepted at `now` is given up, unless its sender said otherwise.
#[must_use]
pub fn default_expiry(now: UnixMillis) -> UnixMillis {
    now.after(DEFAULT_EXPIRY)
}

/// The retry plan of one conversation: at once when a way opens, otherwise after pauses that double from
/// [`RETRY_FIRST`] to [`RETRY_MAX`], for ever; what ends it is the expiry of the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    not_before: UnixMillis,
}

impl Backoff {
    /// Nothing has failed; the first try is due.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on where an earlier run stopped: after so many failures in a row, the next try due at `not_before`.
    #[must_use]
    pub fn resume(failures: u32, not_before: UnixMillis) -> Self {
        Self { failures, not_before }
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next try is due. In the past when it is due now.
    #[must_use]
    pub fn next_attempt(&self) -> UnixMillis {
        self.not_before
    }

    /// Whether it is time to try.
    #[must_use]
    pub fn is_due(&self, now: UnixMillis) -> bool {
        now >= self.not_before
    }

    /// Whether the next try is worth a search if no known address works: the first one and every other from then on. Who
    /// is away cannot be found, and news of who is back come unasked.
    #[must_use]
    pub fn searches(&self) -> bool {
        self.failures.is_multiple_of(2)
    }

    /// A try failed. Returns when the next one is due; `random` is any 64 random bits.
    pub fn after_failure(&mut self, now: UnixMillis, random: u64) -> UnixMillis {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.after(pause(self.failures, random));
        self.not_before
    }

    /// A way to the peer opened: the next try is due at once. If it fails, the pauses go on growing.
    pub fn connected(&mut self) {
        self.not_before = UnixMillis::default();
    }

    /// A try worked: the plan starts from the beginning.
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

/// The pause after so many failures in a row (from 1), without jitter.
fn planned_pause(failures: u32) -> Duration {
    let factor = 2u32.saturating_pow(failures.saturating_sub(1));
    RETRY_FIRST.saturating_mul(factor).min(RETRY_MAX)
}

fn pause(failures: u32, random: u64) -> Duration {
    // A whole number of thousandths from 1000 - jitter to 1000 + jitter; the bias of the remainder is nothing here.
    let span = u64::from(JITTER_PERCENT) * 20 + 1;
    let thousandths = 1000 - JITTER_PERCENT * 10 + u32::try_from(random % span).unwrap_or_default();
    planned_pause(failures) * thousandths / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_plan_is_5_10_20_40_80_160_300_300() {
        let seconds: Vec<u64> = (1..=8).map(|n| planned_pause(n).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn the_first_try_is_due_at_once_and_after_a_connection_too() {
        let now = UnixMillis(1_000_000);
        let mut backoff = Backoff::new();
        assert!(backoff.is_due(now));
        let next = backoff.after_failure(now, 0);
        assert!(!backoff.is_due(now) && backoff.is_due(next));
        backoff.connected();
        assert!(backoff.is_due(now));
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn a_plan_outlives_a_restart() {
        let mut backoff = Backoff::new();
        let next = backoff.after_failure(UnixMillis(5), 7);
        assert_eq!(Backoff::resume(backoff.failures(), next), backoff);
    }

    #[test]
    fn every_other_try_is_worth_a_search_and_the_first_one_is() {
        let mut backoff = Backoff::new();
        let mut worth = Vec::new();
        for _ in 0..5 {
            worth.push(backoff.searches());
            backoff.after_failure(UnixMillis(0), 0);
        }
        assert_eq!(worth, [true, false, true, false, true]);
        backoff.reset();
        assert!(backoff.searches());
    }

    #[test]
    fn a_message_is_worth_a_week() {
        assert_eq!(
            default_expiry(UnixMillis(1)),
            UnixMillis(1 + 7 * 24 * 3600 * 1000)
        );
    }

    proptest! {
        #[test]
        fn every_pause_is_within_its_bounds(failures in any::<u32>(), random in any::<u64>()) {
            let (plan, pause) = (planned_pause(failures), pause(failures, random));
            prop_assert!(plan >= RETRY_FIRST && plan <= RETRY_MAX);
            prop_assert!(pause >= plan * 8 / 10 && pause <= plan * 12 / 10);
        }

        #[test]
        fn pauses_grow_to_the_cap_and_start_again_after_success(randoms in prop::collection::vec(any::<u64>(), 1..40)) {
            let mut backoff = Backoff::new();
            let mut now = UnixMillis(0);
            let mut last = Duration::ZERO;
            for (n, random) in randoms.iter().enumerate() {
                let next = backoff.after_failure(now, *random);
                let pause = now.until(next);
                // Doubling beats the jitter: 2 * 0.8 > 1.2.
                prop_assert!(n > 5 || pause > last, "{last:?} then {pause:?}");
                prop_assert!(pause <= RETRY_MAX * 12 / 10);
                (last, now) = (pause, next);
            }
            backoff.reset();
            prop_assert_eq!(backoff, Backoff::new());
            prop_assert!(now.until(backoff.after_failure(now, randoms[0])) <= RETRY_FIRST * 12 / 10);
        }

        #[test]
        fn the_end_of_time_does_not_overflow(now in any::<u64>(), failures in any::<u32>(), random in any::<u64>()) {
            let mut backoff = Backoff::resume(failures, UnixMillis(now));
            prop_assert!(backoff.after_failure(UnixMillis(now), random) >= UnixMillis(now));
        }
    }
}
