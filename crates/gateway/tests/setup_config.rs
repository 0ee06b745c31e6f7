//! The configuration file: the verdicts of the TypeScript version, and what survives a rewrite.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clawchat_gateway::config::{
    ConfigError, EditError, GatewayConfig, MAX_CONFIG_BYTES, NewIdentity, PeerPattern, Visibility,
};
use clawchat_gateway::home::{Home, HomeError, Purpose};
use clawchat_types::{Nick, Principal};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

const ALICE: &str = "stacks:ST1JAHE8GEHB0MCBGR8J6W0AA7TJEE1XKFSD2Q80H";
const CAROL: &str = "stacks:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF";
const MAINNET: &str = "stacks:SP3JJPDR32NBV4W4810F9S8AW2ESRMJHG9K46QK5P";

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
    unparsable: Vec<Unparsable>,
    missing_file_error: String,
    written: Vec<Written>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Value,
    valid: bool,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Unparsable {
    name: String,
    text: String,
}

#[derive(Deserialize)]
struct Written {
    name: String,
    mode: String,
    text: String,
}

#[test]
fn verdicts_and_error_texts_are_those_of_the_typescript_version() {
    for case in vectors().cases {
        let text = serde_json::to_string_pretty(&case.config).unwrap();
        let verdict = GatewayConfig::parse(text.as_bytes());
        assert_eq!(verdict.is_ok(), case.valid, "{}: {verdict:?}", case.name);
        if let (Err(invalid), Some(expected)) = (&verdict, &case.error) {
            assert_eq!(&invalid.message, expected, "{}", case.name);
            assert!(invalid.to_string().contains("line "), "{}: {invalid}", case.name);
        }
    }
}

#[test]
fn texts_that_are_no_json_name_the_line() {
    for case in vectors().unparsable {
        let invalid = GatewayConfig::parse(case.text.as_bytes()).unwrap_err();
        let text = invalid.to_string();
        assert!(
            text.starts_with("Failed to parse gateway config: "),
            "{}: {text}",
            case.name
        );
        assert!(text.contains("line 1"), "{}: {text}", case.name);
    }
}

#[test]
fn what_is_written_is_byte_for_byte_what_the_typescript_version_writes() {
    for case in vectors().written {
        let config = GatewayConfig::parse(case.text.as_bytes()).unwrap();
        assert_eq!(config.to_text(), case.text, "{}", case.name);

        let first: Principal = config.identities()[0].principal.get().unwrap();
        let entry = NewIdentity::new(first, config.identities()[0].nick.clone());
        let made = GatewayConfig::initial(9000, &entry).unwrap();
        assert_eq!(made.to_text(), case.text, "{}", case.name);

        let (_dir, home) = home();
        made.save(&home.lock(Purpose::Request).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(home.config_path()).unwrap(), case.text);
        let mode = fs::metadata(home.config_path()).unwrap().permissions().mode();
        assert_eq!(format!("{:o}", mode & 0o777), case.mode, "{}", case.name);
    }
}

#[test]
fn a_missing_file_says_what_to_run() {
    let (_dir, home) = home();
    let error = GatewayConfig::load(&home).unwrap_err();
    assert!(matches!(error, ConfigError::NotFound { .. }));
    let expected = vectors()
        .missing_file_error
        .replace("<DATA_DIR>", &home.root().to_string_lossy());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_error_names_file_key_and_line() {
    let (_dir, home) = home();
    home.prepare().unwrap();
    let text = minimal()
        .to_text()
        .replace("\"autoload\": true", "\"autoload\": 1");
    fs::write(home.config_path(), text).unwrap();
    let error = GatewayConfig::load(&home).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: Identity at index 0: autoload must be a boolean (identities[0].autoload, line 8)",
            home.config_path().display()
        )
    );
    assert!(error.hint().contains("line 8"));
}

