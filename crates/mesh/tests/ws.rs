//! The WebSocket driver over real sockets of this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "ws/helpers.rs"]
mod helpers;
#[path = "ws/leaving.rs"]
mod leaving;
#[path = "ws/strangers.rs"]
mod strangers;
#[path = "ws/tls.rs"]
mod tls;

use std::sync::Arc;
use std::time::Duration;

use clawchat_mesh::Reach;
use clawchat_mesh::ws::{DialError, Outgoing, WsEnd, WsLimits};
use tokio::net::TcpSocket;

use self::helpers::{Attention, Pair, dialer, listener, soon, text, url};

#[tokio::test]
async fn what_one_side_sends_the_other_gets_in_order() {
    let mut pair = Pair::open(WsLimits::default()).await;
    for round in 0..3 {
        let batch: Vec<Outgoing> = (0..1000).map(|n| text(&format!("{round} {n}"))).collect();
        soon(pair.dialed.1.send(batch.clone())).await.unwrap();
        for expected in &batch {
            let frame = soon(pair.accepted.0.next()).await.unwrap();
            assert_eq!(text(std::str::from_utf8(frame.as_bytes()).unwrap()), *expected);
        }
        let parts: Vec<Arc<str>> = vec!["[".into(), "1".into(), "]".into()];
        soon(pair.accepted.1.send(vec![parts.into(), text("")]))
            .await
            .unwrap();
        assert_eq!(soon(pair.dialed.0.next()).await.unwrap().as_bytes(), b"[1]");
        assert_eq!(soon(pair.dialed.0.next()).await.unwrap().as_bytes(), b"");
        assert!(pair.dialed.0.try_next().is_none());
    }
}

#[tokio::test]
async fn long_messages_and_short_ones_come_whole_and_in_order() {
    let mut pair = Pair::open(WsLimits::default()).await;
    pair.accepted.0.admit_long_messages();
    pair.dialed.0.admit_long_messages();
    // Around the lengths at which something changes: frames sent, places, letting go of buffers.
    let lengths = [
        10, 65_536, 65_537, 131_072, 131_073, 3, 1_500_000, 7, 5_000_000, 5_000_000, 1,
    ];
    let message = |length: usize| {
        "ä-x".repeat(length / 4 + 1)[..]
            .chars()
            .take(length)
            .collect::<String>()
    };
    let batch: Vec<Outgoing> = lengths.iter().map(|length| text(&message(*length))).collect();
    let there = async {
        for length in lengths {
            let frame = soon(pair.accepted.0.next()).await;
            let frame = frame.unwrap_or_else(|| panic!("{length}: {:?}", pair.accepted.0.end()));
            assert!(frame.as_bytes() == message(length).as_bytes(), "{length}");
        }
    };
    let (sent, ()) = tokio::join!(soon(pair.dialed.1.send(batch.clone())), there);
    sent.unwrap();
    let back = async {
        for length in lengths {
            let frame = soon(pair.dialed.0.next()).await;
            let frame = frame.unwrap_or_else(|| panic!("{length}: {:?}", pair.dialed.0.end()));
            assert!(frame.as_bytes() == message(length).as_bytes(), "{length}");
        }
    };
    let (sent, ()) = tokio::join!(soon(pair.accepted.1.send(batch)), back);
    sent.unwrap();
}

#[tokio::test]
async fn both_sides_learn_how_a_link_was_closed() {
    let mut pair = Pair::open(WsLimits::default()).await;
    soon(pair.dialed.1.send(vec![text("last")])).await.unwrap();
    pair.dialed.1.close(4001, &"ä".repeat(100));
    assert_eq!(soon(pair.accepted.0.next()).await.unwrap().as_bytes(), b"last");
    assert!(soon(pair.accepted.0.next()).await.is_none());
    assert_eq!(pair.accepted.0.end(), Some(WsEnd::Closed { code: Some(4001) }));
    assert!(soon(pair.dialed.0.next()).await.is_none());
    assert_eq!(pair.dialed.0.end(), Some(WsEnd::ClosedHere));
    assert!(soon(pair.accepted.1.send(vec![text("x")])).await.is_err());
}

