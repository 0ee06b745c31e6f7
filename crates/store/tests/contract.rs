//! What every backend promises. One suite, run for each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use clawchat_store::{
    MAX_ERROR_BYTES, MAX_PEER_LOCATORS, MAX_RECORD_BYTES, MemoryStore, MessageStore, Outcome, PeerRecord,
    StoreError, Write,
};
use clawchat_types::{Content, OutboundStatus, UnixMillis};

use common::{EXPIRY, draft, id, inbound, message, open, principal, proof, set};

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $name() { super::$name(&super::MemoryStore::new()); })*
        }
        mod sled {
            $(#[test] fn $name() {
                let folder = super::common::scratch();
                let store = super::open(&folder.path().join("store"));
                super::$name(&store);
                // Large records too stay out of the engine's separate files, which it never syncs.
                let blobs = folder.path().join("store/sled/blobs");
                assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
            })*
        }
    };
}

contract!(
    a_new_store_is_empty,
    an_inbound_message_reads_back_as_it_came,
    an_inbound_message_is_kept_once_per_sender,
    every_arrival_has_a_later_time,
    the_time_of_an_entry_continues_behind_it,
    reading_marks_nothing_else_read,
    pages_go_on_where_the_last_one_ended,
    enqueued_messages_are_numbered_per_recipient,
    an_id_is_enqueued_once,
    only_open_messages_are_pending,
    a_failed_message_can_be_opened_again,
    expiries_come_in_order_and_only_of_open_messages,
    attempts_are_kept_per_recipient,
    peers_are_put_replaced_and_removed,
    nothing_of_a_refused_batch_is_kept,
    large_messages_read_back_whole,
    writes_about_nothing_are_not_found,
    long_errors_are_cut_between_characters,
    a_closed_store_says_so,
);

fn a_new_store_is_empty(store: &dyn MessageStore) {
    assert_eq!(store.inbox(0, 10).unwrap(), []);
    assert_eq!(store.inbox_count().unwrap(), 0);
    assert_eq!(store.unread(0, 10).unwrap(), []);
    assert_eq!(store.unread_count().unwrap(), 0);
    assert_eq!(store.arrival_at(UnixMillis(u64::MAX)).unwrap(), 0);
    assert_eq!(store.inbox_since(UnixMillis(0), 10).unwrap(), []);
    assert_eq!(store.inbox_by_id(&id(1)).unwrap(), []);
    assert_eq!(store.outbox(0, 10).unwrap(), []);
    assert_eq!(store.outbox_count().unwrap(), 0);
    assert_eq!(store.outbox_by_id(&id(1)).unwrap(), None);
    assert_eq!(store.pending(&principal(1), 0, 10).unwrap(), []);
    assert_eq!(store.pending_recipients().unwrap(), []);
    assert_eq!(store.pending_count(&principal(1)).unwrap(), 0);
    assert!(!store.has_pending(&principal(1)).unwrap());
    assert_eq!(store.due_expiries(UnixMillis(u64::MAX), 10).unwrap(), []);
    assert_eq!(store.next_expiry().unwrap(), None);
    assert_eq!(store.attempt_state(&principal(1)).unwrap(), None);
    assert_eq!(store.peers().unwrap(), []);
    assert_eq!(store.peer(&principal(1)).unwrap(), None);
    assert_eq!(store.commit(Vec::new()).unwrap(), []);
}

fn an_inbound_message_reads_back_as_it_came(store: &dyn MessageStore) {
    let outcomes = store.commit(vec![inbound(1, 5, 100)]).unwrap();
    assert_eq!(
        outcomes,
        [Outcome::Appended {
            arrival: 1,
            received_at: UnixMillis(100)
        }]
    );
    let entry = store.inbox(0, 10).unwrap().remove(0);
    assert_eq!(
        (entry.arrival, entry.received_at, entry.unread),
        (1, UnixMillis(100), true)
    );
    assert_eq!(entry.message, message(1, 5));
    assert_eq!(entry.proof, Some(proof(80)));
    assert_eq!(store.inbox_by_id(&id(1)).unwrap(), std::slice::from_ref(&entry));
    assert_eq!(store.unread(0, 10).unwrap(), [entry]);
}

