//! Contact cards against `spec/vectors/contact-card`: every accepted and every refused case.
//!
//! `CLAWCHAT_WRITE_VECTORS=1 cargo test -p clawchat-identity contact` writes the cases; without it, what is made here must
//! equal what the repository holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../snap2p/tests/marks/mod.rs"]
mod marks;

use std::time::Duration;

use cbor2::Value as Cbor;
use clawchat_identity::{AliasCard, CONTACT_CARD_DOMAIN, CardError, ContactCard, Identity};
use clawchat_types::{Network, UnixSeconds};
use serde_json::{Value, json};

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../spec/vectors/contact-card/cards.json"
);
const NOW: i64 = 1_767_225_600;
const DAY: u64 = 86_400;
const ALICE: &str = "script legal jacket execute void plate brisk strong wisdom property crouch cactus valid mule eyebrow toe \
                     stairs rain priority cave broccoli poem when like";
const BOB: &str = "despair hole session network emotion fold basic cry bonus bubble genre fun arrow join trigger fashion capable \
                   label safe shift spell easily lounge win";

fn person(words: &str, seed: u8, network: Network) -> Identity {
    Identity::recover(&words.parse().unwrap(), network, None, [seed; 32]).unwrap()
}

fn attestation(of: &Identity, from: i64) -> Vec<u8> {
    of.attest(UnixSeconds(from), Duration::from_secs(2 * DAY), [2; 32])
        .to_bytes()
}

fn alias(of: &Identity, from: i64, seconds: u64) -> Vec<u8> {
    let lasts = Duration::from_secs(seconds);
    let made = AliasCard::create(
        of.wallet(),
        of.network(),
        "alice",
        None,
        UnixSeconds(from),
        lasts,
        [3; 32],
    );
    made.unwrap().to_bytes()
}

fn text(text: impl Into<String>) -> Cbor {
    Cbor::Text(text.into())
}

fn texts<'a>(list: impl IntoIterator<Item = &'a str>) -> Cbor {
    Cbor::Array(list.into_iter().map(text).collect())
}

/// The body of a good card of somebody, with some fields changed (or, with `None`, left out).
fn body(of: &Identity, changes: &[(&str, Option<Cbor>)]) -> Vec<u8> {
    let mut fields = vec![
        ("p", text(of.principal().to_string())),
        ("v", Cbor::from(1)),
        ("ts", Cbor::from(NOW)),
        ("att", Cbor::Bytes(attestation(of, NOW))),
        ("exp", Cbor::from(NOW + DAY as i64)),
        (
            "loc",
            texts(["/ip4/192.0.2.1/tcp/9000", "/dns/example.org/udp/9000/quic-v1"]),
        ),
        ("caps", texts(["chat/1", "px-1", "public"])),
        ("alias", Cbor::Bytes(alias(of, NOW, 7 * DAY))),
    ];
    for (key, value) in changes {
        fields.retain(|(known, _)| known != key);
        fields.extend(value.clone().map(|value| (*key, value)));
    }
    let entries = fields
        .into_iter()
        .map(|(key, value)| (text(key), value))
        .collect();
    cbor2::to_canonical_vec(&Cbor::Map(entries)).unwrap()
}

fn outer(body: &[u8], signature: &[u8], more: Option<(&str, Cbor)>) -> Vec<u8> {
    let mut entries = vec![
        (text("b"), Cbor::Bytes(body.to_vec())),
        (text("s"), Cbor::Bytes(signature.to_vec())),
    ];
    entries.extend(more.map(|(key, value)| (text(key), value)));
    cbor2::to_canonical_vec(&Cbor::Map(entries)).unwrap()
}

fn sign(by: &Identity, body: &[u8]) -> [u8; 64] {
    by.node_key()
        .sign(&[CONTACT_CARD_DOMAIN.as_bytes(), &[0], body].concat())
}

/// A card of somebody, changed before it was signed.
fn card(of: &Identity, changes: &[(&str, Option<Cbor>)]) -> Vec<u8> {
    let body = body(of, changes);
    outer(&body, &sign(of, &body), None)
}

/// Name, mark, clock, card.
type Case = (&'static str, &'static str, i64, Vec<u8>);

