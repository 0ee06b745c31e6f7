//! What is said, in both directions, and who is believed.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{LOBBY, Ours, address, check_messages, check_numbered, identity, node};
use crate::gateways::{Outcome, text};
use crate::interop::stage::{Stage, UNTIL_ENDED};

/// Messages in one direction.
const MANY: usize = 100;
/// The same as an argument.
const MANY_TEXT: &str = "100";

/// Signed and unsigned messages both ways; forged ones are refused.
pub(in crate::interop) fn lobby(stage: &Stage<'_>) -> Outcome<String> {
    let ours = Ours::started(stage, "ours")?;
    let url = ours.url();
    let mut signed = node(
        stage,
        "signed",
        Some("signed-keys"),
        &[
            "--connect",
            &url,
            "--subscribe",
            LOBBY,
            "--publish",
            LOBBY,
            "signed",
            "--count",
            MANY_TEXT,
            "--payload",
            r#"{"b":1.0,"a":[1e21,-0,"\u00e4\ud83d\ude00"],"1":null}"#,
            "--linger",
            UNTIL_ENDED,
        ],
    )?;
    let key = identity(&mut signed)?;
    let history = ours.history_of(MANY)?;
    signed.dismiss()?;
    check_messages(&history, &key, true)?;
    check_numbered(&history, "signed", MANY)?;
    if history
        .iter()
        .any(|message| message["payload"]["a"] != json!([1e21, 0, "ä😀"]))
    {
        return Err("a payload changed on its way".to_owned());
    }
    let opaque = node(
        stage,
        "opaque",
        None,
        &[
            "--connect",
            &url,
            "--no-sync",
            "--subscribe",
            LOBBY,
            "--publish",
            LOBBY,
            "unsigned",
            "--count",
            MANY_TEXT,
            "--linger",
            UNTIL_ENDED,
        ],
    )?;
    let history = ours.history_of(2 * MANY)?;
    opaque.dismiss()?;
    let unsigned: Vec<Value> = history
        .into_iter()
        .filter(|message| message["sender"] == "opaque")
        .collect();
    check_messages(&unsigned, "opaque", false)?;
    check_numbered(&unsigned, "unsigned", MANY)?;

    let mut listener = node(
        stage,
        "listener",
        Some("listener-keys"),
        &[
            "--connect",
            &url,
            "--subscribe",
            LOBBY,
            "--no-sync",
            "--expect",
            "3",
            "--require-valid",
        ],
    )?;
    listener.event("handshake")?;
    ours.links(1)?;
    listener.event("subscribe")?;
    // In the name of a key, without that key's signature: refused, whoever sends it.
    let forged = json!({
        "type": "message", "message_id": "forged", "channel_id": LOBBY, "sender_id": key, "body": "I am signed",
        "timestamp": "2026-01-02T03:04:05.678Z",
    });
    let mut forger = node(
        stage,
        "forger",
        None,
        &[
            "--connect",
            &url,
            "--subscribe",
            LOBBY,
            "--no-sync",
            "--send-raw",
            &forged.to_string(),
            "--linger",
            UNTIL_ENDED,
        ],
    )?;
    // It is complained about.
    forger.event("error_frame")?;
    forger.dismiss()?;
    ours.say("one")?;
    ours.clawchat(&[
        "channel",
        "send",
        LOBBY,
        "two",
        "--payload",
        r#"{"z":1,"a":{"10":1,"9":2}}"#,
    ])?;
    ours.say("three ä😀")?;
    let said = listener.finish()?;
    let bodies: Vec<&Value> = said
        .iter()
        .filter(|event| event["event"] == "message")
        .map(|event| &event["body"])
        .collect();
    if bodies != ["one", "two", "three ä😀"] {
        return Err(format!("what came from us: {bodies:?}"));
    }
    ours.history_of(2 * MANY + 3)?;
    Ok(format!(
        "{MANY} signed messages are verified here, {MANY} of an opaque name are not; ours are valid there, payloads \
         included; a message in a key's name without its signature is refused"
    ))
}