#[tokio::test]
async fn a_dropped_link_is_closed() {
    let mut pair = Pair::open(WsLimits::default()).await;
    drop(pair.accepted);
    assert!(soon(pair.dialed.0.next()).await.is_none());
    assert_eq!(pair.dialed.0.end(), Some(WsEnd::Closed { code: Some(1000) }));
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_a_dead_one_given_up() {
    let limits = WsLimits {
        ping_after: Duration::from_millis(50),
        dead_after: Duration::from_millis(200),
        ..WsLimits::default()
    };
    // One that only answers pings lives as long as it likes.
    answering(limits, async |pair| {
        let alive = tokio::time::timeout(limits.dead_after * 3, pair.accepted.0.next()).await;
        assert!(alive.is_err() || pair.accepted.0.end() == Some(WsEnd::Silent));
    })
    .await;
    // One that takes bytes and says nothing does not.
    let (mut reader, _writer, _socket) = helpers::dialed_by_raw(limits).await;
    assert!(soon(reader.next()).await.is_none());
    assert_eq!(reader.end(), Some(WsEnd::Silent));
}

#[tokio::test]
async fn a_link_nobody_reads_here_makes_its_peer_wait_and_is_not_dead() {
    let limits = WsLimits {
        ping_after: Duration::from_millis(50),
        dead_after: Duration::from_millis(200),
        ..WsLimits::default()
    };
    answering(limits, async |pair| {
        let batch: Vec<Outgoing> = (0..20_000).map(|_| text(&"x".repeat(1000))).collect();
        let reading = async {
            tokio::time::sleep(limits.dead_after * 3).await;
            for _ in 0..20_000 {
                let Some(frame) = soon(pair.accepted.0.next()).await else {
                    assert_eq!(pair.accepted.0.end(), Some(WsEnd::Silent));
                    return;
                };
                assert_eq!(frame.as_bytes().len(), 1000);
            }
        };
        let sending = async {
            let begun = tokio::time::Instant::now();
            let sent = soon(pair.dialed.1.send(batch)).await;
            (sent, begun.elapsed())
        };
        let ((sent, took), ()) = tokio::join!(sending, reading);
        if pair.accepted.0.end().is_none() {
            assert!(sent.is_ok() && took >= limits.dead_after * 3, "{took:?}");
        }
    })
    .await;
}

/// Runs this with a link, until the thread was there for both its ends all the time: while a busy machine lets it wait,
/// neither is heard by the other.
async fn answering(limits: WsLimits, run: impl AsyncFn(&mut Pair)) {
    for _ in 0..100 {
        let mut pair = Pair::open(limits).await;
        let attention = Attention::watch();
        run(&mut pair).await;
        let Some(end) = pair.accepted.0.end() else {
            return;
        };
        attention.excuses(&end, limits);
    }
    panic!("this machine is too busy");
}

#[tokio::test]
async fn a_stranger_s_address_does_not_lead_back_to_this_machine() {
    let (listener, _) = listener(WsLimits::default()).await;
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "[::1]", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"] {
        let url = format!("ws://{host}:{port}").parse().unwrap();
        let refused = soon(dialer().dial(&url, Reach::Elsewhere)).await.err();
        assert_eq!(refused, Some(DialError::NotAllowed), "{host}");
    }
}

#[tokio::test]
async fn what_is_no_mesh_peer_is_named() {
    let dialer = dialer();
    // Bound and never listening: no other test is given this port.
    let gone = TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = url(gone.local_addr().unwrap());
    let error = soon(dialer.dial(&nobody, Reach::Everywhere)).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable(_)), "{error:?}");
    let unknown = "ws://nobody.invalid:1/".parse().unwrap();
    let error = soon(dialer.dial(&unknown, Reach::Everywhere)).await.unwrap_err();
    assert_eq!(error, DialError::UnknownHost);
    for (answer, expected) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            DialError::Status(404),
        ),
        ("SSH-2.0-OpenSSH_9.0\r\n\r\n", DialError::NotWebSocket),
    ] {
        let address = helpers::answering(answer).await;
        let error = soon(dialer.dial(&url(address), Reach::Everywhere))
            .await
            .unwrap_err();
        assert_eq!(error, expected);
    }
}