#[test]
fn a_file_beyond_the_limit_is_refused_by_name() {
    let (_dir, home) = home();
    home.prepare().unwrap();
    let file = fs::File::create(home.config_path()).unwrap();
    file.set_len(MAX_CONFIG_BYTES + 1).unwrap();
    let error = GatewayConfig::load(&home).unwrap_err();
    assert!(matches!(error, ConfigError::File(HomeError::TooLarge { .. })));
    assert!(error.to_string().contains("gateway-config.json"));
}

#[test]
fn unknown_keys_and_their_order_survive_every_edit() {
    let text = json!({
        "zeta": {"nested": [1, {"z": 0, "a": 1}]},
        "version": 1,
        "metrics": {"port": 9100},
        "p2pPort": 9000.0,
        "identities": [
            {"y": null, "openclawWake": true, "principal": ALICE, "rateLimit": {"b": 1, "a": 2},
             "autoload": true, "allowLocal": true, "allowedRemotePeers": ["*"], "quota": "1 GB"},
        ],
        "alpha": "ä\u{1F980}\n",
    });
    let text = serde_json::to_string_pretty(&text).unwrap();
    let mut config = GatewayConfig::parse(text.as_bytes()).unwrap();
    assert_eq!(config.to_text(), text);

    config.set_nick(ALICE, Some(&nick("al"))).unwrap();
    config.deny("al", &PeerPattern::new(CAROL)).unwrap();
    config
        .add_identity(&NewIdentity::new(CAROL.parse().unwrap(), None))
        .unwrap();
    config.allow("al", &PeerPattern::new(CAROL)).unwrap();
    config.set_nick("al", None).unwrap();
    config.remove_identity(CAROL).unwrap();
    let expected = text.replace(
        "\"quota\": \"1 GB\"",
        "\"quota\": \"1 GB\",\n      \"deniedPeers\": []",
    );
    assert_eq!(config.to_text(), expected);
}

#[test]
fn a_nickname_stands_behind_the_principal() {
    let mut config = minimal();
    config.set_nick(ALICE, None).unwrap();
    config.set_nick(ALICE, Some(&nick("other"))).unwrap();
    let expected = minimal().to_text().replace("alice", "other");
    assert_eq!(config.to_text(), expected);
}

#[test]
fn what_cannot_be_used_is_kept_and_reported() {
    let long = "n".repeat(65);
    let text = json!({
        "version": 1,
        "p2pPort": 9000.5,
        "identities": [
            entry("stacks:nonsense", "a"),
            entry(CAROL, &long),
            entry(MAINNET, "main"),
        ],
    });
    let config = GatewayConfig::parse(text.to_string().as_bytes()).unwrap();
    assert_eq!(config.p2p_port(), 9000);
    assert!(config.identities()[0].principal.get().is_err());
    assert_eq!(config.identities()[1].nick, None);
    assert_eq!(config.network(), Some(clawchat_types::Network::Testnet));
    let warnings = config.warnings().join("\n");
    for part in ["9000.5", "index 0", "index 1: nick", "index 2", "mainnet"] {
        assert!(warnings.contains(part), "{part} in {warnings}");
    }
    assert!(config.to_text().contains(&long));
}

