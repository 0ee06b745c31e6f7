//! `clawchatd mesh` and the commands for channels: two peers without wallets, one conversation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use common::{Ended, Home};
use serde_json::{Value, json};

/// How long something may take that happens by itself.
const DEADLINE: Duration = Duration::from_secs(180);

/// A mesh peer that runs. Killed when dropped.
struct Peer {
    home: Home,
    child: Child,
    stdout: BufReader<ChildStdout>,
    started: Value,
}

impl Peer {
    fn start(home: Home, arguments: &[&str]) -> Self {
        let line = [&["mesh", "--host", "127.0.0.1"], arguments].concat();
        let mut child = home.daemon(&line).env("PORT", "0").spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let started = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self {
            home,
            child,
            stdout,
            started,
        }
    }

    fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.started["port"])
    }

    fn name(&self) -> &str {
        self.started["peerId"].as_str().unwrap()
    }

    fn run(&self, line: &[&str]) -> Ended {
        self.home.run(line)
    }

    /// Runs a command until its answer is as wanted.
    #[track_caller]
    fn until(&self, line: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.run(line).json();
            if wanted(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < DEADLINE, "{line:?} stays {answer}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Ends it in order. Gives its home back.
    fn stop(mut self) -> Home {
        self.signal("TERM");
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&rest).unwrap(),
            json!({"event": "stopped"})
        );
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        std::mem::replace(&mut self.home, Home::empty())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_commands_join_a_mesh_and_two_peers_talk() {
    let alice = Peer::start(Home::empty(), &[]);
    assert_eq!(alice.started["event"], "started");
    assert_eq!(alice.started["pid"], alice.child.id());
    assert_eq!(alice.started["channels"], json!(["lobby"]));
    let bob = Peer::start(Home::empty(), &["--peer", &alice.url()]);

    let mut watch = bob.home.spawn(&["watch", "--channel", "lobby"]);
    let stdout = BufReader::new(watch.stdout.take().unwrap());
    let (said, lines) = sync_channel(1);
    let reading = thread::spawn(move || {
        for line in stdout.lines() {
            // Nobody waits for more than one.
            let _ = said.try_send(line.unwrap());
        }
    });
    let begun = Instant::now();
    // It shows what comes once it follows, and nothing tells when that is.
    let (sent, shown) = loop {
        let sent = alice
            .run(&["channel", "send", "lobby", "hello", "--payload", "{\"n\":1}"])
            .json();
        if let Ok(line) = lines.recv_timeout(Duration::from_millis(200)) {
            break (sent, line);
        }
        assert!(begun.elapsed() < DEADLINE, "watch shows nothing");
    };
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["body"], "hello");
    assert_eq!(shown["payload"], json!({"n": 1}));
    assert_eq!(shown["sender"], alice.name());
    assert_eq!(shown["verified"], true);
    assert_eq!(sent["status"], "sent");
    watch.kill().unwrap();
    watch.wait().unwrap();
    reading.join().unwrap();

    // A restart keeps the name, the channels and the messages; the other side gets what it missed.
    assert_eq!(
        bob.run(&["channel", "join", "#dev"]).json(),
        json!({"status": "joined", "channel": "#dev"})
    );
    let name = bob.name().to_owned();
    let home = bob.stop();
    alice.run(&["channel", "join", "#dev"]).json();
    alice.run(&["channel", "send", "#dev", "missed"]).json();
    alice.run(&["dm", "send", &name, "just you"]).json();
    alice.signal("HUP");
    let bob = Peer::start(home, &["--peer", &alice.url()]);
    assert_eq!(bob.name(), name);
    let history = bob.until(&["channel", "history", "#dev"], |history| history != &json!([]));
    assert_eq!(history[0]["body"], "missed");
    let direct = bob.until(&["dm", "history", alice.name()], |history| history != &json!([]));
    assert_eq!(direct[0]["body"], "just you");
    bob.stop();
    alice.stop();
}

