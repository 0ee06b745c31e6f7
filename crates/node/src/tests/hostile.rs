//! Peers who speak libp2p, and anything but our protocol on its substreams.

use std::time::Instant;

use clawchat_testkit::Person::{Alice, Bob};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};

use super::raw::Raw;
use super::support::{Gateway, works};
use crate::swarm::Substream;
use crate::{ErrorCode, Limits};

/// Everything the node answers until it ends the substream.
async fn answer(raw: &mut Raw, mut substream: Substream) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = raw.run(substream.read_to_end(&mut answer)).await;
    answer
}

fn no_room() -> Vec<u8> {
    clawchat_snap2p::refusal(ErrorCode::RateLimited)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_its_own_substream_and_hurts_nobody_else() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let ours = alice.session(&bob).await;
    let theirs = bob.inbound().await;
    let mut raw = Raw::connect(9, &bob).await;

    let half_a_frame = raw.open().await;
    let frame = |kind: u8, body: &[u8]| {
        let length = u16::try_from(body.len() + 1).unwrap();
        [&length.to_be_bytes()[..], &[kind], body].concat()
    };
    let garbage: Vec<Vec<u8>> = vec![
        vec![0, 0],
        vec![0xff; 70_000],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        frame(0, &[]),
        frame(0, &[7; 31]),
        frame(0, &[7; 96]),
        frame(0, &[0; 4000]),
        frame(1, &[0xa1, 0x64, b'c', b'o', b'd', b'e', 9]),
        frame(2, &[0x9f; 300]),
        frame(77, b"what"),
    ];
    for bytes in garbage {
        let mut substream = raw.open().await;
        let _ = raw.run(substream.write_all(&bytes)).await;
        let _ = raw.run(substream.flush()).await;
        let answer = answer(&mut raw, substream).await;
        assert!(
            answer.len() < 100,
            "a short refusal at most: {} bytes",
            answer.len()
        );
    }
    works(&ours, &theirs).await;
    drop(half_a_frame);
    let more = alice.open(&Bob.peer_id(), Some(Bob)).await.unwrap();
    works(&more, &bob.inbound().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_never_ended_take_no_place_from_others() {
    let limits = Limits {
        handshakes: 6,
        handshakes_per_peer: 4,
        ..Limits::default()
    };
    let (alice, mut bob) = (
        Gateway::start(&[Alice]).await,
        Gateway::start_with(&[Bob], limits).await,
    );
    let (mut one, mut two) = (Raw::connect(1, &bob).await, Raw::connect(2, &bob).await);
    let mut held = Vec::new();
    for raw in [&mut one, &mut two] {
        for _ in 0..4 {
            held.push(raw.open().await);
        }
        let refused = raw.open().await;
        assert_eq!(answer(raw, refused).await, no_room());
    }
    // All six places are taken by now; the two peers hold three or four each.
    let ours = alice.session(&bob).await;
    works(&ours, &bob.inbound().await).await;
}

/// Begins a handshake that comes to nothing; whether it was refused for want of room.
async fn tries_for_nothing(raw: &mut Raw) -> bool {
    let mut substream = raw.open().await;
    let _ = raw.run(substream.write_all(&[0, 1, 77])).await;
    let _ = raw.run(substream.flush()).await;
    answer(raw, substream).await == no_room()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_begins_handshakes_for_nothing_is_cut_off_for_a_while() {
    let limits = Limits {
        handshakes_per_minute: 10,
        ..Limits::default()
    };
    let (alice, mut bob) = (
        Gateway::start(&[Alice]).await,
        Gateway::start_with(&[Bob], limits).await,
    );
    // Whose sessions come about counts for nothing, however often.
    let ours = alice.session(&bob).await;
    let theirs = bob.inbound().await;
    for _ in 0..15 {
        let more = alice.open(&Bob.peer_id(), Some(Bob)).await.unwrap();
        works(&more, &bob.inbound().await).await;
    }
    let begun = Instant::now();
    let mut raw = Raw::connect(1, &bob).await;
    let mut refused = 0;
    for _ in 0..20 {
        refused += u64::from(tries_for_nothing(&mut raw).await);
    }
    // One comes free every six seconds, and one may be under way while they are counted.
    let freed = || begun.elapsed().as_secs() / 6 + 1;
    assert!(refused + freed() >= 10, "{refused} of 20");
    // Another peer id does not help, and who is in stays in, from the same address too.
    let mut other = Raw::connect(2, &bob).await;
    for _ in 0..3 {
        refused += u64::from(tries_for_nothing(&mut other).await);
    }
    assert!(refused + freed() >= 13, "{refused} of 23");
    works(&ours, &theirs).await;
    let more = alice.open(&Bob.peer_id(), Some(Bob)).await.unwrap();
    works(&more, &bob.inbound().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn substreams_beyond_the_bound_of_a_connection_are_refused() {
    let limits = Limits {
        sessions_per_connection: 3,
        ..Limits::default()
    };
    let bob = Gateway::start_with(&[Bob], limits).await;
    let mut raw = Raw::connect(1, &bob).await;
    let held = [raw.open().await, raw.open().await, raw.open().await];
    let refused = raw.open().await;
    assert_eq!(answer(&mut raw, refused).await, no_room());
    // Of many only so many are told at a time; the others are dropped.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(raw.open().await);
    }
    let mut told = 0;
    for mut substream in silent {
        let mut answer = Vec::new();
        let _ = raw.run(substream.read_to_end(&mut answer)).await;
        told += usize::from(answer == no_room());
        assert!(answer.is_empty() || answer == no_room());
    }
    assert!(told > 0, "nobody is told");
    drop(held);
    raw.run(async {}).await;
}
