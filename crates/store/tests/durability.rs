//! What the disk and the kernel may do to a store, and what must come of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clawchat_store::{
    MessageStore, OpenError, Outcome, PeerRecord, SledStore, StoreError, StoreOptions, Write,
};
use clawchat_types::{Content, OutboundStatus, UnixMillis};

use common::{
    KEY, contents, copy, draft, id, inbound, message, open, opening, principal, roomy, scratch, set, starting,
};

/// Tells the test binary to be the process that gets killed; the value is the store's folder.
const CHILD: &str = "CLAWCHAT_STORE_TEST_CHILD";

/// A store with something in every tree, closed in order or not, and what it remembers. It was opened twice, so
/// that the engine has a snapshot and a log behind it.
fn filled(folder: &Path, messages: u64, orderly: bool) -> (PathBuf, String) {
    let place = folder.join("store");
    let mut whole = String::new();
    for half in 0..2 {
        let store = open(&place);
        for number in (half * messages / 2 + 1)..=((half + 1) * messages / 2) {
            let mut out = draft(number, u8::try_from(number % 5).unwrap());
            if number % 10 == 7 {
                out.content = Content::new("large ".repeat(5_000)).unwrap();
            }
            let mut batch = vec![
                Write::Enqueue(out),
                inbound(number, u8::try_from(number % 7).unwrap(), number),
            ];
            if number % 3 == 0 {
                batch.push(set(number - 1, OutboundStatus::Delivered));
                batch.push(Write::MarkRead(vec![number]));
            }
            // Not at the end: what follows imports there can be space the engine does not use, and spoiling that is no
            // damage.
            if half == 0 && number % 4 == 0 {
                batch.push(Write::ImportOutbound {
                    draft: draft(10_000 + number, 1),
                    status: OutboundStatus::Sent,
                    attempts: 1,
                    last_error: None,
                });
                batch.push(Write::ImportInbound {
                    message: message(10_000 + number, 2),
                    received_at: UnixMillis(number),
                    unread: false,
                });
            }
            if number % 10 == 0 {
                batch.push(Write::PutPeer(PeerRecord::new(principal(
                    u8::try_from(number % 50).unwrap(),
                ))));
            }
            store.commit(batch).unwrap();
        }
        whole = everything(&store).unwrap();
        store.close().unwrap();
    }
    if !orderly {
        std::fs::remove_file(place.join("clean")).unwrap();
    }
    (place, whole)
}

/// Everything a store remembers, read through every method.
fn everything(store: &dyn MessageStore) -> Result<String, StoreError> {
    let mut text = String::new();
    for entry in store.inbox(0, usize::MAX)? {
        let found = store.inbox_by_id(&entry.message.id)?;
        assert!(found.contains(&entry));
        text += &format!("{entry:?} {:?}\n", entry.message.content.as_str());
    }
    for entry in store.outbox(0, usize::MAX)? {
        assert_eq!(store.outbox_by_id(&entry.message.id)?.as_ref(), Some(&entry));
        text += &format!("{entry:?}\n");
    }
    text += &format!("{:?} {:?}\n", store.unread(0, usize::MAX)?, store.unread_count()?);
    for to in store.pending_recipients()? {
        text += &format!(
            "{:?} {:?}\n",
            store.pending(&to, 0, usize::MAX)?,
            store.pending_count(&to)?
        );
        text += &format!("{:?}\n", store.attempt_state(&to)?);
    }
    text += &format!(
        "{:?}\n",
        store.due_expiries(clawchat_types::UnixMillis(u64::MAX), usize::MAX)?
    );
    text += &format!("{:?} {:?}\n", store.next_expiry()?, store.peers()?);
    Ok(text)
}

/// Opens a store that was tampered with: either everything is there, or the error says so and nothing changed.
/// Whether it was refused.
fn verdict(place: &Path, whole: &str, what: &str) -> bool {
    let before = contents(place);
    match opening(|| SledStore::open(place, &KEY, roomy())) {
        Ok(store) => {
            assert_eq!(
                everything(&store).unwrap(),
                whole,
                "{what}: opened without all of it"
            );
            let outcome = store.commit(vec![Write::Enqueue(draft(1_000_000, 1))]).unwrap();
            assert!(matches!(outcome[0], Outcome::Enqueued { .. }), "{what}");
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
                !place.with_file_name("store.check").exists(),
                "{what}: the copy was left behind"
            );
            true
        }
    }
}

