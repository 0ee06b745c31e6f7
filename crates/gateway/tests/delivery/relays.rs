//! Gateways that reach each other through a third one.

use clawchat_identity::Identity;
use clawchat_testkit::Person::{self, Alice, Bob, Carol};
use clawchat_types::{InviteToken, Locator};
use serde_json::{Value, json};

use crate::common::{Caller, Gate, Rogue, eventually, within};

/// A gateway with these keys in its configuration, that asks no router and no neighbours.
async fn gate(person: Person, keys: impl FnOnce(&Gate) -> Value) -> Gate {
    let mut gate = Gate::set_up(&[person]);
    let keys = keys(&gate);
    gate.edit(|config| {
        config["nat"] = json!({"mdns": false, "upnp": false});
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
    });
    gate.start().await;
    gate
}

/// A relay that knows its own address.
async fn relay(person: Person, serve: &str) -> Gate {
    gate(person, |gate| {
        let external = format!("/ip4/127.0.0.1/tcp/{}", port(gate));
        json!({"relay": {"serve": serve},
               "nat": {"mdns": false, "upnp": false, "external": [external]}})
    })
    .await
}

fn port(gate: &Gate) -> String {
    gate.address().rsplit(':').next().unwrap().to_owned()
}

async fn peer_id(caller: &Caller) -> String {
    let status = caller.ok(json!({"cmd": "status"})).await;
    status["peerId"].as_str().unwrap().to_owned()
}

async fn behind(person: Person, relay: &Gate, at_relay: &Caller) -> Gate {
    let address = format!(
        "/ip4/127.0.0.1/tcp/{}/p2p/{}",
        port(relay),
        peer_id(at_relay).await
    );
    gate(person, |_| json!({"relays": [address]})).await
}

/// Waits until the gateway is reachable through a relay, and gives its address there.
async fn circuit(caller: &Caller) -> String {
    eventually("a place at the relay", async || {
        let status = caller.ok(json!({"cmd": "status"})).await;
        let nat = &status["nat"];
        (nat["reachability"] == "relayed").then_some(())?;
        assert_eq!(nat["summary"], "reachable through one relay");
        let address = nat["relays"][0]["multiaddrs"][0].as_str()?;
        assert!(
            status["multiaddrs"]
                .as_array()
                .unwrap()
                .iter()
                .any(|known| known == address)
        );
        Some(address.to_owned())
    })
    .await
}

