//! In which order requests run and answers come, and how much of both there can be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use clawchat_ipc::{Call, Failure, MAX_PIPELINED, Reply, Request};
use common::{Daemon, PATIENCE, With};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

fn lines(requests: &[Value]) -> String {
    requests.iter().map(|request| format!("{request}\n")).collect()
}

/// `connect` and waiting requests answer once a `reload` came; everything else at once.
fn until_reload() -> Daemon {
    let reload = Arc::new(Notify::new());
    Daemon::start(With(move |_, call: Call| {
        let reload = Arc::clone(&reload);
        async move {
            let command = call.request.command();
            if matches!(call.request, Request::Connect { .. }) || call.request.waits() {
                reload.notified().await;
            } else if matches!(call.request, Request::Reload) {
                reload.notify_waiters();
            }
            Reply::ok(json!(command))
        }
    }))
}

#[test]
fn answers_come_in_order_although_later_requests_finish_first() {
    let daemon = until_reload();
    let mut wire = daemon.connect();
    wire.write(lines(&[
        json!({"cmd": "connect", "multiaddr": "/x", "id": 1}),
        json!({"cmd": "status"}),
        json!({"cmd": "reload", "id": 3}),
    ]));
    assert_eq!(wire.expect(), json!({"ok": true, "data": "connect", "id": 1}));
    assert_eq!(wire.expect(), json!({"ok": true, "data": "status"}));
    assert_eq!(wire.expect(), json!({"ok": true, "data": "reload", "id": 3}));
}

#[test]
fn a_waiting_request_with_an_id_is_overtaken_and_one_without_keeps_its_place() {
    let daemon = until_reload();
    for waiting in [
        json!({"cmd": "recv", "timeout": 60_000}),
        json!({"cmd": "ask", "to": "b", "content": "?"}),
        json!({"cmd": "send", "to": "b", "content": "x", "wait": 60_000}),
    ] {
        let mut wire = daemon.connect();
        let mut with_id = waiting.clone();
        with_id["id"] = json!("w");
        wire.write(lines(&[with_id, json!({"cmd": "status"})]));
        assert_eq!(wire.expect()["data"], "status");
        wire.send(&json!({"cmd": "reload"}));
        let mut answers = [wire.expect(), wire.expect()];
        answers.sort_by_key(|answer| answer.get("id").is_some());
        assert_eq!(answers[0]["data"], "reload");
        assert_eq!(answers[1], json!({"ok": true, "data": waiting["cmd"], "id": "w"}));

        wire.write(lines(&[waiting.clone(), json!({"cmd": "reload"})]));
        assert_eq!(wire.expect()["data"], waiting["cmd"]);
        assert_eq!(wire.expect()["data"], "reload");
    }
}

#[test]
fn requests_begin_strictly_in_the_order_they_were_sent() {
    let begun = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&begun);
    let daemon = Daemon::start(With(move |_, call: Call| {
        let begun = Arc::clone(&seen);
        async move {
            // Before the first suspension, on any of several threads.
            begun.lock().unwrap().push(call.id.clone().unwrap());
            tokio::task::yield_now().await;
            Reply::ok(Value::Null)
        }
    }));
    let mut wire = daemon.connect();
    let requests: Vec<Value> = (0..1000)
        .map(|n| match n % 3 {
            0 => json!({"cmd": "send", "to": "b", "content": "x", "wait": 9, "id": n}),
            _ => json!({"cmd": "send", "to": "b", "content": "x", "id": n}),
        })
        .collect();
    wire.write(lines(&requests));
    let mut answered: Vec<u64> = (0..1000).map(|_| wire.expect()["id"].as_u64().unwrap()).collect();
    assert_eq!(
        *begun.lock().unwrap(),
        (0..1000).map(Value::from).collect::<Vec<_>>()
    );
    let plain: Vec<u64> = answered.iter().copied().filter(|n| n % 3 != 0).collect();
    assert!(plain.is_sorted());
    answered.sort_unstable();
    assert_eq!(answered, (0..1000).collect::<Vec<_>>());
}

