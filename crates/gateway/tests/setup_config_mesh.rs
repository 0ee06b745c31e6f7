//! The key `mesh`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clawchat_gateway::config::{GatewayConfig, MAX_MESH_ENTRIES, MeshQuota, MeshSettings};
use serde_json::{Value, json};

fn parse(mesh: &Value) -> Result<GatewayConfig, String> {
    let config = json!({"version": 1, "p2pPort": 9000, "mesh": mesh, "identities": [
        {"principal": "stacks:ST1JAHE8GEHB0MCBGR8J6W0AA7TJEE1XKFSD2Q80H", "autoload": true, "allowLocal": true,
         "allowedRemotePeers": ["*"], "openclawWake": true}]});
    let text = serde_json::to_string_pretty(&config).unwrap();
    GatewayConfig::parse(text.as_bytes()).map_err(|invalid| invalid.to_string())
}

#[test]
fn without_a_word_there_is_no_mesh() {
    let config = parse(&json!({})).unwrap();
    assert_eq!(*config.mesh(), MeshSettings::default());
    assert!(!config.mesh().enabled && config.mesh().listen.is_none());
    assert!(config.mesh().store && config.mesh().relay);
    assert_eq!(config.mesh().channels, ["lobby".parse().unwrap()]);
}

#[test]
fn what_the_operator_says_counts() {
    let config = parse(&json!({
        "enabled": true, "listen": "127.0.0.1:5000", "bootstrap": "http://127.0.0.1:4000/bootstrap.json",
        "peers": ["ws://127.0.0.1:5001", "wss://mesh.example.org/x", "ws://127.0.0.1:5001"],
        "channels": ["lobby", "#dev"], "keep": ["dm:*"], "store": false, "relay": false, "payloadLimit": 1000,
        "quota": {"channelMessages": 5, "othersDays": 3, "totalBytes": 1_000_000, "y": 1}, "x": 1,
    }))
    .unwrap();
    let mesh = config.mesh();
    assert!(mesh.enabled && !mesh.store && !mesh.relay);
    assert_eq!(mesh.listen, Some("127.0.0.1:5000".parse().unwrap()));
    assert_eq!(mesh.peers, ["ws://127.0.0.1:5001", "wss://mesh.example.org/x"]);
    assert_eq!(mesh.channels, ["lobby".parse().unwrap(), "#dev".parse().unwrap()]);
    assert_eq!(mesh.keep, ["dm:*"]);
    assert_eq!(mesh.payload_limit, Some(1000));
    let MeshQuota {
        channel_messages,
        others_days,
        total_bytes,
        channel_bytes,
        ..
    } = mesh.quota;
    assert_eq!(
        (channel_messages, others_days, total_bytes, channel_bytes),
        (Some(5), Some(3), Some(1_000_000), None)
    );
    assert_eq!(
        config.warnings(),
        [
            "mesh.quota has a key that means nothing: y",
            "mesh has a key that means nothing: x"
        ]
    );
    let secure =
        parse(&json!({"tls": {"certificate": "/c.pem", "key": "/k.pem"}, "trust": "/t.pem"})).unwrap();
    let tls = secure.mesh().tls.as_ref().unwrap();
    assert_eq!(
        (tls.certificate.to_str(), tls.key.to_str()),
        (Some("/c.pem"), Some("/k.pem"))
    );
    assert_eq!(secure.mesh().trust.as_deref(), Some("/t.pem".as_ref()));
    let nowhere = parse(&json!({"listen": null, "bootstrap": null, "channels": []})).unwrap();
    assert!(nowhere.mesh().listen.is_none() && nowhere.mesh().channels.is_empty());
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let many = vec!["a"; MAX_MESH_ENTRIES + 1];
    for (mesh, said) in [
        (json!([]), "mesh must be an object"),
        (json!({"enabled": 1}), "enabled must be a boolean"),
        (json!({"listen": "5000"}), "listen must be an address and a port"),
        (json!({"listen": 5000}), "listen must be an address and a port"),
        (
            json!({"bootstrap": "ftp://x"}),
            "mesh.bootstrap must be an http://",
        ),
        (json!({"peers": ["http://x"]}), "mesh.peers[0] must be a ws://"),
        (
            json!({"peers": ["ws://h:99999"]}),
            "mesh.peers[0] must be a ws://",
        ),
        (json!({"tls": {"key": "/k"}}), "tls must have both"),
        (json!({"trust": "t.pem"}), "mesh.trust must be an absolute path"),
        (json!({"peers": ["ws://"]}), "mesh.peers[0] must be a ws://"),
        (json!({"peers": ["ws://a b"]}), "mesh.peers[0] must be a ws://"),
        (json!({"peers": "ws://x"}), "mesh.peers must be an array"),
        (
            json!({"channels": [""]}),
            "mesh.channels[0] must be a channel's name",
        ),
        (
            json!({"keep": ["c".repeat(257)]}),
            "mesh.keep[0] must be a channel's name",
        ),
        (
            json!({"channels": many}),
            "mesh.channels has more than 256 entries",
        ),
        (json!({"quota": 1}), "quota must be an object"),
        (
            json!({"quota": {"totalBytes": 0}}),
            "totalBytes must be a whole number",
        ),
        (
            json!({"payloadLimit": 1_000_000_000}),
            "payloadLimit must be a whole number",
        ),
    ] {
        let error = parse(&mesh).unwrap_err();
        assert!(error.contains(said), "{mesh}: {error}");
        assert!(error.contains("line "), "{error}");
    }
}
