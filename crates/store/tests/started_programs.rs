//! A store is opened again while programs are being started, which hold for a moment what their parent holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clawchat_store::{SledStore, StoreOptions};

/// Without another look at the lock one opening in ten fails.
const OPENINGS: u32 = 60;

#[test]
fn a_program_that_is_being_started_is_nobody_who_uses_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("store");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut program = Command::new("true");
                program.stdin(Stdio::null()).status().unwrap();
            }
        });
        let opened: Result<(), _> = (0..OPENINGS)
            .try_for_each(|_| SledStore::open(&place, &[7; 32], StoreOptions::default()).map(drop));
        done.store(true, Ordering::Relaxed);
        opened.unwrap();
    });
}