/// Two peers on Node that know only ours.
pub(in crate::interop) fn relay(stage: &Stage<'_>) -> Outcome<String> {
    let ours = Ours::started(stage, "ours")?;
    let url = ours.url();
    let arguments = [
        "--connect",
        &url,
        "--subscribe",
        LOBBY,
        "--expect",
        MANY_TEXT,
        "--require-valid",
        // Whoever has heard all must not leave before it was heard.
        "--linger",
        UNTIL_ENDED,
    ];
    let mut left = node(
        stage,
        "left",
        Some("left-keys"),
        &[
            &arguments[..],
            &["--publish", LOBBY, "left", "--count", MANY_TEXT],
        ]
        .concat(),
    )?;
    let mut right = node(
        stage,
        "right",
        Some("right-keys"),
        &[
            &arguments[..],
            &["--publish", LOBBY, "right", "--count", MANY_TEXT],
        ]
        .concat(),
    )?;
    let names = [identity(&mut left)?, identity(&mut right)?];
    for (peer, other) in [&mut left, &mut right].into_iter().zip(names.iter().rev()) {
        let mut count = MANY;
        loop {
            let heard = peer.events("message", count)?;
            let theirs: HashSet<&str> = heard
                .iter()
                .filter(|event| event["sender_id"] == other.as_str() && event["signature_state"] == "valid")
                .filter_map(|event| event["message_id"].as_str())
                .collect();
            if theirs.len() == MANY {
                break;
            }
            count = heard.len() + 1;
        }
    }
    left.dismiss()?;
    right.dismiss()?;
    let history = ours.history_of(2 * MANY)?;
    if history.iter().any(|message| message["verified"] != true) {
        return Err("a relayed message is not verified here".to_owned());
    }
    Ok(format!(
        "{MANY} messages in each direction went through ours, each once and with its signature"
    ))
}