#[test]
fn a_picture_opens_on_the_other_side() {
    let alice = Peer::start(Home::empty(), &[]);
    let bob = Peer::start(Home::empty(), &["--peer", &alice.url()]);
    let place = tempfile::tempdir().unwrap();
    let picture = place.path().join("picture.png");
    let bytes: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    fs::write(&picture, &bytes).unwrap();
    let sent = alice
        .run(&["channel", "send", "lobby", "--file", picture.to_str().unwrap()])
        .json();
    let id = sent["id"].as_str().unwrap();
    bob.until(&["channel", "history", "lobby"], |history| history != &json!([]));
    let to = place.path().join("received");
    fs::create_dir(&to).unwrap();
    let save = ["channel", "save", id, "--to", to.to_str().unwrap()];
    let saved = bob.run(&save).json();
    assert_eq!(saved["size"], bytes.len());
    assert_eq!(saved["type"], "image/png");
    assert_eq!(fs::read(to.join("picture.png")).unwrap(), bytes);
    bob.run(&save).error(1, "file_exists");
    bob.run(&["channel", "save", "nope"]).error(4, "no_such_message");
    let large = place.path().join("large");
    fs::write(&large, vec![b'x'; 2 << 20]).unwrap();
    alice
        .run(&["channel", "send", "lobby", "--file", large.to_str().unwrap()])
        .error(1, "too_large");
}

#[test]
fn keys_are_pem_files_and_what_stands_in_the_way_is_named() {
    let place = tempfile::tempdir().unwrap();
    let (keys, store) = (place.path().join("keys"), place.path().join("mesh.db"));
    let home = Home::empty();
    let mut command = home.daemon(&["mesh", "--no-listen"]);
    command.env("MESH_KEY_DIR", &keys).env("MESH_STORE_PATH", &store);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let started: Value = serde_json::from_str(&line).unwrap();
    assert!(started.get("port").is_none(), "{started}");
    assert_eq!(
        fs::read_to_string(keys.join("pub.pem")).unwrap(),
        started["publicKey"].as_str().unwrap()
    );
    assert!(
        fs::read_to_string(keys.join("key.pem"))
            .unwrap()
            .starts_with("-----BEGIN PRIVATE KEY-----\n")
    );
    assert!(store.is_dir());
    child.kill().unwrap();
    child.wait().unwrap();

    let file = place.path().join("a file");
    fs::write(&file, "SQLite format 3").unwrap();
    let refused = |variable: &str, value: &str| {
        let mut command = home.daemon(&["--log-format", "json", "mesh", "--host", "127.0.0.1"]);
        command.env("PORT", "0").env("MESH_KEY_DIR", &keys);
        Ended::from(command.env(variable, value).output().unwrap())
    };
    let error = refused("MESH_STORE_PATH", file.to_str().unwrap()).error(1, "io");
    assert!(error["error"].as_str().unwrap().contains("is a file"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"SQLite format 3");
    refused("MESH_KEY_DIR", file.to_str().unwrap()).error(1, "io");
    refused("PORT", "http").error(2, "invalid_request");
    refused("MESH_BOOTSTRAP_URL", "ftp://x").error(2, "invalid_request");
}

#[test]
fn channels_that_are_not_there_end_with_4() {
    let peer = Peer::start(Home::empty(), &[]);
    for line in [
        &["channel", "send", "#no", "x"][..],
        &["channel", "leave", "#no"],
        &["channel", "history", "#no"],
        &["channel", "members", "#no"],
        &["watch", "--channel", "#no"],
    ] {
        peer.run(line).error(4, "no_such_channel");
    }
    peer.run(&["channel", "history", "lobby", "--before", "no"])
        .error(4, "no_such_message");
    peer.run(&["dm", "send", "nobody", "x"])
        .error(4, "unknown_recipient");
    peer.run(&["channel", "join", ""]).error(2, "invalid_request");
    peer.run(&["send", "bob", "x"]).error(1, "unsupported");
    assert_eq!(peer.run(&["channel", "history", "lobby"]).json(), json!([]));
    assert_eq!(peer.run(&["daemon", "stop"]).json()["status"], "stopped");
    peer.run(&["channel", "list"]).error(3, "not_running");
}
