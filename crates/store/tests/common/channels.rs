//! What the tests of the channel log share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::path::Path;
use std::time::Duration;

use clawchat_store::{
    Appended, ChannelLog, ChannelLogOptions, ChannelQuota, HistoryFrom, LogEntry, LogOutcome, LogQuota,
    LogWrite, NewEntry, SledChannelLog,
};
use clawchat_types::UnixMillis;

use crate::common::{KEY, opening, roomy};

/// When the entries of these tests are received, unless they say so.
pub const NOW: u64 = 1_700_000_000_000;

pub fn options(quota: LogQuota) -> ChannelLogOptions {
    ChannelLogOptions {
        store: roomy(),
        quota,
        ..ChannelLogOptions::default()
    }
}

pub fn open_log(folder: &Path) -> SledChannelLog {
    opening(|| SledChannelLog::open(folder, &KEY, options(LogQuota::default()))).unwrap()
}

/// With quotas and an index in memory that are soon exhausted.
pub fn open_small(folder: &Path) -> SledChannelLog {
    let options = ChannelLogOptions {
        recent_entries: 16,
        ..options(small())
    };
    opening(|| SledChannelLog::open(folder, &KEY, options)).unwrap()
}

/// Quotas that are soon reached.
pub fn small() -> LogQuota {
    LogQuota {
        followed: ChannelQuota {
            entries: 40,
            bytes: 20_000,
            age: None,
        },
        kept: ChannelQuota {
            entries: 20,
            bytes: 10_000,
            age: Some(Duration::from_secs(1000)),
        },
        total_bytes: 30_000,
    }
}

pub fn entry(channel: &str, number: u64) -> NewEntry {
    NewEntry {
        channel: channel.into(),
        id: name(number).into(),
        time: UnixMillis(NOW + number),
        received_at: UnixMillis(NOW + number),
        verified: false,
        text: format!("text {number} of {channel}").into(),
    }
}

pub fn name(number: u64) -> String {
    format!("id-{number:08}")
}

pub fn append(channel: &str, number: u64) -> LogWrite {
    LogWrite::Append(entry(channel, number))
}

pub fn appended(log: &dyn ChannelLog, entry: NewEntry) -> Appended {
    match log.commit(vec![LogWrite::Append(entry)]).unwrap()[..] {
        [LogOutcome::Append(appended)] => appended,
        ref other => panic!("{other:?}"),
    }
}

pub fn ids(entries: &[LogEntry]) -> Vec<String> {
    entries.iter().map(|entry| entry.id.to_string()).collect()
}

pub fn names(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(name).collect()
}

/// All entries in the order of display, read page by page in both directions.
pub fn displayed(log: &dyn ChannelLog, channel: &str, step: usize) -> Vec<LogEntry> {
    let mut forward = Vec::new();
    let mut page = log.history(channel, HistoryFrom::Oldest, step).unwrap();
    while let Some(last) = page.last().cloned() {
        forward.append(&mut page);
        let from = HistoryFrom::After {
            time: last.time,
            id: &last.id,
        };
        page = log.history(channel, from, step).unwrap();
    }
    let mut backward = Vec::new();
    let mut page = log.history(channel, HistoryFrom::Newest, step).unwrap();
    while let Some(first) = page.first().cloned() {
        backward.extend(page.into_iter().rev());
        let from = HistoryFrom::Before {
            time: first.time,
            id: &first.id,
        };
        page = log.history(channel, from, step).unwrap();
    }
    backward.reverse();
    assert_eq!(ids(&forward), ids(&backward));
    forward
}

/// Everything a log remembers, read through every method.
pub fn everything(log: &dyn ChannelLog) -> String {
    let mut text = String::new();
    for info in log.channels().unwrap() {
        text += &format!("{info:?}\n");
        assert_eq!(log.channel(&info.name).unwrap().as_ref(), Some(&info));
        let mut arrivals = Vec::new();
        let mut after = 0;
        loop {
            let page = log.page(&info.name, after, 7, 100_000).unwrap();
            let Some(last) = page.last() else { break };
            after = last.arrival;
            arrivals.extend(page);
        }
        assert_eq!(u64::try_from(arrivals.len()).unwrap(), info.count);
        if let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) {
            assert_eq!((first.arrival, last.arrival), (info.first, info.last));
            assert_eq!(info.last - info.first + 1, info.count);
        }
        for entry in &arrivals {
            assert_eq!(
                log.arrival_of(&info.name, &entry.id).unwrap(),
                Some(entry.arrival)
            );
            text += &format!("{entry:?}\n");
        }
        let shown = displayed(log, &info.name, 5);
        arrivals.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        assert_eq!(ids(&shown), ids(&arrivals));
        assert_eq!(shown, arrivals);
    }
    text
}