/// Frames that are none, and whoever sends them.
pub(in crate::interop) fn garbage(stage: &Stage<'_>) -> Outcome<String> {
    let mut ours = Ours::started(stage, "ours")?;
    let url = ours.url();
    let frames = [
        "null",
        "5",
        "[]",
        "{",
        "",
        "{\"type\":5}",
        "{\"type\":\"message\"}",
        r#"{"type":"message","message_id":1,"channel_id":"lobby","sender_id":"x","body":"y"}"#,
        r#"{"type":"subscribe"}"#,
        r#"{"type":"sync_request","channel_id":"lobby","after_message_id":{"a":1},"limit":-5}"#,
        r#"{"type":"sync_response","channel_id":"lobby","messages":[{"type":"message","message_id":"pushed","channel_id":"lobby","sender_id":"x","body":"nobody asked","timestamp":"2026-01-02T03:04:05.678Z"}]}"#,
    ];
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let mut arguments = vec![
        "--connect",
        url.as_str(),
        "--subscribe",
        LOBBY,
        "--no-sync",
        // So nobody asks it for anything.
        "--no-store",
        "--frames",
        "--linger",
        UNTIL_ENDED,
    ];
    // What is answered behind them all says that they were read.
    for frame in frames.iter().chain(&[deep.as_str(), r#"{"type":"ping"}"#]) {
        arguments.extend(["--send-raw", frame]);
    }
    let mut rude = node(stage, "garbage", None, &arguments)?;
    let is_answered = |got: &Value| {
        let raw = got["raw"].as_str().unwrap_or_default();
        raw.contains(r#""type":"pong""#)
    };
    let mut answers = 1;
    while !rude.events("got", answers)?.iter().any(is_answered) {
        answers += 1;
    }
    let complaints = rude.so_far("error_frame").len();
    rude.dismiss()?;
    if complaints < 5 {
        return Err(format!(
            "only {complaints} error frames for {} bad ones",
            frames.len() + 1
        ));
    }
    let pid = ours.running.as_ref().map(|running| running.pid());
    let mut good = node(
        stage,
        "good",
        Some("good-keys"),
        &[
            "--connect",
            &url,
            "--subscribe",
            LOBBY,
            "--publish",
            LOBBY,
            "hello",
            "--linger",
            UNTIL_ENDED,
        ],
    )?;
    let key = identity(&mut good)?;
    check_messages(&ours.history_of(1)?, &key, true)?;
    good.dismiss()?;
    if ours.clawchat(&["daemon", "status"])?["pid"].as_u64() != pid.map(u64::from) {
        return Err("our peer is not the process it was".to_owned());
    }
    ours.stop()?;
    Ok(format!(
        "{complaints} error frames for {} bad ones; a sync_response nobody asked for is not taken; others are served on",
        frames.len() + 1
    ))
}

/// A gateway with an identity takes part, signs with its node key, and has direct messages.
pub(in crate::interop) fn gateway(stage: &Stage<'_>) -> Outcome<String> {
    let mut node_peer = node(
        stage,
        "node",
        Some("node-keys"),
        &["--listen", "0", "--subscribe", LOBBY, "--require-valid"],
    )?;
    let (key, url) = (identity(&mut node_peer)?, address(&mut node_peer)?);
    let alice = stage.gateway_with("alice", |config| {
        config.insert(
            "mesh".to_owned(),
            json!({"enabled": true, "listen": "127.0.0.1:0", "peers": [url]}),
        );
    })?;
    let shaken = node_peer.event("handshake")?;
    if shaken["key_matches_peer_id"] != true {
        return Err(format!(
            "the gateway's key and name do not belong together: {shaken}"
        ));
    }
    let own = text(&shaken, "peer_id")?;
    alice.clawchat(&["channel", "join", "#dev"])?;
    node_peer.events("subscribe", 2)?;
    alice.clawchat(&["channel", "send", LOBBY, "from a gateway"])?;
    alice.clawchat(&["dm", "send", &key, "for you alone"])?;
    let message = node_peer.event("message")?;
    if message["body"] != "from a gateway"
        || message["signature_state"] != "valid"
        || message["sender_id"] != own.as_str()
    {
        return Err(format!("what came from the gateway: {message}"));
    }
    let direct = alice.clawchat(&["dm", "history", &key])?;
    if direct[0]["body"] != "for you alone" || direct[0]["sender"] != own.as_str() {
        return Err(format!("the direct message here: {direct}"));
    }
    let channel = text(&direct[0], "channel")?;
    let mut names = [own.as_str(), key.as_str()];
    names.sort_unstable();
    if channel != format!("dm:{}:{}", names[0], names[1]) {
        return Err(format!("the channel of two is {channel}"));
    }
    // The other one comes back with its key, looks into the channel of the two, and answers there.
    node_peer.kill();
    let listen = text(&alice.clawchat(&["daemon", "status"])?["mesh"], "listen")?;
    let arguments = [
        "--connect",
        &format!("ws://{listen}"),
        "--subscribe",
        &channel,
        "--expect",
        "1",
        "--require-valid",
        "--publish",
        &channel,
        "and back",
        "--linger",
        UNTIL_ENDED,
    ];
    let mut again = node(stage, "node again", Some("node-keys"), &arguments)?;
    again.event("message")?;
    let direct = stage.until("the answer to a direct message", || {
        let direct = alice.clawchat(&["dm", "history", &key])?;
        Ok(Some(direct).filter(|direct| direct[1]["body"] == "and back"))
    })?;
    again.dismiss()?;
    if direct[1]["sender"] != key.as_str() || direct[1]["verified"] != true {
        return Err(format!("the answer to a direct message: {}", direct[1]));
    }
    Ok(
        "a gateway dials a peer of the mesh, signs with its node key, and has direct messages with a key"
            .to_owned(),
    )
}
