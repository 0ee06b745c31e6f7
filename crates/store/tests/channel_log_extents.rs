//! The file that holds the blocks of a channel log: used again, read while it is written, and never taken on trust.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/channels.rs"]
mod channels;
mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clawchat_store::{
    ChannelLog, ChannelLogOptions, ChannelQuota, LogQuota, LogWrite, NewEntry, OpenError, SledChannelLog,
};

use channels::{append, appended, entry, everything, open_log, options};
use common::{KEY, contents, copy, scratch};

/// The file.
const EXTENTS: &str = "extents";
/// Entries that a channel of these tests holds.
const HELD: u64 = 500;

/// A log that keeps few entries, however many come.
fn open_full(place: &Path) -> SledChannelLog {
    let quota = ChannelQuota {
        entries: HELD,
        ..LogQuota::default().kept
    };
    let options = ChannelLogOptions {
        recent_entries: 100,
        ..options(LogQuota {
            followed: quota,
            kept: quota,
            ..LogQuota::default()
        })
    };
    SledChannelLog::open(place, &KEY, options).unwrap()
}

/// An entry that says its number again and again: a page of others in its place would show.
fn long(channel: &str, number: u64) -> NewEntry {
    NewEntry {
        text: format!("{number:08} ").repeat(30).into(),
        ..entry(channel, number)
    }
}

fn length(place: &Path) -> u64 {
    std::fs::metadata(place.join(EXTENTS)).unwrap().len()
}

#[test]
fn a_full_log_takes_no_more_of_the_disk() {
    let folder = scratch();
    let place = folder.path().join("log");
    let log = open_full(&place);
    let commit = |from: u64, step: u64| {
        let entries = (from..from + step).map(|number| LogWrite::Append(long("lobby", number)));
        log.commit(entries.collect()).unwrap();
    };
    let mut number = 1;
    // In steps of all lengths, so that blocks of all lengths come and go.
    for round in 0..40 {
        commit(number, 1 + round);
        number += 1 + round;
    }
    let full = length(&place);
    for round in 0..600 {
        commit(number, 1 + round % 40);
        number += 1 + round % 40;
    }
    assert!(number > 20 * HELD, "{number}");
    let after = length(&place);
    assert!(after < full * 2, "{full} bytes became {after}");
    assert_eq!(log.channel("lobby").unwrap().unwrap().count, HELD);
    let whole = everything(&log);
    log.close().unwrap();
    assert_eq!(everything(&open_full(&place)), whole);
}

#[test]
fn what_was_forgotten_is_given_back_when_it_opens() {
    let folder = scratch();
    let place = folder.path().join("log");
    let log = open_log(&place);
    appended(&log, entry("kept", 1));
    for number in 1..=300 {
        appended(&log, long("gone", number));
    }
    let forget = LogWrite::Forget {
        channel: "gone".into(),
    };
    log.commit(vec![forget]).unwrap();
    let whole = everything(&log);
    log.close().unwrap();
    let before = length(&place);
    let log = open_log(&place);
    assert_eq!(everything(&log), whole);
    assert!(
        length(&place) <= before / 2,
        "{} of {before} bytes",
        length(&place)
    );
}

/// Blocks are written over while they are read: a page is of the log as it is, or is read again.
#[test]
fn readers_never_see_a_block_that_took_anothers_place() {
    let folder = scratch();
    let log = open_full(&folder.path().join("log"));
    log.commit(
        (1..=HELD)
            .map(|number| LogWrite::Append(long("lobby", number)))
            .collect(),
    )
    .unwrap();
    let done = AtomicBool::new(false);
    let read = |seed: u64| {
        let mut pages = 0_u64;
        while !done.load(Ordering::SeqCst) {
            let info = log.channel("lobby").unwrap().unwrap();
            let after = info.first + (pages * 37 + seed) % HELD;
            let page = log.page("lobby", after, 100, 1 << 20).unwrap();
            for entry in &page {
                let expected = long("lobby", entry.arrival);
                assert_eq!((&entry.id, &entry.text), (&expected.id, &expected.text));
            }
            for pair in page.windows(2) {
                assert_eq!(pair[0].arrival + 1, pair[1].arrival);
            }
            pages += 1;
        }
        pages
    };
    thread::scope(|scope| {
        let readers = [scope.spawn(|| read(1)), scope.spawn(|| read(250))];
        let mut number = HELD + 1;
        for round in 0..300 {
            let step = 1 + round % 60;
            let entries = (number..number + step).map(|number| LogWrite::Append(long("lobby", number)));
            log.commit(entries.collect()).unwrap();
            number += step;
        }
        done.store(true, Ordering::SeqCst);
        for reader in readers {
            assert!(reader.join().unwrap() > 10);
        }
    });
}

