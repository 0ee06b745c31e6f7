//! Cards and invites: what survives, what is refused.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::alias_card::ALIAS_CARD_TTL;
use crate::attestation::{AttestationError, OutOfTime};
use crate::identity::Identity;

const NOW: UnixSeconds = UnixSeconds(1_767_225_600);
const DAY: Duration = Duration::from_secs(86_400);

static ALICE: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(Network::Testnet, None, [1; 32], [2; 32]).unwrap());
static BOB: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(Network::Testnet, None, [3; 32], [4; 32]).unwrap());

fn alias(identity: &Identity, ttl: Duration) -> AliasCard {
    let made = AliasCard::create(
        identity.wallet(),
        Network::Testnet,
        "alice",
        None,
        NOW,
        ttl,
        [5; 32],
    );
    AliasCard::from_bytes(&made.unwrap().to_bytes()).unwrap()
}

fn details() -> CardDetails {
    CardDetails {
        locators: vec![
            "/ip4/192.0.2.1/tcp/9000/p2p/12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo"
                .parse()
                .unwrap(),
            "/dns/example.org/udp/9000/quic-v1".parse().unwrap(),
        ],
        capabilities: vec!["chat/1".to_owned(), "px-1".to_owned()],
        alias: Some(alias(&ALICE, ALIAS_CARD_TTL)),
    }
}

fn card_with(details: CardDetails, ttl: Duration) -> Result<ContactCard<Verified>, CardError> {
    ContactCard::create(
        ALICE.node_key(),
        ALICE.attest(NOW, 2 * DAY, [6; 32]),
        details,
        NOW,
        ttl,
    )
}

fn card() -> ContactCard<Verified> {
    card_with(details(), DAY).unwrap()
}

/// The card with another body, signed by Alice's node key all the same.
fn signed_by_alice(body: Vec<u8>) -> Vec<u8> {
    let signature = ALICE.node_key().sign(&signed(&body));
    cbor::to_canonical(&Outer {
        b: &body,
        s: &signature,
    })
}

#[test]
fn a_card_survives_bytes_and_invite_and_holds() {
    let made = card();
    let read = ContactCard::from_bytes(&made.to_bytes()).unwrap();
    assert_eq!(read.clone().verify(Network::Testnet, NOW).unwrap(), made);
    let invite = made.to_invite();
    assert!(invite.starts_with(INVITE_PREFIX) && invite.is_ascii());
    assert_eq!(ContactCard::from_invite(&format!(" {invite}\n")).unwrap(), read);
    assert_eq!(made.alias(NOW).unwrap().alias(), "alice");
    assert_eq!(made.locators(), details().locators);
    assert_eq!(made.capabilities(), details().capabilities);
}

#[test]
fn a_card_ends_with_its_attestation() {
    let made = card_with(details(), 100 * DAY).unwrap();
    assert_eq!(made.expires_at(), made.attestation().expires_at());
    assert!(made.is_current(NOW) && !made.is_current(UnixSeconds(NOW.0 + 2 * 86_400 + 300)));
}

#[test]
fn an_expired_alias_is_not_shown_but_does_not_spoil_the_card() {
    let mut details = details();
    details.alias = Some(alias(&ALICE, Duration::from_secs(60)));
    let later = UnixSeconds(NOW.0 + 360);
    let read = ContactCard::from_bytes(&card_with(details, DAY).unwrap().to_bytes()).unwrap();
    let verified = read.verify(Network::Testnet, later).unwrap();
    assert_eq!(verified.alias(later), None);
    assert!(verified.alias(NOW).is_some());
}

#[test]
fn expired_early_and_foreign_cards_are_refused() {
    let read = || ContactCard::from_bytes(&card().to_bytes()).unwrap();
    let after = |seconds| UnixSeconds(NOW.0 + seconds);
    assert!(read().verify(Network::Testnet, after(86_699)).is_ok());
    assert_eq!(
        read().verify(Network::Testnet, after(86_700)),
        Err(CardError::Time(OutOfTime::Expired { secs_ago: 300 }))
    );
    assert_eq!(
        read().verify(Network::Testnet, after(-301)),
        Err(CardError::Attestation(AttestationError::Time(
            OutOfTime::NotYetValid { secs_ahead: 301 }
        )))
    );
    assert_eq!(
        read().verify(Network::Mainnet, NOW),
        Err(CardError::Attestation(AttestationError::WrongNetwork {
            expected: Network::Mainnet
        }))
    );
}

