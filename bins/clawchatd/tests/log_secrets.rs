//! However much is logged, no message, password or key is in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/gateways.rs"]
mod gateways;
#[path = "common/process.rs"]
mod process;
#[path = "common/wire.rs"]
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use gateways::{Gateway, text};
use process::Daemon;
use serde_json::json;
use wire::{Wire, one_answer, settle};

/// 24 words nobody uses.
const WORDS: &str = "script legal jacket execute void plate brisk strong wisdom property crouch cactus valid mule \
                     eyebrow toe stairs rain priority cave broccoli poem when like";
/// The wallet key they lead to.
const WALLET_KEY: &str = "c2a3b63b5374c97c5c7a8bd8ad960acefed45c8b49e174dbc74a8017e550d070";
const PASSWORD: &str = "Krokodilstraenen-4711";
const WRONG_PASSWORD: &str = "Flusspferdschweiss-0815";
const CONTENT: &str = "Zirkuselefant im Porzellanladen";
const PAYLOAD: &str = "Giraffenhalswirbel";
const MALFORMED: &str = "Nashornhornschmuggel";

/// A daemon that logs everything.
fn talkative(gateway: &Gateway) -> (Daemon, PathBuf) {
    let log = gateway.log_path();
    let mut command = gateway.command(&gateway.password_file());
    command.env("RUST_LOG", "trace");
    let mut daemon = Daemon::spawn(&mut command, b"", &log);
    let event = daemon.started().to_string();
    assert_absent(&event, PASSWORD, "the first line on stdout");
    (daemon, log)
}

fn set_up(name: &str) -> Gateway {
    let mut gateway = Gateway::prepare(Path::new(env!("CARGO_BIN_EXE_clawchatd")), name).unwrap();
    gateway.init(&json!({ "password": PASSWORD })).unwrap();
    gateway
}

#[test]
fn the_log_at_its_most_talkative_tells_no_secrets() {
    let (alice, bob) = (set_up("alice"), set_up("bob"));
    let (mut alice_daemon, alice_log) = talkative(&alice);
    let (mut bob_daemon, bob_log) = talkative(&bob);
    let status = bob.ask(&json!({ "cmd": "status" })).unwrap();
    let address = format!(
        "/ip4/127.0.0.1/tcp/{}/p2p/{}",
        bob.port(),
        text(&status, "peerId").unwrap()
    );
    alice
        .ask(&json!({ "cmd": "peer_add", "principal": bob.principal(), "address": address, "alias": "bob" }))
        .unwrap();

    // Messages that arrive, locally and remotely, and one that cannot be parsed.
    let payload = json!({ "secret": PAYLOAD });
    for to in ["bob", alice.principal()] {
        let send = json!({ "cmd": "send", "to": to, "content": CONTENT, "payload": payload, "wait": 60_000 });
        let sent = alice.ask(&send).unwrap();
        assert_eq!(sent["status"], "delivered");
    }
    let received = bob.ask(&json!({ "cmd": "recv", "timeout": 60_000 })).unwrap();
    assert_eq!(received[0]["content"], CONTENT);
    let reply = json!({ "cmd": "reply", "replyTo": received[0]["id"], "content": CONTENT, "wait": 60_000 });
    bob.ask(&reply).unwrap();
    for request in [
        json!({ "cmd": "send", "to": "bob", "content": { "text": MALFORMED } }).to_string(),
        json!({ "cmd": "send", "to": MALFORMED, "content": CONTENT }).to_string(),
        format!("{{\"cmd\":\"send\",\"to\":\"bob\",\"content\":\"{MALFORMED}"),
        MALFORMED.to_owned(),
    ] {
        let answer = one_answer(&alice, format!("{request}\n"));
        assert_eq!(answer["ok"], false, "{answer}");
    }
    let mut watching = Wire::to(&alice);
    watching.write("{\"cmd\":\"subscribe\",\"after\":0}\n");
    assert_eq!(watching.line()["event"], "message");

    // Identities that come with words and passwords, and that are refused them.
    let add = json!({ "cmd": "identity_add", "nick": "old", "password": PASSWORD, "mnemonic": WORDS });
    alice.ask(&add).unwrap();
    let new = json!({ "cmd": "identity_add", "nick": "new", "password": PASSWORD });
    let new_words = text(&alice.ask(&new).unwrap(), "mnemonic").unwrap();
    let bad_words = WORDS.replace("script", "scripted");
    for mut refused in [
        json!({ "cmd": "identity_add", "nick": "old", "password": WRONG_PASSWORD, "mnemonic": WORDS }),
        json!({ "cmd": "identity_add", "nick": "bad", "password": WRONG_PASSWORD, "mnemonic": bad_words }),
        json!({ "cmd": "identity_add", "nick": "short", "password": "Qualle-9" }),
        json!({ "cmd": "identity_add", "nick": 5, "password": WRONG_PASSWORD, "mnemonic": WORDS }),
    ] {
        refused["id"] = json!(1);
        let answer = one_answer(&alice, format!("{refused}\n"));
        assert_eq!(answer["ok"], false, "{answer}");
        for secret in [WRONG_PASSWORD, WORDS, &bad_words, "Qualle-9"] {
            assert_absent(&answer.to_string(), secret, "the answer");
        }
    }
    alice.ask(&json!({ "cmd": "reload" })).unwrap();
    settle(&alice, "alice");
    for daemon in [&mut alice_daemon, &mut bob_daemon] {
        daemon.signal("TERM");
        assert_eq!(daemon.ended().1, Some(0));
    }

    // A start that fails tells no more.
    let wrong = alice.password_file().with_file_name("wrong");
    fs::write(&wrong, WRONG_PASSWORD).unwrap();
    let failed_log = alice.log_path().with_extension("failed");
    let mut command = alice.command(&wrong);
    let mut failed = Daemon::spawn(command.env("RUST_LOG", "trace"), b"", &failed_log);
    assert_eq!(failed.ended(), (String::new(), Some(5)));

    for path in [&alice_log, &bob_log, &failed_log] {
        let log = fs::read_to_string(path).unwrap();
        assert!(!log.is_empty());
        for secret in [
            PASSWORD,
            WRONG_PASSWORD,
            CONTENT,
            PAYLOAD,
            MALFORMED,
            WORDS,
            &bad_words,
            &new_words,
            WALLET_KEY,
            "Qualle-9",
        ] {
            assert_absent(&log, secret, &path.display().to_string());
        }
    }
    for path in [alice_log, bob_log] {
        let log = fs::read_to_string(path).unwrap();
        assert!(
            log.contains("TRACE") && log.contains("connected"),
            "nothing was logged"
        );
    }
}

/// Neither as text, nor as bytes in the ways they are printed, nor a part of it that says much.
fn assert_absent(text: &str, secret: &str, place: &str) {
    let part: String = match secret.split_whitespace().count() {
        24 => secret.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        _ => secret.to_owned(),
    };
    let start = &part.as_bytes()[..part.len().min(8)];
    let joined = |separator: &str, print: fn(&u8) -> String| {
        start.iter().map(print).collect::<Vec<_>>().join(separator)
    };
    let forms = [
        part.clone(),
        joined(", ", u8::to_string),
        joined(",", u8::to_string),
        joined("", |byte| format!("{byte:02x}")),
        joined("", |byte| format!("{byte:02X}")),
        joined(", ", |byte| format!("{byte:02x}")),
    ];
    for form in forms {
        if let Some(at) = text.find(&form) {
            let line = text[..at].lines().last().unwrap_or_default();
            panic!("{form:?} is in {place}, after {line:?}");
        }
    }
}