#[test]
fn a_store_opens_again_with_everything_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (place, whole) = filled(folder.path(), 60, true);
    let first = everything(&open(&place)).unwrap();
    assert_eq!(first, whole);
    assert!(place.join("clean").exists());
    let again = everything(&open(&place)).unwrap();
    assert_eq!(first, again);
    std::fs::remove_file(place.join("clean")).unwrap();
    assert_eq!(everything(&open(&place)).unwrap(), first);
}

#[test]
fn a_file_cut_at_its_end_is_whole_or_refused() {
    let folder = scratch();
    let (place, whole) = filled(folder.path(), 120, true);
    let mut refused = 0;
    for (cut, round) in [
        1, 2, 3, 7, 8, 20, 63, 64, 100, 255, 511, 900, 1500, 2047, 3000, 4095, 4096,
    ]
    .into_iter()
    .zip(0..)
    {
        for file in ["sled/db", "high-water", "format", "sled/conf"] {
            // The small files are cut in turn.
            if file != "sled/db" && round % 3 != 0 {
                continue;
            }
            let trial = folder.path().join(format!("cut-{cut}")).join("store");
            copy(&place, &trial);
            let path = trial.join(file);
            let length = std::fs::metadata(&path).unwrap().len();
            std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(length.saturating_sub(cut))
                .unwrap();
            let was_refused = verdict(&trial, &whole, &format!("{file} cut by {cut}"));
            assert!(
                was_refused || file == "sled/db",
                "{file} cut by {cut} was not noticed"
            );
            refused += u32::from(was_refused);
            std::fs::remove_dir_all(trial.parent().unwrap()).unwrap();
        }
    }
    assert!(refused > 0);
}

