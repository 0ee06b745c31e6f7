//! What the disk and the kernel may do to a channel log, and what must come of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/channels.rs"]
mod channels;
mod common;

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clawchat_store::{
    Appended, ChannelLog, ChannelLogHandle, ChannelLogOptions, LogOutcome, LogQuota, LogWrite, NewEntry,
    OpenError, SledChannelLog, SledStore, StoreError, StoreOptions,
};
use clawchat_types::NodeId;

use channels::{append, appended, entry, everything, name, open_log, options};
use common::{KEY, contents, copy, opening, roomy, scratch, starting};

/// Tells the test binary to be the process that gets killed; the value is the log's folder.
const CHILD: &str = "CLAWCHAT_CHANNEL_LOG_TEST_CHILD";

fn open_indexed(place: &Path) -> SledChannelLog {
    let options = ChannelLogOptions {
        recent_entries: 100,
        ..options(LogQuota::default())
    };
    opening(|| SledChannelLog::open(place, &KEY, options)).unwrap()
}

/// A log with something in every tree, closed in order or not, and what it remembers. It was opened twice, so that
/// the engine has a snapshot and a log behind it.
fn filled(folder: &Path, entries: u64, orderly: bool) -> (PathBuf, String) {
    let place = folder.join("log");
    let mut whole = String::new();
    for half in 0..2 {
        let log = open_indexed(&place);
        for number in (half * entries / 2 + 1)..=((half + 1) * entries / 2) {
            let mut batch = vec![append("lobby", number), append("#dev", number)];
            if number % 10 == 7 {
                batch.push(LogWrite::Append(NewEntry {
                    text: "large ".repeat(5_000).into(),
                    ..entry("media", number)
                }));
            }
            if number % 5 == 3 {
                batch.push(LogWrite::Append(NewEntry {
                    verified: true,
                    ..entry("lobby", number - 2)
                }));
                batch.push(LogWrite::SetCursor {
                    peer: name(number % 3).into(),
                    channel: "lobby".into(),
                    id: name(number).into(),
                });
                batch.push(LogWrite::RememberKey {
                    id: name(number).into(),
                    key: NodeId::new([1; 32]),
                });
            }
            log.commit(batch).unwrap();
        }
        whole = everything(&log);
        log.close().unwrap();
    }
    if !orderly {
        std::fs::remove_file(place.join("clean")).unwrap();
    }
    (place, whole)
}

/// Opens a log that was tampered with: either everything is there, or the error says so and nothing changed.
/// Whether it was refused.
fn verdict(place: &Path, whole: &str, what: &str) -> bool {
    let before = contents(place);
    match opening(|| SledChannelLog::open(place, &KEY, options(LogQuota::default()))) {
        Ok(log) => {
            assert_eq!(everything(&log), whole, "{what}: opened without all of it");
            let outcome = appended(&log, entry("new", 1));
            assert_eq!(outcome, Appended::New { arrival: 1 }, "{what}");
            false
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains(place.to_str().unwrap()),
                "{what}: {text} names no file"
            );
            assert!(
                matches!(
                    error,
                    OpenError::Damaged(_) | OpenError::NewerFormat { .. } | OpenError::WrongKey { .. }
                ),
                "{what}: {text}"
            );
            assert!(contents(place) == before, "{what}: the original was changed");
            assert!(
                !place.with_file_name("log.check").exists(),
                "{what}: the copy was left behind"
            );
            true
        }
    }
}

#[test]
fn a_log_opens_again_with_everything_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (place, whole) = filled(folder.path(), 300, true);
    for _ in 0..2 {
        assert_eq!(everything(&open_indexed(&place)), whole);
        assert!(place.join("clean").exists());
    }
    std::fs::remove_file(place.join("clean")).unwrap();
    assert_eq!(everything(&open_log(&place)), whole);
}

/// Cutting into what was really written, not into the engine's padding.
#[test]
fn lost_entries_are_always_noticed() {
    let folder = scratch();
    let (place, whole) = filled(folder.path(), 60, false);
    let bytes = std::fs::read(place.join("sled/db")).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in [1, 5, 33, 150, 700, 4096] {
        let trial = folder.path().join(format!("lost-{cut}")).join("log");
        copy(&place, &trial);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(trial.join("sled/db"))
            .unwrap();
        file.set_len(u64::try_from(written - cut).unwrap()).unwrap();
        assert!(
            verdict(&trial, &whole, &format!("the last {cut} bytes lost")),
            "{cut} bytes lost unnoticed"
        );
    }
}

