//! `clawchatd` itself: its two lines on stdout, signals, exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/stopwatch.rs"]
mod stopwatch;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{Ended, Home};
use serde_json::{Value, json};
use stopwatch::Stopwatch;

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn it_says_when_it_serves_and_when_it_has_ended() {
    for name in ["TERM", "INT"] {
        let home = Home::with_gateway("alice");
        let mut child = home.daemon(&[]).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(started["event"], "started");
        assert_eq!(started["pid"], child.id());
        assert_eq!(started["p2pPort"], home.port);
        assert_eq!(started["principal"], home.principal());
        assert!(
            started["peerId"].is_string() && started["multiaddrs"][0].is_string(),
            "{started}"
        );
        assert_eq!(home.run(&["daemon", "status"]).json()["running"], true);

        let begun = Stopwatch::start();
        signal(&child, name);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&rest).unwrap(),
            json!({"event": "stopped"})
        );
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(!home.data_dir().join("clawchat.sock").exists());
        assert!(!home.data_dir().join("daemon.pid").exists());
    }
}

#[test]
fn a_hangup_makes_it_read_its_configuration_again() {
    let home = Home::with_gateway("alice");
    let mut child = home.daemon(&[]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    let path = home.data_dir().join("gateway-config.json");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("\"alice\"", "\"alicia\"");
    fs::write(&path, text).unwrap();
    signal(&child, "HUP");
    let deadline = Instant::now() + Duration::from_secs(120);
    while home.run(&["daemon", "status", "--as", "alicia"]).code != 0 {
        assert!(Instant::now() < deadline, "the new name is not known");
        std::thread::yield_now();
    }
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_says_why_it_cannot_start() {
    let home = Home::empty();
    let ended = Ended::from(home.daemon(&[]).output().unwrap());
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    assert!(
        ended.stderr.lines().last().unwrap().starts_with("clawchatd: "),
        "{}",
        ended.stderr
    );

    let gateway = Home::serving("alice");
    let second = Ended::from(gateway.daemon(&["--log-format", "json"]).output().unwrap());
    second.error(1, "already_running");
    assert_eq!(second.stdout, "");

    let usage = Ended::from(gateway.daemon(&["--frobnicate"]).output().unwrap());
    assert_eq!((usage.code, usage.stdout.as_str()), (2, ""));
}

#[test]
fn a_port_in_use_is_named() {
    let (first, second) = (Home::serving("alice"), Home::with_gateway("bob"));
    let port = first.port.to_string();
    let ended = Ended::from(
        second
            .daemon(&["--port", &port, "--log-format", "json"])
            .output()
            .unwrap(),
    );
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(
        ended.stderr.lines().last().unwrap().contains(&port),
        "{}",
        ended.stderr
    );
}
