//! Reading while somebody writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use clawchat_store::{MAX_PEER_LOCATORS, MessageStore, PeerRecord, SledStore, StoreOptions, Write};
use clawchat_types::UnixMillis;

use common::{KEY, draft, open, principal, scratch};

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

/// A peer whose record lies in pieces.
fn large_peer(who: u8, alias: String) -> PeerRecord {
    let host = "a".repeat(200);
    PeerRecord {
        alias: Some(alias),
        attestation: Some(vec![1; 4096]),
        locators: (1..=MAX_PEER_LOCATORS)
            .map(|port| format!("/dns/{host}/tcp/{port}").parse().unwrap())
            .collect(),
        ..PeerRecord::new(principal(who))
    }
}

#[test]
fn peers_are_read_whole_while_they_are_replaced() {
    let folder = scratch();
    let store = open(&folder.path().join("store"));
    let written = AtomicBool::new(false);
    store
        .commit(vec![Write::PutPeer(large_peer(1, String::new()))])
        .unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 0..100 {
                let other = principal(2 + number % 3);
                store
                    .commit(vec![
                        Write::PutPeer(large_peer(1, number.to_string())),
                        Write::PutPeer(PeerRecord::new(other)),
                    ])
                    .unwrap();
                store.commit(vec![Write::RemovePeer(other)]).unwrap();
            }
            written.store(true, Ordering::SeqCst);
        });
        while !written.load(Ordering::SeqCst) {
            let peer = store.peer(&principal(1)).unwrap().unwrap();
            assert_eq!(peer.locators.len(), MAX_PEER_LOCATORS);
            let peers = store.peers().unwrap();
            assert_eq!(peers[0].principal, principal(1));
        }
    });
    assert_eq!(store.peers().unwrap(), [large_peer(1, "99".to_owned())]);
}

/// A disk that hangs must hold up writing alone.
#[test]
fn reading_does_not_wait_for_a_commit() {
    let folder = scratch();
    let (reached, started) = mpsc::sync_channel(1);
    let (finish, wait) = mpsc::sync_channel::<()>(1);
    let (hangs, wait) = (Arc::new(AtomicBool::new(false)), Mutex::new(wait));
    let hanging = Arc::clone(&hangs);
    let options = StoreOptions {
        free_space: Arc::new(move |_| {
            if hanging.load(Ordering::SeqCst) {
                let _ = reached.send(());
                let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
            }
            Ok(u64::MAX)
        }),
        ..StoreOptions::default()
    };
    let store = SledStore::open(&folder.path().join("store"), &KEY, options).unwrap();
    store
        .commit(vec![Write::PutPeer(large_peer(1, "one".to_owned()))])
        .unwrap();
    hangs.store(true, Ordering::SeqCst);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            store
                .commit(vec![Write::PutPeer(large_peer(2, "two".to_owned()))])
                .unwrap()
        });
        started.recv().unwrap();
        assert_eq!(store.peers().unwrap().len(), 1);
        assert!(!store.has_pending(&principal(1)).unwrap());
        assert_eq!(store.inbox_count().unwrap(), 0);
        finish.send(()).unwrap();
    });
    assert_eq!(store.peers().unwrap().len(), 2);
}
