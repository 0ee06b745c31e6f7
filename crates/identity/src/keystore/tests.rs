//! Everything about the file that does not need the slow key derivation.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const KEY: [u8; 32] = [9; 32];

static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| sealed_with_key(json(&alice()).as_bytes()));

fn alice() -> Identity {
    Identity::generate(Network::Testnet, Some("alice".parse().unwrap()), [1; 32], [2; 32]).unwrap()
}

fn json(identity: &Identity) -> String {
    String::from_utf8(plaintext(identity).unwrap().to_vec()).unwrap()
}

fn sealed_with_key(plaintext: &[u8]) -> Vec<u8> {
    let mut body = plaintext.to_vec();
    cipher(&KEY)
        .encrypt_in_place(&Nonce::from([3; 12]), b"", &mut body)
        .unwrap();
    [[VERSION].as_slice(), &[4; 16], &[3; 12], &body].concat()
}

fn open_with_key(bytes: &[u8]) -> Result<Identity, KeystoreError> {
    Sealed::read(bytes)?.open(&KEY)
}

#[test]
fn every_contradiction_is_named() {
    let (good, bob) = (
        json(&alice()),
        json(&Identity::generate(Network::Testnet, None, [7; 32], [8; 32]).unwrap()),
    );
    let value =
        |json: &str, key: &str| serde_json::from_str::<serde_json::Value>(json).unwrap()[key].to_string();
    for field in [
        "principal",
        "address",
        "publicKey",
        "walletPublicKeyHex",
        "walletPrivateKeyHex",
    ] {
        let mixed = good.replace(
            &format!("\"{field}\":{}", value(&good, field)),
            &format!("\"{field}\":{}", value(&bob, field)),
        );
        assert_ne!(mixed, good);
        assert_eq!(
            open_with_key(&sealed_with_key(mixed.as_bytes())).unwrap_err(),
            KeystoreError::Inconsistent { field }
        );
        let missing = good.replace(&format!("\"{field}\":"), "\"other\":");
        assert_eq!(
            open_with_key(&sealed_with_key(missing.as_bytes())).unwrap_err(),
            KeystoreError::Inconsistent { field }
        );
    }
    for (from, to, field) in [
        ("\"mnemonic\":\"", "\"mnemonic\":\" ", "mnemonic"),
        ("\"privateKey\":\"02", "\"privateKey\":\"", "privateKey"),
        ("\"testnet\":true", "\"testnet\":\"true\"", "testnet"),
        ("\"testnet\":true", "\"testnet\":false", "principal"),
        ("01\",\"testnet\"", "02\",\"testnet\"", "walletPrivateKeyHex"),
    ] {
        let changed = good.replace(from, to);
        assert_ne!(changed, good, "{from}");
        assert_eq!(
            open_with_key(&sealed_with_key(changed.as_bytes())).unwrap_err(),
            KeystoreError::Inconsistent { field }
        );
    }
}

#[test]
fn unknown_keys_and_names_we_would_not_show_survive_a_rewrite() {
    let tail = r#""nick":"a\nb","futureField":{"b":[1, 2],"a":1.50}}"#;
    let written = json(&alice()).replace(r#""nick":"alice"}"#, tail);
    let mut identity = open_with_key(&sealed_with_key(written.as_bytes())).unwrap();
    assert_eq!(identity.nick(), None);
    assert_eq!(json(&identity), written);

    identity.set_nick(Some("alice2".parse().unwrap()));
    let renamed = written.replace(r#""a\nb""#, r#""alice2""#);
    assert_eq!(json(&identity), renamed);
}

#[test]
fn of_equal_keys_the_last_one_counts() {
    let doubled = json(&alice()).replace("\"testnet\":true", "\"testnet\":false,\"testnet\":true");
    open_with_key(&sealed_with_key(doubled.as_bytes())).unwrap();
}

#[test]
fn too_large_and_other_versions_are_told_before_any_work() {
    for (bytes, error) in [
        (vec![2; MAX_KEYSTORE_BYTES + 1], KeystoreError::TooLarge),
        (vec![], KeystoreError::UnsupportedVersion { found: None }),
        (vec![3; 700], KeystoreError::UnsupportedVersion { found: Some(3) }),
        (
            vec![2; HEADER_BYTES + TAG_BYTES - 1],
            KeystoreError::WrongPassword,
        ),
    ] {
        assert_eq!(open(&bytes, "any password").unwrap_err(), error);
    }
}

#[test]
fn errors_hold_no_secret() {
    let good = json(&alice());
    let changed = good.replace("\"mnemonic\":\"", "\"mnemonic\":\"x");
    let error = open_with_key(&sealed_with_key(changed.as_bytes())).unwrap_err();
    let said = format!("{error} {error:?}");
    for word in alice().mnemonic().expose_words().split(' ') {
        assert!(!said.split(' ').any(|s| s == word), "{said}");
    }
}

proptest! {
    #[test]
    fn arbitrary_files_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        version_2 in any::<bool>(),
    ) {
        if version_2 && let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        prop_assert!(open_with_key(&bytes).is_err());
    }

    #[test]
    fn arbitrary_contents_never_panic(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open_with_key(&sealed_with_key(text.as_bytes())).is_err());
        prop_assert!(open_with_key(&sealed_with_key(&bytes)).is_err());
    }

    #[test]
    fn damage_anywhere_behind_the_version_is_one_error(at in 17_usize..600, flip in 1..=u8::MAX) {
        let mut bytes = FILE.clone();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= flip;
        prop_assert_eq!(open_with_key(&bytes).unwrap_err(), KeystoreError::WrongPassword);
    }
}
