//! Our own formats stay what `spec/identity.md` says: alias card, contact card, invite, store key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use clawchat_identity::{AliasCard, CardDetails, ContactCard, Identity, Mnemonic};
use clawchat_types::{Network, UnixSeconds};
use common::{integer, list, text, unhex, unhex_array};
use serde_json::{Value, json};

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/identity/cards.json")
}

fn ttl(case: &Value, key: &str) -> Duration {
    Duration::from_secs(case[key].as_u64().unwrap())
}

/// What a case's inputs give.
fn outputs(case: &Value) -> Value {
    let mnemonic: Mnemonic = text(case, "mnemonic").parse().unwrap();
    let seed = unhex_array(case, "node_seed_hex");
    let me = Identity::recover(&mnemonic, Network::Testnet, None, seed).unwrap();
    let now = UnixSeconds(integer(case, "now"));
    let name = case["display_name"].as_str().map(|name| name.parse().unwrap());
    let nonce = unhex_array(case, "alias_nonce_hex");
    let alias = AliasCard::create(
        me.wallet(),
        me.network(),
        text(case, "alias"),
        name,
        now,
        ttl(case, "alias_ttl_secs"),
        nonce,
    );
    let alias = AliasCard::from_bytes(&alias.unwrap().to_bytes()).unwrap();
    let words = |key| {
        list(case, key)
            .iter()
            .map(|word| word.as_str().unwrap().to_owned())
    };
    let details = CardDetails {
        locators: words("locators").map(|text| text.parse().unwrap()).collect(),
        capabilities: words("capabilities").collect(),
        alias: Some(alias.clone()),
    };
    let attestation = me.attest(
        now,
        ttl(case, "attestation_ttl_secs"),
        unhex_array(case, "attestation_nonce_hex"),
    );
    let card = ContactCard::create(
        me.node_key(),
        attestation,
        details,
        now,
        ttl(case, "card_ttl_secs"),
    )
    .unwrap();
    json!({
        "alias_payload_hex": hex::encode(alias.signing_payload()),
        "alias_card_hex": hex::encode(alias.to_bytes()),
        "contact_card_hex": hex::encode(card.to_bytes()),
        "invite": card.to_invite(),
        "store_key_hex": hex::encode(*me.store_key()),
    })
}

#[test]
fn the_recorded_cards_are_made_again_and_hold() {
    let file: Value = serde_json::from_slice(&std::fs::read(file()).unwrap()).unwrap();
    for case in list(&file, "cases") {
        assert_eq!(case["expected"], outputs(case), "{}", text(case, "name"));
        let now = UnixSeconds(integer(case, "now"));
        let card = ContactCard::from_invite(text(&case["expected"], "invite")).unwrap();
        let card = card.verify(Network::Testnet, now).unwrap();
        assert_eq!(card.to_bytes(), unhex(&case["expected"], "contact_card_hex"));
        assert_eq!(
            card.alias(now).unwrap().to_bytes(),
            unhex(&case["expected"], "alias_card_hex")
        );
    }
    for case in list(&file, "refused") {
        let now = UnixSeconds(integer(case, "now"));
        let verdict = ContactCard::from_bytes(&unhex(case, "contact_card_hex"))
            .and_then(|card| card.verify(Network::Testnet, now));
        assert!(verdict.is_err(), "{}", text(case, "name"));
    }
}
