//! The channel log on disk against the one in memory, under the same random batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/channels.rs"]
mod channels;
mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clawchat_store::{
    ChannelLog, HistoryFrom, LogEntry, LogWrite, MemoryChannelLog, NewEntry, SledChannelLog,
};
use clawchat_types::{NodeId, UnixMillis};
use proptest::prelude::*;

use channels::{NOW, append, entry, everything, open_small, small};
use common::scratch;

/// What happens in one step.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<LogWrite>),
    /// Close in order and open again.
    Reopen,
    /// Open again as after a crash: without the mark of an orderly close.
    ReopenUntidy,
}

fn write() -> impl Strategy<Value = LogWrite> {
    // Few different numbers, so that writes meet each other.
    let channel = || prop::sample::select(vec!["a", "b", "c"]).prop_map(Box::<str>::from);
    prop_oneof![
        12 => (channel(), 0..120_u64, 0..300_u64, any::<bool>(), 0..3000_u64, 0..4_usize).prop_map(
            |(channel, number, time, verified, later, long)| {
                let text = "x".repeat([0, 30, 900, 8_000][long]);
                LogWrite::Append(NewEntry {
                    time: UnixMillis(NOW + time),
                    received_at: UnixMillis(NOW + later * 100),
                    verified,
                    text: text.into(),
                    ..entry(&channel, number)
                })
            }
        ),
        1 => (channel(), any::<bool>())
            .prop_map(|(channel, followed)| LogWrite::SetFollowed { channel, followed }),
        1 => channel().prop_map(|channel| LogWrite::Forget { channel }),
        1 => (0..3000_u64).prop_map(|later| LogWrite::Expire { now: UnixMillis(NOW + later * 1000) }),
        1 => (channel(), 0..9_u64).prop_map(|(channel, number)| LogWrite::SetCursor {
            peer: "peer".into(),
            channel,
            id: number.to_string().into(),
        }),
        1 => (0..3_u8, 0..2_u8).prop_map(|(id, key)| LogWrite::RememberKey {
            id: id.to_string().into(),
            key: NodeId::new([key; 32]),
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => prop::collection::vec(write(), 0..20).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::ReopenUntidy),
    ]
}

fn remembered(log: &dyn ChannelLog) -> String {
    let mut text = everything(log);
    for channel in ["a", "b", "c"] {
        text += &format!("{:?}", log.cursor("peer", channel).unwrap());
    }
    for id in ["0", "1", "2"] {
        text += &format!("{:?}", log.key_of(id).unwrap());
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_logs_remember_the_same(steps in prop::collection::vec(step(), 0..60)) {
        let folder = scratch();
        let place = folder.path().join("log");
        let mut sled: SledChannelLog = open_small(&place);
        let memory = MemoryChannelLog::new(small());
        for step in steps {
            match step {
                Step::Commit(batch) => {
                    prop_assert_eq!(sled.commit(batch.clone()).unwrap(), memory.commit(batch).unwrap());
                }
                Step::Reopen => {
                    sled.close().unwrap();
                    sled = open_small(&place);
                }
                Step::ReopenUntidy => {
                    sled.close().unwrap();
                    let _ = std::fs::remove_file(place.join("clean"));
                    sled = open_small(&place);
                }
            }
            prop_assert_eq!(remembered(&sled), remembered(&memory));
        }
    }
}

/// Readers see whole pages and nothing that is not acknowledged, while entries come and go under them.
#[test]
fn readers_are_not_disturbed_by_what_comes_and_goes() {
    let folder = scratch();
    let log = open_small(&folder.path().join("log"));
    let acked = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let before = acked.load(Ordering::SeqCst);
                    let page = log.page("a", 0, 100, 1_000_000).unwrap();
                    for pair in page.windows(2) {
                        assert_eq!(pair[1].arrival, pair[0].arrival + 1);
                    }
                    let shown = log.history("a", HistoryFrom::Newest, 100).unwrap();
                    for pair in shown.windows(2) {
                        assert!((pair[0].time, &pair[0].id) < (pair[1].time, &pair[1].id));
                    }
                    let last = |entries: &[LogEntry]| entries.iter().map(|entry| entry.arrival).max();
                    assert!(last(&page).unwrap_or(0) >= before);
                    assert!(last(&shown).unwrap_or(0) >= before);
                    if let Some(entry) = page.last() {
                        // It may have gone meanwhile, but it is no other one.
                        let found = log.entry("a", &entry.id).unwrap();
                        assert!(found.is_none_or(|found| found.arrival == entry.arrival));
                    }
                }
            });
        }
        for step in 0..400 {
            let batch = (0..7).map(|number| append("a", step * 7 + number));
            log.commit(batch.chain([append("b", step)]).collect()).unwrap();
            acked.store(step * 7 + 7, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    });
}
