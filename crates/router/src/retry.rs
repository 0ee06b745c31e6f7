//! When to try again to reach somebody who is away.

use std::time::Duration;

/// The pause after the first failure.
pub const FIRST_DELAY: Duration = Duration::from_secs(5);
/// The longest pause, before jitter. Tries go on at this pace until the messages expire.
pub const LONGEST_DELAY: Duration = Duration::from_secs(5 * 60);
/// How far a pause may stray from its nominal length, in percent, so that peers do not try in step.
pub const JITTER_PERCENT: u32 = 20;
/// How long a message is tried unless its sender says otherwise: 7 days.
pub const DEFAULT_EXPIRY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The pauses between tries: [`FIRST_DELAY`], doubling up to [`LONGEST_DELAY`], each with jitter. A session that
/// appears in between is used at once; that is the caller's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Before the first failure.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a failure and gives the pause before the next try. `random` decides the jitter.
    pub fn next_delay(&mut self, random: u64) -> Duration {
        let doubled = FIRST_DELAY.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = (self.failures + 1).min(31);
        let nominal = doubled.min(LONGEST_DELAY);
        // 80 % to 120 % in steps of a thousandth.
        let span = u64::from(JITTER_PERCENT) * 20;
        let permille = 1000 - u64::from(JITTER_PERCENT) * 10 + random % (span + 1);
        nominal.saturating_mul(u32::try_from(permille).unwrap_or(1000)) / 1000
    }

    /// Notes a success: the next failure counts as the first.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pauses_double_from_five_seconds_to_five_minutes() {
        let mut backoff = Backoff::new();
        let middle = 200; // of 0..=400: no jitter
        let seconds: Vec<u64> = (0..9).map(|_| backoff.next_delay(middle).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.next_delay(middle), FIRST_DELAY);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_bounds_for_ever(randoms in prop::collection::vec(any::<u64>(), 1..80)) {
            let mut backoff = Backoff::new();
            let mut nominal = FIRST_DELAY;
            for random in randoms {
                let delay = backoff.next_delay(random);
                prop_assert!(delay >= nominal.mul_f64(0.8) && delay <= nominal.mul_f64(1.2), "{delay:?} {nominal:?}");
                nominal = (nominal * 2).min(LONGEST_DELAY);
            }
        }
    }
}
