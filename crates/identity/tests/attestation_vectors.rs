//! Attestations have the bytes of the existing implementation, and the same verdicts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use clawchat_identity::{
    ATTESTATION_DOMAIN, Attestation, AttestationError, AttestationParts, CLOCK_SKEW_SECS, Mnemonic, NodeKey,
    Unverified, Verified, Wallet,
};
use clawchat_types::{Network, PrincipalError, UnixSeconds};
use common::{flag, integer, json, list, text, unhex, unhex_array};
use serde_json::Value;

fn network(case: &Value) -> Network {
    if flag(case, "testnet") {
        Network::Testnet
    } else {
        Network::Mainnet
    }
}

/// `None`: a field that has no form with us at all, such as a time with a fraction.
fn parts(fields: &Value) -> Option<AttestationParts> {
    Some(AttestationParts {
        version: fields["version"].as_u64()?,
        principal: text(fields, "principal").to_owned(),
        node_public_key: unhex(fields, "node_public_key_hex"),
        issued_at: fields["issued_at"].as_i64()?,
        expires_at: fields["expires_at"].as_i64()?,
        nonce: unhex(fields, "nonce_hex"),
        domain: text(fields, "domain").to_owned(),
        signature: unhex(fields, "signature_hex"),
    })
}

fn verdict(fields: &Value, check: &Value) -> Result<Attestation<Verified>, AttestationError> {
    Attestation::from_parts(&parts(fields).unwrap())?
        .verify(network(check), UnixSeconds(integer(check, "now")))
}

#[test]
fn the_constants_are_the_shared_ones() {
    let file = json("attestation.json");
    assert_eq!(text(&file, "domain"), ATTESTATION_DOMAIN);
    assert_eq!(integer(&file, "skew_seconds"), CLOCK_SKEW_SECS);
}

#[test]
fn what_is_signed_and_serialized_is_equal_byte_for_byte() {
    let mut created = 0;
    for case in list(&json("attestation.json"), "cases") {
        let name = text(case, "name");
        let attestation = Attestation::from_parts(&parts(&case["attestation"]).unwrap()).unwrap();
        assert_eq!(
            hex::encode(attestation.signing_payload()),
            text(case, "payload_cbor_hex"),
            "{name}"
        );
        assert_eq!(
            hex::encode(attestation.to_bytes()),
            text(case, "serialized_hex"),
            "{name}"
        );
        let read = Attestation::<Unverified>::from_bytes(&unhex(case, "serialized_hex")).unwrap();
        assert_eq!(read, attestation, "{name}");

        // Ours always have nonces of 32 bytes.
        let Ok(nonce) = <[u8; 32]>::try_from(attestation.nonce()) else {
            continue;
        };
        let wallet = Wallet::from_mnemonic(&text(case, "mnemonic").parse::<Mnemonic>().unwrap()).unwrap();
        let node_key = NodeKey::from_seed(unhex_array(case, "node_private_key_hex"));
        let made = Attestation::create(
            &wallet,
            network(case),
            &node_key.node_id(),
            UnixSeconds(integer(case, "now")),
            Duration::from_secs(case["validity_seconds"].as_u64().unwrap()),
            nonce,
        );
        assert_eq!(
            hex::encode(made.to_bytes()),
            text(case, "serialized_hex"),
            "{name}"
        );
        created += 1;
    }
    assert!(created > 0);
}

#[test]
fn the_edges_of_time_and_network_are_the_same() {
    let (mut valid, mut refused) = (0, 0);
    for case in list(&json("attestation.json"), "cases") {
        for check in list(case, "verify") {
            let verdict = verdict(&case["attestation"], check);
            let what = format!("{} {}: {verdict:?}", text(case, "name"), text(check, "name"));
            assert_eq!(verdict.is_ok(), flag(check, "valid"), "{what}");
            match verdict {
                Ok(attestation) => {
                    valid += 1;
                    assert!(
                        attestation.is_current(UnixSeconds(integer(check, "now"))),
                        "{what}"
                    );
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(valid > 0 && refused > 0, "{valid} valid, {refused} refused");
}

#[test]
fn variants_get_the_same_verdict() {
    let (mut valid, mut refused) = (0, 0);
    for variant in list(&json("attestation.json"), "variants") {
        let (name, fields) = (text(variant, "name"), &variant["attestation"]);
        match variant["valid"].as_bool() {
            // A deliberate difference: the existing verifier takes a principal without "stacks:"; with us every
            // principal has exactly one spelling.
            Some(true) if !text(fields, "principal").starts_with("stacks:") => {
                let refusal = verdict(fields, variant).unwrap_err();
                assert_eq!(
                    refusal,
                    AttestationError::Principal(PrincipalError::Prefix),
                    "{name}"
                );
                refused += 1;
            }
            Some(true) => {
                verdict(fields, variant).unwrap_or_else(|error| panic!("{name}: {error}"));
                valid += 1;
            }
            Some(false) => {
                verdict(fields, variant).expect_err(name);
                refused += 1;
            }
            // The existing verifier throws: such a field cannot even be expressed here.
            None => {
                assert!(text(variant, "valid").starts_with("throws"), "{name}");
                assert_eq!(parts(fields), None, "{name}");
                refused += 1;
            }
        }
    }
    assert!(valid > 0 && refused > 0, "{valid} valid, {refused} refused");
}