/// Somebody hidden, reachable through the relay: with the addresses there.
async fn hidden_behind(relay: &Gate, at_relay: &Caller) -> (Rogue, Vec<Locator>) {
    let at_relay: Locator = format!(
        "/ip4/127.0.0.1/tcp/{}/p2p/{}",
        port(relay),
        peer_id(at_relay).await
    )
    .parse()
    .unwrap();
    let token = InviteToken::new([7; InviteToken::BYTES]);
    let identity = Identity::generate(Alice.principal().network(), None, [1; 32], [2; 32]).unwrap();
    let rogue = Rogue::hidden_behind(identity, vec![at_relay], token).await;
    let circuits = eventually("a place at the relay", async || {
        let mut locators = rogue.node.locators();
        locators.retain(Locator::is_relayed);
        (!locators.is_empty()).then_some(locators)
    })
    .await;
    (rogue, circuits)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_through_a_relay_and_then_over_the_direct_connection() {
    let c = relay(Carol, "anyone").await;
    let carol = c.caller(Carol);
    let (a, b) = tokio::join!(behind(Alice, &c, &carol), gate(Bob, |_| json!({})));
    let (alice, bob) = (a.caller(Alice), b.caller(Bob));
    let address = circuit(&alice).await;
    bob.ok(json!({"cmd": "peer_add", "principal": Alice.principal().to_string(), "address": address}))
        .await;
    bob.deliver(Alice.principal(), "through carol").await;
    let load = async || carol.ok(json!({"cmd": "status"})).await["nat"]["relay"].clone();
    let carried = load().await;
    assert_eq!(
        (&carried["ready"], &carried["reservations"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(carried["circuits"], 1);
    let peer = async || bob.ok(json!({"cmd": "peers"})).await[0].clone();
    let through = peer().await;
    assert_eq!(through["path"], "relayed");
    assert_eq!(
        through["relay"],
        json!(peer_id(&carol).await),
        "carol is no peer of bob's"
    );

    // A direct connection turns up, and the circuit is given back once nothing goes through it any more.
    bob.ok(json!({"cmd": "connect", "multiaddr": a.address()})).await;
    bob.deliver(Alice.principal(), "directly").await;
    alice.deliver(Bob.principal(), "and back").await;
    eventually("the end of the circuit", async || {
        (load().await["circuits"] == 0).then_some(())
    })
    .await;
    bob.deliver(Alice.principal(), "still there").await;
    let there = peer().await;
    assert!(there["path"] == "direct" || there["path"] == "punched", "{there}");
    assert_eq!(there["relay"], Value::Null);
    assert_eq!(alice.texts().await, ["through carol", "directly", "still there"]);
    assert_eq!(bob.texts().await, ["and back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_become_contacts_while_they_are_connected_find_a_place_and_give_one() {
    let c = relay(Carol, "contacts").await;
    let a = gate(Alice, |_| json!({})).await;
    let (alice, carol) = (a.caller(Alice), c.caller(Carol));
    alice.knows(Carol, &c).await;
    let at_alice = peer_id(&alice).await;
    let met = async || {
        let peers = carol.ok(json!({"cmd": "peers"})).await;
        (peers[0]["connected"] == true && peers[0]["peerId"] == json!(at_alice)).then_some(())
    };
    eventually("carol has met alice", met).await;
    carol.knows(Alice, &a).await;
    met().await.expect("and knows still at which gateway");
    let address = circuit(&alice).await;
    assert!(address.contains(&peer_id(&carol).await), "{address}");
}

/// Often several direct connections come about at once, and the one that is used first ends, or the peer is busy.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_leaves_its_relay_even_if_the_first_tries_fail_and_the_peer_is_hidden() {
    let c = relay(Carol, "anyone").await;
    let carol = c.caller(Carol);
    let (mut rogue, circuits) = hidden_behind(&c, &carol).await;
    let b = gate(Bob, |_| json!({})).await;
    let bob = b.caller(Bob);
    bob.ok(json!({"cmd": "peer_add", "invite": rogue.invite(circuits)}))
        .await;
    bob.send(rogue.principal(), "through carol").await;
    let through = rogue.visitor().await;
    assert!(through.is_relayed());

    rogue.refuse(3);
    rogue.dial(&b).await;
    let straight = rogue.visitor().await;
    assert!(!straight.is_relayed());
    assert_eq!(rogue.refusals_left(), 0);
    // One is enough, and then the relay is left.
    within(through.closed()).await;
    let listed = bob.ok(json!({"cmd": "peers"})).await;
    assert_eq!(listed[0]["path"], "punched");
    assert!(!straight.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_address_that_is_learned_later_is_tried_at_once() {
    let c = relay(Carol, "anyone").await;
    let carol = c.caller(Carol);
    let (mut rogue, circuits) = hidden_behind(&c, &carol).await;
    let b = gate(Bob, |_| json!({})).await;
    let bob = b.caller(Bob);
    bob.ok(json!({"cmd": "peer_add", "invite": rogue.invite(circuits)}))
        .await;
    bob.send(rogue.principal(), "through carol").await;
    let through = rogue.visitor().await;
    assert!(through.is_relayed());

    let mut direct = rogue.node.locators();
    direct.retain(|locator| !locator.is_relayed());
    let address = direct[0].to_string();
    bob.ok(json!({"cmd": "peer_add", "principal": rogue.principal().to_string(), "address": address}))
        .await;
    let straight = rogue.visitor().await;
    assert!(!straight.is_relayed());
    within(through.closed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_for_contacts_serves_whom_its_operator_added() {
    let c = relay(Carol, "contacts").await;
    let carol = c.caller(Carol);
    let a = behind(Alice, &c, &carol).await;
    let alice = a.caller(Alice);
    let refusal = eventually("a refusal", async || {
        let status = alice.ok(json!({"cmd": "status"})).await;
        let reason = &status["nat"]["relays"][0]["reason"];
        Some(reason.as_str()?.to_owned())
    })
    .await;
    assert!(refusal.contains("contacts"), "{refusal}");
    carol.knows(Alice, &a).await;
    carol.deliver(Alice.principal(), "you are welcome").await;
    circuit(&alice).await;
}