#[test]
fn what_requests_queue_first_is_queued_in_their_order() {
    let (queue, mut queued) = mpsc::channel(1000);
    let daemon = Daemon::start(With(move |_, call: Call| {
        let queue = queue.clone();
        async move {
            queue.send(call.id.unwrap()).await.unwrap();
            tokio::task::yield_now().await;
            Reply::ok(Value::Null)
        }
    }));
    let mut wire = daemon.connect();
    let requests: Vec<Value> = (0..1000)
        .map(|n| match n % 3 {
            0 => json!({"cmd": "send", "to": "b", "content": "x", "wait": 9, "id": n}),
            _ => json!({"cmd": "send", "to": "b", "content": "x", "id": n}),
        })
        .collect();
    wire.write(lines(&requests));
    for _ in 0..1000 {
        wire.expect();
    }
    for number in 0..1000 {
        assert_eq!(queued.try_recv(), Ok(json!(number)));
    }
}

#[test]
fn the_lines_of_a_stream_carry_its_id_between_other_answers() {
    let (give, streams) = sync_channel(1);
    let daemon = Daemon::start(With(move |_, call: Call| {
        let give: SyncSender<mpsc::Sender<Value>> = give.clone();
        async move {
            match call.request {
                Request::Subscribe { .. } => {
                    let (sender, lines) = mpsc::channel(1);
                    give.send(sender).unwrap();
                    Reply::Stream(lines)
                }
                request => Reply::ok(json!(request.command())),
            }
        }
    }));
    let mut wire = daemon.connect();
    wire.send(&json!({"cmd": "subscribe", "id": "s"}));
    assert_eq!(wire.call(&json!({"cmd": "status"}))["data"], "status");
    let sender = streams.recv_timeout(PATIENCE).unwrap();
    for n in 0..100 {
        sender.blocking_send(json!({"event": "message", "n": n})).unwrap();
        assert_eq!(wire.expect(), json!({"event": "message", "n": n, "id": "s"}));
    }
    assert_eq!(wire.call(&json!({"cmd": "peers", "id": 2}))["data"], "peers");
    drop(sender);
    assert_eq!(wire.expect(), json!({"event": "end", "id": "s"}));

    // Without an id it keeps its place: the answer behind it comes after its end.
    wire.write(lines(&[json!({"cmd": "subscribe"}), json!({"cmd": "status"})]));
    let sender = streams.recv_timeout(PATIENCE).unwrap();
    sender.blocking_send(json!({"event": "peer"})).unwrap();
    drop(sender);
    assert_eq!(wire.expect(), json!({"event": "peer"}));
    assert_eq!(wire.expect(), json!({"event": "end"}));
    assert_eq!(wire.expect()["data"], "status");

    // A caller that goes away ends the stream.
    wire.send(&json!({"cmd": "subscribe"}));
    let sender = streams.recv_timeout(PATIENCE).unwrap();
    drop(wire);
    while sender.blocking_send(json!({"event": "peer"})).is_ok() {}
}

