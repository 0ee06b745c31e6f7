//! The async front: order, groups, refusals, closing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use clawchat_store::{MemoryStore, Outcome, PeerRecord, StoreError, StoreHandle, Write};
use clawchat_types::OutboundStatus;

use common::{draft, inbound, open, principal, scratch, set};

fn handle() -> StoreHandle {
    StoreHandle::start(Arc::new(MemoryStore::new())).unwrap()
}

#[tokio::test]
async fn writes_come_back_with_their_own_outcome_and_in_order() {
    let handle = handle();
    let tasks: Vec<_> = (1..=2000)
        .map(|number| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.submit(Write::Enqueue(draft(number, 1))).await })
        })
        .collect();
    for (task, number) in tasks.into_iter().zip(1..) {
        assert_eq!(
            task.await.unwrap(),
            Ok(Outcome::Enqueued {
                position: number,
                sequence: number
            })
        );
    }
    handle.close().await.unwrap();
}

#[tokio::test]
async fn writes_begun_by_one_task_at_once_keep_their_order() {
    let handle = handle();
    let mut writes: Vec<_> = (1..=1000)
        .map(|number| Box::pin(handle.submit(Write::Enqueue(draft(number, 1)))))
        .collect();
    let mut outcomes = vec![None; writes.len()];
    let mut begun = false;
    poll_fn(|cx| {
        let mut open: Vec<_> = writes.iter_mut().zip(&mut outcomes).collect();
        if begun {
            // From then on the order of polling is anyone's.
            open.reverse();
        }
        begun = true;
        for (write, outcome) in open {
            if outcome.is_none()
                && let Poll::Ready(result) = write.as_mut().poll(cx)
            {
                *outcome = Some(result);
            }
        }
        if outcomes.iter().all(Option::is_some) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    for (outcome, number) in outcomes.into_iter().zip(1..) {
        let expected = Outcome::Enqueued {
            position: number,
            sequence: number,
        };
        assert_eq!(outcome, Some(Ok(expected)));
    }
}

#[tokio::test]
async fn a_bad_write_fails_alone() {
    let handle = handle();
    let mut bad = PeerRecord::new(principal(1));
    bad.alias = Some("x".repeat(300));
    let (first, second, third) = tokio::join!(
        handle.submit(Write::Enqueue(draft(1, 1))),
        handle.submit(Write::PutPeer(bad)),
        handle.submit_all(vec![Write::Enqueue(draft(2, 1)), set(2, OutboundStatus::Sent)]),
    );
    assert_eq!(
        first,
        Ok(Outcome::Enqueued {
            position: 1,
            sequence: 1
        })
    );
    assert!(matches!(second, Err(StoreError::TooLarge { .. })));
    assert_eq!(
        third,
        Ok(vec![
            Outcome::Enqueued {
                position: 2,
                sequence: 2
            },
            Outcome::Done
        ])
    );
}

#[tokio::test]
async fn closing_finishes_what_was_queued_and_refuses_the_rest() {
    let folder = scratch();
    let handle = StoreHandle::start(Arc::new(open(&folder.path().join("store")))).unwrap();
    let queued: Vec<_> = (1..=300)
        .map(|number| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.submit(inbound(number, 1, number)).await })
        })
        .collect();
    // The tasks are queued ahead of this one.
    tokio::task::yield_now().await;
    handle.close().await.unwrap();
    let mut kept = 0;
    for task in queued {
        kept += u64::from(task.await.unwrap().is_ok());
    }
    assert_eq!(handle.submit(inbound(999, 1, 1)).await, Err(StoreError::Closed));
    assert_eq!(handle.store().inbox_count(), Err(StoreError::Closed));
    handle.close().await.unwrap();
    let again = open(&folder.path().join("store"));
    assert_eq!(clawchat_store::MessageStore::inbox_count(&again).unwrap(), kept);
}

#[tokio::test]
async fn a_backend_that_panics_fails_its_callers_and_nobody_else() {
    /// Panics at the write of a certain message.
    struct Fragile(MemoryStore);
    impl clawchat_store::MessageStore for Fragile {
        fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
            assert!(!batch.contains(&Write::MarkRead(vec![13])), "unlucky");
            self.0.commit(batch)
        }
        delegate!(
            inbox(after: u64, limit: usize) -> Vec<clawchat_store::InboxEntry>;
            arrival_at(time: clawchat_types::UnixMillis) -> u64;
            inbox_by_id(id: &clawchat_types::MessageId) -> Vec<clawchat_store::InboxEntry>;
            inbox_count() -> u64;
            unread(after: u64, limit: usize) -> Vec<clawchat_store::InboxEntry>;
            unread_count() -> u64;
            outbox(after: u64, limit: usize) -> Vec<clawchat_store::OutboxEntry>;
            outbox_by_id(id: &clawchat_types::MessageId) -> Option<clawchat_store::OutboxEntry>;
            outbox_count() -> u64;
            pending(to: &clawchat_types::Principal, after: u64, limit: usize) -> Vec<clawchat_store::OutboxEntry>;
            pending_recipients() -> Vec<clawchat_types::Principal>;
            pending_count(to: &clawchat_types::Principal) -> u64;
            due_expiries(now: clawchat_types::UnixMillis, limit: usize) -> Vec<clawchat_store::OutboxEntry>;
            next_expiry() -> Option<clawchat_types::UnixMillis>;
            attempt_state(to: &clawchat_types::Principal) -> Option<clawchat_store::AttemptState>;
            peers() -> Vec<PeerRecord>;
            peer(who: &clawchat_types::Principal) -> Option<PeerRecord>;
            close() -> ();
        );
    }
    let handle = StoreHandle::start(Arc::new(Fragile(MemoryStore::new()))).unwrap();
    assert!(matches!(
        handle.submit(Write::MarkRead(vec![13])).await,
        Err(StoreError::Failed { .. })
    ));
    assert_eq!(handle.submit(Write::MarkRead(vec![14])).await, Ok(Outcome::Done));
    handle.close().await.unwrap();
}

/// Passes a method on to the first field.
macro_rules! delegate {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {
        $(fn $name(&self, $($arg: $type),*) -> Result<$out, StoreError> { self.0.$name($($arg),*) })*
    };
}
use delegate;
