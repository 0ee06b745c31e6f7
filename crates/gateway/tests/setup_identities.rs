//! Identities: set up, taken over, changed and unsealed, through the requests a client sends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clawchat_gateway::admin::{Effect, apply, run_offline};
use clawchat_gateway::config::{GatewayConfig, NewIdentity};
use clawchat_gateway::home::{Home, Purpose};
use clawchat_gateway::setup::{self, SetupError, Unsealed};
use clawchat_ipc::{Call, ErrorCode, Failure, Request, Secret};
use clawchat_types::Principal;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";
const OTHER_PASSWORD: &str = "another password";
/// The vector `testnet-nick`: sealed with [`PASSWORD`], calling itself alice.
const VECTOR: &str = "stacks:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF";
const VECTOR_NODE: &str = "bd7889697e2007c0407578366ad8618bcc579e3ef7b452601e84c0cff2ec5d60";
const PEER: &str = "stacks:ST1JAHE8GEHB0MCBGR8J6W0AA7TJEE1XKFSD2Q80H";
const VECTOR_WORDS: &str = "script legal jacket execute void plate brisk strong wisdom property crouch cactus \
    valid mule eyebrow toe stairs rain priority cave broccoli poem when like";

#[test]
fn init_makes_everything_and_refuses_to_do_it_twice() {
    let (_dir, home) = new_home();
    let made = run(&home, init(Some(PASSWORD), None)).unwrap();
    let principal = made["principal"].as_str().unwrap();
    assert_eq!(
        keys(&made),
        [
            "status",
            "principal",
            "address",
            "nick",
            "network",
            "p2pPort",
            "mnemonic"
        ]
    );
    assert_eq!(made["status"], "initialized");
    assert_eq!(made["network"], "testnet");
    assert_eq!(made["p2pPort"], 9000);
    assert_eq!(format!("stacks:{}", made["address"].as_str().unwrap()), principal);
    assert_eq!(made["mnemonic"].as_str().unwrap().split(' ').count(), 24);
    let folder = home.identity_dir(&principal.parse().unwrap());
    assert_eq!(
        names(home.root()),
        ["gateway-config.json", "home.lock", "identities"]
    );
    assert_eq!(names(&folder), ["identity.enc", "identity.pub.json"]);
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("identity.enc")), 0o600);

    let again = run(&home, init(Some(PASSWORD), None)).unwrap_err();
    assert_eq!(again.code, ErrorCode::AlreadyInitialized);
    assert_eq!(names(&home.identities_dir()).len(), 1);

    let shown = run(&home, Request::IdentityShow { password: None }).unwrap();
    assert_eq!(
        keys(&shown),
        ["principal", "address", "publicKey", "nick", "displayName"]
    );
    assert_eq!(shown["displayName"], principal);

    fs::remove_file(folder.join("identity.pub.json")).unwrap();
    let needed = run(&home, Request::IdentityShow { password: None }).unwrap_err();
    assert!(needed.hint.unwrap().contains("--password-file"));
    let opened = run(
        &home,
        Request::IdentityShow {
            password: secret(PASSWORD),
        },
    )
    .unwrap();
    assert_eq!(opened, shown);
}

#[test]
fn what_fails_leaves_no_half_folder() {
    let (_dir, home) = new_home();
    for (request, code) in [
        (init(Some("elevenchars"), None), ErrorCode::InvalidRequest),
        (
            init(Some(PASSWORD), Some("twelve words")),
            ErrorCode::InvalidRequest,
        ),
        (
            Request::GatewayInit {
                port: Some(0),
                nick: None,
                network: None,
                password: secret(PASSWORD),
                mnemonic: None,
                migrate: None,
            },
            ErrorCode::InvalidRequest,
        ),
        (create(None), ErrorCode::PasswordRequired),
    ] {
        assert_eq!(run(&home, request).unwrap_err().code, code);
        assert!(!home.exists());
    }
    for request in [
        Request::IdentityList,
        Request::IdentityRemove { who: "x".to_owned() },
    ] {
        assert_eq!(run(&home, request).unwrap_err().code, ErrorCode::NotInitialized);
        assert!(!home.exists());
    }
    assert_eq!(run(&home, Request::Status).unwrap(), json!({"running": false}));
    assert_eq!(
        run(&home, Request::Peers).unwrap_err().code,
        ErrorCode::NotRunning
    );
    assert!(!home.exists());
}