fn made() -> Vec<Case> {
    let me = person(ALICE, 1, Network::Testnet);
    let bob = person(BOB, 5, Network::Testnet);
    let good = card(&me, &[]);
    let plain = body(&me, &[]);
    let many = |count: usize| texts((0..count).map(|_| "/ip4/192.0.2.1/tcp/9000"));
    let words = |count: usize| texts((0..count).map(|_| "x"));
    let changed = |key, value| card(&me, &[(key, Some(value))]);
    let without = |key| card(&me, &[(key, None)]);
    let bytes = Cbor::Bytes;
    let flip = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let elsewhere = person(ALICE, 1, Network::Mainnet);
    let other_key = person(ALICE, 9, Network::Testnet);
    let forged_alias = flip(&alias(&me, NOW, 7 * DAY), 80);
    let end = NOW + DAY as i64;
    vec![
        ("a card", "C1", NOW, good.clone()),
        ("a byte behind it", "C1", NOW, [good.as_slice(), &[0]].concat()),
        ("cut short", "C1", NOW, good[..good.len() - 1].to_vec()),
        ("nothing", "C1", NOW, Vec::new()),
        (
            "a third key",
            "C1",
            NOW,
            outer(&plain, &sign(&me, &plain), Some(("x", Cbor::from(1)))),
        ),
        ("10 000 addresses", "C1", NOW, changed("loc", many(10_000))),
        (
            "a body with a field nobody knows",
            "C2",
            NOW,
            changed("zz", Cbor::from(7)),
        ),
        ("without an alias", "C2", NOW, without("alias")),
        ("without addresses to try", "C2", NOW, changed("loc", texts([]))),
        ("without a list of addresses", "C2", NOW, without("loc")),
        ("without an end", "C2", NOW, without("exp")),
        ("a time in words", "C2", NOW, changed("ts", text("now"))),
        ("a body that is not deterministic", "C2", NOW, {
            let body = [&[0xb8, 0x08], &plain[1..]].concat();
            outer(&body, &sign(&me, &body), None)
        }),
        ("version 1", "C3", NOW, good.clone()),
        ("version 2", "C3", NOW, changed("v", Cbor::from(2))),
        (
            "an attestation of somebody else",
            "C4",
            NOW,
            changed("att", bytes(attestation(&bob, NOW))),
        ),
        (
            "an alias of somebody else",
            "C4",
            NOW,
            changed("alias", bytes(alias(&bob, NOW, DAY))),
        ),
        (
            "another principal",
            "C4",
            NOW,
            changed("p", text(bob.principal().to_string())),
        ),
        ("all parts of one principal", "C4", NOW, card(&bob, &[])),
        (
            "an attestation that is none",
            "C4",
            NOW,
            changed("att", bytes(vec![0xa0])),
        ),
        (
            "an alias that is none",
            "C4",
            NOW,
            changed("alias", bytes(vec![0xa0])),
        ),
        (
            "a principal that is none",
            "C4",
            NOW,
            changed("p", text("stacks:ST1")),
        ),
        (
            "an unreadable attestation and an unreadable principal",
            "C4",
            NOW,
            card(
                &me,
                &[("att", Some(bytes(vec![0xa0]))), ("p", Some(text("stacks:ST1")))],
            ),
        ),
        ("16 addresses", "C5", NOW, changed("loc", many(16))),
        ("17 addresses", "C5", NOW, changed("loc", many(17))),
        (
            "addresses of unknown kinds",
            "C5",
            NOW,
            changed("loc", texts(["/onion3/x:1", "nonsense", "/ip4/192.0.2.9/tcp/1"])),
        ),
        ("16 capabilities", "C5", NOW, changed("caps", words(16))),
        ("17 capabilities", "C5", NOW, changed("caps", words(17))),
        (
            "a capability of 33 bytes",
            "C5",
            NOW,
            changed("caps", texts(["x".repeat(33).as_str()])),
        ),
        (
            "a capability with a space",
            "C5",
            NOW,
            changed("caps", texts(["px 1"])),
        ),
        ("an empty capability", "C5", NOW, changed("caps", texts([""]))),
        (
            "an attestation that ends today",
            "C6",
            NOW,
            changed("att", bytes(attestation(&me, NOW - DAY as i64))),
        ),
        (
            "an attestation that is over",
            "C6",
            NOW,
            changed("att", bytes(attestation(&me, NOW - 3 * DAY as i64))),
        ),
        (
            "an attestation from the future",
            "C6",
            NOW,
            changed("att", bytes(attestation(&me, NOW + 301))),
        ),
        (
            "a forged attestation",
            "C6",
            NOW,
            changed("att", bytes(flip(&attestation(&me, NOW), 160))),
        ),
        ("of the other network", "C6", NOW, card(&elsewhere, &[])),
        ("signed by the attested key", "C7", NOW, good.clone()),
        (
            "signed by another key of the same wallet",
            "C7",
            NOW,
            outer(&plain, &sign(&other_key, &plain), None),
        ),
        (
            "a signature changed",
            "C7",
            NOW,
            outer(&plain, &flip(&sign(&me, &plain), 0), None),
        ),
        (
            "a signature too short",
            "C7",
            NOW,
            outer(&plain, &sign(&me, &plain)[..63], None),
        ),
        (
            "signed without the domain",
            "C7",
            NOW,
            outer(&plain, &me.node_key().sign(&plain), None),
        ),
        ("its last second", "C8", end + 299, good.clone()),
        ("a second later", "C8", end + 300, good.clone()),
        (
            "its first second",
            "C8",
            NOW - 300,
            card(&me, &[("att", Some(bytes(attestation(&me, NOW - 9000))))]),
        ),
        (
            "a second earlier",
            "C8",
            NOW - 301,
            card(&me, &[("att", Some(bytes(attestation(&me, NOW - 9000))))]),
        ),
        (
            "from the far future",
            "C8",
            NOW,
            changed("ts", Cbor::from(i64::MAX)),
        ),
        (
            "an alias that is over",
            "C9",
            NOW,
            changed("alias", bytes(alias(&me, NOW - 9000, 60))),
        ),
        (
            "an alias that is forged",
            "C9",
            NOW,
            changed("alias", bytes(forged_alias)),
        ),
    ]
}

