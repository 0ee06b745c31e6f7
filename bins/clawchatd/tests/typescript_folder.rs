//! Folders of the TypeScript version: keys that it wrote, and messages and peers as it writes them. The daemon is started
//! in them unchanged, with the same password.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/gateways.rs"]
mod gateways;
#[path = "common/process.rs"]
mod process;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use gateways::Gateway;
use process::{Daemon, contents, refusal};
use serde_json::{Value, json};

const ALICE: &str = "stacks:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF";
const ALICE_KEYS: &str = "testnet-nick";
const ALICE_PASSWORD: &str = "correct horse battery staple";
const CAROL: &str = "stacks:ST1QSS5BRVP84J5W6M5GA9WEY9FVMSFQ2N7FAK6R7";
const CAROL_KEYS: &str = "testnet-absent";
const CAROL_PASSWORD: &str = "no testnet field";
/// Somebody elsewhere.
const BOB: &str = "stacks:ST3JJPDR32NBV4W4810F9S8AW2ESRMJHG9KPRBSM2";
const ADDRESS: &str = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWEcKpSWJcaZEmui8eoD1RFUGBKW3kLJWYTHz2r7RCPgtW";
/// How often it is looked how far an import is.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long an import may take to get that far.
const IMPORT_LIMIT: Duration = Duration::from_secs(60);

fn keystore(name: &str) -> PathBuf {
    let vectors = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../spec/vectors/clawchat/keystore"
    );
    Path::new(vectors).join(format!("{name}.identity.enc"))
}

fn id(number: u64) -> String {
    format!("{number:032x}")
}

fn message(number: u64, from: &str, to: &str, content: &str, status: &str) -> Value {
    json!({ "id": id(number), "from": from, "to": to, "content": content,
            "timestamp": 1_700_000_000_000_u64 + number, "status": status })
}

/// Writes a file as `JSON.stringify(value, null, 2)` does.
fn write(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_string_pretty(value).unwrap()).unwrap();
}

/// A place for a home that knows the password of the first identity.
fn place() -> Gateway {
    let gateway = Gateway::prepare(Path::new(env!("CARGO_BIN_EXE_clawchatd")), "alice").unwrap();
    fs::create_dir(gateway.home()).unwrap();
    fs::write(gateway.password_file(), ALICE_PASSWORD).unwrap();
    gateway
}

/// A gateway of two identities, of which the second has a password of its own.
fn gateway_folder() -> Gateway {
    let gateway = place();
    let identity = |principal: &str, nick: &str| {
        json!({ "principal": principal, "nick": nick, "autoload": true, "allowLocal": true,
                "allowedRemotePeers": ["*"], "openclawWake": false, "note": format!("of {nick}") })
    };
    let config = json!({
        "version": 1,
        "p2pPort": gateway.port(),
        "wsBridge": { "port": 8080, "serveStatic": true },
        "identities": [identity(ALICE, "alice"), identity(CAROL, "carol")],
    });
    write(&gateway.home().join("gateway-config.json"), &config);
    for (principal, keys) in [(ALICE, ALICE_KEYS), (CAROL, CAROL_KEYS)] {
        let folder = folder(&gateway, principal);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(keystore(keys), folder.join("identity.enc")).unwrap();
    }
    fs::write(folder(&gateway, CAROL).join("password"), CAROL_PASSWORD).unwrap();
    gateway
}

fn folder(gateway: &Gateway, principal: &str) -> PathBuf {
    gateway.home().join("identities").join(principal)
}

/// What Alice has received, sent and known.
fn write_alices_files(folder: &Path) {
    let mut with_nick = message(1, BOB, ALICE, "hello – 你好 😀", "delivered");
    with_nick["fromNick"] = json!("bob");
    let inbox = json!([with_nick, message(2, CAROL, ALICE, "from next door", "delivered")]);
    write(&folder.join("inbox.json"), &inbox);
    let outbox = json!([
        message(11, ALICE, BOB, "went out", "sent"),
        message(12, ALICE, "bobby", "waits", "pending"),
        message(13, ALICE, "carol", "waits for the neighbour", "pending"),
    ]);
    write(&folder.join("outbox.json"), &outbox);
    let peers = json!([
        { "principal": BOB, "address": format!("{ADDRESS},127.0.0.1:9"), "alias": "bobby",
          "lastSeen": 1_700_000_000_009_u64 },
    ]);
    write(&folder.join("peers.json"), &peers);
}