/// Cutting into what was really written, not into the engine's padding.
#[test]
fn lost_messages_are_always_noticed() {
    let folder = scratch();
    let (place, whole) = filled(folder.path(), 60, false);
    let bytes = std::fs::read(place.join("sled/db")).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in [1, 5, 33, 150, 700, 4096] {
        let trial = folder.path().join(format!("lost-{cut}")).join("store");
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
fn flipped_bytes_are_harmless_or_refused() {
    let folder = scratch();
    let (place, whole) = filled(folder.path(), 120, true);
    let names: Vec<PathBuf> = contents(&place).into_iter().map(|(path, _)| path).collect();
    let mut refused = 0;
    for path in &names {
        let name = path.strip_prefix(&place).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        // The database gets most of them; every file is hit from its beginning to its end.
        let flips = if name == Path::new("sled/db") { 40 } else { 6 };
        for flip in 0..flips {
            let at = flip * used / flips + flip % 5;
            if at >= bytes.len() {
                continue;
            }
            let trial = folder.path().join("flip").join("store");
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
fn bytes_flipped_in_place_after_an_orderly_close_are_noticed_at_once() {
    let folder = scratch();
    let (place, whole) = filled(folder.path(), 60, true);
    let path = place.join("sled/db");
    let mut bytes = std::fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used - 200] ^= 4;
    // No pause: the change falls into the same moment as the close.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all(&bytes)
        .unwrap();
    assert!(verdict(&place, &whole, "flipped right after closing"));
}

#[test]
fn missing_files_are_damage_and_never_a_new_store() {
    let folder = scratch();
    let (place, whole) = filled(folder.path(), 30, true);
    for name in ["format", "high-water", "sled/db", "sled/conf"] {
        let trial = folder.path().join("missing").join("store");
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
    let store = open(&place);
    store.commit(vec![Write::Enqueue(draft(900, 1))]).unwrap();
    let whole = everything(&store).unwrap();
    drop(store);
    std::fs::remove_dir_all(place.join("sled")).unwrap();
    copy(&old, &place.join("sled"));
    assert!(verdict(&place, &whole, "an old database"));
}

#[test]
fn a_half_written_snapshot_of_the_engine_is_no_damage() {
    let folder = scratch();
    let (place, _) = filled(folder.path(), 30, false);
    std::fs::write(
        place.join("sled/snap.7FFFFFFFFFFFFFFF.generating"),
        b"half a snap",
    )
    .unwrap();
    assert_eq!(open(&place).inbox_count().unwrap(), 30 + 30 / 2 / 4);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    use sha2::{Digest, Sha256};
    let folder = scratch();
    let (place, _) = filled(folder.path(), 10, true);
    let path = place.join("format");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&3_u32.to_be_bytes());
    let body = bytes.len() - 32;
    let sum: [u8; 32] = Sha256::digest(&bytes[..body]).into();
    bytes[body..].copy_from_slice(&sum);
    std::fs::write(&path, bytes).unwrap();
    let before = contents(&place);
    let error = opening(|| SledStore::open(&place, &KEY, roomy())).err().unwrap();
    assert_eq!(
        error,
        OpenError::NewerFormat {
            path,
            found: 3,
            supported: 2
        }
    );
    assert!(contents(&place) == before);
}

#[test]
fn a_wrong_key_is_refused_and_changes_nothing() {
    let folder = scratch();
    let (place, _) = filled(folder.path(), 10, true);
    let before = contents(&place);
    let error = opening(|| SledStore::open(&place, &[1; 32], roomy()))
        .err()
        .unwrap();
    assert_eq!(error, OpenError::WrongKey { path: place.clone() });
    assert!(contents(&place) == before);
    assert_eq!(open(&place).inbox_count().unwrap(), 10 + 10 / 2 / 4);
}

#[test]
fn a_store_is_opened_by_one_at_a_time() {
    let folder = scratch();
    let place = folder.path().join("store");
    let first = open(&place);
    let error = opening(|| SledStore::open(&place, &KEY, roomy())).err().unwrap();
    assert_eq!(error, OpenError::InUse { path: place.clone() });
    first.close().unwrap();
    open(&place);
}

#[test]
fn a_creation_cut_short_is_begun_anew() {
    let folder = scratch();
    let place = folder.path().join("store");
    std::fs::create_dir_all(folder.path().join("store.creating/sled")).unwrap();
    std::fs::write(folder.path().join("store.creating/sled/db"), b"half").unwrap();
    std::fs::create_dir(&place).unwrap();
    assert_eq!(open(&place).inbox_count().unwrap(), 0);
    assert!(!folder.path().join("store.creating").exists());
}

#[test]
fn names_and_texts_stand_nowhere_in_clear() {
    let folder = scratch();
    let (place, _) = filled(folder.path(), 20, true);
    let hash = principal(3);
    for (path, bytes) in contents(&place) {
        for secret in [
            b"message 7".as_slice(),
            hash.to_string().as_bytes(),
            hash.hash160(),
            b"text/plain",
        ] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} shows {secret:?}", path.display());
        }
    }
}

#[test]
fn a_nearly_full_disk_refuses_writes_until_there_is_space() {
    let folder = scratch();
    let place = folder.path().join("store");
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let seen = Arc::clone(&free);
    let options = StoreOptions {
        reserve_bytes: 1_000_000,
        free_space: Arc::new(move |_| Ok(seen.load(Ordering::SeqCst))),
    };
    let store = opening(|| SledStore::open(&place, &KEY, options.clone())).unwrap();
    store.commit(vec![Write::Enqueue(draft(1, 1))]).unwrap();
    free.store(1_000_100, Ordering::SeqCst);
    let refused = store.commit(vec![Write::Enqueue(draft(2, 1))]);
    assert!(
        matches!(refused, Err(StoreError::StorageFull { free: 1_000_100, .. })),
        "{refused:?}"
    );
    assert_eq!(store.outbox_count().unwrap(), 1);
    free.store(u64::MAX, Ordering::SeqCst);
    let outcome = store.commit(vec![Write::Enqueue(draft(2, 1))]).unwrap();
    assert_eq!(
        outcome,
        [Outcome::Enqueued {
            position: 2,
            sequence: 2
        }]
    );
    drop(store);
    // Opening in order needs no space; examining and making a store do, and say so.
    free.store(10, Ordering::SeqCst);
    drop(opening(|| SledStore::open(&place, &KEY, options.clone())).unwrap());
    std::fs::remove_file(place.join("clean")).unwrap();
    for place in [place, folder.path().join("other")] {
        let error = opening(|| SledStore::open(&place, &KEY, options.clone()))
            .err()
            .unwrap();
        assert!(
            matches!(error, OpenError::StorageFull { free: 10, .. }),
            "{error}"
        );
    }
    assert!(!folder.path().join("other").exists());
}

/// A real file system of 6 MiB. Needs the right to mount one.
#[test]
fn a_disk_that_really_fills_up_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(&disk);
    let mounted = starting(|| mount.output());
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: no right to mount a small tmpfs");
        return;
    }
    let result = std::panic::catch_unwind(|| fill_disk(&disk.join("store")));
    let unmounted = starting(|| Command::new("umount").arg("-l").arg(&disk).status());
    assert!(unmounted.unwrap().success());
    result.unwrap();
}