#[test]
fn parts_of_different_people_make_no_card() {
    let bob = &*BOB;
    let attestation = || ALICE.attest(NOW, DAY, [6; 32]);
    let with_bobs_key = ContactCard::create(bob.node_key(), attestation(), details(), NOW, DAY);
    assert_eq!(with_bobs_key, Err(CardError::Mismatch));

    let mut stolen = details();
    stolen.alias = Some(alias(bob, DAY));
    assert_eq!(card_with(stolen, DAY), Err(CardError::Mismatch));

    // Somebody else signs for Alice with their own node key.
    let body = card().body;
    let forged = cbor::to_canonical(&Outer {
        b: &body,
        s: &bob.node_key().sign(&signed(&body)),
    });
    let read = ContactCard::from_bytes(&forged).unwrap();
    assert_eq!(read.verify(Network::Testnet, NOW), Err(CardError::Signature));
}

#[test]
fn unknown_fields_and_addresses_are_skipped_and_stay_signed() {
    let body: cbor2::Value = cbor2::from_slice(&card().body).unwrap();
    let mut fields = body.into_map().unwrap();
    for (key, value) in &mut fields {
        if key.as_text() == Some("loc") {
            *value = cbor2::cbor!(["/carrier-pigeon/7", "/ip4/192.0.2.1/tcp/9000"]).unwrap();
        }
    }
    fields.push(("zz".into(), 1.into()));
    let bytes = signed_by_alice(cbor::to_canonical(&cbor2::Value::Map(fields)));
    let verified = ContactCard::from_bytes(&bytes)
        .unwrap()
        .verify(Network::Testnet, NOW)
        .unwrap();
    assert_eq!(verified.locators().len(), 1);
    assert_eq!(verified.to_bytes(), bytes);
}

#[test]
fn cards_are_bounded() {
    let locator: Locator = "/ip4/192.0.2.1/tcp/9000".parse().unwrap();
    for bad in [
        CardDetails {
            locators: vec![locator; MAX_CARD_LOCATORS + 1],
            ..details()
        },
        CardDetails {
            capabilities: vec!["x".to_owned(); MAX_CARD_CAPABILITIES + 1],
            ..details()
        },
        CardDetails {
            capabilities: vec!["x".repeat(MAX_CAPABILITY_BYTES + 1)],
            ..details()
        },
        CardDetails {
            capabilities: vec!["a b".to_owned()],
            ..details()
        },
    ] {
        assert_eq!(card_with(bad, DAY), Err(CardError::Entries));
    }
    let huge = format!("{INVITE_PREFIX}{}", "A".repeat(MAX_CONTACT_CARD_BYTES * 2));
    assert_eq!(ContactCard::from_invite(&huge), Err(CardError::Invite));
    for bad in ["", "clawchat", "CLAWCHAT:AA", "clawchat:=", "clawchat:A"] {
        assert_eq!(ContactCard::from_invite(bad), Err(CardError::Invite), "{bad:?}");
    }
}

/// Its owner may sign anything; what is read is bounded all the same.
#[test]
fn a_card_with_too_many_addresses_is_none_however_well_it_is_signed() {
    let body: cbor2::Value = cbor2::from_slice(&card().body).unwrap();
    let with = |count: usize| {
        let mut fields = body.clone().into_map().unwrap();
        for (key, value) in &mut fields {
            if key.as_text() == Some("loc") {
                let address: cbor2::Value = "/ip4/192.0.2.1/tcp/9000".into();
                *value = cbor2::Value::Array(vec![address; count]);
            }
        }
        ContactCard::from_bytes(&signed_by_alice(cbor::to_canonical(&cbor2::Value::Map(fields))))
    };
    assert!(with(MAX_CARD_LOCATORS).is_ok());
    assert_eq!(with(MAX_CARD_LOCATORS + 1), Err(CardError::Entries));
    assert!(
        matches!(with(10_000), Err(CardError::Encoding(_))),
        "longer than any card"
    );
}

#[test]
fn the_card_issued_later_counts() {
    let at = |seconds| {
        let attestation = ALICE.attest(NOW, DAY, [6; 32]);
        ContactCard::create(
            ALICE.node_key(),
            attestation,
            details(),
            UnixSeconds(NOW.0 + seconds),
            DAY,
        )
        .unwrap()
    };
    assert!(at(1).supersedes(&at(0)) && !at(0).supersedes(&at(0)) && !at(0).supersedes(&at(1)));
}

proptest! {
    #[test]
    fn damaged_cards_never_panic_and_never_hold(at in any::<prop::sample::Index>(), flip in 1..=u8::MAX) {
        let mut bytes = card().to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(read) = ContactCard::from_bytes(&bytes) {
            prop_assert!(read.verify(Network::Testnet, NOW).is_err());
        }
    }

    #[test]
    fn arbitrary_input_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), text in ".{0,80}") {
        prop_assert!(ContactCard::from_bytes(&bytes).is_err());
        prop_assert!(ContactCard::from_invite(&text).is_err());
        let invite = format!("{INVITE_PREFIX}{}", BASE64URL_NOPAD.encode(&bytes));
        prop_assert!(ContactCard::from_invite(&invite).is_err());
    }

    #[test]
    fn arbitrary_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(ContactCard::from_bytes(&signed_by_alice(body)).is_err());
    }
}
