//! The channel log on disk against the one in memory, under the same random batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/channels.rs"]
mod channels;
mod common;

use clawchat_store::{ChannelLog, LogWrite, MemoryChannelLog, NewEntry, SledChannelLog};
use clawchat_types::{NodeId, UnixMillis};
use proptest::prelude::*;

use channels::{NOW, entry, everything, open_small, small};
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
