//! Sessions of wire profile 1.0 between two nodes.

use bytes::Bytes;
use clawchat_node::{LegacyPolicy, LegacySession, Limits, NodeEvent, SessionClosed, SessionOpenError};
use clawchat_snap2p::clawchat1::px1::{Message, PeerInfo};
use clawchat_snap2p::clawchat1::{ChatMessage, encode_chat};
use clawchat_testkit::Person::{Alice, Alice2, Bob, Carol};
use clawchat_types::UnixMillis;
use futures::FutureExt as _;

use crate::support::{Gateway, legacy_attestation, within};

fn chat(session: &LegacySession, content: &str) -> Vec<u8> {
    let message = ChatMessage {
        id: "7d4cbb48149e05655ef7bb64b01062fa".to_owned(),
        from: session.local().to_string(),
        nick: None,
        content: content.to_owned(),
        timestamp: UnixMillis(1_767_225_600_456),
    };
    encode_chat(&message).unwrap()
}

/// Sends one text and sees it arrive; the sender knows that it was read only once the receiver says so.
async fn carries(from: &LegacySession, to: &LegacySession, content: &str) {
    let mut confirmation = within(from.transmit(chat(from, content))).await.unwrap();
    let mut texts = Vec::new();
    let mut batches = Vec::new();
    while texts.is_empty() {
        let batch = within(to.receive()).await.expect("an open session");
        texts.extend(batch.messages.iter().map(|message| message.content.clone()));
        batches.push(batch);
    }
    assert_eq!(texts, [content]);
    assert!(
        confirmation.confirmed().now_or_never().is_none(),
        "nobody said that the message was dealt with"
    );
    for batch in batches {
        to.dealt_with(batch).await;
    }
    let rest = async {
        while let Some(batch) = to.receive().await {
            to.dealt_with(batch).await;
        }
    };
    within(async {
        tokio::select! {
            result = confirmation.confirmed() => result.unwrap(),
            () = rest => panic!("the session ended"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_both_ways_over_one_session() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let ours = alice.open_legacy(&bob).await.unwrap();
    let theirs = bob.inbound_legacy().await;
    assert_eq!((ours.local(), ours.remote()), (theirs.remote(), theirs.local()));
    assert_eq!(*ours.remote(), Bob.principal());
    assert!(ours.is_outbound() && !theirs.is_outbound());
    assert!(ours.is_bound() && theirs.is_bound());
    carries(&ours, &theirs, "there").await;
    carries(&theirs, &ours, "and back").await;
    carries(&ours, &theirs, &"long ".repeat(500_000)).await;
    carries(&theirs, &ours, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_identity_of_a_gateway_speaks_with_its_key_too() {
    let (alice, mut bob) = (
        Gateway::start(&[Alice, Alice2]).await,
        Gateway::start(&[Bob]).await,
    );
    let peer = alice.connect(&bob).await;
    let local = legacy_attestation(Alice2, Alice);
    let ours = within(alice.node.open_legacy_session(&peer, local))
        .await
        .unwrap();
    let theirs = bob.inbound_legacy().await;
    assert_eq!(*theirs.remote(), Alice2.principal());
    assert!(theirs.is_bound());
    carries(&ours, &theirs, "from the second").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_identity_that_admits_the_caller_answers() {
    let (alice, bob) = (
        Gateway::start(&[Alice]).await,
        Gateway::start(&[Bob, Carol]).await,
    );
    let ours = alice.open_legacy(&bob).await.unwrap();
    assert_eq!(*ours.remote(), Bob.principal());
    bob.refuse(Alice);
    let refused = alice.open_legacy(&bob).await.unwrap_err();
    assert_eq!(
        refused,
        SessionOpenError::Refused(clawchat_node::ErrorCode::NotAllowed)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_on_both_sides_and_says_so() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let ours = alice.open_legacy(&bob).await.unwrap();
    let theirs = bob.inbound_legacy().await;
    // Nobody takes this, so nobody confirms it.
    let mut confirmation = within(ours.transmit(chat(&ours, "lost"))).await.unwrap();
    theirs.close();
    assert_eq!(within(theirs.closed()).await, SessionClosed::ByUs);
    assert_eq!(within(ours.closed()).await, SessionClosed::ConnectionLost);
    assert!(within(confirmation.confirmed()).await.is_err());
    assert!(ours.is_closed() && theirs.is_closed());
    assert!(within(ours.transmit(chat(&ours, "too late"))).await.is_err());

    let again = alice.open_legacy(&bob).await.unwrap();
    let theirs = bob.inbound_legacy().await;
    drop(again);
    within(theirs.closed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_profile_can_be_turned_off_and_on() {
    let alice = Gateway::start(&[Alice]).await;
    let mut bob = Gateway::start_as(&[Bob], Limits::default(), LegacyPolicy::Off).await;
    let off = alice.open_legacy(&bob).await.unwrap_err();
    assert_eq!(off, SessionOpenError::ProtocolUnsupported);
    assert_eq!(
        bob.open_legacy(&alice).await.unwrap_err(),
        SessionOpenError::ProtocolUnsupported
    );
    // The native protocol is not touched by that.
    // Held until the other side has seen it: one that is let go at once may be gone before its answerer knows of it.
    let _native = alice.session(&bob).await;
    bob.inbound().await;
    bob.node.set_legacy(LegacyPolicy::Bound);
    let ours = alice.open_legacy(&bob).await.unwrap();
    carries(&ours, &bob.inbound_legacy().await, "now").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_asked_for_and_told() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let peer = alice.connect(&bob).await;
    let carol = PeerInfo {
        principal: Carol.principal().to_string(),
        multiaddrs: vec!["/ip4/192.0.2.7/tcp/9000".to_owned()],
        last_seen: UnixMillis(1),
        peer_id: Some(Carol.peer_id().to_string()),
    };
    let pushing = within(alice.node.px1_push(&peer, vec![carol.clone()]));
    let (pushed, event) = tokio::join!(pushing, bob.event(|event| matches!(event, NodeEvent::Px1(_))));
    pushed.unwrap();
    let NodeEvent::Px1(request) = event else {
        panic!("just looked")
    };
    assert_eq!(
        *request.message(),
        Message::Push {
            peers: vec![carol.clone()]
        }
    );
    drop(request);

    for known in [Some(carol), None] {
        let principal = Carol.principal();
        let asking = within(alice.node.px1_resolve(&peer, &principal));
        let answering = async {
            let event = bob.event(|event| matches!(event, NodeEvent::Px1(_))).await;
            let NodeEvent::Px1(request) = event else {
                panic!("just looked")
            };
            let Message::ResolveRequest {
                principal,
                request_id,
            } = request.message().clone()
            else {
                panic!("not a question")
            };
            assert_eq!(principal, Carol.principal().to_string());
            request.answer(Message::ResolveResponse {
                request_id,
                peer: known.clone(),
                error: None,
            });
        };
        let (found, ()) = tokio::join!(asking, answering);
        assert_eq!(found.unwrap(), known);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_reads_stops_the_writer_and_nothing_else() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let ours = alice.open_legacy(&bob).await.unwrap();
    let theirs = bob.inbound_legacy().await;
    let text = "x".repeat(200_000);
    let mut sent = 0;
    // Buffers on the way are finite: at some point nothing more is taken.
    let full = async {
        loop {
            let sending = ours.transmit(chat(&ours, &text));
            match tokio::time::timeout(std::time::Duration::from_secs(1), sending).await {
                Ok(result) => drop(result.unwrap()),
                Err(_) => return,
            }
            sent += 1;
            assert!(sent < 1000, "nothing stops the writer");
        }
    };
    within(full).await;
    // Another session over the same connection works.
    let other = alice.session(&bob).await;
    let stream = other.open_stream("x").await.unwrap();
    let mut stream = stream;
    stream.write_all(Bytes::from_static(b"works")).await.unwrap();
    assert!(bob.inbound().await.accept().await.is_some());
    // And once somebody reads, everything that was taken arrives.
    let mut received = 0;
    while received < sent {
        let batch = within(theirs.receive()).await.unwrap();
        received += batch.messages.len();
        theirs.dealt_with(batch).await;
    }
}