/// A list, with these fields of each record.
fn asked(gateway: &Gateway, request: &Value, fields: &[&str]) -> Value {
    let answer = gateway.ask(request).unwrap();
    let records = answer.as_array().unwrap().iter();
    let only = |record: &Value| -> Value { fields.iter().map(|field| record[*field].clone()).collect() };
    records.map(only).collect()
}

fn expect_alices_messages(gateway: &Gateway) {
    let inbox = asked(
        gateway,
        &json!({ "cmd": "inbox" }),
        &["id", "from", "fromNick", "to", "content", "timestamp", "status"],
    );
    let expected = json!([
        [
            id(1),
            BOB,
            "bob",
            ALICE,
            "hello – 你好 😀",
            1_700_000_000_001_u64,
            "delivered"
        ],
        [
            id(2),
            CAROL,
            null,
            ALICE,
            "from next door",
            1_700_000_000_002_u64,
            "delivered"
        ],
    ]);
    assert_eq!(inbox, expected);
    let unread = gateway.ask(&json!({ "cmd": "recv", "unread": true })).unwrap();
    assert_eq!(unread, json!([]), "they count as read");
    let since = json!({ "cmd": "recv", "since": 1_700_000_000_001_u64 });
    assert_eq!(asked(gateway, &since, &["id"]), json!([[id(2)]]));

    let outbox = asked(
        gateway,
        &json!({ "cmd": "outbox" }),
        &["id", "to", "content", "status"],
    );
    let expected = json!([
        [id(11), BOB, "went out", "sent"],
        [id(12), BOB, "waits", "pending"],
        [id(13), CAROL, "waits for the neighbour", "delivered"],
    ]);
    assert_eq!(outbox, expected);
    let peers = asked(
        gateway,
        &json!({ "cmd": "peers" }),
        &["principal", "address", "alias", "lastSeen"],
    );
    let addresses = format!("{ADDRESS},/ip4/127.0.0.1/tcp/9");
    assert_eq!(peers, json!([[BOB, addresses, "bobby", 1_700_000_000_009_u64]]));
}

/// Waits until Carol has what was still on its way to her.
fn expect_carols_message(gateway: &Gateway) {
    let receive = json!({ "cmd": "recv", "as": CAROL, "timeout": 30_000 });
    let expected = json!([[id(13), ALICE, "waits for the neighbour"]]);
    assert_eq!(asked(gateway, &receive, &["id", "from", "content"]), expected);
    // The receipt follows the message.
    let deadline = Instant::now() + IMPORT_LIMIT;
    while asked(gateway, &json!({ "cmd": "outbox" }), &["status"])[2][0] != "delivered" {
        assert!(Instant::now() < deadline, "no receipt");
        thread::sleep(LOOK_EVERY);
    }
}

