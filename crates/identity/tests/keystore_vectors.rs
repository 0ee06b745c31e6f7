//! Keystore files of the existing implementation open here, and ours are the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use clawchat_identity::keystore::{self, KeystoreError};
use clawchat_types::Network;
use common::{bytes, flag, json, list, text, unhex_array};

#[test]
fn files_open_and_are_sealed_to_the_same_bytes() {
    for case in list(&json("keystore/keystore.json"), "cases") {
        let (name, password) = (text(case, "name"), text(case, "password"));
        let file = bytes(text(case, "file"));
        let identity = keystore::open(&file, password).unwrap_or_else(|error| panic!("{name}: {error}"));

        let expected = &case["expected"];
        assert_eq!(
            identity.principal().to_string(),
            text(expected, "principal"),
            "{name}"
        );
        assert_eq!(
            identity.principal().address(),
            text(expected, "address"),
            "{name}"
        );
        assert_eq!(
            identity.network() == Network::Testnet,
            flag(expected, "testnet"),
            "{name}"
        );
        assert_eq!(
            identity.mnemonic().expose_words(),
            text(expected, "mnemonic"),
            "{name}"
        );
        assert_eq!(
            identity.node_key().node_id().to_string(),
            text(expected, "public_key_hex"),
            "{name}"
        );
        assert_eq!(
            hex::encode(*identity.node_key().seed()),
            text(expected, "private_key_hex"),
            "{name}"
        );
        let wallet_key = hex::encode(identity.wallet().public_key());
        assert_eq!(wallet_key, text(expected, "wallet_public_key_hex"), "{name}");
        assert_eq!(
            identity.nick().map(|nick| nick.as_str()),
            expected["nick"].as_str(),
            "{name}"
        );

        let salt = unhex_array(case, "salt_hex");
        let sealed = keystore::seal(&identity, password, salt, unhex_array(case, "iv_hex")).unwrap();
        assert_eq!(hex::encode(sealed), hex::encode(file), "{name}");
    }
}

#[test]
fn damage_and_wrong_passwords_give_one_error_and_other_versions_another() {
    for case in list(&json("keystore/keystore.json"), "corrupt") {
        let file = bytes(text(case, "file"));
        let error = keystore::open(&file, text(case, "password")).unwrap_err();
        let expected = if text(&case["reference"], "error").contains("Unsupported identity file version") {
            KeystoreError::UnsupportedVersion {
                found: file.first().copied(),
            }
        } else {
            KeystoreError::WrongPassword
        };
        assert_eq!(error, expected, "{}", text(case, "name"));
    }
}

#[test]
fn passwords_are_counted_as_the_existing_implementation_counts() {
    for rule in list(&json("keystore/keystore.json"), "password_rules") {
        let good = !rule["reference"]["ok"].is_null();
        assert_eq!(
            keystore::check_password(text(rule, "password")).is_ok(),
            good,
            "{rule}"
        );
    }
}
