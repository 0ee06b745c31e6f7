//! Strangers who take up room and say nothing.

use std::time::Duration;

use clawchat_testkit::Person::{Alice, Bob, Carol};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::raw::Raw;
use super::support::{Gateway, within, works};
use crate::Limits;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_silent_sockets_do_not_keep_an_honest_peer_out() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(within(TcpStream::connect(bob.socket())).await.unwrap());
    }
    let ours = alice.session(&bob).await;
    works(&ours, &bob.inbound().await).await;
    // Those there was no room for are dropped, oldest first.
    for socket in &mut silent[..300 - Limits::default().pending_inbound] {
        let mut greeting = Vec::new();
        let _ = within(socket.read_to_end(&mut greeting)).await;
        assert!(greeting.len() < 100, "{} bytes", greeting.len());
    }
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
        stranger_timeout: Duration::from_secs(4),
        ..Limits::default()
    };
    let mut bob = Gateway::start_with(&[Bob], limits).await;
    let alice = Gateway::start(&[Alice]).await;
    let from_alice = within(async {
        loop {
            let peer = alice.connect(&bob).await;
            // On a busy machine she may have to go before she has opened one.
            if let Ok(session) = alice.open(&peer, Some(Bob)).await {
                return session;
            }
        }
    })
    .await;
    let at_bob = bob.inbound().await;
    let mut silent = Raw::connect(1, &bob).await;
    let mut busy = Raw::connect(2, &bob).await;
    let _open = busy.open().await;
    silent.closed().await;
    busy.closed().await;
    works(&from_alice, &at_bob).await;
}