#[test]
fn a_file_cut_at_its_end_is_whole_or_refused() {
    let folder = scratch();
    let (place, whole) = filled(folder.path(), 120, true);
    for cut in [1, 8, 64, 511, 2047, 4096, 100_000] {
        for file in ["sled/db", "extents", "high-water", "format", "sled/conf"] {
            let trial = folder.path().join(format!("cut-{cut}")).join("log");
            copy(&place, &trial);
            let path = trial.join(file);
            let length = std::fs::metadata(&path).unwrap().len();
            let opened = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            opened.set_len(length.saturating_sub(cut)).unwrap();
            let was_refused = verdict(&trial, &whole, &format!("{file} cut by {cut}"));
            assert!(
                was_refused || file == "sled/db" || file == "extents",
                "{file} cut by {cut} was not noticed"
            );
            std::fs::remove_dir_all(trial.parent().unwrap()).unwrap();
        }
    }
}

#[test]
fn flipped_bytes_are_harmless_or_refused() {
    let folder = scratch();
    let (place, whole) = filled(folder.path(), 120, true);
    let names: Vec<PathBuf> = contents(&place).into_iter().map(|(path, _)| path).collect();
    let mut refused = 0;
    for path in &names {
        let name = path.strip_prefix(&place).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        // The database and what is too large for it get most of them; every file is hit from its beginning to its end.
        let flips = if ["sled/db", "extents"].map(Path::new).contains(&name) {
            40
        } else {
            6
        };
        for flip in 0..flips {
            let at = flip * used / flips + flip % 5;
            if at >= bytes.len() {
                continue;
            }
            let trial = folder.path().join("flip").join("log");
            copy(&place, &trial);
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (flip % 8);
            std::fs::write(trial.join(name), flipped).unwrap();
            refused += u32::from(verdict(
                &trial,
                &whole,
                &format!("{} flipped at {at}", name.display()),
            ));
            std::fs::remove_dir_all(trial.parent().unwrap()).unwrap();
        }
    }
    assert!(refused > 10, "only {refused} were noticed");
}

#[test]
fn missing_files_are_damage_and_never_a_new_log() {
    let folder = scratch();
    let (place, whole) = filled(folder.path(), 30, true);
    for name in ["format", "high-water", "extents", "sled/db", "sled/conf"] {
        let trial = folder.path().join("missing").join("log");
        copy(&place, &trial);
        std::fs::remove_file(trial.join(name)).unwrap();
        assert!(verdict(&trial, &whole, &format!("{name} missing")), "{name}");
        std::fs::remove_dir_all(trial.parent().unwrap()).unwrap();
    }
}

#[test]
fn an_older_database_beside_a_newer_mark_is_refused() {
    let folder = scratch();
    let (place, _) = filled(folder.path(), 20, true);
    let old = folder.path().join("old");
    copy(&place.join("sled"), &old);
    let log = open_log(&place);
    appended(&log, entry("lobby", 900));
    let whole = everything(&log);
    drop(log);
    std::fs::remove_dir_all(place.join("sled")).unwrap();
    copy(&old, &place.join("sled"));
    assert!(verdict(&place, &whole, "an old database"));
}

#[test]
fn it_is_opened_by_one_at_a_time_under_its_key_and_as_what_it_is() {
    let folder = scratch();
    let (place, _) = filled(folder.path(), 10, true);
    let before = contents(&place);
    let error = opening(|| SledChannelLog::open(&place, &[1; 32], options(LogQuota::default()))).err();
    assert_eq!(error, Some(OpenError::WrongKey { path: place.clone() }));
    let error = opening(|| SledStore::open(&place, &KEY, roomy())).err();
    assert_eq!(error, Some(OpenError::WrongKey { path: place.clone() }));
    assert!(contents(&place) == before);
    let first = open_log(&place);
    let error = opening(|| SledChannelLog::open(&place, &KEY, options(LogQuota::default()))).err();
    assert_eq!(error, Some(OpenError::InUse { path: place.clone() }));
    first.close().unwrap();
    open_log(&place);
}

#[test]
fn names_and_texts_stand_nowhere_in_clear() {
    let folder = scratch();
    let (place, _) = filled(folder.path(), 200, true);
    for (path, bytes) in contents(&place) {
        for secret in [b"text 7".as_slice(), b"lobby", b"id-000", b"large"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} shows {secret:?}", path.display());
        }
    }
}

