//! Figures, printed and not judged but for the page:
//! `cargo test --release -p clawchat-store --test channel_log_measure -- --ignored --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/channels.rs"]
mod channels;
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use clawchat_store::{
    ChannelLog, ChannelLogOptions, HistoryFrom, LogQuota, LogWrite, NewEntry, SledChannelLog, StoreOptions,
};
use clawchat_types::UnixMillis;

use channels::{NOW, entry};
use common::KEY;

/// Entries in one commit.
const BATCH: u64 = 256;

fn message(channel: &str, number: u64) -> NewEntry {
    // As random as an id of the mesh.
    let id = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    NewEntry {
        id: format!("{id:016x}-{number:08x}-4a5b-8c7d").into(),
        time: UnixMillis(NOW + number / 20),
        text: format!("{number:010}{}", "x".repeat(340)).into(),
        verified: true,
        ..entry(channel, number)
    }
}

fn open(place: &Path) -> SledChannelLog {
    let quota = LogQuota::default();
    let quota = LogQuota {
        kept: quota.followed,
        ..quota
    };
    let options = ChannelLogOptions {
        store: StoreOptions::default(),
        quota,
        ..ChannelLogOptions::default()
    };
    SledChannelLog::open(place, &KEY, options).unwrap()
}

#[test]
#[ignore = "prints figures"]
fn a_million_entries() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let place = folder.path().join("log");
    let log = open(&place);
    println!("resident: {} KiB with an empty log", resident());
    let (mut next, mut pages) = (1, Vec::new());
    for goal in [1_000, 10_000, 100_000, 250_000, 500_000, 750_000, 1_000_000] {
        let (begin, from, used) = (Instant::now(), next, processor());
        while next <= goal {
            let end = (next + BATCH).min(goal + 1);
            let batch = (next..end).map(|number| LogWrite::Append(message("lobby", number)));
            log.commit(batch.collect()).unwrap();
            next = end;
        }
        let rate = count_f64(next - from) / begin.elapsed().as_secs_f64();
        let spent = processor() - used;
        pages.push(page_cost(&log, goal));
        println!(
            "at {goal}: {rate:.0} appends/s, {:.1} µs of processor each; page of 100 {:.0} µs, of 500 {:.0} µs, newest 100 {:.0} µs, \
             100 before the middle {:.0} µs, id {:.1} µs; resident {} KiB, disk {} MiB",
            spent * 1e6 / count_f64(next - from),
            micros(pages.last().unwrap().0),
            micros(pages.last().unwrap().1),
            micros(time(20, |_| drop(
                log.history("lobby", HistoryFrom::Newest, 100).unwrap()
            ))),
            micros(time(20, |at| {
                let time = UnixMillis(NOW + goal / 40 + at);
                let from = HistoryFrom::Before { time, id: "" };
                drop(log.history("lobby", from, 100).unwrap());
            })),
            micros(time(100, |at| {
                let id = message("lobby", at * goal / 100 + 1).id;
                assert!(log.arrival_of("lobby", &id).unwrap().is_some());
            })),
            resident(),
            disk(&place) / 1024
        );
    }
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let begin = Instant::now();
        work();
        println!("{what}: {:.0} ms", begin.elapsed().as_secs_f64() * 1e3);
    };
    let mut log = Some(log);
    timed("close", &mut || log = None);
    timed("open after an orderly close", &mut || log = Some(open(&place)));
    println!("resident: {} KiB", resident());
    let log_open = log.as_ref().unwrap();
    // A full channel: each new entry makes the oldest go.
    let (begin, used) = (Instant::now(), processor());
    for batch in 0..200 {
        let numbers = next + batch * BATCH..next + (batch + 1) * BATCH;
        let batch = numbers.map(|number| LogWrite::Append(message("lobby", number)));
        log_open.commit(batch.collect()).unwrap();
    }
    println!(
        "appends to the full channel: {:.0}/s, {:.1} µs of processor each; resident {} KiB",
        count_f64(200 * BATCH) / begin.elapsed().as_secs_f64(),
        (processor() - used) * 1e6 / count_f64(200 * BATCH),
        resident()
    );
    let begin = Instant::now();
    for number in 0..1000 {
        let entry = message("singles", number);
        log_open.commit(vec![LogWrite::Append(entry)]).unwrap();
    }
    println!("one by one: {:.0}/s", 1000.0 / begin.elapsed().as_secs_f64());
    log = None;
    std::fs::remove_file(place.join("clean")).unwrap();
    timed("open with examination", &mut || log = Some(open(&place)));
}

/// A page of 100 and one of 500, at the beginning, in the middle, near the end.
fn page_cost(log: &SledChannelLog, count: u64) -> (Duration, Duration) {
    let at = |limit: u64| {
        time(60, |round| {
            let after = (count - limit.min(count)) * (round % 3) / 2;
            let page = log
                .page("lobby", after, usize::try_from(limit).unwrap(), 1 << 20)
                .unwrap();
            assert_eq!(u64::try_from(page.len()).unwrap(), limit);
        })
    };
    (at(100), at(500))
}

/// The median time of some rounds.
fn time(rounds: u64, mut work: impl FnMut(u64)) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|round| {
            let begin = Instant::now();
            work(round);
            begin.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn count_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// What a folder takes on the disk, in KiB.
fn disk(place: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            if path.is_dir() {
                disk(&path)
            } else {
                std::fs::metadata(path).unwrap().blocks() / 2
            }
        })
        .sum()
}

/// Processor time used by this process so far, in seconds.
fn processor() -> f64 {
    /// Ticks in a second, on every Linux.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
