//! Strangers who take up room and say nothing.

use std::time::Duration;

use clawchat_testkit::Person::{Alice, Bob, Carol};
use tokio::net::TcpStream;

use super::raw::Raw;
use super::support::{Gateway, echo_one, read_all, within};
use crate::{Limits, SessionHandle};

/// Sends something over a session and gets it back.
async fn works(ours: &SessionHandle, theirs: &SessionHandle) {
    let echo = async {
        let mut stream = ours.open_stream("echo").await.unwrap();
        stream.write_all("hello".into()).await.unwrap();
        stream.finish();
        assert_eq!(read_all(&mut stream).await, b"hello");
    };
    within(async { tokio::join!(echo, echo_one(theirs)) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_silent_sockets_do_not_keep_an_honest_peer_out() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(within(TcpStream::connect(bob.socket())).await.unwrap());
    }
    let ours = alice.session(&bob).await;
    works(&ours, &bob.inbound().await).await;
    // Those the limit has no room for were dropped: reading from them comes to an end.
    let mut dropped = 0;
    for socket in &silent[..300 - Limits::default().pending_inbound] {
        let end = within(async {
            loop {
                socket.readable().await?;
                match socket.try_read(&mut [0; 64]) {
                    Ok(0) => return Ok::<_, std::io::Error>(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        });
        let _ = end.await;
        dropped += 1;
    }
    assert_eq!(dropped, 300 - Limits::default().pending_inbound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_place_is_taken_the_oldest_stranger_goes() {
    let limits = Limits {
        connections: 4,
        ..Limits::default()
    };
    let mut bob = Gateway::start_with(&[Bob], limits).await;
    let mut first = Raw::connect(1, &bob).await;
    let mut strangers = Vec::new();
    for seed in 2..=4 {
        strangers.push(Raw::connect(seed, &bob).await);
    }
    let alice = Gateway::start(&[Alice]).await;
    let from_alice = alice.session(&bob).await;
    let at_bob = bob.inbound().await;
    first.closed().await;

    for seed in 5..=12 {
        strangers.push(Raw::connect(seed, &bob).await);
    }
    let carol = Gateway::start(&[Carol]).await;
    let from_carol = carol.session(&bob).await;
    works(&from_carol, &bob.inbound().await).await;
    works(&from_alice, &at_bob).await;
    for stranger in &mut strangers[..8] {
        stranger.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_and_one_peer_get_only_so_many_places() {
    let limits = Limits {
        strangers_per_ip: 2,
        connections_per_peer: 1,
        ..Limits::default()
    };
    let mut bob = Gateway::start_with(&[Bob], limits).await;
    let alice = Gateway::start(&[Alice]).await;
    let from_alice = alice.session(&bob).await;
    let at_bob = bob.inbound().await;

    let mut first = Raw::connect(1, &bob).await;
    let mut again = Raw::connect(1, &bob).await;
    first.closed().await;
    let _second = Raw::connect(2, &bob).await;
    let _third = Raw::connect(3, &bob).await;
    again.closed().await;
    works(&from_alice, &at_bob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_no_session_has_to_go_after_a_while() {
    let limits = Limits {
        stranger_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let mut bob = Gateway::start_with(&[Bob], limits).await;
    let alice = Gateway::start(&[Alice]).await;
    let from_alice = alice.session(&bob).await;
    let at_bob = bob.inbound().await;
    let mut silent = Raw::connect(1, &bob).await;
    let mut busy = Raw::connect(2, &bob).await;
    let _open = busy.open().await;
    silent.closed().await;
    busy.closed().await;
    works(&from_alice, &at_bob).await;
}