fn an_inbound_message_is_kept_once_per_sender(store: &dyn MessageStore) {
    store.commit(vec![inbound(1, 5, 100)]).unwrap();
    let again = store
        .commit(vec![inbound(1, 5, 200), inbound(1, 6, 200), inbound(1, 6, 300)])
        .unwrap();
    assert_eq!(
        again,
        [
            Outcome::Duplicate { arrival: 1 },
            Outcome::Appended {
                arrival: 2,
                received_at: UnixMillis(200)
            },
            Outcome::Duplicate { arrival: 2 },
        ]
    );
    assert_eq!(store.inbox_count().unwrap(), 2);
    let of_id: Vec<u64> = store
        .inbox_by_id(&id(1))
        .unwrap()
        .iter()
        .map(|entry| entry.arrival)
        .collect();
    assert_eq!(of_id, [1, 2]);
    assert_eq!(store.inbox_by_id(&id(2)).unwrap(), []);
}

fn every_arrival_has_a_later_time(store: &dyn MessageStore) {
    for (number, at) in [(1, 50), (2, 40), (3, 50), (4, 70), (5, 10), (6, 90)] {
        store.commit(vec![inbound(number, 5, at)]).unwrap();
    }
    let times: Vec<u64> = store
        .inbox(0, 10)
        .unwrap()
        .iter()
        .map(|entry| entry.received_at.0)
        .collect();
    assert_eq!(times, [50, 51, 52, 70, 71, 90]);
    for (time, arrival) in [
        (0, 0),
        (49, 0),
        (50, 1),
        (51, 2),
        (69, 3),
        (70, 4),
        (89, 5),
        (90, 6),
        (1000, 6),
    ] {
        assert_eq!(store.arrival_at(UnixMillis(time)).unwrap(), arrival, "at {time}");
        let since = store.inbox_since(UnixMillis(time), 1).unwrap();
        assert_eq!(
            since.first().map(|entry| entry.arrival),
            (arrival < 6).then_some(arrival + 1)
        );
    }
}

/// Whoever asks with the time of the last entry it got misses none that came after it, however the clock went.
fn the_time_of_an_entry_continues_behind_it(store: &dyn MessageStore) {
    let mut seen = Vec::new();
    let mut since = UnixMillis(0);
    for (number, at) in [(1, 1_000), (3, 1_000), (5, 400), (7, 399), (9, 1_000)] {
        store
            .commit(vec![inbound(number, 5, at), inbound(number + 1, 5, at)])
            .unwrap();
        // A page that ends between the two leaves the second for the next.
        loop {
            let page = store.inbox_since(since, 1).unwrap();
            let Some(entry) = page.first() else { break };
            since = entry.received_at;
            seen.push(entry.arrival);
        }
    }
    assert_eq!(seen, (1..=10).collect::<Vec<u64>>());
}

fn reading_marks_nothing_else_read(store: &dyn MessageStore) {
    store
        .commit((1..=5).map(|number| inbound(number, 5, number)).collect())
        .unwrap();
    assert_eq!(
        store.commit(vec![Write::MarkRead(vec![2, 4, 9, 0, 4])]).unwrap(),
        [Outcome::Done]
    );
    assert_eq!(store.unread_count().unwrap(), 3);
    let unread: Vec<u64> = store
        .unread(0, 10)
        .unwrap()
        .iter()
        .map(|entry| entry.arrival)
        .collect();
    assert_eq!(unread, [1, 3, 5]);
    let flags: Vec<bool> = store
        .inbox(0, 10)
        .unwrap()
        .iter()
        .map(|entry| entry.unread)
        .collect();
    assert_eq!(flags, [true, false, true, false, true]);
    let later: Vec<u64> = store
        .unread(1, 1)
        .unwrap()
        .iter()
        .map(|entry| entry.arrival)
        .collect();
    assert_eq!(later, [3]);
    // Arrivals go on after the last one, whatever was read.
    assert!(matches!(
        store.commit(vec![inbound(6, 5, 9)]).unwrap()[0],
        Outcome::Appended { arrival: 6, .. }
    ));
}