#[test]
fn a_gateway_folder_is_served_as_it_is() {
    let mut gateway = gateway_folder();
    let (alice, carol) = (folder(&gateway, ALICE), folder(&gateway, CAROL));
    write_alices_files(&alice);
    let broken = "[\n  { \"id\": \"1\",\n    \"from\" }\n]";
    fs::write(carol.join("inbox.json"), broken).unwrap();
    write(
        &carol.join("outbox.json"),
        &json!([message(21, CAROL, ALICE, "from next door", "sent")]),
    );
    let originals = contents(&alice);

    gateway.start().unwrap();
    let status = gateway.ask(&json!({ "cmd": "status" })).unwrap();
    let loaded = status["loadedIdentities"].as_array().unwrap().iter();
    let loaded: Vec<&Value> = loaded.map(|identity| &identity["principal"]).collect();
    assert_eq!(loaded, [ALICE, CAROL], "{status}");
    // The PeerId the other version derives from the same keys.
    assert_eq!(
        status["peerId"],
        "12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo"
    );
    let problems = status["importProblems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{status}");
    let file = carol.join("inbox.json");
    let problem = &problems[0];
    assert_eq!(
        (
            &problem["principal"],
            &problem["file"],
            &problem["line"],
            &problem["column"]
        ),
        (&json!(CAROL), &json!(file), &json!(3), &json!(12)),
        "{problem}"
    );
    let log = fs::read_to_string(gateway.log_path()).unwrap();
    assert!(log.contains(&format!("{}:3:12: ", file.display())), "{log}");
    assert!(
        !log.contains("next door"),
        "contents do not belong into the log: {log}"
    );
    expect_carols_message(&gateway);
    expect_alices_messages(&gateway);
    let carols = asked(
        &gateway,
        &json!({ "cmd": "outbox", "as": CAROL }),
        &["id", "status"],
    );
    assert_eq!(carols, json!([[id(21), "sent"]]));

    // Keys nobody here knows survive an edit.
    gateway
        .ask(&json!({ "cmd": "identity_deny", "who": "alice", "peer": "*" }))
        .unwrap();
    gateway
        .ask(&json!({ "cmd": "identity_allow", "who": "alice", "peer": BOB }))
        .unwrap();
    gateway.stop().unwrap();
    let config: Value =
        serde_json::from_slice(&fs::read(gateway.home().join("gateway-config.json")).unwrap()).unwrap();
    assert_eq!(config["wsBridge"], json!({ "port": 8080, "serveStatic": true }));
    assert_eq!(config["identities"][0]["note"], "of alice");
    assert_eq!(config["identities"][0]["allowedRemotePeers"], json!([BOB]));

    // The originals are kept, but for their names; what is broken keeps its name too.
    for (path, bytes) in originals
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "json"))
    {
        let kept = PathBuf::from(format!("{}.imported", path.display()));
        assert!(!path.exists());
        assert_eq!(&fs::read(&kept).unwrap(), bytes, "{}", kept.display());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), broken);

    // The file is repaired, and nothing else happens twice.
    write(
        &file,
        &json!([message(31, BOB, CAROL, "found again", "delivered")]),
    );
    gateway.start().unwrap();
    let status = gateway.ask(&json!({ "cmd": "status" })).unwrap();
    assert_eq!(status["importProblems"], json!(null));
    expect_alices_messages(&gateway);
    let carols = asked(&gateway, &json!({ "cmd": "inbox", "as": "carol" }), &["content"]);
    assert_eq!(carols, json!([["waits for the neighbour"], ["found again"]]));
    gateway.stop().unwrap();
}

#[test]
fn a_single_identity_folder_is_served_as_it_is() {
    let gateway = place();
    let home = gateway.home();
    fs::copy(keystore(ALICE_KEYS), home.join("identity.enc")).unwrap();
    write_alices_files(&home);
    // Nobody is at home under that name in this layout.
    write(
        &home.join("outbox.json"),
        &json!([message(11, ALICE, BOB, "went out", "sent")]),
    );

    let wrong = gateway.password_file().with_extension("wrong");
    fs::write(&wrong, "not the password").unwrap();
    let before = contents(&home);
    refusal(&gateway, &mut gateway.command(&wrong)).expect(5, "wrong_password", &["identity.enc"]);
    assert!(contents(&home) == before, "files were touched");

    let port = gateway.port().to_string();
    let start = |gateway: &Gateway| {
        let mut command = gateway.command(&gateway.password_file());
        let mut daemon = Daemon::spawn(command.args(["--port", &port]), b"", &gateway.log_path());
        let started = daemon.started();
        assert_eq!(started["principal"], ALICE);
        assert_eq!(started["loadedIdentities"][0]["nick"], "alice");
        daemon
    };
    for _ in 0..2 {
        let mut daemon = start(&gateway);
        let inbox = asked(&gateway, &json!({ "cmd": "inbox" }), &["content"]);
        assert_eq!(inbox, json!([["hello – 你好 😀"], ["from next door"]]));
        let outbox = asked(&gateway, &json!({ "cmd": "outbox" }), &["id", "status"]);
        assert_eq!(outbox, json!([[id(11), "sent"]]));
        assert_eq!(
            asked(&gateway, &json!({ "cmd": "peers" }), &["alias"]),
            json!([["bobby"]])
        );
        daemon.signal("TERM");
        assert_eq!(daemon.ended().1, Some(0));
    }
    for name in ["identity.enc", "inbox.json", "outbox.json", "peers.json"] {
        let kept = home.join(format!("{name}.migrated"));
        assert!(!home.join(name).exists());
        assert_eq!(fs::read(&kept).unwrap(), before[&home.join(name)], "{name}");
    }
    assert!(folder(&gateway, ALICE).join("inbox.json.imported").exists());
}