#[test]
fn the_port_is_kept_in_the_configuration() {
    let (_dir, home) = new_home();
    let set = |port| run(&home, Request::GatewaySet { port });
    assert_eq!(set(9100).unwrap_err().code, ErrorCode::NotInitialized);
    run(&home, init(Some(PASSWORD), None)).unwrap();
    assert_eq!(set(9100).unwrap(), json!({"status": "changed", "p2pPort": 9100}));
    assert_eq!(GatewayConfig::load(&home).unwrap().p2p_port(), 9100);
    assert_eq!(set(0).unwrap_err().code, ErrorCode::InvalidRequest);
    assert_eq!(GatewayConfig::load(&home).unwrap().p2p_port(), 9100);
}

#[test]
fn without_a_password_init_draws_one_the_daemon_finds() {
    let (_dir, home) = new_home();
    let made = run(&home, init(None, None)).unwrap();
    let file = PathBuf::from(made["passwordFile"].as_str().unwrap());
    assert_eq!(mode(&file), 0o600);
    assert_eq!(
        fs::read_to_string(&file).unwrap().len(),
        setup::GENERATED_PASSWORD_CHARS
    );
    let unsealed = unseal(&home, None).unwrap();
    assert_eq!(json!(unsealed.loaded[0].identity.principal()), made["principal"]);
}

#[test]
fn words_bring_back_the_same_principal_and_need_no_gateway() {
    let (_dir, home) = new_home();
    let made = run(&home, recover(PASSWORD)).unwrap();
    assert_eq!(made["principal"], VECTOR);
    assert_eq!(made.get("mnemonic"), None);
    let config = GatewayConfig::load(&home).unwrap();
    assert_eq!(config.p2p_port(), 9000);

    let again = run(&home, recover(PASSWORD)).unwrap_err();
    assert_eq!(again.code, ErrorCode::AlreadyExists);

    // The way out of a lost password: move the sealed file aside and recover once more.
    let principal: Principal = VECTOR.parse().unwrap();
    fs::remove_file(home.keystore_path(&principal)).unwrap();
    run(&home, recover(OTHER_PASSWORD)).unwrap();
    assert!(unseal(&home, Some(OTHER_PASSWORD)).is_ok());
    assert_eq!(GatewayConfig::load(&home).unwrap(), config);
}

#[test]
fn words_open_a_folder_whose_password_is_lost() {
    let (_dir, home) = new_home();
    run(&home, init(Some(PASSWORD), None)).unwrap();
    run(&home, recover(PASSWORD)).unwrap();
    let principal: Principal = VECTOR.parse().unwrap();
    fs::create_dir(home.store_dir(&principal)).unwrap();
    let who = VECTOR.to_owned();
    run(&home, Request::IdentityRemove { who }).unwrap();

    let back = run(&home, recover(OTHER_PASSWORD)).unwrap();
    assert_eq!(back["principal"], VECTOR);
    let files = names(&home.identity_dir(&principal));
    assert!(files.contains(&"store".to_owned()), "{files:?}");
    let old = files
        .iter()
        .filter(|name| name.starts_with("identity.enc.") && name.ends_with(".old"));
    assert_eq!(old.count(), 1, "{files:?}");
    let lock = home.lock(Purpose::Request).unwrap();
    let config = GatewayConfig::load(&home).unwrap();
    let opened = setup::unseal_one(&lock, &config, 1, Some(&Secret::new(OTHER_PASSWORD))).unwrap();
    assert_eq!(back["publicKey"], json!(opened.node_key().node_id()));
}

#[test]
fn an_old_single_identity_folder_is_taken_over() {
    let (_dir, home) = new_home();
    home.prepare().unwrap();
    fs::copy(keystore("testnet-nick"), home.legacy_keystore_path()).unwrap();
    fs::write(home.root().join("inbox.json"), "[]").unwrap();

    let wrong = run(&home, init(Some(OTHER_PASSWORD), None)).unwrap_err();
    assert_eq!(wrong.code, ErrorCode::WrongPassword);
    assert_eq!(names(home.root()), ["home.lock", "identity.enc", "inbox.json"]);

    let made = run(&home, init(Some(PASSWORD), None)).unwrap();
    assert_eq!(made["principal"], VECTOR);
    assert_eq!(made["nick"], "alice");
    assert_eq!(made["migrated"], true);
    assert_eq!(
        names(home.root()),
        [
            "gateway-config.json",
            "home.lock",
            "identities",
            "identity.enc.migrated",
            "inbox.json.migrated"
        ]
    );
    let folder = home.identity_dir(&VECTOR.parse().unwrap());
    assert_eq!(
        names(&folder),
        ["identity.enc", "identity.pub.json", "inbox.json"]
    );
    assert_eq!(made["warnings"], json!(null));
    let shown = run(&home, Request::IdentityShow { password: None }).unwrap();
    assert_eq!(shown["publicKey"], VECTOR_NODE);
    assert_eq!(shown["displayName"], format!("{VECTOR}(alice)"));
}

