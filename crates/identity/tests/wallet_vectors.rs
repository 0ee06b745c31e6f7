//! Mnemonics, wallets and addresses agree with the existing implementation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use clawchat_identity::{Mnemonic, Wallet};
use clawchat_types::{Network, Principal};
use common::{flag, integer, json, list, text, unhex_array};

#[test]
fn every_phrase_gives_the_same_wallet() {
    for case in list(&json("wallet.json"), "cases") {
        let name = text(case, "name");
        let mnemonic: Mnemonic = text(case, "mnemonic").parse().unwrap();
        assert_eq!(mnemonic.expose_words(), text(case, "mnemonic"), "{name}");
        let entropy = unhex_array(case, "entropy_hex");
        assert_eq!(
            Mnemonic::from_entropy(entropy).expose_words(),
            text(case, "mnemonic"),
            "{name}"
        );
        let wallet = Wallet::from_mnemonic(&mnemonic).unwrap();
        assert_eq!(
            hex::encode(wallet.public_key()),
            text(case, "public_key_hex"),
            "{name}"
        );
        let principal = |network| wallet.principal(network).to_string();
        assert_eq!(
            principal(Network::Mainnet),
            text(case, "mainnet_principal"),
            "{name}"
        );
        assert_eq!(
            principal(Network::Testnet),
            text(case, "testnet_principal"),
            "{name}"
        );
    }
}

#[test]
fn phrases_the_existing_implementation_cannot_use_are_refused() {
    for case in list(&json("wallet.json"), "invalid") {
        assert_eq!(text(&case["wallet_from_seed_phrase"], "result"), "error");
        let refused = text(case, "mnemonic").parse::<Mnemonic>().unwrap_err();
        let words: Vec<_> = text(case, "mnemonic").split_whitespace().collect();
        let said: Vec<_> = format!("{refused:?} {refused}")
            .split(' ')
            .map(str::to_owned)
            .collect();
        assert!(
            !words
                .iter()
                .any(|word| word.len() > 4 && said.iter().any(|s| s == word)),
            "{said:?} tells a word"
        );
    }
}

#[test]
fn nothing_secret_is_shown() {
    let file = json("wallet.json");
    let case = &list(&file, "cases")[0];
    let mnemonic: Mnemonic = text(case, "mnemonic").parse().unwrap();
    let wallet = Wallet::from_mnemonic(&mnemonic).unwrap();
    assert_eq!(format!("{mnemonic:?} {wallet:?}"), "Mnemonic(…) Wallet(…)");
}

#[test]
fn addresses_are_written_and_read_the_same_way() {
    let file = json("c32.json");
    let mut ours = 0;
    for case in list(&file, "cases") {
        let parsed = text(case, "principal").parse::<Principal>();
        let network = match integer(case, "version") {
            22 => Network::Mainnet,
            26 => Network::Testnet,
            _ => {
                // Multi-signature and unassigned versions cannot sign attestations.
                parsed.unwrap_err();
                continue;
            }
        };
        let principal = Principal::from_hash160(network, unhex_array(case, "hash160_hex"));
        assert_eq!(principal.address(), text(case, "address"));
        assert_eq!(principal.to_string(), text(case, "principal"));
        assert_eq!(parsed.unwrap(), principal);
        ours += 1;
    }
    assert!(ours > 0, "no single-signature address among the cases");
}

/// The library behind the existing implementation forgives lower case, look-alike letters, other hash lengths
/// and other versions; the implementation itself compares texts exactly, and so do we.
#[test]
fn only_the_canonical_spelling_of_an_address_is_read() {
    let file = json("c32.json");
    let (mut read, mut refused) = (0, 0);
    for case in list(&file, "decode") {
        let address = text(case, "address");
        let decoded = &case["c32check_decode"]["ok"];
        let single = matches!(decoded["version"].as_i64(), Some(22 | 26));
        let canonical = single && decoded["reencoded"]["ok"].as_str() == Some(address);
        let parsed = format!("stacks:{address}").parse::<Principal>();
        assert_eq!(parsed.is_ok(), canonical, "{}", text(case, "name"));
        if canonical {
            assert!(flag(case, "stacks_validateStacksAddress"));
            read += 1;
        } else {
            refused += 1;
        }
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
}