#[test]
fn the_password_kept_in_a_single_identity_folder_is_enough() {
    let gateway = place();
    let home = gateway.home();
    fs::copy(keystore(ALICE_KEYS), home.join("identity.enc")).unwrap();
    fs::write(home.join("password"), ALICE_PASSWORD).unwrap();
    for _ in 0..2 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawchatd"));
        command
            .arg("--data-dir")
            .arg(&home)
            .args(["--port", &gateway.port().to_string()]);
        command.env_remove("CLAWCHAT_PASSWORD_FILE");
        let mut daemon = Daemon::spawn(&mut command, b"", &gateway.log_path());
        assert_eq!(daemon.started()["principal"], ALICE);
        daemon.signal("TERM");
        assert_eq!(daemon.ended().1, Some(0));
    }
}

#[test]
fn a_daemon_of_the_other_version_that_still_runs_is_noticed() {
    let gateway = gateway_folder();
    write_alices_files(&folder(&gateway, ALICE));
    let _other = UnixListener::bind(gateway.socket()).unwrap();
    let before = contents(&gateway.home());
    let mut command = gateway.command(&gateway.password_file());
    refusal(&gateway, &mut command).expect(1, "already_running", &["clawchat.sock"]);
    assert!(contents(&gateway.home()) == before, "files were touched");
}

#[test]
fn killed_in_the_middle_it_loses_nothing_and_doubles_nothing() {
    const MESSAGES: u64 = 2000;
    let mut gateway = gateway_folder();
    let alice = folder(&gateway, ALICE);
    let messages = |from: &str, to: &str, first: u64| -> Value {
        (first..first + MESSAGES)
            .map(|number| message(number, from, to, &number.to_string(), "sent"))
            .collect()
    };
    write(&alice.join("inbox.json"), &messages(BOB, ALICE, 0));
    write(&alice.join("outbox.json"), &messages(ALICE, BOB, MESSAGES));
    let mut killed = 0;
    for commits in (1..14).step_by(3) {
        let mut command = gateway.command(&gateway.password_file());
        let mut daemon = Daemon::spawn(&mut command, b"", &gateway.log_path());
        let deadline = Instant::now() + IMPORT_LIMIT;
        while commits_in(&alice.join("store")) < commits && daemon.process.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no {commits} commits");
            thread::sleep(LOOK_EVERY);
        }
        daemon.process.kill().unwrap();
        daemon.process.wait().unwrap();
        killed += u32::from(alice.join("outbox.json").exists());
    }
    assert!(killed >= 2, "killed in the middle only {killed} times");

    gateway.start().unwrap();
    for (list, first) in [("inbox", 0), ("outbox", MESSAGES)] {
        let numbers = asked(&gateway, &json!({ "cmd": list }), &["content"]);
        let expected: Value = (first..first + MESSAGES)
            .map(|number| json!([number.to_string()]))
            .collect();
        assert!(numbers == expected, "{list}: not each once and in order");
    }
    assert!(alice.join("inbox.json.imported").exists() && alice.join("outbox.json.imported").exists());
    gateway.stop().unwrap();
}

/// The number of the latest commit of a store: `high-water` has it in two places by turns (`spec/store.md`).
fn commits_in(store: &Path) -> u64 {
    let Ok(marks) = fs::read(store.join("high-water")) else {
        return 0;
    };
    let number = |slot: usize| {
        let bytes = marks.get(slot + 8..slot + 16)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    number(0).max(number(4096)).unwrap_or(0)
}