#[test]
fn an_old_folder_is_left_alone_when_asked() {
    let (_dir, home) = new_home();
    home.prepare().unwrap();
    fs::copy(keystore("testnet-nick"), home.legacy_keystore_path()).unwrap();
    let request = Request::GatewayInit {
        port: Some(9100),
        nick: Some("new".parse().unwrap()),
        network: None,
        password: secret(PASSWORD),
        mnemonic: None,
        migrate: Some(false),
    };
    let made = run(&home, request).unwrap();
    assert_ne!(made["principal"], VECTOR);
    assert_eq!(made["p2pPort"], 9100);
    assert!(home.legacy_keystore_path().exists());
}

#[test]
fn identities_come_go_and_come_back_with_their_folder() {
    let (_dir, home) = new_home();
    let first = run(&home, init(Some(PASSWORD), None)).unwrap();
    let added = run(&home, add(None, Some("bob"), PASSWORD)).unwrap();
    assert_eq!(keys(&added), ["status", "principal", "nick", "mnemonic"]);
    assert_eq!(added["nick"], "bob");
    let bob: Principal = added["principal"].as_str().unwrap().parse().unwrap();
    fs::create_dir(home.store_dir(&bob)).unwrap();

    let taken = run(&home, add(None, Some("bob"), PASSWORD)).unwrap_err();
    assert_eq!(taken.code, ErrorCode::AlreadyExists);

    let listed = run(&home, Request::IdentityList).unwrap();
    assert_eq!(listed["identities"].as_array().unwrap().len(), 2);
    let entry = &listed["identities"][1];
    for key in [
        "principal",
        "nick",
        "autoload",
        "allowLocal",
        "allowedRemotePeers",
        "openclawWake",
        "loaded",
    ] {
        assert!(entry.get(key).is_some(), "{key}");
    }
    assert_eq!(entry["loaded"], false);

    let removed = run(
        &home,
        Request::IdentityRemove {
            who: "bob".to_owned(),
        },
    )
    .unwrap();
    assert_eq!(removed, json!({"status": "removed", "principal": bob}));
    assert_eq!(names(&home.removed_dir()).len(), 1);
    let last = first["principal"].as_str().unwrap().to_owned();
    assert!(run(&home, Request::IdentityRemove { who: last }).is_err());

    let wrong = run(&home, add(Some(bob), None, OTHER_PASSWORD)).unwrap_err();
    assert_eq!(wrong.code, ErrorCode::WrongPassword);
    assert_eq!(names(&home.removed_dir()).len(), 1);
    let back = run(&home, add(Some(bob), None, PASSWORD)).unwrap();
    assert_eq!(back, json!({"status": "added", "principal": bob, "nick": "bob"}));
    assert!(home.store_dir(&bob).exists());
    assert!(names(&home.removed_dir()).is_empty());
}

#[test]
fn another_network_is_refused_before_any_key_is_made() {
    let (_dir, home) = prepared_home();
    let request = Request::IdentityCreate {
        nick: None,
        network: Some(clawchat_types::Network::Mainnet),
        password: secret(PASSWORD),
    };
    let refused = run(&home, request).unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongNetwork);
    assert!(refused.message.contains("testnet") && refused.message.contains("mainnet"));
    let mainnet = "stacks:SP3JJPDR32NBV4W4810F9S8AW2ESRMJHG9K46QK5P"
        .parse()
        .unwrap();
    assert_eq!(
        run(&home, add(Some(mainnet), None, PASSWORD)).unwrap_err().code,
        ErrorCode::WrongNetwork
    );
    assert_eq!(names(&home.identities_dir()).len(), 1);
}

