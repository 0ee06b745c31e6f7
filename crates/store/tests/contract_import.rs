//! What every backend promises about messages taken over from another program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use clawchat_store::{MAX_BATCH_WRITES, MAX_PENDING, MemoryStore, MessageStore, Outcome, Write};
use clawchat_types::{OutboundStatus, UnixMillis};

use common::{draft, inbound, message, open, principal, scratch, set};

fn each_backend(promise: impl Fn(&dyn MessageStore)) {
    promise(&MemoryStore::new());
    let folder = scratch();
    promise(&open(&folder.path().join("store")));
}

#[test]
fn an_inbound_message_is_kept_once_and_may_be_read_already() {
    each_backend(|store| {
        let import = |number, at, unread| Write::ImportInbound {
            message: message(number, 5),
            received_at: UnixMillis(at),
            unread,
        };
        let batch = vec![
            inbound(1, 5, 100),
            import(1, 200, false),
            import(2, 50, false),
            import(3, 300, true),
            import(2, 400, true),
        ];
        let appended = |arrival, at| Outcome::Appended {
            arrival,
            received_at: UnixMillis(at),
        };
        assert_eq!(
            store.commit(batch).unwrap(),
            [
                appended(1, 100),
                Outcome::Duplicate { arrival: 1 },
                appended(2, 101),
                appended(3, 300),
                Outcome::Duplicate { arrival: 2 },
            ]
        );
        let inbox = store.inbox(0, 10).unwrap();
        assert_eq!((&inbox[1].message, &inbox[1].proof), (&message(2, 5), &None));
        let unread: Vec<bool> = inbox.iter().map(|entry| entry.unread).collect();
        assert_eq!(unread, [true, false, true]);
        assert_eq!(store.unread(0, 10).unwrap(), [inbox[0].clone(), inbox[2].clone()]);
        assert_eq!(store.unread_count().unwrap(), 2);
    });
}

#[test]
fn an_outbound_message_keeps_what_became_of_it() {
    each_backend(|store| {
        let import = |number, status, attempts, last_error: Option<&str>| Write::ImportOutbound {
            draft: draft(number, 1),
            status,
            attempts,
            last_error: last_error.map(str::to_owned),
        };
        let batch = vec![
            Write::Enqueue(draft(1, 1)),
            import(1, OutboundStatus::Sent, 0, None),
            import(2, OutboundStatus::Sent, 0, None),
            import(3, OutboundStatus::Pending, 2, None),
            import(4, OutboundStatus::Failed, 7, Some("given up")),
            import(3, OutboundStatus::Failed, 9, None),
            Write::Enqueue(draft(5, 1)),
        ];
        let enqueued = |number| Outcome::Enqueued {
            position: number,
            sequence: number,
        };
        let known = |number| Outcome::AlreadyQueued {
            position: number,
            sequence: number,
        };
        assert_eq!(
            store.commit(batch).unwrap(),
            [
                enqueued(1),
                known(1),
                enqueued(2),
                enqueued(3),
                enqueued(4),
                known(3),
                enqueued(5)
            ]
        );
        let found: Vec<_> = store
            .outbox(0, 10)
            .unwrap()
            .into_iter()
            .map(|entry| (entry.status, entry.attempts, entry.last_error, entry.updated_at.0))
            .collect();
        let failed = Some("given up".to_owned());
        assert_eq!(
            found,
            [
                (OutboundStatus::Pending, 0, None, 1001),
                (OutboundStatus::Sent, 0, None, 1002),
                (OutboundStatus::Pending, 2, None, 1003),
                (OutboundStatus::Failed, 7, failed, 1004),
                (OutboundStatus::Pending, 0, None, 1005),
            ]
        );
        let pending = store.pending(&principal(1), 0, 10).unwrap();
        let open: Vec<u64> = pending.iter().map(|entry| entry.position).collect();
        assert_eq!(open, [1, 3, 5]);
        assert_eq!(store.due_expiries(UnixMillis(u64::MAX), 10).unwrap(), pending);
        assert_eq!(store.pending_count(&principal(1)).unwrap(), 3);
        let done = [1, 3, 5].map(|position| set(position, OutboundStatus::Delivered));
        store.commit(done.to_vec()).unwrap();
        assert_eq!(store.pending_recipients().unwrap(), []);
    });
}

#[test]
fn only_what_was_accepted_elsewhere_goes_beyond_a_full_outbox() {
    each_backend(|store| {
        let import = |number| Write::ImportOutbound {
            draft: draft(number, 1),
            status: OutboundStatus::Pending,
            attempts: 0,
            last_error: None,
        };
        let most = u64::try_from(MAX_PENDING).unwrap();
        let drafts: Vec<_> = (1..most).map(|number| draft(number, 1)).collect();
        for drafts in drafts.chunks(MAX_BATCH_WRITES) {
            let batch = drafts.iter().cloned().map(Write::Enqueue).collect();
            let outcomes = store.commit(batch).unwrap();
            assert!(outcomes.iter().all(|outcome| *outcome != Outcome::OutboxFull));
        }
        let at = |position| Outcome::Enqueued {
            position,
            sequence: position,
        };
        let known = |position| Outcome::AlreadyQueued {
            position,
            sequence: position,
        };
        let enqueue = |number| Write::Enqueue(draft(number, 1));
        let refused = Outcome::OutboxFull;
        let batch = vec![
            enqueue(most),
            enqueue(most + 1),
            enqueue(5),
            set(9, OutboundStatus::Delivered),
            enqueue(most + 1),
            enqueue(most + 2),
            set(9, OutboundStatus::Pending),
            import(most + 2),
        ];
        let outcomes = [
            at(most),
            refused,
            known(5),
            Outcome::Done,
            at(most + 1),
            refused,
            Outcome::Done,
            at(most + 2),
        ];
        assert_eq!(store.commit(batch).unwrap(), outcomes);
        // Two too many: it takes three until there is room for another.
        let batch = vec![
            enqueue(most + 3),
            set(1, OutboundStatus::Sent),
            set(2, OutboundStatus::Failed),
            set(2, OutboundStatus::Failed),
            enqueue(most + 3),
            set(3, OutboundStatus::Delivered),
            enqueue(most + 3),
            enqueue(most + 4),
        ];
        let done = Outcome::Done;
        let outcomes = [refused, done, done, done, refused, done, at(most + 3), refused];
        assert_eq!(store.commit(batch).unwrap(), outcomes);
        assert_eq!(store.pending_count(&principal(1)).unwrap(), most);
        assert_eq!(store.outbox_count().unwrap(), most + 3);
    });
}
