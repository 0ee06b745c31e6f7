//! Peers that lie, and what the operator says about the old protocol.

use serde_json::{Value, json};

use super::peer::{Peer, is};
use super::stage::{Daemon, Stage, seed};
use super::talk::{contents, numbered, same_texts};
use crate::gateways::Outcome;

/// Messages in a false name.
const FALSE_MESSAGES: &str = "3";

/// Everybody who is not who they say is turned away, and nobody else is.
pub(super) fn liars(stage: &Stage<'_>) -> Outcome<String> {
    let alice = stage.gateway("alice")?;
    let bob = stage.gateway("bob")?;
    let process = bob.pid();
    // Whoever talks with somebody has their attestation.
    let kept = stage.path("kept.json").display().to_string();
    stage
        .peer(
            "thief",
            &["--dial", &alice.address(), "--keep-attestation", &kept],
        )?
        .finish()?;

    let other_key = seed("another node");
    let lies: [(&str, &[&str]); 4] = [
        ("an attestation of somebody else", &["--replay", &kept]),
        ("another principal in AUTH", &["--claim", alice.principal()]),
        (
            "an attestation of another node key",
            &["--attest-seed", &other_key],
        ),
        ("an attestation of the other network", &["--network", "mainnet"]),
    ];
    let mut reasons = Vec::new();
    for (lie, arguments) in lies {
        let reason =
            refused(dial(stage, "thief", &bob, arguments)?).map_err(|error| format!("{lie}: {error}"))?;
        reasons.push(format!("{lie} ({reason})"));
    }
    if bob.is_connected(alice.principal())? {
        return Err("a thief was taken for alice".to_owned());
    }

    // Authenticated as itself, with messages in the name of another.
    let spoof = [
        "--spoof",
        alice.principal(),
        "--send",
        "false {i}",
        "--count",
        FALSE_MESSAGES,
    ];
    let said = dial(stage, "spoofer", &bob, &spoof)?.finish()?;
    if !said
        .iter()
        .any(|event| is(event, "sent") && event["acknowledged"] == true)
    {
        return Err("the session did not outlive the false messages".to_owned());
    }
    dial(stage, "honest", &bob, &["--send", "true {i}"])?.finish()?;
    same_texts(
        &numbered("true", 1),
        &contents(&bob.inbox()?),
        "what is in the inbox",
    )?;
    bob.is_healthy(process)?;
    Ok(format!(
        "refused: {}; {FALSE_MESSAGES} messages in another's name dropped, and an honest peer's kept",
        reasons.join(", ")
    ))
}

/// `legacyPeers: "unbound"`: the operator takes the risk.
pub(super) fn unbound(stage: &Stage<'_>) -> Outcome<String> {
    let bob = stage.gateway_with("bob", |config| {
        config.insert("legacyPeers".to_owned(), json!("unbound"));
    })?;
    let other_key = seed("another node");
    let peer = dial(
        stage,
        "js",
        &bob,
        &["--attest-seed", &other_key, "--send", "unbound {i}"],
    )?;
    let principal = peer.principal()?;
    peer.finish()?;
    let inbox = bob.inbox()?;
    same_texts(&numbered("unbound", 1), &contents(&inbox), "what is in the inbox")?;
    if inbox.iter().any(|message| message["from"] != principal.as_str()) {
        return Err(format!("the inbox has {inbox:?}"));
    }
    // Still refused: this does not make a false name true.
    let alice = stage.principal("alice")?;
    let reason = refused(dial(
        stage,
        "js",
        &bob,
        &["--attest-seed", &other_key, "--claim", &alice],
    )?)?;
    Ok(format!(
        "its message is taken; another principal in AUTH is still refused ({reason})"
    ))
}

/// `legacyPeers: "off"`: not spoken at all.
pub(super) fn off(stage: &Stage<'_>) -> Outcome<String> {
    let bob = stage.gateway_with("bob", |config| {
        config.insert("legacyPeers".to_owned(), json!("off"));
    })?;
    let process = bob.pid();
    let peer = dial(stage, "js", &bob, &["--send", "hello"])?;
    let principal = peer.principal()?;
    let said = peer.fail()?;
    if said.iter().any(|event| is(event, "session")) {
        return Err("a session was opened".to_owned());
    }
    if bob.is_connected(&principal)? || !bob.inbox()?.is_empty() {
        return Err("the peer got through".to_owned());
    }
    bob.is_healthy(process)?;
    Ok(format!(
        "a dialing peer finds no protocol to speak ({})",
        fault(&said)
    ))
}

/// A peer that dials a gateway.
pub(super) fn dial(stage: &Stage<'_>, name: &str, gateway: &Daemon, arguments: &[&str]) -> Outcome<Peer> {
    let address = gateway.address();
    stage.peer(name, &[&["--dial", &address], arguments].concat())
}

/// Waits until a peer is turned away; the reason it was given.
pub(super) fn refused(peer: Peer) -> Outcome<String> {
    let said = peer.fail()?;
    if said.iter().any(|event| is(event, "session")) {
        return Err("a session was opened".to_owned());
    }
    let refusal = said.iter().find(|event| is(event, "refused"));
    match refusal.and_then(|event| event["reason"].as_str()) {
        Some(reason) => Ok(reason.to_owned()),
        None => Err(format!("nothing was said about the reason ({})", fault(&said))),
    }
}

fn fault(said: &[Value]) -> String {
    let fault = said.iter().find(|event| is(event, "error"));
    let message = fault.and_then(|event| event["message"].as_str());
    message.unwrap_or("no error").to_owned()
}
