//! What is left of a session when its peer goes.

use std::task::{Context, Poll};

use clawchat_identity::{Attestation, Verified};
use clawchat_snap2p::clawchat1::{Answerer, Binding, Channel, ChatMessage, Dialer, Gate, encode_chat};
use clawchat_testkit::Person::{self, Alice, Bob};
use clawchat_testkit::{START, attestation};
use clawchat_types::{Moment, Network, Principal, UnixMillis};
use futures::io::Cursor;

use super::*;
use crate::ErrorCode;

/// A substream of a peer that wrote something and is gone: it can be read to the end, and not written.
struct Gone(Cursor<Vec<u8>>);

impl AsyncRead for Gone {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Gone {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Bob, who admits everybody.
struct Open;

impl Gate for Open {
    fn answer_as(&self, _: &Principal) -> Result<Attestation<Verified>, ErrorCode> {
        Ok(attestation(&Bob.identity()))
    }
}

fn moment() -> Moment {
    Moment {
        wall: START,
        mono: Duration::ZERO,
    }
}

/// Bob's side of a session that Alice opened.
fn answered() -> Session {
    let key = |person: Person| person.identity().node_key().node_id();
    let channel = |local, remote| Channel {
        local: key(local),
        remote: Some(key(remote)),
    };
    let proof = attestation(&Alice.identity());
    let mut dialer = Dialer::new(proof, channel(Alice, Bob), Binding::Required, [1; 16], moment());
    let network = Network::Testnet;
    let mut answerer = Answerer::new(channel(Bob, Alice), Binding::Required, network, [2; 16], moment());
    let payload = |bytes: Vec<u8>| {
        let mut frames = FrameReader::new();
        frames.push(&bytes);
        frames.next_frame().unwrap().unwrap()
    };
    while !(dialer.is_done() && answerer.is_done()) {
        while let Some(bytes) = dialer.poll_frame() {
            answerer.handle_frame(&payload(bytes), moment(), &Open);
        }
        while let Some(bytes) = answerer.poll_frame() {
            dialer.handle_frame(&payload(bytes), moment());
        }
    }
    answerer.finish().unwrap()
}

#[tokio::test]
async fn what_a_peer_wrote_before_it_went_is_taken_though_it_reads_no_more() {
    const TEXTS: usize = 1_000;
    let mut session = answered();
    let mut written = Vec::new();
    for number in 0..TEXTS {
        let message = ChatMessage {
            id: format!("{number:032x}"),
            from: Alice.principal().to_string(),
            nick: None,
            content: "x".repeat(100),
            timestamp: UnixMillis(0),
        };
        written.extend(encode_chat(&message).unwrap());
    }
    // There is something to tell the peer from the start, which fails.
    session.ping([3; 16]);
    let (_commands, command_receiver) = mpsc::channel(1);
    let (arrivals, mut arrived) = mpsc::channel(1);
    let ends = Ends {
        commands: command_receiver,
        arrivals,
        ended: watch::channel(None).0,
        close: Arc::default(),
    };
    let (_stop, stopped) = watch::channel(false);
    let driving = drive(
        session,
        Gone(Cursor::new(written)),
        FrameReader::new(),
        ends,
        Arc::new(Semaphore::new(MAX_LONG_FRAMES)),
        Clock::start(),
        stopped,
    );
    let taking = async {
        let mut taken = 0;
        while let Some(batch) = arrived.recv().await {
            taken += batch.messages.len();
        }
        taken
    };
    let (reason, taken) = tokio::join!(driving, taking);
    assert_eq!((reason, taken), (SessionClosed::ConnectionLost, TEXTS));
}
