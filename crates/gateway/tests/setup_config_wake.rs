//! The keys `legacyPeers` and `wake`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use clawchat_gateway::config::{GatewayConfig, LegacyPeers, PeerPattern, UrgentFrom, WebhookToken};
use serde_json::{Value, json};

const ALICE: &str = "stacks:ST1JAHE8GEHB0MCBGR8J6W0AA7TJEE1XKFSD2Q80H";
const CAROL: &str = "stacks:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF";

/// A configuration of two identities; `keys` are added at the top, `own` to the second identity.
fn text(keys: &Value, own: &Value) -> String {
    let entry = |principal: &str| {
        json!({"principal": principal, "autoload": true, "allowLocal": true, "allowedRemotePeers": ["*"],
               "openclawWake": true})
    };
    let mut second = entry(CAROL);
    second
        .as_object_mut()
        .unwrap()
        .extend(own.as_object().unwrap().clone());
    let mut config = json!({"version": 1, "p2pPort": 9000, "identities": [entry(ALICE), second]});
    config
        .as_object_mut()
        .unwrap()
        .extend(keys.as_object().unwrap().clone());
    serde_json::to_string_pretty(&config).unwrap()
}

fn parse(keys: &Value, own: &Value) -> Result<GatewayConfig, String> {
    GatewayConfig::parse(text(keys, own).as_bytes()).map_err(|invalid| invalid.to_string())
}

#[test]
fn without_the_keys_the_defaults_count() {
    let config = parse(&json!({}), &json!({})).unwrap();
    assert_eq!(config.legacy_peers(), LegacyPeers::Bound);
    let wake = config.wake();
    assert_eq!(wake.urgent_from, UrgentFrom::Peers);
    assert_eq!(
        (&wake.openclaw, &wake.command, &wake.webhook),
        (&None, &None, &None)
    );
}

#[test]
fn legacy_peers_has_three_values() {
    for (text, value) in [
        ("bound", LegacyPeers::Bound),
        ("unbound", LegacyPeers::Unbound),
        ("off", LegacyPeers::Off),
    ] {
        let config = parse(&json!({"legacyPeers": text}), &json!({})).unwrap();
        assert_eq!(config.legacy_peers(), value);
    }
    for bad in [json!("Bound"), json!(true), json!(null), json!({})] {
        let error = parse(&json!({"legacyPeers": bad}), &json!({})).unwrap_err();
        assert!(
            error.starts_with("legacyPeers must be \"bound\", \"unbound\" or \"off\""),
            "{error}"
        );
        assert!(error.contains("(legacyPeers, line "), "{error}");
    }
}

#[test]
fn an_identity_replaces_what_it_names() {
    let top = json!({"wake": {
        "urgentFrom": [CAROL],
        "openclaw": "/opt/openclaw",
        "command": ["notify", "--from", "clawchat"],
        "webhook": {"url": "https://example.org/x", "tokenFile": "/etc/token"},
    }});
    let own = json!({"wake": {"urgentFrom": "nobody", "webhook": null}});
    let config = parse(&top, &own).unwrap();
    let (first, second) = (&config.identities()[0].wake, &config.identities()[1].wake);
    assert_eq!(first, config.wake());
    assert_eq!(
        first.urgent_from,
        UrgentFrom::These(vec![PeerPattern::new(CAROL)])
    );
    assert_eq!(first.openclaw, Some(PathBuf::from("/opt/openclaw")));
    assert_eq!(
        first.webhook.as_ref().unwrap().token,
        Some(WebhookToken::File(PathBuf::from("/etc/token")))
    );
    assert_eq!(second.urgent_from, UrgentFrom::Nobody);
    assert_eq!(second.command, first.command);
    assert_eq!(second.webhook, None);
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
    let again = GatewayConfig::parse(config.to_text().as_bytes()).unwrap();
    assert_eq!(again, config, "a rewrite keeps the keys");
}

#[test]
fn what_is_wrong_is_named_with_key_and_line() {
    let hook = |hook: Value| json!({"webhook": hook});
    for (wake, key) in [
        (json!([]), "wake"),
        (json!("on"), "wake"),
        (json!({"urgentFrom": "friends"}), "wake.urgentFrom"),
        (json!({"urgentFrom": [CAROL, "bob"]}), "wake.urgentFrom[1]"),
        (json!({"openclaw": "bin/openclaw"}), "wake.openclaw"),
        (json!({"openclaw": ["/x"]}), "wake.openclaw"),
        (json!({"command": []}), "wake.command"),
        (json!({"command": "rm -rf"}), "wake.command"),
        (json!({"command": ["bin/notify"]}), "wake.command[0]"),
        (json!({"command": [""]}), "wake.command[0]"),
        (json!({"command": ["x", 1]}), "wake.command[1]"),
        (json!({"command": ["x", "a\0b"]}), "wake.command[1]"),
        (hook(json!("https://x")), "wake.webhook"),
        (hook(json!({})), "wake.webhook.url"),
        (hook(json!({"url": "ftp://x"})), "wake.webhook.url"),
        (hook(json!({"url": "http://u:p@x/"})), "wake.webhook.url"),
        (
            hook(json!({"url": "http://x", "token": "a b"})),
            "wake.webhook.token",
        ),
        (
            hook(json!({"url": "http://x", "token": "a\r\nX: y"})),
            "wake.webhook.token",
        ),
        (hook(json!({"url": "http://x", "token": 7})), "wake.webhook.token"),
        (
            hook(json!({"url": "http://x", "tokenFile": "t"})),
            "wake.webhook.tokenFile",
        ),
        (
            hook(json!({"url": "http://x", "tokenFile": "/t", "token": "t"})),
            "wake.webhook.tokenFile",
        ),
    ] {
        let keys = json!({ "wake": wake });
        let error = parse(&keys, &json!({})).unwrap_err();
        assert!(error.contains(&format!("({key}, line ")), "{wake}: {error}");
        let error = parse(&json!({}), &keys).unwrap_err();
        assert!(
            error.contains(&format!("(identities[1].{key}, line ")),
            "{wake}: {error}"
        );
    }
}

#[test]
fn a_token_is_shown_nowhere() {
    let secret = "s3cret-t0ken";
    let keys =
        json!({"wake": {"webhook": {"url": format!("https://example.org/{secret}"), "token": secret}}});
    let config = parse(&keys, &json!({})).unwrap();
    assert!(!format!("{config:?}").contains(secret));
    for wrong in [
        json!({"url": format!("https://u:{secret}@example.org"), "token": "x"}),
        json!({"url": "https://example.org", "token": format!("{secret} ")}),
        json!({"url": "https://example.org", "token": secret, "tokenFile": "x"}),
    ] {
        let error = parse(&json!({"wake": {"webhook": wrong}}), &json!({})).unwrap_err();
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn keys_and_principals_that_mean_nothing_are_mentioned() {
    let keys = json!({"wake": {"urgentfrom": "nobody", "urgentFrom": ["stacks:*"]}});
    let config = parse(&keys, &json!({})).unwrap();
    let warnings = config.warnings().join("\n");
    assert!(
        warnings.contains("urgentfrom") && warnings.contains("stacks:*"),
        "{warnings}"
    );
}