fn pages_go_on_where_the_last_one_ended(store: &dyn MessageStore) {
    store
        .commit((1..=7).map(|number| inbound(number, 5, number)).collect())
        .unwrap();
    store
        .commit((1..=7).map(|number| Write::Enqueue(draft(number, 1))).collect())
        .unwrap();
    let (mut inbox, mut outbox) = (Vec::new(), Vec::new());
    loop {
        let page = store.inbox(inbox.last().copied().unwrap_or(0), 3).unwrap();
        if page.is_empty() {
            break;
        }
        inbox.extend(page.iter().map(|entry| entry.arrival));
    }
    loop {
        let page = store.outbox(outbox.last().copied().unwrap_or(0), 3).unwrap();
        if page.is_empty() {
            break;
        }
        outbox.extend(page.iter().map(|entry| entry.position));
    }
    assert_eq!(inbox, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(outbox, inbox);
    assert_eq!(store.inbox(7, 3).unwrap(), []);
    assert_eq!(store.inbox(u64::MAX, usize::MAX).unwrap(), []);
    assert_eq!(store.outbox(u64::MAX, usize::MAX).unwrap(), []);
    assert_eq!(store.unread(u64::MAX, usize::MAX).unwrap(), []);
    assert_eq!(store.pending(&principal(1), u64::MAX, usize::MAX).unwrap(), []);
    assert_eq!(store.inbox(0, 0).unwrap(), []);
    assert_eq!(store.pending(&principal(1), 5, 10).unwrap().len(), 2);
}

fn enqueued_messages_are_numbered_per_recipient(store: &dyn MessageStore) {
    let first = store
        .commit(vec![Write::Enqueue(draft(1, 1)), Write::Enqueue(draft(2, 2))])
        .unwrap();
    let then = store.commit(vec![Write::Enqueue(draft(3, 1))]).unwrap();
    assert_eq!(
        first[0],
        Outcome::Enqueued {
            position: 1,
            sequence: 1
        }
    );
    assert_eq!(
        first[1],
        Outcome::Enqueued {
            position: 2,
            sequence: 1
        }
    );
    assert_eq!(
        then,
        [Outcome::Enqueued {
            position: 3,
            sequence: 2
        }]
    );
    let entry = store.outbox(2, 1).unwrap().remove(0);
    assert_eq!(entry.message, draft(3, 1).into_message(2));
    assert_eq!((entry.status, entry.attempts), (OutboundStatus::Pending, 0));
    assert_eq!((entry.last_error, entry.updated_at), (None, UnixMillis(1_003)));
    assert_eq!(store.outbox_count().unwrap(), 3);
}

fn an_id_is_enqueued_once(store: &dyn MessageStore) {
    store
        .commit(vec![Write::Enqueue(draft(1, 1)), Write::Enqueue(draft(2, 1))])
        .unwrap();
    let again = store
        .commit(vec![Write::Enqueue(draft(2, 1)), Write::Enqueue(draft(3, 1))])
        .unwrap();
    assert_eq!(
        again[0],
        Outcome::AlreadyQueued {
            position: 2,
            sequence: 2
        }
    );
    assert_eq!(
        again[1],
        Outcome::Enqueued {
            position: 3,
            sequence: 3
        }
    );
    assert_eq!(store.outbox_by_id(&id(2)).unwrap().unwrap().position, 2);
    assert_eq!(store.pending_count(&principal(1)).unwrap(), 3);
}

fn only_open_messages_are_pending(store: &dyn MessageStore) {
    let to = [(1, 1), (2, 2), (3, 1), (4, 1), (5, 3), (6, 1)]
        .map(|(number, to)| Write::Enqueue(draft(number, to)));
    store.commit(to.to_vec()).unwrap();
    let done = [
        set(1, OutboundStatus::Delivered),
        set(2, OutboundStatus::Failed),
        set(3, OutboundStatus::Sent),
        set(5, OutboundStatus::Sent),
    ];
    assert_eq!(store.commit(done.to_vec()).unwrap(), [Outcome::Done; 4]);
    let pending: Vec<u64> = store
        .pending(&principal(1), 0, 10)
        .unwrap()
        .iter()
        .map(|e| e.position)
        .collect();
    assert_eq!(pending, [4, 6]);
    assert_eq!(store.pending(&principal(1), 4, 10).unwrap().len(), 1);
    assert_eq!(store.pending(&principal(1), 0, 1).unwrap().len(), 1);
    assert_eq!(store.pending_count(&principal(1)).unwrap(), 2);
    assert!(store.has_pending(&principal(1)).unwrap());
    // Failed, and handed to a peer that acknowledges nothing.
    for done in [2, 3] {
        assert_eq!(store.pending(&principal(done), 0, 10).unwrap(), []);
        assert_eq!(store.pending_count(&principal(done)).unwrap(), 0);
        assert!(!store.has_pending(&principal(done)).unwrap());
    }
    assert_eq!(store.pending_recipients().unwrap(), [principal(1)]);
    let expiring = store.due_expiries(UnixMillis(u64::MAX), 10).unwrap();
    assert_eq!(expiring, store.pending(&principal(1), 0, 10).unwrap());
    let sent = store.outbox_by_id(&id(5)).unwrap().unwrap();
    assert_eq!((sent.status, sent.is_open()), (OutboundStatus::Sent, false));
    let failed = store.outbox_by_id(&id(2)).unwrap().unwrap();
    assert_eq!((failed.status, failed.attempts), (OutboundStatus::Failed, 3));
    assert_eq!(
        (failed.last_error.as_deref(), failed.updated_at),
        (Some("no way"), UnixMillis(77))
    );
    assert_eq!(store.outbox_count().unwrap(), 6);
}

fn a_failed_message_can_be_opened_again(store: &dyn MessageStore) {
    store
        .commit(vec![Write::Enqueue(draft(1, 1)), set(1, OutboundStatus::Failed)])
        .unwrap();
    assert_eq!(store.pending_recipients().unwrap(), []);
    store
        .commit(vec![
            set(1, OutboundStatus::Pending),
            set(1, OutboundStatus::Pending),
        ])
        .unwrap();
    assert_eq!(store.pending(&principal(1), 0, 10).unwrap().len(), 1);
    assert_eq!(store.pending_count(&principal(1)).unwrap(), 1);
    assert_eq!(store.next_expiry().unwrap(), Some(UnixMillis(EXPIRY + 1)));
}

fn expiries_come_in_order_and_only_of_open_messages(store: &dyn MessageStore) {
    store
        .commit([9, 3, 6].map(|number| Write::Enqueue(draft(number, 1))).to_vec())
        .unwrap();
    assert_eq!(store.next_expiry().unwrap(), Some(UnixMillis(EXPIRY + 3)));
    let due = |now| -> Vec<u64> {
        store
            .due_expiries(UnixMillis(now), 10)
            .unwrap()
            .iter()
            .map(|entry| entry.position)
            .collect()
    };
    assert_eq!(due(EXPIRY + 2), []);
    assert_eq!(due(EXPIRY + 6), [2, 3]);
    assert_eq!(due(u64::MAX), [2, 3, 1]);
    assert_eq!(store.due_expiries(UnixMillis(u64::MAX), 1).unwrap().len(), 1);
    store.commit(vec![set(2, OutboundStatus::Delivered)]).unwrap();
    assert_eq!(due(EXPIRY + 6), [3]);
    assert_eq!(store.next_expiry().unwrap(), Some(UnixMillis(EXPIRY + 6)));
}

fn attempts_are_kept_per_recipient(store: &dyn MessageStore) {
    let note = |attempts, at| Write::NoteAttempt {
        to: principal(1),
        attempts,
        last_error: Some("unreachable".to_owned()),
        at: UnixMillis(at),
    };
    store
        .commit(vec![note(1, 5), Write::Enqueue(draft(1, 1)), note(2, 6)])
        .unwrap();
    let state = store.attempt_state(&principal(1)).unwrap().unwrap();
    assert_eq!(
        (state.to, state.attempts, state.at),
        (principal(1), 2, UnixMillis(6))
    );
    assert_eq!(state.last_error.as_deref(), Some("unreachable"));
    assert_eq!(store.attempt_state(&principal(2)).unwrap(), None);
    // The count of messages goes on beside it.
    let next = store.commit(vec![Write::Enqueue(draft(2, 1))]).unwrap();
    assert_eq!(
        next,
        [Outcome::Enqueued {
            position: 2,
            sequence: 2
        }]
    );
}

fn peers_are_put_replaced_and_removed(store: &dyn MessageStore) {
    let full = PeerRecord {
        alias: Some("alice".to_owned()),
        locators: (1..=MAX_PEER_LOCATORS)
            .map(|port| format!("/dns/{}/tcp/{port}", "a".repeat(200)).parse().unwrap())
            .collect(),
        last_seen: Some(UnixMillis(7)),
        added: true,
        attestation: Some(vec![3; 4096]),
        node_id: Some(clawchat_types::NodeId::new([4; 32])),
        peer_id: Some(
            "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
                .parse()
                .unwrap(),
        ),
        protocol_pin: Some(2),
        ..PeerRecord::new(principal(2))
    };
    let plain = PeerRecord::new(principal(1));
    store
        .commit(vec![Write::PutPeer(full.clone()), Write::PutPeer(plain.clone())])
        .unwrap();
    assert_eq!(store.peers().unwrap(), [plain.clone(), full.clone()]);
    assert_eq!(store.peer(&principal(2)).unwrap(), Some(full.clone()));
    let small = PeerRecord {
        alias: Some("bob".to_owned()),
        ..PeerRecord::new(principal(2))
    };
    for peer in [&small, &full, &small] {
        store.commit(vec![Write::PutPeer(peer.clone())]).unwrap();
        assert_eq!(store.peer(&principal(2)).unwrap().as_ref(), Some(peer));
    }
    let removed = store
        .commit(vec![
            Write::RemovePeer(principal(2)),
            Write::RemovePeer(principal(2)),
        ])
        .unwrap();
    assert_eq!(removed, [Outcome::Done, Outcome::NotFound]);
    assert_eq!(store.peers().unwrap(), [plain]);
}

fn nothing_of_a_refused_batch_is_kept(store: &dyn MessageStore) {
    let mut bad = PeerRecord::new(principal(1));
    bad.alias = Some("x".repeat(300));
    let refused = store.commit(vec![
        Write::Enqueue(draft(1, 1)),
        inbound(1, 5, 1),
        Write::PutPeer(bad),
    ]);
    assert!(matches!(
        refused,
        Err(StoreError::TooLarge {
            what: "alias",
            size: 300,
            limit: 256
        })
    ));
    assert_eq!(store.outbox_count().unwrap(), 0);
    assert_eq!(store.inbox_count().unwrap(), 0);
    let too_large = Write::AppendInbound {
        message: message(1, 5),
        proof: Some(proof(MAX_RECORD_BYTES)),
        received_at: UnixMillis(1),
    };
    assert!(matches!(
        store.commit(vec![too_large]),
        Err(StoreError::TooLarge { .. })
    ));
    let next = store.commit(vec![Write::Enqueue(draft(1, 1))]).unwrap();
    assert_eq!(
        next,
        [Outcome::Enqueued {
            position: 1,
            sequence: 1
        }]
    );
}

fn large_messages_read_back_whole(store: &dyn MessageStore) {
    for (number, bytes) in (1..).zip([6 * 1024 - 300, 6 * 1024, 70_000, 4 * 1024 * 1024]) {
        let text: String = ('a'..='z').cycle().take(bytes).collect();
        let mut out = draft(number, 1);
        out.content = Content::new(text.clone()).unwrap();
        let mut into = message(number, 5);
        into.content = Content::new(text.clone()).unwrap();
        let write = Write::AppendInbound {
            message: into,
            proof: None,
            received_at: UnixMillis(number),
        };
        store.commit(vec![Write::Enqueue(out), write]).unwrap();
        assert_eq!(
            store.inbox(number - 1, 1).unwrap()[0].message.content.as_str(),
            text
        );
        assert_eq!(
            store
                .outbox_by_id(&id(number))
                .unwrap()
                .unwrap()
                .message
                .content
                .as_str(),
            text
        );
    }
    // As large as a record may be.
    let write = Write::AppendInbound {
        message: message(9, 5),
        proof: Some(proof(MAX_RECORD_BYTES - 4096)),
        received_at: UnixMillis(9),
    };
    store.commit(vec![write]).unwrap();
    assert_eq!(
        store.inbox(4, 1).unwrap()[0].proof,
        Some(proof(MAX_RECORD_BYTES - 4096))
    );
    // Times are found without reading them whole.
    assert_eq!(store.arrival_at(UnixMillis(3)).unwrap(), 3);
}

fn writes_about_nothing_are_not_found(store: &dyn MessageStore) {
    store.commit(vec![Write::Enqueue(draft(1, 1))]).unwrap();
    for position in [0, 2, u64::MAX] {
        let outcome = store.commit(vec![set(position, OutboundStatus::Sent)]).unwrap();
        assert_eq!(outcome, [Outcome::NotFound]);
    }
}

fn long_errors_are_cut_between_characters(store: &dyn MessageStore) {
    let error = format!("x{}", "é".repeat(MAX_ERROR_BYTES));
    let write = Write::SetOutbound {
        position: 1,
        status: OutboundStatus::Pending,
        attempts: 1,
        last_error: Some(error.clone()),
        at: UnixMillis(1),
    };
    store.commit(vec![Write::Enqueue(draft(1, 1)), write]).unwrap();
    let kept = store.outbox(0, 1).unwrap().remove(0).last_error.unwrap();
    assert_eq!(kept.len(), MAX_ERROR_BYTES - 1);
    assert!(error.starts_with(&kept));
}

fn a_closed_store_says_so(store: &dyn MessageStore) {
    store.commit(vec![Write::Enqueue(draft(1, 1))]).unwrap();
    store.close().unwrap();
    store.close().unwrap();
    assert_eq!(store.commit(vec![inbound(1, 1, 1)]), Err(StoreError::Closed));
    assert_eq!(store.outbox(0, 1), Err(StoreError::Closed));
    assert_eq!(store.peers(), Err(StoreError::Closed));
}
