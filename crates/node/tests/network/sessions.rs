//! Sessions between gateways: who gets one with whom, and how they end.

use clawchat_node::{ErrorCode, Limits, NodeEvent, SessionClosed, SessionOpenError};
use clawchat_testkit::Person::{self, Alice, Alice2, Bob, Carol, Dave};

use crate::support::{DEADLINE, Gateway, credentials, echo_one, read_all, within, works};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transport_carries_a_session_between_the_right_principals() {
    for transport in ["tcp", "quic-v1", "ws"] {
        let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
        let connected = within(alice.node.connect(&bob.over(transport))).await.unwrap();
        assert_eq!(connected.peer, Bob.peer_id());
        assert_eq!(connected.locator, bob.over(transport)[0]);

        let local = credentials(Alice);
        let ours = alice
            .node
            .open_session(&connected.peer, local.clone(), Some(Bob.principal()), None);
        let ours = within(ours).await.unwrap();
        let theirs = bob.inbound().await;
        assert_eq!(
            (*ours.local(), *ours.remote()),
            (Alice.principal(), Bob.principal()),
            "{transport}"
        );
        assert_eq!(
            (*theirs.local(), *theirs.remote()),
            (Bob.principal(), Alice.principal())
        );
        assert_eq!(
            (ours.peer_id(), theirs.peer_id()),
            (bob.node.peer_id(), alice.node.peer_id())
        );
        assert_eq!(*ours.remote_node(), Bob.identity().node_key().node_id());
        assert!(ours.is_outbound() && !theirs.is_outbound());
        assert_eq!(theirs.remote_attestation(), local.attestation.to_bytes());

        let echo = tokio::spawn(async move { echo_one(&theirs).await });
        let mut stream = ours.open_stream("echo").await.unwrap();
        stream.write_all("hello, ".into()).await.unwrap();
        stream.write_all(transport.to_owned().into()).await.unwrap();
        stream.finish();
        assert_eq!(
            read_all(&mut stream).await,
            format!("hello, {transport}").into_bytes()
        );
        within(echo).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_picks_the_identity_and_without_one_the_first_answers() {
    let (bob, mut alice) = (
        Gateway::start(&[Bob]).await,
        Gateway::start(&[Alice, Alice2]).await,
    );
    let peer = bob.connect(&alice).await;
    for (target, answers) in [(Some(Alice2), Alice2), (Some(Alice), Alice), (None, Alice)] {
        let ours = bob.open(&peer, target).await.unwrap();
        assert_eq!(*ours.remote(), answers.principal());
        assert_eq!(*alice.inbound().await.local(), answers.principal());
    }
    let refused = bob.open(&peer, Some(Carol)).await.unwrap_err();
    assert_eq!(refused, SessionOpenError::Refused(ErrorCode::UnknownPrincipal));
    assert!(
        bob.open(&peer, Some(Alice)).await.is_ok(),
        "a refusal breaks nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_opens_sessions_as_each_of_its_identities() {
    let (alice, mut bob) = (
        Gateway::start(&[Alice, Alice2]).await,
        Gateway::start(&[Bob]).await,
    );
    let peer = alice.connect(&bob).await;
    for person in [Alice, Alice2] {
        let session = alice
            .node
            .open_session(&peer, credentials(person), Some(Bob.principal()), None);
        let session = within(session).await.unwrap();
        assert_eq!(*session.local(), person.principal());
        assert_eq!(*bob.inbound().await.remote(), person.principal());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_admitted_is_told_so() {
    let (alice, bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    bob.refuse(Alice);
    let peer = alice.connect(&bob).await;
    let refused = alice.open(&peer, Some(Bob)).await.unwrap_err();
    assert_eq!(refused, SessionOpenError::Refused(ErrorCode::NotAllowed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_room_is_told_so() {
    let by_connection = Limits {
        sessions_per_connection: 1,
        ..Limits::default()
    };
    let in_all = Limits {
        sessions: 1,
        ..Limits::default()
    };
    for limits in [by_connection, in_all] {
        for transport in ["tcp", "quic-v1", "ws"] {
            let alice = Gateway::start(&[Alice]).await;
            let mut bob = Gateway::start_with(&[Bob], limits.clone()).await;
            let peer = within(alice.node.connect(&bob.over(transport)))
                .await
                .unwrap()
                .peer;
            let ours = alice.open(&peer, Some(Bob)).await.unwrap();
            let theirs = bob.inbound().await;
            for _ in 0..3 {
                let refused = alice.open(&peer, Some(Bob)).await.unwrap_err();
                let no_room = SessionOpenError::Refused(ErrorCode::RateLimited);
                assert_eq!(refused, no_room, "{transport}");
            }
            works(&ours, &theirs).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sessions_at_once_all_come_about() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let peer = alice.connect(&bob).await;
    let mut opening = tokio::task::JoinSet::new();
    let local = credentials(Alice);
    for _ in 0..50 {
        let (node, peer, local) = (alice.node.clone(), peer.clone(), local.clone());
        opening.spawn(async move { node.open_session(&peer, local, None, None).await });
    }
    let opened = within(opening.join_all()).await;
    let sessions: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
    for _ in &sessions {
        bob.inbound().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_open_sessions_with_each_other_at_the_same_time() {
    let (mut alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let (to_bob, to_alice) = tokio::join!(alice.connect(&bob), bob.connect(&alice));
    let (ours, theirs) = tokio::join!(alice.open(&to_bob, Some(Bob)), bob.open(&to_alice, Some(Alice)));
    let (at_alice, at_bob) = (alice.inbound().await, bob.inbound().await);
    works(&ours.unwrap(), &at_bob).await;
    works(&theirs.unwrap(), &at_alice).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_for_both_with_the_reason() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let ours = alice.session(&bob).await;
    let theirs = bob.inbound().await;
    ours.close(ErrorCode::RateLimited);
    assert_eq!(within(ours.closed()).await, SessionClosed::ByUs);
    assert_eq!(
        within(theirs.closed()).await,
        SessionClosed::ByPeer(ErrorCode::RateLimited)
    );
    assert!(within(theirs.accept()).await.is_none());
    assert!(theirs.open_stream("late").await.is_err());
    assert!(
        alice.open(&Bob.peer_id(), None).await.is_ok(),
        "the connection is still there"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_every_handle_ends_the_session_once_everything_is_delivered() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let ours = alice.session(&bob).await;
    let theirs = bob.inbound().await;
    let mut stream = ours.open_stream("last-words").await.unwrap();
    stream.write_all(vec![7; 200_000].into()).await.unwrap();
    stream.finish();
    drop((stream, ours));
    let mut stream = within(theirs.accept()).await.unwrap().accept();
    assert_eq!(read_all(&mut stream).await, vec![7; 200_000]);
    stream.finish();
    assert_eq!(
        within(theirs.closed()).await,
        SessionClosed::ByPeer(ErrorCode::NoError)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_a_node_ends_its_sessions_on_the_other_side_at_once() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let ours = alice.session(&bob).await;
    let theirs = bob.inbound().await;
    within(alice.node.close(DEADLINE)).await;
    assert_eq!(within(ours.closed()).await, SessionClosed::ByUs);
    assert_eq!(
        within(theirs.closed()).await,
        SessionClosed::ByPeer(ErrorCode::NoError)
    );
    let gone = bob
        .event(|event| matches!(event, NodeEvent::PeerDisconnected { .. }))
        .await;
    assert!(matches!(gone, NodeEvent::PeerDisconnected { peer } if peer == Alice.peer_id()));
    assert!(!bob.node.is_connected(&Alice.peer_id()));

    assert!(alice.node.locators().is_empty());
    assert_eq!(
        alice.open(&Bob.peer_id(), None).await.unwrap_err(),
        SessionOpenError::Closed
    );
    within(alice.node.close(DEADLINE)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_connection_there_is_no_session() {
    let alice = Gateway::start(&[Alice]).await;
    let error = alice.open(&Dave.peer_id(), Some(Dave)).await.unwrap_err();
    assert_eq!(error, SessionOpenError::Unreachable { peer: Dave.peer_id() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_ids_are_those_of_the_typescript_version() {
    for person in Person::ALL {
        assert_eq!(*Gateway::start(&[person]).await.node.peer_id(), person.peer_id());
    }
}
