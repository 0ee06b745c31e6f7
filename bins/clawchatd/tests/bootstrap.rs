//! `clawchatd bootstrap serve`: what it prints, what it serves, how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);
const LIST: &str = r#"{"version":1,"peers":[{"peer_id":"a","ws_url":"ws://a.example:5000"}]}"#;

fn serve(file: &Path, port: u16) -> Child {
    Command::new(env!("CARGO_BIN_EXE_clawchatd"))
        .args([
            "bootstrap",
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--file",
        ])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn told(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /bootstrap.json HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_serves_the_list_until_it_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.json");
    let mut child = serve(&file, 0);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let started: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(started["event"], "started");
    assert_eq!(started["peers"], 0);
    assert_eq!(started["pid"], child.id());
    let port = u16::try_from(started["port"].as_u64().unwrap()).unwrap();
    assert_eq!(started["url"], format!("http://127.0.0.1:{port}/bootstrap.json"));
    assert!(told(port).contains(r#"{"version":1,"peers":[]}"#));
    fs::write(&file, LIST).unwrap();
    assert!(told(port).ends_with(LIST));
    fs::write(&file, "{").unwrap();
    let answer = told(port);
    assert!(
        answer.ends_with(LIST) && answer.contains("X-Bootstrap-Fault: "),
        "{answer}"
    );

    // Somebody else cannot have the port meanwhile.
    let second = serve(&file, port).wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stdout.is_empty());

    let killed = Command::new("kill")
        .args(["-s", "TERM", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&rest).unwrap(),
        json!({"event": "stopped"})
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_file_that_is_no_list_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.json");
    fs::write(&file, r#"{"version":1,"peers":[{"peer_id":"a"}]}"#).unwrap();
    let ended = serve(&file, 0).wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert!(complaint.contains("entry 0 of \"peers\""), "{complaint}");
}
