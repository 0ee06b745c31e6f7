//! What nodes find out about how they can be reached, and who is near.

use std::net::Ipv4Addr;

use clawchat_node::{Limits, NatConfig, NodeConfig, NodeEvent, Reachability};
use clawchat_testkit::Person::{Alice, Bob};
use clawchat_types::Locator;

use crate::support::{Gateway, config, within};

async fn gateway(person: clawchat_testkit::Person, nat: NatConfig) -> Gateway {
    Gateway::start_reachable(&[person], nat, Limits::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_operator_says_is_told_first() {
    let external: Locator = "/ip4/203.0.113.5/tcp/9000".parse().unwrap();
    let nat = NatConfig {
        external: vec![external.clone()],
        ..NatConfig::off()
    };
    let alice = gateway(Alice, nat).await;
    let named = external.with_peer_id(alice.node.peer_id());
    assert_eq!(alice.node.locators()[0], named);
    let facts = alice.node.reachability();
    assert_eq!(facts.public, [named]);
    assert_eq!((facts.serving, facts.can_serve), (None, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_help_nothing_is_known() {
    let alice = gateway(Alice, NatConfig::off()).await;
    assert_eq!(alice.node.reachability(), Reachability::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_tries_an_address_and_then_it_counts() {
    let nat = NatConfig {
        autonat: true,
        ..NatConfig::off()
    };
    let (mut alice, bob) = (gateway(Alice, nat.clone()).await, gateway(Bob, nat).await);
    let _session = alice.session(&bob).await;
    let facts = within(async {
        loop {
            let facts = alice.node.reachability();
            if !facts.public.is_empty() {
                return facts;
            }
            alice
                .event(|event| matches!(event, NodeEvent::ReachabilityChanged))
                .await;
        }
    })
    .await;
    // Peers see no difference between the ports for TCP and for WebSocket until they try.
    let listening = [alice.over("tcp"), alice.over("ws")].concat();
    assert!(
        facts.public.iter().all(|address| listening.contains(address)),
        "{facts:?}"
    );
    assert!(facts.changed_at.0 > 0);
}

/// Needs multicast on some interface, which sandboxes often lack, and a network that is not full of other gateways:
/// run by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an interface that takes part in multicast"]
async fn contacts_on_the_local_network_find_each_other() {
    let nat = NatConfig {
        mdns: true,
        ..NatConfig::off()
    };
    let open = |person| NodeConfig {
        bind: vec![Ipv4Addr::UNSPECIFIED.into()],
        nat: nat.clone(),
        ..config(person)
    };
    let mut alice = Gateway::start_configured(&[Alice], open(Alice)).await;
    let bob = Gateway::start_configured(&[Bob], open(Bob)).await;
    alice
        .node
        .set_contacts(vec![(bob.node.peer_id().clone(), Vec::new())])
        .await;
    let event = alice
        .event(|event| matches!(event, NodeEvent::Neighbour { .. }))
        .await;
    let NodeEvent::Neighbour { peer } = event else {
        panic!("just looked")
    };
    assert_eq!(peer, *bob.node.peer_id());
}
