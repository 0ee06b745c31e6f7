//! Reading while somebody writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use clawchat_store::{MessageStore, Write};
use clawchat_types::UnixMillis;

use common::{draft, open, principal, scratch};

/// What is being written is not there yet, in whichever way one asks.
#[test]
fn what_is_counted_as_pending_can_be_read() {
    let folder = scratch();
    let store = open(&folder.path().join("store"));
    let written = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 1..=100 {
                store.commit(vec![Write::Enqueue(draft(number, 1))]).unwrap();
            }
            written.store(true, Ordering::SeqCst);
        });
        while !written.load(Ordering::SeqCst) {
            let told = store.next_expiry().unwrap().is_some();
            let due = store.due_expiries(UnixMillis(u64::MAX), 1).unwrap();
            assert!(!told || !due.is_empty());
            for recipient in store.pending_recipients().unwrap() {
                assert!(store.has_pending(&recipient).unwrap());
            }
            let count = store.pending_count(&principal(1)).unwrap();
            let page = store.pending(&principal(1), 0, usize::MAX).unwrap();
            assert!(count <= u64::try_from(page.len()).unwrap());
        }
    });
    assert_eq!(store.pending_count(&principal(1)).unwrap(), 100);
}
