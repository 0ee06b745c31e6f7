//! Figures, printed and not judged: `cargo test --release -p clawchat-store --test measure -- --ignored --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use clawchat_store::{MessageStore, StoreOptions, Write};
use clawchat_types::OutboundStatus;

use common::{KEY, draft, inbound, open, set};

/// One acknowledged commit after another; run it under `strace -f -c -e trace=fdatasync,fsync`.
#[test]
#[ignore = "prints figures"]
fn a_hundred_commits() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let store = open(&folder.path().join("store"));
    for number in 1..=100 {
        store.commit(vec![inbound(number, 1, number)]).unwrap();
    }
}

#[test]
#[ignore = "prints figures"]
fn commits_per_second() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let place = folder.path().join("store");
    let store = clawchat_store::SledStore::open(&place, &KEY, StoreOptions::default()).unwrap();
    let rate = |what: &str, count: u64, work: &mut dyn FnMut(u64)| {
        let begin = Instant::now();
        (0..count).for_each(work);
        println!(
            "{what}: {:.0}/s",
            count_f64(count) / begin.elapsed().as_secs_f64()
        );
    };
    rate("inbound, one by one", 2_000, &mut |n| {
        drop(store.commit(vec![inbound(n, 1, n)]).unwrap())
    });
    rate("inbound groups of 64", 300, &mut |g| {
        drop(
            store
                .commit((0..64).map(|n| inbound(10_000 + g * 64 + n, 1, g)).collect())
                .unwrap(),
        );
    });
    rate("enqueue, one by one", 2_000, &mut |n| {
        drop(store.commit(vec![Write::Enqueue(draft(n, 1))]).unwrap())
    });
    rate("enqueue groups of 64", 300, &mut |g| {
        let batch = (0..64)
            .map(|n| Write::Enqueue(draft(10_000 + g * 64 + n, 1)))
            .collect();
        drop(store.commit(batch).unwrap());
    });
    rate("delivered groups of 64", 300, &mut |g| {
        let batch = (0..64)
            .map(|n| set(2_001 + g * 64 + n, OutboundStatus::Delivered))
            .collect();
        drop(store.commit(batch).unwrap());
    });
    rate("pages of 100 read", 200, &mut |page| {
        drop(store.inbox(page * 100, 100).unwrap())
    });
    for more in 0..2 {
        rate("inbound groups of 64, further on", 600, &mut |g| {
            let base = 100_000 * (more + 1) + g * 64;
            drop(
                store
                    .commit((0..64).map(|n| inbound(base + n, 2, g)).collect())
                    .unwrap(),
            );
        });
    }
    println!(
        "inbox {}, disk {} KiB",
        store.inbox_count().unwrap(),
        disk(&place)
    );
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let begin = Instant::now();
        work();
        println!("{what}: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    };
    let mut store = Some(store);
    timed("close", &mut || store = None);
    timed("open after an orderly close", &mut || store = Some(open(&place)));
    store = None;
    timed("open again", &mut || store = Some(open(&place)));
    store = None;
    std::fs::remove_file(place.join("clean")).unwrap();
    timed("open with examination", &mut || store = Some(open(&place)));
    drop(store);
}

#[test]
#[ignore = "prints figures"]
fn an_idle_store() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let before = resident();
    let begin = Instant::now();
    let store = open(&folder.path().join("first"));
    let (made, first) = (begin.elapsed(), resident());
    let others: Vec<_> = (0..9)
        .map(|n| open(&folder.path().join(format!("{n}"))))
        .collect();
    println!("making one took {:.1} ms", millis(made));
    println!(
        "resident: {before} KiB before, {first} with one, {} with ten",
        resident()
    );
    println!("disk of one: {} KiB", disk(&folder.path().join("first")));
    drop((store, others));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn count_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

fn disk(place: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fn blocks(place: &std::path::Path) -> u64 {
        std::fs::read_dir(place)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                if path.is_dir() {
                    blocks(&path)
                } else {
                    std::fs::metadata(path).unwrap().blocks()
                }
            })
            .sum()
    }
    blocks(place) / 2
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
