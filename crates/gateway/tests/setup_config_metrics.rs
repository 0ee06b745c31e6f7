//! The key `metrics`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clawchat_gateway::config::{GatewayConfig, MetricsSettings};
use serde_json::{Value, json};

fn parse(metrics: Value) -> Result<GatewayConfig, String> {
    let config = json!({"version": 1, "p2pPort": 9000, "metrics": metrics, "identities": [
        {"principal": "stacks:ST1JAHE8GEHB0MCBGR8J6W0AA7TJEE1XKFSD2Q80H", "autoload": true, "allowLocal": true,
         "allowedRemotePeers": ["*"], "openclawWake": true}]});
    let text = serde_json::to_string_pretty(&config).unwrap();
    GatewayConfig::parse(text.as_bytes()).map_err(|invalid| invalid.to_string())
}

#[test]
fn metrics_are_served_where_the_operator_says_and_nowhere_else() {
    let none = parse(json!({})).unwrap();
    assert_eq!(none.metrics(), MetricsSettings::default());
    assert_eq!(none.metrics().listen, None);
    for address in ["127.0.0.1:9464", "127.9.9.9:1", "[::1]:9464"] {
        let config = parse(json!({"listen": address})).unwrap();
        assert_eq!(config.metrics().listen, Some(address.parse().unwrap()));
        assert!(config.warnings().is_empty());
    }
    let open = parse(json!({"listen": "0.0.0.0:9464", "remote": true, "path": "/"})).unwrap();
    assert_eq!(open.metrics().listen, Some("0.0.0.0:9464".parse().unwrap()));
    assert_eq!(open.warnings(), ["metrics has a key that means nothing: path"]);
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (metrics, said) in [
        (json!(null), "metrics must be an object"),
        (json!("127.0.0.1:9464"), "metrics must be an object"),
        (
            json!({"listen": 9464}),
            "listen must be an IP address and a port, such as \"127.0.0.1:9464\" (got: 9464)",
        ),
        (json!({"listen": "localhost:9464"}), "(got: localhost:9464)"),
        (json!({"listen": "127.0.0.1:0"}), "(got: 127.0.0.1:0)"),
        (json!({"listen": null}), "(got: null)"),
        (
            json!({"listen": "0.0.0.0:9464"}),
            "\"remote\": true lets other machines",
        ),
        (json!({"listen": "192.168.1.7:9464"}), "of this machine alone"),
        (
            json!({"listen": "0.0.0.0:9464", "remote": "yes"}),
            "remote must be a boolean",
        ),
    ] {
        let error = parse(metrics.clone()).unwrap_err();
        assert!(error.contains(said), "{metrics}: {error}");
        assert!(error.contains("metrics") && error.contains("line"), "{error}");
    }
}