fn fill_disk(place: &Path) {
    // With a reserve the store stops in time, and goes on when there is space again.
    let options = StoreOptions {
        reserve_bytes: 1024 * 1024,
        ..StoreOptions::default()
    };
    let ballast = place.with_file_name("ballast");
    std::fs::write(&ballast, vec![1; 2 * 1024 * 1024]).unwrap();
    let store = opening(|| SledStore::open(place, &KEY, options.clone())).unwrap();
    let mut acked = 0;
    let refusal = loop {
        match store.commit((1..=50).map(|n| inbound(acked + n, 1, acked + n)).collect()) {
            Ok(outcomes) => acked += u64::try_from(outcomes.len()).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, StoreError::StorageFull { .. }), "{refusal}");
    assert_eq!(store.inbox_count().unwrap(), acked);
    std::fs::remove_file(&ballast).unwrap();
    store.commit(vec![inbound(acked + 1, 1, 1)]).unwrap();
    acked += 1;
    drop(store);

    // Without one the engine runs into the wall: the write fails, nothing acknowledged is gone.
    let store = opening(|| {
        SledStore::open(
            place,
            &KEY,
            StoreOptions {
                reserve_bytes: 0,
                ..roomy()
            },
        )
    })
    .unwrap();
    let refusal = loop {
        match store.commit((1..=50).map(|n| inbound(acked + n, 1, acked + n)).collect()) {
            Ok(outcomes) => acked += u64::try_from(outcomes.len()).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, StoreError::Failed { .. }), "{refusal}");
    assert!(matches!(
        store.commit(vec![Write::MarkRead(vec![1])]),
        Err(StoreError::Failed { .. })
    ));
    drop(store);
    assert!(!place.join("clean").exists());
    // Moved to a disk with room, everything acknowledged is there.
    let rescued = scratch();
    copy(place, &rescued.path().join("store"));
    let store = open(&rescued.path().join("store"));
    let arrivals = store.inbox(0, usize::MAX).unwrap();
    assert!(u64::try_from(arrivals.len()).unwrap() >= acked);
}

#[test]
fn killed_at_random_it_loses_and_doubles_nothing() {
    /// How often the process is killed.
    const ROUNDS: u64 = 15;
    let folder = scratch();
    let place = folder.path().join("store");
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

        let store = open(&place);
        let inbox = store.inbox(0, usize::MAX).unwrap();
        let mut ids: Vec<_> = inbox.iter().map(|entry| entry.message.id).collect();
        for number in &acked {
            assert!(
                ids.contains(&id(*number)),
                "round {round}: {number} was acknowledged and is gone"
            );
            let entry = store.outbox_by_id(&id(*number)).unwrap();
            assert!(
                entry.is_some_and(|entry| !entry.is_open()),
                "round {round}: {number} was delivered"
            );
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "round {round}: something is there twice");
        everything(&store).unwrap();
        drop(store);
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
    let store = open(Path::new(&place));
    let mut number = store.outbox_count().unwrap();
    loop {
        number += 1;
        store
            .commit(vec![Write::Enqueue(draft(number, 1)), inbound(number, 2, number)])
            .unwrap();
        // Killed in between, the two halves are one count apart, never more.
        store
            .commit(vec![set(number, OutboundStatus::Delivered)])
            .unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acked {number}").unwrap();
        out.flush().unwrap();
    }
}
