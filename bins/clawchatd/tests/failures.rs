//! A gateway that cannot start says why and what to do, and leaves everything as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/gateways.rs"]
mod gateways;
#[path = "common/process.rs"]
mod process;
#[path = "common/wire.rs"]
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use gateways::{Gateway, PASSWORD};
use process::stopwatch::Stopwatch;
use process::{Daemon, SmallDisk, contents, refusal};
use serde_json::{Value, json};
use wire::assert_alive;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_clawchatd"))
}

fn set_up(name: &str) -> Gateway {
    Gateway::set_up(program(), name).unwrap()
}

fn keystore(gateway: &Gateway) -> PathBuf {
    folder(gateway, gateway.principal()).join("identity.enc")
}

fn folder(gateway: &Gateway, principal: &str) -> PathBuf {
    gateway.home().join("identities").join(principal)
}

/// A file beside the home.
fn file(gateway: &Gateway, name: &str, content: &str) -> PathBuf {
    let path = gateway.password_file().with_file_name(name);
    fs::write(&path, content).unwrap();
    path
}

/// The processors of this machine: what is timed has them for itself as far as the tests in here go.
static PROCESSORS: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    PROCESSORS.read().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_wrong_password_is_refused_as_fast_as_a_right_one_is_taken_and_tells_nothing() {
    let _alone = PROCESSORS.write().unwrap_or_else(PoisonError::into_inner);
    let mut gateway = set_up("alice");
    // The first start makes the stores.
    gateway.start().unwrap();
    gateway.stop().unwrap();
    let wrong = file(&gateway, "wrong", "this is not the password");
    // Other programs use this machine too, so each refusal is compared with a start just before it, and the best of three
    // counts.
    let mut seen = Vec::new();
    let (before, refused) = loop {
        let begun = Stopwatch::start();
        gateway.start().unwrap();
        let right = begun.elapsed();
        gateway.stop().unwrap();
        let before = contents(&gateway.home());
        let refused = refusal(&gateway, &mut gateway.command(&wrong));
        refused.expect(5, "wrong_password", &[gateway.principal()]);
        seen.push((right, refused.took));
        if refused.took < right + Duration::from_secs(1) {
            break (before, refused);
        }
        assert!(seen.len() < 3, "taken and refused after: {seen:?}");
    };

    let sealed = fs::read(keystore(&gateway)).unwrap();
    // Salt, nonce, ciphertext, tag.
    for position in [1, 20, 30, sealed.len() / 2, sealed.len() - 1] {
        let mut damaged = sealed.clone();
        damaged[position] ^= 0x40;
        fs::write(keystore(&gateway), damaged).unwrap();
        let damaged = refusal(&gateway, &mut gateway.command(&gateway.password_file()));
        let said = |refused: &process::Refusal| {
            let (error, hint) = (refused.error.clone(), refused.hint.clone());
            (refused.exit, refused.code.clone(), error, hint)
        };
        assert_eq!(said(&damaged), said(&refused), "byte {position}");
    }
    fs::write(keystore(&gateway), sealed).unwrap();
    assert_eq!(contents(&gateway.home()), before);
    gateway.start().unwrap();
}

#[test]
fn passwords_come_from_stdin_or_a_file_and_their_absence_names_the_flag() {
    let _turn = beside_others();
    let gateway = set_up("alice");
    let log = gateway.log_path();
    let no_file = || {
        let mut command = Command::new(program());
        command.arg("--data-dir").arg(gateway.home());
        command.env_remove("CLAWCHAT_PASSWORD_FILE");
        command
    };
    let mut by_stdin = Daemon::spawn(
        no_file().arg("--password-stdin"),
        format!("{PASSWORD}\n").as_bytes(),
        &log,
    );
    by_stdin.started();
    drop(by_stdin);
    let mut by_environment = no_file();
    by_environment.env("CLAWCHAT_PASSWORD_FILE", gateway.password_file());
    Daemon::spawn(&mut by_environment, b"", &log).started();

    let refused = refusal(&gateway, &mut no_file());
    refused.expect(2, "password_required", &["password", gateway.principal()]);
    assert!(refused.hint.contains("--password-file"), "{refused:?}");
    let missing = gateway.home().join("no-such-file");
    refusal(&gateway, &mut gateway.command(&missing)).expect(1, "io", &[missing.to_str().unwrap()]);
    let empty = file(&gateway, "empty", "\n");
    refusal(&gateway, &mut gateway.command(&empty)).expect(1, "failed", &[empty.to_str().unwrap()]);

    fs::write(folder(&gateway, gateway.principal()).join("password"), PASSWORD).unwrap();
    Daemon::spawn(&mut no_file(), b"", &log).started();
}

