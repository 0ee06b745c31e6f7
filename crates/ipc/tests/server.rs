//! The socket itself: who may use it, how often, and what becomes of bytes that are no requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use clawchat_ipc::{BindError, Call, MAX_CONNECTIONS, MAX_FRAME_BYTES, OnWritten, Reply, Request, Server};
use common::{Daemon, PATIENCE, Wire, With, echo};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

#[test]
fn the_socket_is_private_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let server = Server::bind(home.join("clawchat.sock")).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(home.clone()), 0o700);
    assert_eq!(mode(home.join("clawchat.sock")), 0o600);
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
    drop(server);
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
}

#[test]
fn a_socket_nobody_answers_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clawchat.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(
        path.exists(),
        "a dropped listener leaves its file, as a killed daemon does"
    );
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let server = Server::bind(&path).unwrap();
    assert!(matches!(
        Server::bind(&path),
        Err(BindError::AlreadyRunning { .. })
    ));
    assert!(path.exists());
    drop(server);
    assert!(!path.exists());
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clawchat.sock");
    fs::write(&path, "precious").unwrap();
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    assert!(matches!(Server::bind(&path), Err(BindError::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let long = folder.path().join("x".repeat(120));
    let error = Server::bind(long.join("clawchat.sock")).unwrap_err();
    assert!(error.to_string().contains("shorter data folder"), "{error}");
    assert!(!long.exists());
}

#[test]
fn a_successor_s_socket_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clawchat.sock");
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let server = Server::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let successor = Server::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
    drop(successor);
    assert!(!path.exists());
}

#[test]
fn one_connection_too_many_is_told_so_and_room_is_made_by_closing_one() {
    let daemon = Daemon::start(echo());
    let mut open: Vec<Wire> = (0..MAX_CONNECTIONS).map(|_| daemon.connect()).collect();
    for wire in &mut open {
        wire.assert_alive();
    }
    let mut surplus = daemon.connect();
    let answer = surplus.expect();
    assert_eq!((&answer["ok"], &answer["code"]), (&json!(false), &json!("busy")));
    assert_eq!(surplus.line(), None);
    open.pop();
    let room = (0..10_000).any(|_| {
        let mut wire = daemon.connect();
        // A refused connection may be closed before the request is written.
        let _ = wire.socket.write_all(b"{\"cmd\":\"status\"}\n");
        wire.line().is_some_and(|answer| answer["ok"] == true)
    });
    assert!(room);
    open.iter_mut().for_each(Wire::assert_alive);
}

#[test]
fn a_line_beyond_the_limit_gets_one_error_and_the_connection_stays() {
    let daemon = Daemon::start(echo());
    let mut wire = daemon.connect();
    let mut line = format!(
        "{{\"cmd\":\"status\",\"x\":\"{}\"}}\n",
        "x".repeat(MAX_FRAME_BYTES)
    );
    line.push_str("{\"cmd\":\"status\",\"id\":1}\n");
    wire.write(line);
    let answer = wire.expect();
    assert_eq!(
        (&answer["ok"], &answer["code"]),
        (&json!(false), &json!("too_large"))
    );
    assert_eq!(wire.expect(), json!({"ok": true, "data": "status", "id": 1}));
    wire.assert_alive();
}

#[test]
fn garbage_gets_one_error_a_line() {
    let daemon = Daemon::start(echo());
    let mut wire = daemon.connect();
    for (line, code) in [
        (&b"garbage"[..], "invalid_request"),
        (b"{\"cmd\":\"status\"", "invalid_request"),
        (b"\xff\xfe{\"cmd\":\"status\"}", "invalid_request"),
        (b"{\"cmd\":\"st\xc3\x28\"}", "invalid_request"),
        (b"{\"cmd\":\"status\"} {}", "invalid_request"),
        (b"{\"cmd\":\"\xf0\x9f\xa6\x80\"}", "unknown_command"),
        (
            b"{\"cmd\":\"send\",\"to\":\"\\ud800\",\"content\":\"\"}",
            "invalid_request",
        ),
        (b"\0\0\0", "invalid_request"),
        (b"[[[[", "invalid_request"),
        (b"null", "unknown_command"),
        (b"7", "unknown_command"),
        (b"{}", "unknown_command"),
    ] {
        wire.write(line);
        wire.write("\n");
        let answer = wire.expect();
        assert_eq!(
            answer["code"],
            code,
            "{:?}: {answer}",
            String::from_utf8_lossy(line)
        );
        wire.assert_alive();
    }
    wire.write(format!("{}\n", "[".repeat(1_000_000)));
    assert_eq!(wire.expect()["code"], "invalid_request");
    wire.assert_alive();
}

#[test]
fn line_ends_blank_lines_and_split_characters_do_not_matter() {
    let daemon = Daemon::start(With(|_, call: Call| async move {
        match call.request {
            Request::Send { content, .. } => Reply::ok(json!(content.as_str())),
            request => Reply::ok(json!(request.command())),
        }
    }));
    let mut wire = daemon.connect();
    wire.write("\r\n\n   \n{\"cmd\":\"status\"}\r\n\n{\"cmd\":\"fly\",\"cmd\":\"peers\"}\n");
    assert_eq!(wire.expect()["data"], "status");
    assert_eq!(wire.expect()["data"], "peers");
    // Byte by byte, each in a write of its own.
    for byte in "{\"cmd\":\"send\",\"to\":\"b\",\"content\":\"café 🦀\"}\n".bytes() {
        wire.write([byte]);
    }
    assert_eq!(wire.expect()["data"], "café 🦀");
}

#[test]
fn a_last_request_needs_no_newline_but_has_to_be_whole() {
    let daemon = Daemon::start(echo());
    for (last, answered) in [
        ("{\"cmd\":\"stop\"}", true),
        ("{\"cmd\":\"stop\"} \r", true),
        ("{\"cmd\":\"stop\"", false),
        ("{\"cmd\":\"stop\"} {", false),
        ("  ", false),
    ] {
        let mut wire = daemon.connect();
        wire.write(format!("{{\"cmd\":\"status\"}}\n{last}"));
        wire.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(wire.expect()["data"], "status");
        if answered {
            assert_eq!(wire.expect()["data"], "stop", "{last}");
        }
        assert_eq!(wire.line(), None, "{last}");
    }
    // The one beyond those that may be open at once is read when there is room for it.
    let mut wire = daemon.connect();
    let requests = vec!["{\"cmd\":\"status\"}"; clawchat_ipc::MAX_PIPELINED + 1];
    wire.write(requests.join("\n"));
    wire.socket.shutdown(Shutdown::Write).unwrap();
    for _ in &requests {
        assert_eq!(wire.expect()["data"], "status");
    }
    assert_eq!(wire.line(), None);
}

#[test]
fn the_caller_is_who_the_kernel_says() {
    let (tell, hear) = sync_channel(1);
    let daemon = Daemon::start(With(move |caller, _| {
        let tell = tell.clone();
        async move {
            tell.send(caller).unwrap();
            Reply::ok(Value::Null)
        }
    }));
    daemon.connect().call(&json!({"cmd": "status", "uid": 0}));
    let caller = hear.recv_timeout(PATIENCE).unwrap();
    assert_eq!(caller.uid, rustix::process::geteuid().as_raw());
    assert_eq!(caller.pid, i32::try_from(std::process::id()).ok());
}

#[test]
fn whoever_asked_hears_whether_the_answer_was_written() {
    let (tell, hear) = sync_channel(1);
    let daemon = Daemon::start(With(move |_, call: Call| {
        let tell = tell.clone();
        async move {
            // The second answer is too large for any socket buffer.
            let bytes = if matches!(call.request, Request::Status) {
                10
            } else {
                8 * 1024 * 1024
            };
            let on_written = OnWritten::new(move |written| tell.send(written).unwrap());
            Reply::OnceThen {
                result: Ok(json!("x".repeat(bytes))),
                on_written,
            }
        }
    }));
    let mut wire = daemon.connect();
    wire.call(&json!({"cmd": "status"}));
    assert_eq!(hear.recv_timeout(PATIENCE), Ok(true));
    wire.call(&json!({"cmd": "peers"}));
    assert_eq!(hear.recv_timeout(PATIENCE), Ok(true));
    wire.send(&json!({"cmd": "peers"}));
    drop(wire);
    assert_eq!(hear.recv_timeout(PATIENCE), Ok(false));
}

#[test]
fn an_answer_beyond_the_limit_is_an_error_that_says_what_to_do() {
    let daemon = Daemon::start(With(|_, call: Call| async move {
        match call.request {
            Request::Inbox { limit: None, .. } => Reply::ok(json!("x".repeat(MAX_FRAME_BYTES))),
            _ => Reply::ok(json!([])),
        }
    }));
    let mut wire = daemon.connect();
    let answer = wire.call(&json!({"cmd": "inbox"}));
    assert_eq!(answer["code"], "too_large");
    assert!(answer["hint"].as_str().unwrap().contains("limit"));
    assert_eq!(wire.call(&json!({"cmd": "inbox", "limit": 5}))["ok"], true);
}

#[test]
fn a_stop_lets_running_requests_finish_and_sends_waiting_ones_home() {
    let go_on = Arc::new(Notify::new());
    let (tell, hear) = sync_channel(8);
    let gate = Arc::clone(&go_on);
    let mut daemon = Daemon::start(With(move |_, call: Call| {
        let (gate, tell) = (Arc::clone(&gate), tell.clone());
        async move {
            tell.send(()).unwrap();
            if call.request.waits() {
                std::future::pending::<()>().await;
            }
            gate.notified().await;
            Reply::ok(json!(call.request.command()))
        }
    }));
    let mut wire = daemon.connect();
    let mut waiting = daemon.connect();
    wire.write("{\"cmd\":\"connect\",\"multiaddr\":\"/x\"}\n");
    waiting.write("{\"cmd\":\"recv\",\"timeout\":60000}\n");
    hear.recv_timeout(PATIENCE).unwrap();
    hear.recv_timeout(PATIENCE).unwrap();
    daemon.request_stop();
    let answer = waiting.expect();
    assert_eq!(
        (&answer["ok"], &answer["code"]),
        (&json!(false), &json!("not_running"))
    );
    assert_eq!(waiting.line(), None);
    // The stop has reached everything by now; the request that is running still ends well.
    assert!(UnixStream::connect(&daemon.path).is_err());
    go_on.notify_one();
    assert_eq!(wire.expect()["data"], "connect");
    assert_eq!(wire.line(), None);
    daemon.close();
    assert!(!daemon.path.exists());
}

#[test]
fn a_request_that_never_ends_does_not_keep_the_server_from_stopping() {
    let (tell, hear) = sync_channel(1);
    let mut daemon = Daemon::start(With(move |_, _| {
        let tell = tell.clone();
        async move {
            tell.send(()).unwrap();
            std::future::pending().await
        }
    }));
    let mut wire = daemon.connect();
    wire.send(&json!({"cmd": "status"}));
    hear.recv_timeout(PATIENCE).unwrap();
    daemon.close();
    assert_eq!(wire.line(), None);
}

#[test]
fn a_panic_while_answering_ends_that_connection_only() {
    let daemon = Daemon::start(With(|_, call: Call| async move {
        assert!(!matches!(call.request, Request::Reload), "this request is cursed");
        Reply::ok(json!(call.request.command()))
    }));
    let mut other = daemon.connect();
    other.assert_alive();
    let mut wire = daemon.connect();
    wire.send(&json!({"cmd": "reload"}));
    assert_eq!(wire.line(), None);
    other.assert_alive();
    daemon.connect().assert_alive();
}