#[test]
fn a_nearly_full_disk_refuses_writes_until_there_is_space() {
    let folder = scratch();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let seen = Arc::clone(&free);
    let options = ChannelLogOptions {
        store: StoreOptions {
            reserve_bytes: 1_000_000,
            free_space: Arc::new(move |_| Ok(seen.load(Ordering::SeqCst))),
        },
        ..ChannelLogOptions::default()
    };
    let log = opening(|| SledChannelLog::open(&folder.path().join("log"), &KEY, options)).unwrap();
    appended(&log, entry("a", 1));
    free.store(1_000_100, Ordering::SeqCst);
    let refused = log.commit(vec![append("a", 2), append("b", 1)]);
    assert!(
        matches!(refused, Err(StoreError::StorageFull { free: 1_000_100, .. })),
        "{refused:?}"
    );
    assert_eq!(log.channel("a").unwrap().unwrap().count, 1);
    assert_eq!(log.channel("b").unwrap(), None);
    free.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(appended(&log, entry("a", 2)), Appended::New { arrival: 2 });
}

#[tokio::test]
async fn the_handle_answers_each_with_its_own_outcomes() {
    let folder = scratch();
    let place = folder.path().join("log");
    let handle = ChannelLogHandle::start(Arc::new(open_indexed(&place))).unwrap();
    let tasks: Vec<_> = (1..=2000)
        .map(|number| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let bad = LogWrite::Forget {
                    channel: "x".repeat(1000).into(),
                };
                if number % 100 == 0 {
                    assert!(matches!(
                        handle.submit(bad).await,
                        Err(StoreError::TooLarge { .. })
                    ));
                }
                handle
                    .submit_all(vec![append("a", number), append("a", number)])
                    .await
            })
        })
        .collect();
    for (task, arrival) in tasks.into_iter().zip(1..) {
        assert_eq!(
            task.await.unwrap().unwrap(),
            [
                LogOutcome::Append(Appended::New { arrival }),
                LogOutcome::Append(Appended::Known { arrival })
            ]
        );
    }
    handle.close().await.unwrap();
    assert_eq!(handle.submit(append("a", 1)).await, Err(StoreError::Closed));
    assert_eq!(open_log(&place).channel("a").unwrap().unwrap().last, 2000);
}

#[test]
fn killed_at_random_it_loses_and_doubles_nothing() {
    /// How often the process is killed.
    const ROUNDS: u64 = 15;
    let folder = scratch();
    let place = folder.path().join("log");
    let mut acked: Vec<u64> = Vec::new();
    for round in 0..ROUNDS {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program
            .args(["--exact", "the_process_that_gets_killed", "--nocapture"])
            .env(CHILD, &place)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = starting(|| program.spawn()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        // Somewhere between the opening and a few hundred commits, at no particular point of one.
        let patience = (round * round * 7) % 190;
        for line in lines
            .by_ref()
            .filter_map(number_of)
            .take(usize::try_from(patience).unwrap())
        {
            acked.push(line);
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        acked.extend(lines.filter_map(number_of));

        let log = open_log(&place);
        for number in &acked {
            let found = log.entry("lobby", &name(*number)).unwrap();
            assert!(
                found.is_some(),
                "round {round}: {number} was acknowledged and is gone"
            );
        }
        // Reads every entry and compares the index with them.
        everything(&log);
    }
    assert!(acked.len() > 100, "only {} commits", acked.len());
}

fn number_of(line: String) -> Option<u64> {
    line.strip_prefix("acked ")?.parse().ok()
}

/// Not a test by itself: what [`killed_at_random_it_loses_and_doubles_nothing`] starts and kills.
#[test]
fn the_process_that_gets_killed() {
    let Some(place) = std::env::var_os(CHILD) else {
        return;
    };
    let options = ChannelLogOptions {
        recent_entries: 40,
        ..options(LogQuota::default())
    };
    let log = opening(|| SledChannelLog::open(Path::new(&place), &KEY, options)).unwrap();
    let mut number = log.channel("lobby").unwrap().map_or(0, |info| info.last);
    loop {
        number += 1;
        log.commit(vec![append("lobby", number), append("#dev", number)])
            .unwrap();
        // Replaces one that was indexed before.
        let verified = NewEntry {
            verified: true,
            ..entry("#dev", number / 2)
        };
        log.commit(vec![LogWrite::Append(verified)]).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acked {number}").unwrap();
        out.flush().unwrap();
    }
}
