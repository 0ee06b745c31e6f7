//! Measuring time on a machine that others use too.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often the clock is moved on.
const BEAT: Duration = Duration::from_millis(50);
/// What a beat may be late without this process having been paused.
const LATE: Duration = Duration::from_millis(50);

/// How long this process has had since somebody first asked, for promises such as "within 5 s". Left out is what the
/// machine took away: pauses, and the share of the time that threads which had something to do waited for a processor.
/// On a machine with room for this process it is the time that passes.
#[must_use]
pub fn own_time() -> Duration {
    static NANOS: OnceLock<&'static AtomicU64> = OnceLock::new();
    let nanos = NANOS.get_or_init(|| {
        let nanos: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
        thread::spawn(move || keep(nanos));
        nanos
    });
    Duration::from_nanos(nanos.load(Ordering::Relaxed))
}

/// A measurement in [`own_time`], exact to about a tenth of a second.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        Self(own_time())
    }

    /// What passed since.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        own_time().saturating_sub(self.0)
    }
}

/// Moves the clock on for as long as the process lives.
fn keep(nanos: &AtomicU64) {
    let (mut last, mut work) = (Instant::now(), Work::default());
    work.since_last_time();
    loop {
        thread::sleep(BEAT);
        let now = Instant::now();
        let own = own_part(now - last, work.since_last_time());
        nanos.fetch_add(
            u64::try_from(own.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        last = now;
    }
}

/// What of the time that passed was this process's own.
fn own_part(passed: Duration, (worked, waited): (Duration, Duration)) -> Duration {
    let counted = passed.min(BEAT + LATE);
    let wanted = (worked + waited).as_secs_f64();
    if wanted == 0.0 {
        return counted;
    }
    // Threads wait side by side: together they lose no more than their share of the time.
    let share = counted.mul_f64(waited.as_secs_f64() / wanted);
    counted.saturating_sub(share.min(waited))
}

/// What the threads of this process do.
#[derive(Default)]
struct Work {
    /// By thread: nanoseconds on a processor, and waiting for one.
    seen: HashMap<String, (u64, u64)>,
}

impl Work {
    /// How long threads have run and waited for a processor since the last look. Nothing where the system does not
    /// tell.
    fn since_last_time(&mut self) -> (Duration, Duration) {
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let now: HashMap<String, (u64, u64)> = threads
            .filter_map(|thread| {
                let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
                let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
                let times = (numbers.next()?, numbers.next()?);
                Some((thread.file_name().to_string_lossy().into_owned(), times))
            })
            .collect();
        let (mut worked, mut waited) = (0_u64, 0_u64);
        for (thread, (ran, stood)) in &now {
            let (ran_before, stood_before) = self.seen.get(thread).copied().unwrap_or_default();
            worked += ran.saturating_sub(ran_before);
            waited += stood.saturating_sub(stood_before);
        }
        self.seen = now;
        (Duration::from_nanos(worked), Duration::from_nanos(waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: (Duration, Duration) = (Duration::ZERO, Duration::ZERO);

    #[test]
    fn time_with_room_for_the_process_counts_and_what_was_taken_away_does_not() {
        let second = Duration::from_secs(1);
        assert_eq!(own_part(BEAT, IDLE), BEAT);
        assert_eq!(
            own_part(BEAT, (BEAT, Duration::ZERO)),
            BEAT,
            "busy, and let to be"
        );
        assert_eq!(own_part(second, IDLE), BEAT + LATE, "a pause");
        assert_eq!(
            own_part(BEAT, (BEAT, 3 * BEAT)),
            BEAT / 4,
            "four on one processor"
        );
        let moment = Duration::from_micros(10);
        assert_eq!(own_part(BEAT, (moment, moment)), BEAT - moment);
        assert_eq!(
            own_part(BEAT, (Duration::ZERO, second)),
            Duration::ZERO,
            "others only"
        );
    }

    #[test]
    fn the_clock_goes() {
        let watch = Stopwatch::start();
        while watch.elapsed() < Duration::from_millis(200) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}
