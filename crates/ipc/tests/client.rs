//! The blocking client against a server, and single requests over pipes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::net::UnixListener;
use std::time::Duration;

use clawchat_ipc::client::{Client, ClientError};
use clawchat_ipc::{Answer, Call, Caller, ErrorCode, Failure, MAX_CONNECTIONS, Reply, Request, offline};
use clawchat_types::Content;
use common::{Daemon, PATIENCE, With, echo};
use serde_json::{Value, json};
use tokio::sync::mpsc;

fn send(text: &str) -> Call {
    Call::new(Request::Send {
        to: "bob".to_owned(),
        content: Content::new(text).unwrap(),
        payload: None,
        reply_to: None,
        wait: None,
        expires: None,
    })
}

fn recv_for(time: Duration) -> Call {
    let timeout = Some(time);
    Call::new(Request::Recv {
        since: None,
        timeout,
        from: None,
        limit: None,
        unread: false,
        after: None,
    })
}

fn client(daemon: &Daemon) -> Client {
    Client::connect(&daemon.path, Some(PATIENCE)).unwrap()
}

#[test]
fn a_call_returns_the_data_or_the_reason() {
    let daemon = Daemon::start(With(|_, call: Call| async move {
        match call.acting.as_deref() {
            Some(who) => Failure::new(ErrorCode::NoSuchIdentity, format!("Identity not found: {who}")).into(),
            None => Reply::ok(json!(call.request.command())),
        }
    }));
    let mut client = client(&daemon);
    assert_eq!(client.call(&Call::new(Request::Status)).unwrap(), "status");
    let error = client
        .call(&Call::new(Request::Status).acting(Some("nobody".to_owned())))
        .unwrap_err();
    assert_eq!(error.code().exit_code(), 4);
    assert_eq!(error.into_failure().message, "Identity not found: nobody");
    assert_eq!(client.call_value(&json!({"cmd": "peers"})).unwrap(), "peers");
    assert_eq!(
        client.call_value(&json!({"cmd": "fly"})).unwrap_err().code(),
        ErrorCode::UnknownCommand
    );
}

#[test]
fn without_a_daemon_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clawchat.sock");
    let expect_not_running = || {
        let error = Client::connect(&path, None).unwrap_err();
        assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
        assert_eq!(error.code().exit_code(), 3);
        assert!(error.into_failure().hint.unwrap().contains("daemon start"));
    };
    expect_not_running();
    drop(UnixListener::bind(&path).unwrap());
    expect_not_running();
}

#[test]
fn a_silent_daemon_times_out_and_a_closing_one_is_noticed() {
    let daemon = Daemon::start(echo());
    let mut client = Client::connect(&daemon.path, Some(Duration::from_millis(20))).unwrap();
    let error = client.call(&recv_for(Duration::from_secs(60))).unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    assert_eq!(error.code().exit_code(), 6);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = Client::connect(&path, Some(PATIENCE)).unwrap();
    drop(listener.accept().unwrap());
    assert!(matches!(client.call(&send("x")), Err(ClientError::Closed)));
}

#[test]
fn a_busy_daemon_s_reason_reaches_the_caller() {
    let daemon = Daemon::start(echo());
    let mut open: Vec<Client> = (0..MAX_CONNECTIONS).map(|_| client(&daemon)).collect();
    for client in &mut open {
        client.call(&Call::new(Request::Status)).unwrap();
    }
    let error = client(&daemon).call(&send("x")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Busy, "{error}");
}

#[test]
fn thousands_of_requests_go_through_one_connection_in_order() {
    let daemon = Daemon::start(With(|_, call: Call| async move {
        tokio::task::yield_now().await;
        match call.request {
            Request::Send { content, .. } => Reply::ok(json!(content.as_str())),
            _ => Failure::invalid("not expected").into(),
        }
    }));
    let mut client = client(&daemon);
    let mut answers = Vec::new();
    client
        .pipeline((0..3000).map(|n| send(&n.to_string()).with_id(n)), |answer| {
            answers.push(answer)
        })
        .unwrap();
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(
            *answer,
            Answer {
                id: Some(json!(n)),
                result: Ok(json!(n.to_string()))
            }
        );
    }
    assert_eq!(answers.len(), 3000);
    client.send_many(&[send("a"), send("b")]).unwrap();
    let answers: Vec<Value> = client
        .receive_many(2)
        .unwrap()
        .into_iter()
        .map(|a| a.result.unwrap())
        .collect();
    assert_eq!(answers, ["a", "b"]);
}

