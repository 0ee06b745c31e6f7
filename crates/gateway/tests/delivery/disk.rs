//! A disk that is full for a while.
#![allow(
    clippy::print_stderr,
    reason = "whoever reads the test's output is to know what was left out"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clawchat_testkit::Person::{Alice, Bob};
use serde_json::json;

use crate::common::Gate;

/// Size of the disk: what a store keeps free, and something to fill.
const DISK: &str = "size=64m";

#[tokio::test(flavor = "multi_thread")]
async fn while_a_disk_is_full_nothing_is_accepted_and_nothing_is_lost() {
    let Some(disk) = Disk::mount() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut b = Gate::set_up_at(&[Bob], folder, disk.path().join("home"));
    b.start().await;
    let a = Gate::of(&[Alice]).await;
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    alice.knows(Bob, &b).await;
    alice.deliver(Bob.principal(), "before").await;
    bob.deliver("bob", "note").await;

    let filler = disk.fill();
    let answer = bob
        .ask(json!({ "cmd": "send", "to": "bob", "content": "no room" }))
        .await;
    assert_eq!(answer["code"], "storage_full", "{answer}");
    // What others send is not lost: it stays with them.
    let ids = [
        alice.send(Bob.principal(), "one").await,
        alice.send(Bob.principal(), "two").await,
    ];
    let reason = alice.waiting(&ids[0]).await;
    assert!(reason.contains("disk is full"), "{reason}");
    assert_eq!(bob.texts().await, ["before", "note"]);

    fs::remove_file(filler).unwrap();
    for id in &ids {
        alice.sent_once(id, |entry| entry["status"] == "delivered").await;
    }
    bob.deliver("bob", "room again").await;
    assert_eq!(bob.texts().await, ["before", "note", "one", "two", "room again"]);
    b.stop().await;
    b.start().await;
    assert_eq!(bob.texts().await, ["before", "note", "one", "two", "room again"]);
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_disk_did_not_take_is_done_by_the_second_try() {
    let Some(disk) = Disk::mount() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut gate = Gate::set_up_at(&[Bob], folder, disk.path().join("home"));
    gate.edit(|config| config["mesh"] = json!({ "enabled": true }));
    gate.start().await;
    let bob = gate.caller(Bob);
    let leave = json!({ "cmd": "channel_leave", "channel": "lobby" });
    let made = bob.ok(json!({ "cmd": "invite_create", "uses": 2 })).await;
    let revoke = json!({ "cmd": "invite_revoke", "invite": made["id"] });

    let filler = disk.fill();
    for request in [&leave, &revoke, &leave, &revoke] {
        let answer = bob.ask(request.clone()).await;
        assert_eq!(answer["code"], "io", "{answer}");
        let hint = answer["hint"].as_str().unwrap();
        assert!(hint.contains("try again"), "{hint}");
    }
    fs::remove_file(filler).unwrap();
    assert_eq!(bob.ok(leave.clone()).await["status"], "left");
    assert_eq!(bob.ok(revoke.clone()).await["status"], "revoked");
    for restarted in [false, true] {
        if restarted {
            gate.stop().await;
            gate.start().await;
        }
        let channels = bob.ok(json!({ "cmd": "channel_list" })).await;
        assert!(
            channels
                .as_array()
                .unwrap()
                .iter()
                .all(|one| one["joined"] == false),
            "{channels}"
        );
        assert_eq!(bob.ok(json!({ "cmd": "invite_list" })).await, json!([]));
        assert_eq!(bob.refused(leave.clone()).await, "no_such_channel");
        assert_eq!(bob.refused(revoke.clone()).await, "no_such_invite");
    }
    gate.stop().await;
}

/// A small file system of its own.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None`, with a word about it, where this user may not mount.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "tmpfs"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { folder }),
            Ok(_) | Err(_) => {
                eprintln!("skipped: mounting a small tmpfs needs root");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes until nothing more fits. Gives the file to remove.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        let zeroes = vec![0; 64 * 1024];
        while std::io::Write::write_all(&mut file, &zeroes).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a gateway of a failed test may still have files open.
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.path().display());
        }
    }
}