#[test]
fn an_older_file_beside_a_newer_database_is_refused() {
    let folder = scratch();
    let place = folder.path().join("log");
    let log = open_log(&place);
    for number in 1..=20 {
        appended(&log, entry("lobby", number));
    }
    log.close().unwrap();
    let old = std::fs::read(place.join(EXTENTS)).unwrap();
    // The same entries in the same slots, but for the last block.
    let log = open_log(&place);
    for number in 21..=23 {
        appended(&log, entry("lobby", number));
    }
    log.close().unwrap();
    let new = std::fs::read(place.join(EXTENTS)).unwrap();
    assert_ne!(old, new);
    let mut mixed = old.clone();
    mixed.resize(new.len().max(old.len()), 0);
    std::fs::write(place.join(EXTENTS), mixed).unwrap();
    refused(&place, "is not what was written");
}

#[test]
fn what_it_lost_is_always_noticed() {
    let folder = scratch();
    let place = folder.path().join("log");
    let log = open_log(&place);
    log.commit(
        (1..=HELD)
            .map(|number| LogWrite::Append(long("lobby", number)))
            .collect(),
    )
    .unwrap();
    log.close().unwrap();
    let whole = std::fs::read(place.join(EXTENTS)).unwrap();
    for (kept, sentence) in [
        (whole.len() - 1, "shorter"),
        (whole.len() / 2, "shorter"),
        (0, "shorter"),
    ] {
        let trial = folder.path().join(format!("kept-{kept}")).join("log");
        copy(&place, &trial);
        std::fs::write(trial.join(EXTENTS), &whole[..kept]).unwrap();
        refused(&trial, sentence);
    }
    // Every slot holds something; a bit of it counts.
    for slot in 0..whole.len() / 4096 {
        let trial = folder.path().join(format!("slot-{slot}")).join("log");
        copy(&place, &trial);
        let mut flipped = whole.clone();
        flipped[slot * 4096 + slot % 1000] ^= 1;
        std::fs::write(trial.join(EXTENTS), flipped).unwrap();
        refused(&trial, "is not what was written");
    }
    let trial = folder.path().join("missing").join("log");
    copy(&place, &trial);
    std::fs::remove_file(trial.join(EXTENTS)).unwrap();
    refused(&trial, "missing");
}

/// What nothing leads to may hold anything: it is what a crash leaves behind.
#[test]
fn what_an_interrupted_commit_left_behind_is_written_over() {
    let folder = scratch();
    let place = folder.path().join("log");
    let log = open_log(&place);
    for number in 1..=20 {
        appended(&log, entry("lobby", number));
    }
    let whole = everything(&log);
    log.close().unwrap();
    std::fs::remove_file(place.join("clean")).unwrap();
    let mut bytes = std::fs::read(place.join(EXTENTS)).unwrap();
    let end = bytes.len();
    bytes.resize(end + 100_000, 0x5a);
    std::fs::write(place.join(EXTENTS), bytes).unwrap();
    let log = open_log(&place);
    assert_eq!(everything(&log), whole);
    assert!(length(&place) < u64::try_from(end).unwrap() + 5_000);
    log.commit(vec![append("lobby", 21)]).unwrap();
    let whole = everything(&log);
    log.close().unwrap();
    assert_eq!(everything(&open_log(&place)), whole);
}

/// The log is not opened, says which file it is about, and is left as it is.
fn refused(place: &Path, sentence: &str) {
    let before = contents(place);
    match SledChannelLog::open(place, &KEY, options(LogQuota::default())) {
        Err(OpenError::Damaged(damage)) => {
            assert_eq!(damage.path, place.join(EXTENTS));
            assert!(damage.what.contains(sentence), "{damage}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{} was opened", place.display()),
    }
    assert!(contents(place) == before, "{} was changed", place.display());
}