#[test]
fn a_request_beyond_the_limit_is_not_even_sent() {
    let daemon = Daemon::start(echo());
    let mut client = client(&daemon);
    // Control characters take six bytes each as JSON.
    let error = client.send(&send(&"\u{1}".repeat(3 * 1024 * 1024))).unwrap_err();
    assert!(matches!(error, ClientError::TooLarge), "{error}");
    assert_eq!(client.call(&Call::new(Request::Status)).unwrap(), "status");
}

#[test]
fn a_subscription_is_an_iterator_over_its_events() {
    let daemon = Daemon::start(With(|_, call: Call| async move {
        match call.request {
            Request::Subscribe { from: Some(_), .. } => Failure::new(ErrorCode::NoSuchPeer, "who?").into(),
            _ => {
                let (sender, lines) = mpsc::channel(8);
                for n in 0..3 {
                    sender.send(json!({"event": "message", "n": n})).await.unwrap();
                }
                Reply::Stream(lines)
            }
        }
    }));
    let subscribe = |from: Option<&str>| {
        let from = from.map(str::to_owned);
        let call = Call::new(Request::Subscribe {
            after: None,
            from,
            events: vec![],
            channels: vec![],
        })
        .with_id("s");
        client(&daemon).subscribe(&call).unwrap()
    };
    let events: Vec<Value> = subscribe(None).map(Result::unwrap).collect();
    assert_eq!(events.len(), 3);
    assert_eq!(events[2], json!({"event": "message", "n": 2, "id": "s"}));
    let refused: Vec<_> = subscribe(Some("nobody")).collect();
    assert!(
        matches!(&refused[..], [Err(ClientError::Refused(failure))] if failure.code == ErrorCode::NoSuchPeer)
    );
}

/// Runs both ends of an offline request over pipes.
fn over_pipes(
    call: &Call,
    answer: impl FnOnce(std::io::PipeReader, std::io::PipeWriter) + Send,
) -> Result<Value, ClientError> {
    let (their_input, to) = std::io::pipe().unwrap();
    let (from, their_output) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || answer(their_input, their_output));
        offline::ask(to, from, call)
    })
}

#[test]
fn one_request_goes_over_pipes() {
    let call = Call::new(Request::IdentityShow { password: None })
        .with_id(4)
        .acting(Some("al".to_owned()));
    let data = over_pipes(&call, |from, to| {
        offline::answer(from, to, |call| {
            assert_eq!(call.id, Some(json!(4)));
            Ok(json!({"who": call.acting}))
        })
        .unwrap();
    });
    assert_eq!(data.unwrap(), json!({"who": "al"}));

    let refused = over_pipes(&call, |from, to| {
        offline::answer(from, to, |_| Err(Failure::new(ErrorCode::WrongPassword, "no"))).unwrap();
    });
    assert_eq!(refused.unwrap_err().code().exit_code(), 5);

    let with_handler = over_pipes(&send(&"x".repeat(1_000_000)), |from, to| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let caller = Caller { uid: 1, pid: None };
        runtime
            .block_on(offline::answer_with(from, to, caller, &echo()))
            .unwrap();
    });
    assert_eq!(with_handler.unwrap(), "send");
}

#[test]
fn an_offline_program_that_says_nothing_or_hears_nonsense_is_an_error() {
    let call = Call::new(Request::IdentityList);
    let silent = over_pipes(&call, |from, to| drop((from, to)));
    assert!(
        matches!(silent, Err(ClientError::Closed | ClientError::Io(_))),
        "{silent:?}"
    );
    let nonsense = over_pipes(&call, |_from, mut to| {
        std::io::Write::write_all(&mut to, b"Usage: clawchatd\n").unwrap()
    });
    assert!(
        matches!(nonsense, Err(ClientError::Malformed { .. })),
        "{nonsense:?}"
    );

    let mut answer = Vec::new();
    offline::answer(&b"garbage\n"[..], &mut answer, |_| Ok(Value::Null)).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["code"], "invalid_request");
    let half = offline::answer(&b"{\"cmd\":\"status\""[..], Vec::new(), |_| Ok(Value::Null));
    assert!(half.is_err());
    let mut answer = Vec::new();
    offline::answer(&b"{\"cmd\":\"status\"}"[..], &mut answer, |_| Ok(Value::Null)).unwrap();
    assert_eq!(answer, b"{\"ok\":true,\"data\":null}\n");
}
