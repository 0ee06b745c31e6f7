//! Connecting: which address leads where, and what is said when none does.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use clawchat_node::{DialError, Node, NodeConfig, NodeEvent, StartError, Transport};
use clawchat_testkit::Person::{Alice, Bob, Carol};
use clawchat_testkit::Stopwatch;
use clawchat_types::Locator;

use tokio::net::TcpSocket;

use crate::support::{DEADLINE, Gateway, Hosted, config, free_port, within};

/// A locator without the peer id.
fn anonymous(locator: &Locator) -> Locator {
    let (address, _) = locator.as_str().split_once("/p2p/").unwrap();
    address.parse().unwrap()
}

/// An address nobody listens on, and what keeps it for that: another test could be given the port.
fn dead() -> (Locator, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap(), socket)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peer_id_is_learned_from_the_connection() {
    let (alice, bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let locator = anonymous(&bob.over("tcp")[0]);
    let connected = within(alice.node.connect(&[locator])).await.unwrap();
    assert_eq!(connected.peer, Bob.peer_id());
    assert_eq!(connected.locator, bob.over("tcp")[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_gateway_than_the_named_one_is_not_taken() {
    let (alice, bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let wrong = anonymous(&bob.over("tcp")[0]).with_peer_id(&Carol.peer_id());
    let (nobody, _kept) = dead();
    let error = within(alice.node.connect(&[wrong.clone(), nobody]))
        .await
        .unwrap_err();
    let text = error.to_string();
    let DialError::Failed { attempts } = error else {
        panic!("{error}")
    };
    assert_eq!(attempts[0].locator, wrong);
    assert!(
        attempts[0].reason.contains(Bob.peer_id().as_str()),
        "{}",
        attempts[0].reason
    );
    assert!(attempts[1].reason.contains("refused"), "{}", attempts[1].reason);
    assert!(
        text.contains(wrong.as_str()) && text.contains("refused"),
        "{text}"
    );

    let good = bob.over("tcp").remove(0);
    let connected = within(alice.node.connect(&[wrong, good])).await.unwrap();
    assert_eq!(
        connected.peer,
        Bob.peer_id(),
        "a stale address does not spoil the good one"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_and_silent_addresses_do_not_hold_up_the_good_one() {
    let (alice, bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent: Locator = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port())
        .parse()
        .unwrap();
    let watch = Stopwatch::start();
    let ((one, _kept_one), (other, _kept_other)) = (dead(), dead());
    let locators = [one, silent, other, bob.over("tcp").remove(0)];
    let connected = within(alice.node.connect(&locators)).await.unwrap();
    assert_eq!(connected.peer, Bob.peer_id());
    assert!(watch.elapsed() < DEADLINE / 5, "{:?}", watch.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_does_not_dial_itself() {
    let alice = Gateway::start(&[Alice]).await;
    for locator in [alice.over("tcp").remove(0), anonymous(&alice.over("tcp")[0])] {
        let error = within(alice.node.connect(std::slice::from_ref(&locator)))
            .await
            .unwrap_err();
        assert_eq!(error, DialError::Ourselves { locator });
    }
    let error = within(alice.node.connect(&[])).await.unwrap_err();
    assert_eq!(error, DialError::NoAddresses);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connected_peer_is_not_dialed_again() {
    let (alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    let first = alice.session(&bob).await;
    let (nobody, _kept) = dead();
    let stale = nobody.with_peer_id(&Bob.peer_id());
    let connected = within(alice.node.connect(std::slice::from_ref(&stale)))
        .await
        .unwrap();
    assert_eq!((connected.peer, connected.locator), (Bob.peer_id(), stale));
    // The same in the other direction: it is the peer's connection that is used.
    let _theirs = bob.inbound().await;
    within(bob.node.connect(&alice.over("tcp"))).await.unwrap();
    assert!(!first.is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_learn_each_others_addresses() {
    let (mut alice, mut bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    alice.connect(&bob).await;
    let connected = bob
        .event(|event| matches!(event, NodeEvent::PeerConnected { .. }))
        .await;
    assert!(matches!(connected, NodeEvent::PeerConnected { peer, inbound: true } if peer == Alice.peer_id()));
    let nodes = (alice.node.clone(), bob.node.clone());
    for (one, other) in [(&mut alice, nodes.1), (&mut bob, nodes.0)] {
        one.event(|event| matches!(event, NodeEvent::PeerIdentified { .. }))
            .await;
        let mut heard = one.node.peer_locators(other.peer_id());
        let mut said = other.locators();
        heard.sort();
        said.sort();
        assert_eq!(heard, said);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named_and_only_tcp_has_to_work() {
    let first = Gateway::start(&[Alice]).await;
    let port = first.socket().port();
    let mut taken = config(Bob);
    taken.port = port;
    let error = Node::start(taken.clone(), Arc::new(Hosted::default()))
        .await
        .unwrap_err();
    let StartError::PortInUse {
        port: named,
        transport: Transport::Tcp,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(named, port);
    assert!(error.to_string().contains(&port.to_string()), "{error}");

    // TCP on P is free, P/udp and P+1 are not.
    let port = free_port();
    let _udp = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let _above = TcpListener::bind(("127.0.0.1", port + 1)).unwrap();
    taken.port = port;
    let (node, _events) = Node::start(taken, Arc::new(Hosted::default())).await.unwrap();
    let skipped: Vec<_> = node
        .skipped()
        .iter()
        .map(|skipped| (skipped.transport, skipped.port))
        .collect();
    assert_eq!(
        skipped,
        [
            (Transport::Quic, Some(port)),
            (Transport::WebSocket, Some(port + 1))
        ]
    );
    assert_eq!(node.locators().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_resolved() {
    let (alice, bob) = (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await);
    for transport in ["tcp", "ws", "quic-v1"] {
        let by_name = bob.over(transport)[0]
            .as_str()
            .replace("/ip4/127.0.0.1/", "/dns4/localhost/");
        let connected = within(alice.node.connect(&[by_name.parse().unwrap()]))
            .await
            .unwrap();
        assert_eq!(connected.peer, Bob.peer_id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_is_free_again_after_closing_and_peers_come_back() {
    let port = free_port();
    let at_port = NodeConfig { port, ..config(Bob) };
    let (alice, mut bob) = (
        Gateway::start(&[Alice]).await,
        Gateway::start_configured(&[Bob], at_port).await,
    );
    let session = alice.session(&bob).await;
    let theirs = bob.inbound().await;
    let locators = bob.over("tcp");
    assert_eq!(bob.socket().port(), port);
    within(bob.node.close(DEADLINE)).await;
    drop(theirs);
    within(session.closed()).await;

    let mut again = config(Bob);
    again.port = port;
    let (node, _events) = Node::start(again, Arc::new(Hosted::new(&[Bob]))).await.unwrap();
    let peer = within(alice.node.connect(&locators)).await.unwrap().peer;
    assert_eq!(peer, *node.peer_id());
    assert!(alice.open(&peer, Some(Bob)).await.is_ok());
}