/// Tells when it is dropped.
struct Guard(SyncSender<&'static str>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

fn never_answering(tell: &SyncSender<&'static str>) -> Daemon {
    let tell = tell.clone();
    Daemon::start(With(move |_, call: Call| {
        let tell = tell.clone();
        async move {
            if call.request.waits() {
                tell.send("begun").unwrap();
                let _guard = Guard(tell);
                std::future::pending::<()>().await;
            }
            Reply::ok(json!(call.request.command()))
        }
    }))
}

#[test]
fn what_a_caller_waits_for_is_dropped_when_it_goes_away() {
    let (tell, hear) = sync_channel(8);
    let daemon = never_answering(&tell);
    for id in [json!({}), json!({"id": 1})] {
        let mut wire = daemon.connect();
        let mut request = json!({"cmd": "recv", "timeout": 600_000});
        request
            .as_object_mut()
            .unwrap()
            .extend(id.as_object().unwrap().clone());
        wire.send(&request);
        assert_eq!(hear.recv_timeout(PATIENCE), Ok("begun"));
        drop(wire);
        assert_eq!(hear.recv_timeout(PATIENCE), Ok("dropped"));
    }
}

#[test]
fn a_caller_that_only_stops_writing_still_gets_its_answers() {
    let daemon = until_reload();
    let mut wire = daemon.connect();
    wire.write(lines(&[
        json!({"cmd": "recv", "timeout": 60_000}),
        json!({"cmd": "status"}),
    ]));
    wire.socket.shutdown(Shutdown::Write).unwrap();
    daemon.connect().call(&json!({"cmd": "status"}));
    // The reload may overtake the recv on its way in; it is repeated until the recv has heard one.
    let reader = std::thread::spawn(move || (wire.expect(), wire.expect(), wire.line()));
    let mut other = daemon.connect();
    while !reader.is_finished() {
        other.call(&json!({"cmd": "reload"}));
    }
    let (first, second, end) = reader.join().unwrap();
    assert_eq!(
        (&first["data"], &second["data"], end),
        (&json!("recv"), &json!("status"), None)
    );

    // And one that then goes away altogether is noticed too.
    let (tell, hear) = sync_channel(8);
    let daemon = never_answering(&tell);
    let mut wire = daemon.connect();
    wire.send(&json!({"cmd": "recv", "timeout": 60_000}));
    wire.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear.recv_timeout(PATIENCE), Ok("begun"));
    drop(wire);
    assert_eq!(hear.recv_timeout(PATIENCE), Ok("dropped"));
}

#[test]
fn no_more_requests_are_read_than_may_be_open() {
    let begun = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let (counter, peak, gate) = (Arc::clone(&begun), Arc::clone(&most), Arc::clone(&release));
    let (full, is_full) = sync_channel(1);
    let daemon = Daemon::start(With(move |_, _| {
        let (counter, peak, gate) = (Arc::clone(&counter), Arc::clone(&peak), Arc::clone(&gate));
        let full = full.clone();
        async move {
            let open = counter.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(open, Ordering::SeqCst);
            if open == MAX_PIPELINED {
                let _ = full.try_send(());
            }
            let permit = gate.acquire().await.map_err(|_| Failure::stopping());
            counter.fetch_sub(1, Ordering::SeqCst);
            Reply::from(permit.map(|_| Value::Null))
        }
    }));
    let mut wire = daemon.connect();
    let total = MAX_PIPELINED * 3;
    wire.write(lines(&vec![json!({"cmd": "status"}); total]));
    is_full.recv_timeout(PATIENCE).unwrap();
    release.add_permits(1);
    for _ in 0..total {
        assert_eq!(wire.expect()["ok"], true);
    }
    assert_eq!(most.load(Ordering::SeqCst), MAX_PIPELINED);
}

#[test]
fn a_caller_that_does_not_read_makes_the_daemon_hold_no_more_than_its_bound() {
    const ANSWER_BYTES: usize = 2 * 1024 * 1024;
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let daemon = Daemon::start(With(move |_, _| {
        let calls = Arc::clone(&counter);
        async move {
            calls.fetch_add(1, Ordering::SeqCst);
            Reply::ok(json!("x".repeat(ANSWER_BYTES)))
        }
    }));
    let mut wire = daemon.connect();
    wire.write(lines(&vec![json!({"cmd": "status"}); 40]));
    assert_eq!(wire.expect()["ok"], true);
    assert!(calls.load(Ordering::SeqCst) < 20, "{calls:?}");
    for _ in 1..40 {
        assert_eq!(wire.expect()["ok"], true);
    }
}