#[test]
fn names_and_access_lists_need_no_password() {
    let (_dir, home) = prepared_home();
    let named = run(
        &home,
        Request::IdentitySetNick {
            nick: "al".parse().unwrap(),
            password: None,
        },
    )
    .unwrap();
    assert_eq!(named["nick"], "al");
    assert_eq!(named["displayName"], format!("{}(al)", VECTOR));
    assert!(named["publicKey"] == VECTOR_NODE);

    let edit = |who: &str, peer: &str, allow| {
        let (who, peer) = (who.to_owned(), peer.to_owned());
        let request = if allow {
            Request::IdentityAllow { who, peer }
        } else {
            Request::IdentityDeny { who, peer }
        };
        run(&home, request)
    };
    let denied = edit("al", PEER, false).unwrap();
    assert_eq!(denied["deniedPeers"], json!([PEER]));
    assert_eq!(denied["allowedRemotePeers"], json!(["*"]));
    assert_eq!(edit("al", PEER, true).unwrap()["deniedPeers"], json!([]));
    assert_eq!(
        edit("nobody", PEER, true).unwrap_err().code,
        ErrorCode::NoSuchIdentity
    );
    assert_eq!(
        edit("al", "somebody", true).unwrap_err().code,
        ErrorCode::NoSuchPeer
    );
    assert_eq!(
        edit("al", "stacks:ST1", true).unwrap_err().code,
        ErrorCode::InvalidRequest
    );

    let cleared = run(&home, Request::IdentityClearNick { password: None }).unwrap();
    assert_eq!(cleared["nick"], Value::Null);
    let error = call(&home, Request::IdentityShow { password: None }, Some("nobody")).unwrap_err();
    assert_eq!(error.code, ErrorCode::NoSuchIdentity);
}

#[test]
fn an_edit_keeps_what_the_operator_has_written_meanwhile() {
    let (_dir, home) = prepared_home();
    let lock = home.lock(Purpose::Daemon).unwrap();
    let mut config = GatewayConfig::load(&home).unwrap();
    let by_hand = config.to_text().replace("9000", "9500");
    fs::write(home.config_path(), &by_hand).unwrap();

    let name = |config: &mut GatewayConfig, nick: &str| {
        let nick = nick.parse().unwrap();
        apply(
            &lock,
            config,
            None,
            Request::IdentitySetNick { nick, password: None },
            &|_| false,
        )
    };
    assert!(matches!(name(&mut config, "al").unwrap().effect, Effect::Changed));
    assert_eq!(config.p2p_port(), 9500);
    assert_eq!(GatewayConfig::load(&home).unwrap(), config);

    fs::write(home.config_path(), "{").unwrap();
    let before = config.clone();
    let refused = name(&mut config, "other").unwrap_err();
    assert!(refused.message.contains("gateway-config.json"), "{refused}");
    assert_eq!(config, before);
    assert_eq!(fs::read_to_string(home.config_path()).unwrap(), "{");
}

#[test]
fn unsealing_loads_what_it_can_and_stops_at_a_wrong_first_password() {
    let (_dir, home) = new_home();
    run(&home, init(Some(PASSWORD), None)).unwrap();
    let second = run(&home, add(None, Some("second"), OTHER_PASSWORD)).unwrap();
    let second: Principal = second["principal"].as_str().unwrap().parse().unwrap();
    let ghost = |text: &str| json!({"principal": text, "autoload": true, "allowLocal": true, "allowedRemotePeers": [], "openclawWake": true});
    let mut text: Value = serde_json::from_slice(&fs::read(home.config_path()).unwrap()).unwrap();
    let identities = text["identities"].as_array_mut().unwrap();
    identities.push(ghost(VECTOR));
    identities.push(ghost("stacks:nonsense"));
    identities.push(ghost("stacks:SP3JJPDR32NBV4W4810F9S8AW2ESRMJHG9K46QK5P"));
    fs::write(home.config_path(), text.to_string()).unwrap();

    let unsealed = unseal(&home, Some(PASSWORD)).unwrap();
    assert_eq!(
        unsealed.loaded.iter().map(|one| one.index).collect::<Vec<_>>(),
        [0]
    );
    let reasons: Vec<_> = unsealed
        .not_loaded
        .iter()
        .map(|one| (one.index, &one.reason))
        .collect();
    assert!(
        matches!(reasons[0], (1, SetupError::WrongPassword { .. })),
        "{reasons:?}"
    );
    assert!(
        matches!(reasons[1], (2, SetupError::NoKeystore { .. })),
        "{reasons:?}"
    );
    assert!(
        matches!(reasons[2], (3, SetupError::NotAPrincipal { .. })),
        "{reasons:?}"
    );
    assert!(matches!(reasons[3], (4, SetupError::Edit(_))), "{reasons:?}");

    fs::write(home.password_path(&second), format!("  {OTHER_PASSWORD}\r\n")).unwrap();
    let unsealed = unseal(&home, Some(PASSWORD)).unwrap();
    assert_eq!(
        unsealed.loaded.iter().map(|one| one.index).collect::<Vec<_>>(),
        [0, 1]
    );

    let failure = |given: Option<&str>| Failure::from(unseal(&home, given).unwrap_err());
    let wrong = failure(Some("wrong horse battery staple"));
    assert_eq!(
        (wrong.code, wrong.code.exit_code()),
        (ErrorCode::WrongPassword, 5)
    );
    assert!(!wrong.message.contains("horse"));
    assert!(failure(None).hint.unwrap().contains("--password-file"));
}

