//! Peers that reach each other through relays, and what relays allow.

use std::time::Duration;

use clawchat_node::{
    DialError, Limits, NatConfig, NodeEvent, Reachability, RelayLimits, RelayServe, RelayState,
};
use clawchat_testkit::Person::{self, Alice, Alice2, Bob, Carol, Dave};
use clawchat_testkit::Stopwatch;
use clawchat_types::Locator;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Gateway, echo_one, within, works};

/// How soon another relay has to be found when one dies.
const FAILOVER: Duration = Duration::from_secs(15);

/// A relay for anyone.
async fn relay(person: Person) -> Gateway {
    relay_for(person, RelayServe::Anyone, RelayLimits::default()).await
}

async fn relay_for(person: Person, relay_serve: RelayServe, relay_limits: RelayLimits) -> Gateway {
    let nat = NatConfig {
        relay_serve,
        relay_limits,
        ..NatConfig::off()
    };
    Gateway::start_reachable(&[person], nat, hasty()).await
}

/// Strangers go soon: what relays need must not be among them. Whoever is to have a session gets it sooner, on a busy
/// machine too.
fn hasty() -> Limits {
    Limits {
        stranger_timeout: Duration::from_secs(8),
        ..Limits::default()
    }
}

/// Somebody who wants to be reachable through these relays, or just to call others.
async fn client(person: Person, relays: &[&Gateway], hole_punching: bool) -> Gateway {
    let nat = NatConfig {
        relays: relays.iter().map(|relay| relay.over("tcp").remove(0)).collect(),
        hole_punching,
        ..NatConfig::off()
    };
    // A direct connection has no session at first, and on a busy machine not so soon.
    let limits = if hole_punching { Limits::default() } else { hasty() };
    Gateway::start_reachable(&[person], nat, limits).await
}

/// Waits for the facts to be so.
async fn until(gateway: &mut Gateway, so: impl Fn(&Reachability) -> bool) -> Reachability {
    within(async {
        loop {
            let facts = gateway.node.reachability();
            if so(&facts) {
                return facts;
            }
            gateway
                .event(|event| matches!(event, NodeEvent::ReachabilityChanged))
                .await;
        }
    })
    .await
}

/// Waits for places at so many relays.
async fn placed(gateway: &mut Gateway, places: usize) -> Reachability {
    until(gateway, |facts| {
        facts.placed().filter(|relay| !relay.locators.is_empty()).count() == places
    })
    .await
}

