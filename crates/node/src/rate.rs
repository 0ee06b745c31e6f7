//! How many handshakes a host may begin that come to no session, or to one that ends at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

/// The time over which handshakes are counted.
const PERIOD: Duration = Duration::from_secs(60);
/// Hosts that are counted at a time; beyond it the one that did least is forgotten.
const MAX_HOSTS: usize = 4096;

/// Where a handshake comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// An IP address, or a /64 network of IPv6.
    Host(IpAddr),
    /// Somebody behind a relay, whose own address is not to be seen.
    Peer(PeerId),
}

/// Handshakes begun and not completed, by source. They are forgotten evenly, as many in a minute as are allowed in one.
pub(crate) struct Handshakes {
    per_minute: u32,
    sources: HashMap<Source, Used>,
}

struct Used {
    /// Time it takes until all of them are forgotten, as of `at`.
    debt: Duration,
    at: Instant,
}

impl Handshakes {
    /// At most `per_minute` from one source, and at least one.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self {
            per_minute: per_minute.max(1),
            sources: HashMap::new(),
        }
    }

    /// Counts another one. Returns whether it is still allowed; one that is not is not counted.
    pub(crate) fn begin(&mut self, source: Source, now: Instant) -> bool {
        let step = self.step();
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_HOSTS {
            self.forget(now);
        }
        let used = self.sources.entry(source).or_insert(Used {
            debt: Duration::ZERO,
            at: now,
        });
        used.settle(now);
        if used.debt + step > PERIOD {
            return false;
        }
        used.debt += step;
        true
    }

    /// One of them came to a session: it does not count.
    pub(crate) fn completed(&mut self, source: Source) {
        let step = self.step();
        if let Some(used) = self.sources.get_mut(&source) {
            used.debt = used.debt.saturating_sub(step);
        }
    }

    /// The session that one of them came to ended at once: it counts after all.
    pub(crate) fn in_vain(&mut self, source: Source, now: Instant) {
        // One that would go beyond what is allowed changes nothing any more.
        self.begin(source, now);
    }

    fn step(&self) -> Duration {
        PERIOD / self.per_minute
    }

    /// Makes room for one more.
    fn forget(&mut self, now: Instant) {
        self.sources.retain(|_, used| {
            used.settle(now);
            !used.debt.is_zero()
        });
        if self.sources.len() >= MAX_HOSTS {
            let least = self.sources.iter().min_by_key(|(_, used)| used.debt);
            if let Some(least) = least.map(|(source, _)| *source) {
                self.sources.remove(&least);
            }
        }
    }
}

impl Used {
    fn settle(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.debt = self.debt.saturating_sub(passed);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u32) -> Source {
        Source::Host(IpAddr::from(last.to_be_bytes()))
    }

    #[tokio::test]
    async fn a_flood_is_cut_and_honest_hosts_are_not() {
        let (mut rate, now) = (Handshakes::new(60), Instant::now());
        let begun = (0..1000).filter(|_| rate.begin(host(1), now)).count();
        assert_eq!(begun, 60);
        assert!(rate.begin(host(2), now), "another host");
        for _ in 0..1000 {
            assert!(
                rate.begin(host(3), now),
                "who completes them may begin as many as he likes"
            );
            rate.completed(host(3));
        }
        let later = now + Duration::from_secs(10);
        let begun = (0..1000).filter(|_| rate.begin(host(1), later)).count();
        assert_eq!(begun, 10, "one a second comes free");
        assert!(rate.begin(host(1), later + PERIOD));
    }

    #[tokio::test]
    async fn sessions_that_end_at_once_count_like_handshakes_that_came_to_none() {
        let (mut rate, now) = (Handshakes::new(60), Instant::now());
        let mut begun = 0;
        while rate.begin(host(1), now) {
            rate.completed(host(1));
            rate.in_vain(host(1), now);
            begun += 1;
            assert!(begun < 1000);
        }
        assert_eq!(begun, 60);
        assert!(rate.begin(host(2), now), "another host");
        assert!(rate.begin(host(1), now + Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (mut rate, now) = (Handshakes::new(60), Instant::now());
        while rate.begin(host(0), now) {}
        for number in 1..100_000 {
            assert!(rate.begin(host(number), now));
        }
        assert!(rate.sources.len() <= MAX_HOSTS);
        assert!(!rate.begin(host(0), now), "the busiest one is not forgotten");
    }
}