#[test]
fn the_keys_in_a_folder_must_be_those_of_its_name() {
    let (_dir, home) = new_home();
    run(&home, recover(PASSWORD)).unwrap();
    let principal: Principal = VECTOR.parse().unwrap();
    fs::copy(keystore("testnet-absent"), home.keystore_path(&principal)).unwrap();
    let vectors: Value = serde_json::from_slice(&fs::read(keystore_list()).unwrap()).unwrap();
    let case = vectors["cases"]
        .as_array()
        .unwrap()
        .iter()
        .find(|case| case["name"] == "testnet-absent");
    let password = case.unwrap()["password"].as_str().unwrap();
    let error = unseal(&home, Some(password)).unwrap_err();
    assert!(matches!(error, SetupError::OtherIdentity { .. }), "{error}");

    fs::write(home.keystore_path(&principal), b"\x03newer").unwrap();
    let error = unseal(&home, Some(PASSWORD)).unwrap_err();
    assert!(error.to_string().contains("identity.enc"), "{error}");
    fs::write(home.keystore_path(&principal), vec![2; 100_000]).unwrap();
    assert!(matches!(
        unseal(&home, Some(PASSWORD)).unwrap_err(),
        SetupError::Home(_)
    ));
}

fn new_home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("home"));
    (dir, home)
}

/// A gateway with the identity of the vector, made without the time sealing takes.
fn prepared_home() -> (tempfile::TempDir, Home) {
    let (dir, home) = new_home();
    let lock = home.lock(Purpose::Request).unwrap();
    let principal: Principal = VECTOR.parse().unwrap();
    let config = GatewayConfig::initial(9000, &NewIdentity::new(principal, None)).unwrap();
    config.save(&lock).unwrap();
    fs::create_dir_all(home.identity_dir(&principal)).unwrap();
    fs::copy(keystore("testnet-nick"), home.keystore_path(&principal)).unwrap();
    let facts = json!({"principal": VECTOR, "publicKey": VECTOR_NODE});
    fs::write(home.public_facts_path(&principal), facts.to_string()).unwrap();
    (dir, home)
}

fn run(home: &Home, request: Request) -> Result<Value, Failure> {
    call(home, request, None)
}

fn call(home: &Home, request: Request, as_: Option<&str>) -> Result<Value, Failure> {
    run_offline(
        home,
        Call {
            acting: as_.map(str::to_owned),
            id: None,
            request,
        },
    )
}

fn unseal(home: &Home, given: Option<&str>) -> Result<Unsealed, SetupError> {
    let lock = home.lock(Purpose::Daemon)?;
    let config = GatewayConfig::load(home)?;
    setup::unseal(&lock, &config, given.map(Secret::new).as_ref())
}

fn init(password: Option<&str>, words: Option<&str>) -> Request {
    Request::GatewayInit {
        port: None,
        nick: None,
        network: None,
        password: password.and_then(secret),
        mnemonic: words.and_then(secret),
        migrate: None,
    }
}

fn create(password: Option<&str>) -> Request {
    Request::IdentityCreate {
        nick: None,
        network: None,
        password: password.and_then(secret),
    }
}

fn recover(password: &str) -> Request {
    Request::IdentityRecover {
        mnemonic: Secret::new(format!(" {}\n", VECTOR_WORDS.to_uppercase())),
        nick: None,
        network: None,
        password: secret(password),
    }
}

fn add(principal: Option<Principal>, nick: Option<&str>, password: &str) -> Request {
    Request::IdentityAdd {
        nick: nick.map(|nick| nick.parse().unwrap()),
        principal,
        autoload: None,
        allow_peers: Vec::new(),
        password: secret(password),
        mnemonic: None,
    }
}

#[allow(clippy::unnecessary_wraps)]
fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text))
}

fn keystore_list() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/clawchat/keystore/keystore.json")
}

fn keystore(name: &str) -> PathBuf {
    keystore_list().with_file_name(format!("{name}.identity.enc"))
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
