//! The keys `relay`, `relays` and `nat`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clawchat_gateway::config::{GatewayConfig, MAX_NAT_ADDRESSES, NatSettings, ServeRelay};
use serde_json::{Value, json};

const RELAY: &str = "/ip4/198.51.100.7/tcp/9000/p2p/12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo";

fn parse(keys: Value) -> Result<GatewayConfig, String> {
    let mut config = json!({"version": 1, "p2pPort": 9000, "identities": [
        {"principal": "stacks:ST1JAHE8GEHB0MCBGR8J6W0AA7TJEE1XKFSD2Q80H", "autoload": true, "allowLocal": true,
         "allowedRemotePeers": ["*"], "openclawWake": true}]});
    let Value::Object(keys) = keys else {
        panic!("an object")
    };
    config.as_object_mut().unwrap().extend(keys);
    let text = serde_json::to_string_pretty(&config).unwrap();
    GatewayConfig::parse(text.as_bytes()).map_err(|invalid| invalid.to_string())
}

#[test]
fn everything_that_helps_is_on_and_relaying_for_others_is_off() {
    let config = parse(json!({})).unwrap();
    assert_eq!(*config.nat(), NatSettings::default());
    assert_eq!(config.nat().relay_serve, ServeRelay::Off);
    assert!(config.nat().mdns && config.nat().hole_punching);
    let hidden = parse(json!({"visibility": "stealth"})).unwrap();
    assert!(
        !hidden.nat().mdns,
        "who hides is not announced on the local network"
    );
    let insists = parse(json!({"visibility": "stealth", "nat": {"mdns": true}})).unwrap();
    assert!(insists.nat().mdns);
}

#[test]
fn what_the_operator_says_counts() {
    let config = parse(json!({
        "relay": {"serve": "contacts"},
        "relays": [RELAY, RELAY],
        "nat": {"upnp": false, "autonat": false, "holePunching": false, "external": ["/ip4/203.0.113.5/tcp/9000"], "x": 1},
    }))
    .unwrap();
    let nat = config.nat();
    assert_eq!(nat.relay_serve, ServeRelay::Contacts);
    assert_eq!(nat.relays, [RELAY.parse().unwrap()]);
    assert_eq!(nat.external, ["/ip4/203.0.113.5/tcp/9000".parse().unwrap()]);
    assert!(nat.mdns && !nat.upnp && !nat.autonat && !nat.hole_punching);
    assert_eq!(config.warnings(), ["nat has a key that means nothing: x"]);
    assert_eq!(
        parse(json!({"relay": {"serve": "anyone"}}))
            .unwrap()
            .nat()
            .relay_serve,
        ServeRelay::Anyone
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let unnamed = "/ip4/198.51.100.7/tcp/9000";
    let circuit = format!("{RELAY}/p2p-circuit/p2p/12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo");
    let many: Vec<String> = (0..=MAX_NAT_ADDRESSES)
        .map(|index| format!("/ip4/198.51.100.{index}/tcp/9000"))
        .collect();
    for (keys, said) in [
        (json!({"relay": "contacts"}), "relay must be an object"),
        (
            json!({"relay": {"serve": "everyone"}}),
            "serve must be \"contacts\", \"anyone\" or \"off\"",
        ),
        (json!({"relays": RELAY}), "relays must be an array"),
        (
            json!({"relays": [unnamed]}),
            "relays[0] must be the address of a relay and its PeerId",
        ),
        (json!({"relays": [RELAY, circuit]}), "relays[1]"),
        (json!({"relays": [7]}), "relays[0]"),
        (json!({"nat": []}), "nat must be an object"),
        (json!({"nat": {"mdns": "no"}}), "mdns must be a boolean"),
        (
            json!({"nat": {"external": ["here"]}}),
            "external[0] must be an address",
        ),
        (json!({"nat": {"external": many}}), "more than 16"),
    ] {
        let error = parse(keys.clone()).unwrap_err();
        assert!(error.contains(said), "{keys}: {error}");
        assert!(error.contains("line"), "{error}");
    }
}