/// The addresses through relays.
fn circuits(gateway: &Gateway) -> Vec<Locator> {
    let mut locators = gateway.node.locators();
    locators.retain(Locator::is_relayed);
    locators
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_through_a_relay_and_outlives_the_patience_with_strangers() {
    let carol = relay(Carol).await;
    let mut alice = client(Alice, &[&carol], false).await;
    let bob = client(Bob, &[], false).await;
    placed(&mut alice, 1).await;

    let connected = within(bob.node.connect(&circuits(&alice))).await.unwrap();
    assert_eq!(&connected.peer, alice.node.peer_id());
    assert!(connected.locator.is_relayed());
    let ours = bob.open(&connected.peer, Some(Alice)).await.unwrap();
    let theirs = alice.inbound().await;
    assert!(ours.is_relayed() && theirs.is_relayed());
    let at_carol = carol.node.reachability();
    assert!(at_carol.can_serve);
    assert_eq!(at_carol.serving.unwrap().circuits, 1);
    works(&ours, &theirs).await;

    // Longer than strangers may stay; nothing else marks that moment.
    tokio::time::sleep(3 * hasty().stranger_timeout).await;
    works(&ours, &theirs).await;
    assert!(!ours.is_closed());
    assert_eq!(alice.node.reachability().placed().count(), 1);

    // A stranger at the relay goes as ever.
    let mut erin = Gateway::start_with(&[Dave], hasty()).await;
    erin.connect(&carol).await;
    erin.event(|event| matches!(event, NodeEvent::PeerDisconnected { .. }))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_relay_brought_together_gets_a_direct_connection() {
    let carol = relay(Carol).await;
    let mut alice = client(Alice, &[&carol], true).await;
    let mut bob = client(Bob, &[&carol], true).await;
    placed(&mut alice, 1).await;
    placed(&mut bob, 1).await;

    let peer = within(bob.node.connect(&circuits(&alice))).await.unwrap().peer;
    let first = bob.open(&peer, Some(Alice)).await.unwrap();
    let theirs = alice.inbound().await;
    let upgraded = |event: &NodeEvent| matches!(event, NodeEvent::Upgraded { peer: with } if *with == peer);
    if first.is_relayed() {
        bob.event(upgraded).await;
    }
    let second = bob.open(&peer, Some(Alice)).await.unwrap();
    assert!(!second.is_relayed(), "a direct connection is there");
    works(&second, &alice.inbound().await).await;
    assert_eq!(bob.node.reachability().punched, [peer]);
    // What goes through the relay goes on until it is closed.
    works(&first, &theirs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_dies_is_replaced_in_time() {
    let (carol, dave, erin) = (relay(Carol).await, relay(Dave).await, relay(Alice2).await);
    let mut alice = client(Alice, &[&carol, &dave, &erin], false).await;
    let facts = placed(&mut alice, 2).await;
    assert_eq!(facts.relays[2].state, RelayState::Idle, "two are enough");

    let bob = client(Bob, &[], false).await;
    let through: Vec<Locator> = facts.relays[0].locators.clone();
    let peer = within(bob.node.connect(&through)).await.unwrap().peer;
    let ours = bob.open(&peer, Some(Alice)).await.unwrap();
    let theirs = alice.inbound().await;
    works(&ours, &theirs).await;

    let died = Stopwatch::start();
    carol.node.close(Duration::from_secs(1)).await;
    within(ours.closed()).await;
    until(&mut alice, |facts| facts.relays[2].state == RelayState::Placed).await;
    let again = within(bob.node.connect(&circuits(&alice))).await.unwrap();
    let ours = bob.open(&again.peer, Some(Alice)).await.unwrap();
    works(&ours, &alice.inbound().await).await;
    assert!(died.elapsed() < FAILOVER, "{:?}", died.elapsed());
    let trouble = alice.node.reachability().relays[0].trouble.clone();
    assert!(trouble.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_for_contacts_takes_nobody_else_until_it_is_told() {
    let carol = relay_for(Carol, RelayServe::Contacts, RelayLimits::default()).await;
    let mut alice = client(Alice, &[&carol], false).await;
    let facts = until(&mut alice, |facts| facts.relays[0].trouble.is_some()).await;
    let trouble = facts.relays[0].trouble.clone().unwrap();
    assert!(trouble.contains("contacts"), "{trouble}");
    // Counted where it happened, which may be a moment later.
    within(async {
        while carol.node.reachability().serving.unwrap().refused == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;

    let contact = (alice.node.peer_id().clone(), Vec::new());
    carol.node.set_contacts(vec![contact]).await;
    placed(&mut alice, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contacts_that_offer_to_relay_are_used_without_being_configured() {
    let carol = relay(Carol).await;
    let mut alice = client(Alice, &[], false).await;
    let contact = (carol.node.peer_id().clone(), carol.over("tcp"));
    alice.node.set_contacts(vec![contact]).await;
    let _session = alice.session(&carol).await;
    let facts = placed(&mut alice, 1).await;
    assert!(!facts.relays[0].configured);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_becomes_a_contact_while_it_is_connected_is_used_too_and_no_more_when_it_is_none() {
    let carol = relay(Carol).await;
    let mut alice = client(Alice, &[], false).await;
    let _session = alice.session(&carol).await;
    let at_carol = carol.node.peer_id().clone();
    // What it offers it says once, when nobody here has noted it yet.
    alice
        .event(|event| matches!(event, NodeEvent::PeerIdentified { peer } if *peer == at_carol))
        .await;
    alice.node.set_contacts(vec![(at_carol, Vec::new())]).await;
    let facts = placed(&mut alice, 1).await;
    assert!(!facts.relays[0].configured);

    alice.node.set_contacts(Vec::new()).await;
    let left = carol.node;
    within(left.close(Duration::from_millis(500))).await;
    let facts = until(&mut alice, |facts| facts.placed().count() == 0).await;
    assert!(facts.relays.is_empty(), "{:?}", facts.relays);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_relay_says_so_and_so_does_one_without_the_peer() {
    let limits = RelayLimits {
        reservations: 1,
        ..RelayLimits::default()
    };
    let carol = relay_for(Carol, RelayServe::Anyone, limits).await;
    let mut alice = client(Alice, &[&carol], false).await;
    placed(&mut alice, 1).await;
    let mut bob = client(Bob, &[&carol], false).await;
    let facts = until(&mut bob, |facts| facts.relays[0].trouble.is_some()).await;
    let trouble = facts.relays[0].trouble.clone().unwrap();
    assert!(trouble.contains("full"), "{trouble}");

    let through = circuits(&alice)[0].to_string();
    let bob_there = through.replace(alice.node.peer_id().as_str(), bob.node.peer_id().as_str());
    let error = within(alice.node.connect(&[bob_there.parse().unwrap()]))
        .await
        .unwrap_err();
    let DialError::Failed { attempts } = error else {
        panic!("{error}")
    };
    assert!(attempts[0].reason.contains("no place"), "{}", attempts[0].reason);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_carries_as_much_as_the_relay_allows() {
    let limits = RelayLimits {
        circuit_bytes: 256 * 1024,
        ..RelayLimits::default()
    };
    let carol = relay_for(Carol, RelayServe::Anyone, limits).await;
    let mut alice = client(Alice, &[&carol], false).await;
    let bob = client(Bob, &[], false).await;
    placed(&mut alice, 1).await;
    let peer = within(bob.node.connect(&circuits(&alice))).await.unwrap().peer;
    let ours = bob.open(&peer, Some(Alice)).await.unwrap();
    let theirs = alice.inbound().await;
    works(&ours, &theirs).await;
    tokio::spawn(async move { echo_one(&theirs).await });
    let mut stream = ours.open_stream("echo").await.unwrap();
    let cut = async {
        for _ in 0..64 {
            if stream.write_all(vec![7; 16 * 1024].into()).await.is_err() {
                break;
            }
        }
        ours.closed().await
    };
    within(cut).await;
    // The place is still there, and so is a way in.
    assert_eq!(alice.node.reachability().placed().count(), 1);
    let again = within(bob.node.connect(&circuits(&alice))).await.unwrap().peer;
    let ours = bob.open(&again, Some(Alice)).await.unwrap();
    works(&ours, &alice.inbound().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_falls_silent_is_left_in_time() {
    let (carol, dave, erin) = (relay(Carol).await, relay(Dave).await, relay(Alice2).await);
    let wire = Wire::to(&carol).await;
    let nat = NatConfig {
        relays: std::iter::once(wire.locator.clone())
            .chain([&dave, &erin].map(|relay| relay.over("tcp").remove(0)))
            .collect(),
        ..NatConfig::off()
    };
    let mut alice = Gateway::start_reachable(&[Alice], nat, hasty()).await;
    let facts = placed(&mut alice, 2).await;
    assert_eq!(facts.relays[0].state, RelayState::Placed);
    assert_eq!(facts.relays[2].state, RelayState::Idle, "two are enough");

    let silent = Stopwatch::start();
    wire.fall_silent();
    until(&mut alice, |facts| facts.relays[2].state == RelayState::Placed).await;
    assert!(silent.elapsed() < FAILOVER, "{:?}", silent.elapsed());
    let facts = alice.node.reachability();
    assert_ne!(facts.relays[0].state, RelayState::Placed);
    assert!(wire.is_open(), "nobody but the gateway ended it");
    // Whoever calls now gets through.
    let bob = client(Bob, &[], false).await;
    let peer = within(bob.node.connect(&circuits(&alice))).await.unwrap().peer;
    let ours = bob.open(&peer, Some(Alice)).await.unwrap();
    works(&ours, &alice.inbound().await).await;
}

/// A TCP connection in between that can stop carrying without breaking.
struct Wire {
    locator: Locator,
    silent: tokio::sync::watch::Sender<bool>,
}

impl Wire {
    async fn to(relay: &Gateway) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", relay.node.peer_id());
        let (silent, is_silent) = tokio::sync::watch::channel(false);
        let far = relay.socket();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = tokio::net::TcpStream::connect(far).await.unwrap();
                let (near_reads, near_writes) = near.into_split();
                let (far_reads, far_writes) = far.into_split();
                tokio::spawn(carry(near_reads, far_writes, is_silent.clone()));
                tokio::spawn(carry(far_reads, near_writes, is_silent.clone()));
            }
        });
        Self {
            locator: text.parse().unwrap(),
            silent,
        }
    }

    /// From now on nothing gets through, and nothing breaks.
    fn fall_silent(&self) {
        self.silent.send_replace(true);
    }

    fn is_open(&self) -> bool {
        self.silent.receiver_count() > 0
    }
}

/// Carries bytes one way; when it is to be silent it takes them and keeps them.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    silent: tokio::sync::watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        if !*silent.borrow() && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    // Whoever hangs up is not told on.
    if *silent.borrow() {
        std::future::pending::<()>().await;
    }
}
