//! Measuring how long a program takes on a machine that may stand still meanwhile, as a virtual one does at times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(5);
/// What counts at most of the time between two looks. When more passes, nobody ran: also not who is measured.
const LONGEST: Duration = Duration::from_millis(250);

/// Time since it was started.
pub(crate) struct Stopwatch(Arc<AtomicU64>);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let nanoseconds = Arc::new(AtomicU64::new(0));
        let counted = Arc::downgrade(&nanoseconds);
        let mut last = Instant::now();
        thread::spawn(move || {
            while let Some(counted) = counted.upgrade() {
                let now = Instant::now();
                let more = (now - last).min(LONGEST).as_nanos();
                counted.fetch_add(u64::try_from(more).unwrap_or_default(), Ordering::Relaxed);
                last = now;
                drop(counted);
                thread::sleep(TICK);
            }
        });
        Self(nanoseconds)
    }

    /// Exact to a few milliseconds.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}
