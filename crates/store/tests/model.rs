//! The store on disk against the one in memory, under the same random batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use clawchat_store::{MemoryStore, MessageStore, PeerRecord, StoreError, Write};
use clawchat_types::{OutboundStatus, UnixMillis};
use proptest::prelude::*;

use common::{draft, id, inbound, message, open, principal, scratch};

/// What happens in one step.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>),
    /// Close in order and open again.
    Reopen,
    /// Open again as after a crash: without the mark of an orderly close.
    ReopenUntidy,
}

fn write() -> impl Strategy<Value = Write> {
    let status = || {
        prop_oneof![
            Just(OutboundStatus::Pending),
            Just(OutboundStatus::Sent),
            Just(OutboundStatus::Delivered),
            Just(OutboundStatus::Failed),
        ]
    };
    // Few different numbers, so that writes meet each other.
    prop_oneof![
        3 => (0..30_u64, 0..4_u8).prop_map(|(number, to)| Write::Enqueue(draft(number, to))),
        3 => (0..30_u64, 0..4_u8, 0..100_u64).prop_map(|(number, from, at)| inbound(number, from, at)),
        3 => (0..20_u64, status(), 0..5_u32, any::<Option<u8>>(), any::<u64>()).prop_map(
            |(position, status, attempts, error, at)| Write::SetOutbound {
                position,
                status,
                attempts,
                last_error: error.map(|code| format!("error {code}")),
                at: UnixMillis(at),
            }
        ),
        1 => (0..30_u64, 0..4_u8, status(), 0..5_u32).prop_map(|(number, to, status, attempts)| {
            Write::ImportOutbound { draft: draft(number, to), status, attempts, last_error: None }
        }),
        1 => (0..30_u64, 0..4_u8, 0..100_u64, any::<bool>()).prop_map(|(number, from, at, unread)| {
            Write::ImportInbound { message: message(number, from), received_at: UnixMillis(at), unread }
        }),
        1 => (0..4_u8, 0..9_u32, 0..100_u64).prop_map(|(to, attempts, at)| Write::NoteAttempt {
            to: principal(to),
            attempts,
            last_error: None,
            at: UnixMillis(at),
        }),
        1 => (0..4_u8, prop::option::of("[a-z]{0,20}"), 0..6000_usize).prop_map(|(who, alias, length)| {
            let attestation = (length <= 4096).then(|| vec![1; length]);
            // Long enough, every now and then, to lie in pieces.
            let host = "a".repeat(200);
            let locators = (1..=length % 17).map(|port| format!("/dns/{host}/tcp/{port}").parse().unwrap());
            let locators = locators.collect();
            Write::PutPeer(PeerRecord { alias, attestation, locators, ..PeerRecord::new(principal(who)) })
        }),
        1 => (0..4_u8).prop_map(|who| Write::RemovePeer(principal(who))),
        2 => prop::collection::vec(0..20_u64, 0..5).prop_map(Write::MarkRead),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => prop::collection::vec(write(), 0..12).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::ReopenUntidy),
    ]
}

/// Compares everything both remember.
fn assert_same(disk: &dyn MessageStore, model: &dyn MessageStore) {
    fn same<T: PartialEq + std::fmt::Debug>(
        disk: &dyn MessageStore,
        model: &dyn MessageStore,
        read: impl Fn(&dyn MessageStore) -> Result<T, StoreError>,
    ) {
        assert_eq!(read(disk).unwrap(), read(model).unwrap());
    }
    for (after, limit) in [(0, usize::MAX), (3, 4), (7, 1), (29, 10)] {
        same(disk, model, |store| store.inbox(after, limit));
        same(disk, model, |store| store.unread(after, limit));
        same(disk, model, |store| store.outbox(after, limit));
        for who in 0..4 {
            same(disk, model, |store| store.pending(&principal(who), after, limit));
        }
    }
    for number in 0..30 {
        same(disk, model, |store| store.inbox_by_id(&id(number)));
        same(disk, model, |store| store.outbox_by_id(&id(number)));
    }
    for time in [0, 10, 50, 99, 1_000_010, u64::MAX] {
        same(disk, model, |store| store.inbox_since(UnixMillis(time), 3));
        same(disk, model, |store| store.due_expiries(UnixMillis(time), 5));
    }
    for who in 0..4 {
        same(disk, model, |store| store.pending_count(&principal(who)));
        same(disk, model, |store| store.attempt_state(&principal(who)));
        same(disk, model, |store| store.peer(&principal(who)));
    }
    same(disk, model, |store| {
        Ok((
            store.inbox_count()?,
            store.outbox_count()?,
            store.unread_count()?,
            store.next_expiry()?,
        ))
    });
    same(disk, model, |store| {
        Ok((store.pending_recipients()?, store.peers()?))
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_disk_remembers_what_memory_does(steps in prop::collection::vec(step(), 1..16)) {
        let folder = scratch();
        let place = folder.path().join("store");
        let model = MemoryStore::new();
        let mut disk = open(&place);
        for step in steps {
            match step {
                Step::Commit(batch) => {
                    prop_assert_eq!(disk.commit(batch.clone()), model.commit(batch));
                }
                Step::Reopen | Step::ReopenUntidy => {
                    disk.close().unwrap();
                    if matches!(step, Step::ReopenUntidy) {
                        std::fs::remove_file(place.join("clean")).unwrap();
                    }
                    disk = open(&place);
                    assert_same(&disk, &model);
                }
            }
        }
        assert_same(&disk, &model);
    }
}