/// What a reader says about a card.
fn verdict(bytes: &[u8], now: i64) -> Value {
    let now = UnixSeconds(now);
    let card = ContactCard::from_bytes(bytes).and_then(|card| card.verify(Network::Testnet, now));
    match card {
        Ok(card) => json!({ "says": {
            "principal": card.principal().to_string(),
            "issued_at": card.issued_at().0,
            "expires_at": card.expires_at().0,
            "locators": card.locators().iter().map(ToString::to_string).collect::<Vec<String>>(),
            "capabilities": card.capabilities(),
            "alias": card.alias(now).map(|alias| alias.alias().to_owned()),
        } }),
        Err(error) => json!({ "error": name(error) }),
    }
}

fn name(error: CardError) -> String {
    let text = format!("{error:?}");
    text.split([' ', '(']).next().unwrap().to_owned()
}

#[test]
fn contact_cards_are_read_as_the_vectors_say() {
    let case = |(name, must, now, card): &Case| {
        let mut case = json!({ "name": name, "must": must, "now": now, "network": "testnet", "card": hex::encode(card) });
        for (key, value) in verdict(card, *now).as_object().unwrap() {
            case[key] = value.clone();
        }
        case
    };
    // A card far beyond what is read would fill the file and show no more.
    let kept_short = |case: &Case| case.3.len() < 40_000;
    let made: Vec<Case> = made();
    for case in made.iter().filter(|case| !kept_short(case)) {
        assert!(verdict(&case.3, case.2)["error"].is_string(), "{}", case.0);
    }
    let made = json!({
        "about": "Contact cards of spec/contact-card.md as a reader at `now` (Unix seconds) on `network` sees them: what they \
                  say, or why they are refused. Made with the first of the mnemonics and a node seed of 32 \
                  bytes 01; somebody else is the second, with 05.",
        "mnemonics": [ALICE, BOB],
        "cases": made.iter().filter(|case| kept_short(case)).map(case).collect::<Vec<Value>>(),
    });
    if std::env::var_os("CLAWCHAT_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let kept: Value = serde_json::from_slice(&std::fs::read(FILE).unwrap()).unwrap();
    assert_eq!(kept, made);
    let shown: Vec<(String, bool)> = kept["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| {
            (
                case["must"].as_str().unwrap().to_owned(),
                case["error"].is_string(),
            )
        })
        .collect();
    assert_eq!(
        marks::gaps(include_str!("../../../spec/contact-card.md"), &shown),
        [""; 0]
    );
}