#[test]
fn a_port_in_use_is_named_and_its_owner_unharmed() {
    let _turn = beside_others();
    let (mut alice, mut bob) = (set_up("alice"), set_up("bob"));
    alice.start().unwrap();
    let before = contents(&bob.home());
    let mut command = bob.command(&bob.password_file());
    let refused = refusal(&bob, command.arg("--port").arg(alice.port().to_string()));
    refused.expect(1, "network", &[&alice.port().to_string(), "in use"]);
    assert!(refused.hint.contains("port"), "{refused:?}");

    // Nothing of what was there has changed; only the store, which this start made, is new.
    let after = contents(&bob.home());
    let store = folder(&bob, bob.principal()).join("store");
    for (path, bytes) in &after {
        let new = path.starts_with(&store) && !before.contains_key(path);
        assert!(new || before.get(path) == Some(bytes), "{}", path.display());
    }
    assert!(before.keys().all(|path| after.contains_key(path)));
    assert_alive(&alice, alice.principal());
    bob.start().unwrap();
    bob.learn(&alice).unwrap();
    assert_alive(&bob, "alice");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let _turn = beside_others();
    let gateway = set_up("alice");
    let regular = file(&gateway, "regular", "not a folder");
    let with = |home: &Path| {
        let mut command = Command::new(program());
        command.arg("--data-dir").arg(home);
        command.arg("--password-file").arg(gateway.password_file());
        refusal(&gateway, &mut command)
    };
    with(&regular).expect(1, "io", &[regular.to_str().unwrap(), "not a folder"]);
    let below = regular.join("home");
    with(&below).expect(1, "not_initialized", &[below.to_str().unwrap()]);
    let nowhere = gateway.password_file().with_file_name("nowhere");
    with(&nowhere).expect(1, "not_initialized", &[nowhere.to_str().unwrap()]);
    assert!(!nowhere.exists());
    assert_eq!(fs::read_to_string(&regular).unwrap(), "not a folder");

    // What cannot be created is not: a setup below a file.
    let request = json!({ "cmd": "gateway_init", "password": PASSWORD });
    let (status, answer) = offline(&below, &request);
    assert_eq!((status, &answer["code"]), (Some(1), &json!("io")), "{answer}");
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains(regular.to_str().unwrap())
    );
}

#[test]
fn a_read_only_disk_is_named() {
    let _turn = beside_others();
    let mut gateway = Gateway::prepare(program(), "alice").unwrap();
    let Some(disk) = SmallDisk::at(&gateway.home(), "64m") else {
        return;
    };
    gateway.init(&json!({ "password": PASSWORD })).unwrap();
    disk.freeze();
    let refused = refusal(&gateway, &mut gateway.command(&gateway.password_file()));
    refused.expect(1, "io", &[gateway.home().to_str().unwrap(), "read-only"]);
}

/// One request without a daemon, whether or not it works: exit code and answer.
fn offline(home: &Path, request: &Value) -> (Option<i32>, Value) {
    let mut command = Command::new(program());
    command.arg("--data-dir").arg(home).arg("offline");
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut daemon = Daemon::spawn(&mut command, format!("{request}\n").as_bytes(), log.path());
    let (answer, exit) = daemon.ended();
    (exit, serde_json::from_str(&answer).unwrap())
}

#[test]
fn a_setup_that_finds_no_room_leaves_nothing_behind() {
    let _turn = beside_others();
    let gateway = Gateway::prepare(program(), "alice").unwrap();
    let Some(disk) = SmallDisk::at(&gateway.home(), "256k") else {
        return;
    };
    let filler = disk.fill("filler");
    let request = json!({ "cmd": "gateway_init", "password": PASSWORD });
    let (exit, answer) = offline(&gateway.home(), &request);
    assert_eq!(
        (exit, &answer["code"]),
        (Some(1), &json!("storage_full")),
        "{answer}"
    );
    assert!(answer["hint"].as_str().unwrap().contains("space"), "{answer}");
    let left = contents(&gateway.home());
    let left: Vec<&PathBuf> = left.keys().filter(|path| **path != filler).collect();
    let identities = gateway.home().join("identities");
    assert!(left.iter().all(|path| **path == identities), "{left:?}");

    fs::remove_file(filler).unwrap();
    let (exit, answer) = offline(&gateway.home(), &request);
    assert_eq!(exit, Some(0), "{answer}");
}

#[test]
fn an_invalid_configuration_is_told_with_key_and_line() {
    let _turn = beside_others();
    let mut gateway = set_up("alice");
    let path = gateway.home().join("gateway-config.json");
    let valid = fs::read_to_string(&path).unwrap();
    let line_of = |part: &str| {
        let before = valid.split(part).next().unwrap();
        format!("line {}", before.matches('\n').count() + 1)
    };
    let port = format!("\"p2pPort\": {}", gateway.port());
    let changes: [(&str, &str, &str); 6] = [
        (&port, "\"p2pPort\": \"nine thousand\"", "p2pPort"),
        ("\"autoload\": true", "\"autoload\": 1", "autoload"),
        ("\"nick\": \"alice\"", "\"nick\": 7", "nick"),
        ("\"version\": 1", "\"version\": 2", "version"),
        (
            "\"principal\": \"stacks:",
            "\"principal\": \"stocks:",
            "principal",
        ),
        ("\"allowLocal\": true", "\"allowLocal\": true, oops", ""),
    ];
    for (from, to, key) in changes {
        let invalid = valid.replace(from, to);
        assert_ne!(valid, invalid, "no {from}");
        fs::write(&path, &invalid).unwrap();
        let before = contents(&gateway.home());
        let refused = refusal(&gateway, &mut gateway.command(&gateway.password_file()));
        refused.expect(1, "failed", &[path.to_str().unwrap(), key, &line_of(from)]);
        assert_eq!(contents(&gateway.home()), before, "{to}");
    }
    for broken in ["", "{", "[]", "null", "\u{0}"] {
        fs::write(&path, broken).unwrap();
        let refused = refusal(&gateway, &mut gateway.command(&gateway.password_file()));
        refused.expect(1, "failed", &[path.to_str().unwrap()]);
        assert_eq!(fs::read_to_string(&path).unwrap(), broken);
    }
    fs::write(&path, valid).unwrap();
    gateway.start().unwrap();
}
