//! What this machine can do at best, measured in the same run: figures are comparable only beside it.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clawchat_testkit::SeededRng;
use serde_json::{Value, json};

use crate::gateways::Outcome;

/// Bytes written before each sync: a page, as a database would.
const SYNC_BYTES: usize = 4096;
/// How many syncs are measured.
const SYNCS: usize = 500;
/// How many round trips are measured.
const ROUND_TRIPS: usize = 20_000;
/// Bytes each way.
const ROUND_TRIP_BYTES: usize = 100;
/// How many process starts are measured.
const SPAWNS: usize = 40;

/// Bytes of a piece that is read at once.
const PIECE_BYTES: usize = 16 * 1024;
/// How often such pieces are read.
const SCATTERED_READS: usize = 500;

/// The machine's own figures.
pub(super) struct Limits {
    /// Processors.
    pub(super) processors: usize,
    /// A page appended to a file in the temporary folder and `fdatasync`, so often a second.
    pub(super) syncs_per_second: f64,
    /// A hundred bytes to another thread over a Unix socket, and back, in microseconds.
    pub(super) round_trip_micros: f64,
    /// Starting `/bin/true` and waiting for its end, in milliseconds.
    pub(super) spawn_ms: f64,
}

impl Limits {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "processors": self.processors,
            "diskSyncsPerSecond": self.syncs_per_second,
            "socketRoundTripMicros": self.round_trip_micros,
            "processStartMillis": self.spawn_ms,
        })
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "This machine: {} processors, {:.0} disk syncs/s, {:.1} us for a socket round trip, {:.2} ms for a \
             process start.",
            self.processors, self.syncs_per_second, self.round_trip_micros, self.spawn_ms
        )
    }
}

pub(super) fn measure() -> Outcome<Limits> {
    Ok(Limits {
        processors: thread::available_parallelism().map_or(1, usize::from),
        syncs_per_second: syncs_per_second()?,
        round_trip_micros: round_trips()?.as_secs_f64() * 1e6,
        spawn_ms: spawns()?.as_secs_f64() * 1e3,
    })
}

/// The time below which that many percent of `times` are; the times must be sorted.
pub(super) fn percentile(times: &[Duration], percent: usize) -> Duration {
    times
        .get(times.len().saturating_sub(1) * percent / 100)
        .copied()
        .unwrap_or_default()
}

/// How long the middle one of `count` repetitions takes.
pub(super) fn median(count: usize, mut work: impl FnMut() -> Outcome) -> Outcome<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        work()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(percentile(&times, 50))
}

/// Reading `bytes` anywhere in a file of `length` that is in memory, in pieces. The longer the file, the less of it is near
/// the processor.
pub(super) fn scattered_read(bytes: u64, length: u64) -> Outcome<Duration> {
    let failed = |error: std::io::Error| format!("measuring reads: {error}");
    let mut file = tempfile::tempfile().map_err(failed)?;
    std::io::copy(&mut std::io::repeat(7).take(length), &mut file).map_err(failed)?;
    let mut random = SeededRng::new(1);
    let mut piece = [0; PIECE_BYTES];
    median(SCATTERED_READS, || {
        let begin = random.below(length.saturating_sub(bytes).max(1));
        for at in (begin..begin + bytes).step_by(PIECE_BYTES) {
            file.read_exact_at(&mut piece, at.min(length.saturating_sub(PIECE_BYTES as u64)))
                .map_err(failed)?;
        }
        Ok(())
    })
}

/// What the disk allows at this moment. Others may be writing to it, so this changes.
pub(super) fn syncs_per_second() -> Outcome<f64> {
    let failed = |error: std::io::Error| format!("measuring the disk: {error}");
    let mut file: File = tempfile::tempfile().map_err(failed)?;
    let page = [7; SYNC_BYTES];
    let took = median(SYNCS, || {
        file.write_all(&page)
            .and_then(|()| file.sync_data())
            .map_err(failed)
    })?;
    Ok(1.0 / took.as_secs_f64())
}

fn round_trips() -> Outcome<Duration> {
    let failed = |error: std::io::Error| format!("measuring a socket: {error}");
    let (mut here, mut there) = UnixStream::pair().map_err(failed)?;
    let echo = thread::spawn(move || {
        let mut bytes = [0; ROUND_TRIP_BYTES];
        while there
            .read_exact(&mut bytes)
            .and_then(|()| there.write_all(&bytes))
            .is_ok()
        {}
    });
    let mut bytes = [7; ROUND_TRIP_BYTES];
    let median = median(ROUND_TRIPS, || {
        here.write_all(&bytes)
            .and_then(|()| here.read_exact(&mut bytes))
            .map_err(failed)
    });
    drop(here);
    echo.join().map_err(|_| "the echo panicked".to_owned())?;
    median
}

fn spawns() -> Outcome<Duration> {
    median(SPAWNS, || match Command::new("/bin/true").status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("/bin/true ended with {status}")),
        Err(error) => Err(format!("cannot run /bin/true: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times: Vec<Duration> = (1..=101).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(51));
        assert_eq!(percentile(&times, 99), Duration::from_millis(100));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