#[test]
fn our_own_keys_are_read_and_checked() {
    let with = |visibility: Value, limits: Value, denied: Value| {
        let mut first = entry(ALICE, "alice");
        first["deniedPeers"] = denied;
        let mut second = entry(CAROL, "carol");
        second["visibility"] = json!("stealth");
        let text = json!({"version": 1, "p2pPort": 1, "identities": [first, second],
                          "visibility": visibility, "limits": limits});
        GatewayConfig::parse(serde_json::to_string_pretty(&text).unwrap().as_bytes())
    };
    let config = with(
        json!("public"),
        json!({"connections": 5, "other": "x"}),
        json!([CAROL]),
    )
    .unwrap();
    assert_eq!(config.visibility(), Visibility::Public);
    assert_eq!(config.identities()[0].visibility, Visibility::Public);
    assert_eq!(config.identities()[1].visibility, Visibility::Stealth);
    assert_eq!(config.limits().connections, Some(5));
    assert!(config.identities()[0].denied_peers[0].matches(&CAROL.parse().unwrap()));
    assert_eq!(minimal().visibility(), Visibility::Private);

    for (visibility, limits, denied, key) in [
        (json!("secret"), json!({}), json!([]), "(visibility, line"),
        (json!("public"), json!([]), json!([]), "(limits, line"),
        (
            json!("public"),
            json!({"connections": 0}),
            json!([]),
            "(limits.connections, line",
        ),
        (
            json!("public"),
            json!({}),
            json!("x"),
            "(identities[0].deniedPeers, line",
        ),
        (
            json!("public"),
            json!({}),
            json!(["*"]),
            "(identities[0].deniedPeers[0], line",
        ),
    ] {
        let error = with(visibility, limits, denied).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn the_port_can_be_changed_and_nothing_else_changes_with_it() {
    let mut config = minimal();
    let before = config.to_text();
    config.set_p2p_port(9100).unwrap();
    assert_eq!(config.p2p_port(), 9100);
    assert!(matches!(config.set_p2p_port(0), Err(EditError::Invalid(_))));
    assert_eq!(config.p2p_port(), 9100);
    config.set_p2p_port(9000).unwrap();
    assert_eq!(config.to_text(), before);
}

#[test]
fn denying_everybody_keeps_those_allowed_by_name() {
    let carol = PeerPattern::new(CAROL);
    let mut config = minimal();
    config.deny("alice", &PeerPattern::Any).unwrap();
    config.allow("alice", &carol).unwrap();
    config.allow("alice", &PeerPattern::Any).unwrap();
    assert!(config.deny("alice", &PeerPattern::Any).unwrap());
    assert_eq!(config.identities()[0].allowed_remote_peers, [carol]);
    assert!(!config.deny("alice", &PeerPattern::Any).unwrap());
}

#[test]
fn allow_and_deny_edit_both_lists() {
    let carol = PeerPattern::new(CAROL);
    let mut config = minimal();
    let lists = |config: &GatewayConfig| {
        let identity = &config.identities()[0];
        let text = |list: &[PeerPattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (text(&identity.allowed_remote_peers), text(&identity.denied_peers))
    };
    assert!(config.deny("alice", &carol).unwrap());
    assert_eq!(lists(&config), ("*".to_owned(), CAROL.to_owned()));
    assert!(!config.deny("alice", &carol).unwrap());
    assert!(config.allow("alice", &carol).unwrap());
    assert_eq!(lists(&config), ("*".to_owned(), String::new()));
    config.deny("alice", &PeerPattern::Any).unwrap();
    config.allow("alice", &carol).unwrap();
    assert_eq!(lists(&config), (CAROL.to_owned(), String::new()));
    config.deny("alice", &carol).unwrap();
    assert_eq!(lists(&config), (String::new(), CAROL.to_owned()));
    config.allow("alice", &PeerPattern::Any).unwrap();
    assert_eq!(lists(&config), ("*".to_owned(), CAROL.to_owned()));
    config.allow("alice", &carol).unwrap();
    assert_eq!(lists(&config), ("*".to_owned(), String::new()));
    assert_eq!(
        config.allow("nobody", &carol),
        Err(EditError::NoSuchIdentity {
            who: "nobody".to_owned()
        })
    );
}

#[test]
fn a_denied_neighbour_is_kept_out_although_no_list_names_it() {
    let mut config = minimal();
    config
        .add_identity(&NewIdentity::new(CAROL.parse().unwrap(), None))
        .unwrap();
    config.deny("alice", &PeerPattern::Any).unwrap();
    config.deny("alice", &PeerPattern::new(CAROL)).unwrap();
    assert_eq!(config.identities()[0].denied_peers, [PeerPattern::new(CAROL)]);
}

#[test]
fn edits_that_would_break_the_gateway_are_refused() {
    let mut config = minimal();
    let add =
        |principal: &str, name: Option<&str>| NewIdentity::new(principal.parse().unwrap(), name.map(nick));
    let before = config.clone();
    assert!(matches!(
        config.add_identity(&add(ALICE, None)),
        Err(EditError::AlreadyExists { .. })
    ));
    assert!(matches!(
        config.add_identity(&add(CAROL, Some("alice"))),
        Err(EditError::NickTaken { .. })
    ));
    assert!(matches!(
        config.add_identity(&add(MAINNET, None)),
        Err(EditError::WrongNetwork { .. })
    ));
    assert_eq!(config.remove_identity("alice"), Err(EditError::LastIdentity));
    assert_eq!(config, before);

    config.add_identity(&add(CAROL, Some("carol"))).unwrap();
    assert!(matches!(
        config.set_nick("carol", Some(&nick("alice"))),
        Err(EditError::NickTaken { .. })
    ));
    assert_eq!(config.remove_identity("alice").unwrap().principal.as_str(), ALICE);
    assert_eq!(config.identities().len(), 1);
    assert!(GatewayConfig::initial(0, &add(ALICE, None)).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = GatewayConfig::parse(&bytes);
    }

    #[test]
    fn arbitrary_values_in_place_of_good_ones_never_panic(
        key in 0..17_usize,
        value in prop_oneof![
            Just(json!(null)), Just(json!([])), Just(json!({})), Just(json!([[], {}, null, 1.5])),
            any::<f64>().prop_map(|number| json!(number)), any::<i64>().prop_map(|number| json!(number)),
            ".*".prop_map(|text| json!(text)), "stacks:[0-9A-Z]{0,50}".prop_map(|text| json!([text])),
        ],
    ) {
        let mut first = entry(ALICE, "alice");
        let mut config = json!({"version": 1, "p2pPort": 9000});
        let names = ["principal", "nick", "autoload", "allowLocal", "allowedRemotePeers", "deniedPeers",
                     "openclawWake", "visibility", "wake", "version", "p2pPort", "identities", "visibility", "limits", "legacyPeers", "wake", "x"];
        if key < 9 { first[names[key]] = value.clone(); }
        config["identities"] = json!([first, entry(CAROL, "carol")]);
        if key >= 9 { config[names[key]] = value; }
        let text = config.to_string();
        if let Ok(parsed) = GatewayConfig::parse(text.as_bytes()) {
            let again = GatewayConfig::parse(parsed.to_text().as_bytes()).unwrap();
            prop_assert_eq!(again, parsed);
        }
    }
}

#[test]
fn deep_nesting_is_an_error_not_a_crash() {
    let text = "[".repeat(100_000);
    assert!(GatewayConfig::parse(text.as_bytes()).is_err());
}

fn minimal() -> GatewayConfig {
    GatewayConfig::initial(
        9000,
        &NewIdentity::new(ALICE.parse().unwrap(), Some(nick("alice"))),
    )
    .unwrap()
}

fn entry(principal: &str, nick: &str) -> Value {
    json!({"principal": principal, "nick": nick, "autoload": true, "allowLocal": true,
           "allowedRemotePeers": ["*"], "openclawWake": true})
}

fn nick(text: &str) -> Nick {
    text.parse().unwrap()
}

fn home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("home"));
    (dir, home)
}

/// The repository's vectors, or those in `CLAWCHAT_VECTORS_DIR` if it has this file.
fn vectors() -> Vectors {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/clawchat");
    let given = std::env::var_os("CLAWCHAT_VECTORS_DIR").map(PathBuf::from);
    let path = given
        .into_iter()
        .chain([ours])
        .map(|dir| dir.join("gateway-config.json"))
        .find(|path| path.exists())
        .unwrap();
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
