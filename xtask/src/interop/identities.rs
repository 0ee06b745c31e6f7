//! Who answers whom: access lists, several identities, and peers that once spoke better.

use serde_json::{Value, json};

use super::peer::is;
use super::stage::{Daemon, Stage, UNTIL_ENDED};
use super::strangers::{dial, refused};
use super::talk::{contents, numbered, same_texts};
use crate::gateways::{Outcome, PASSWORD, text};

/// Somebody spoke `snap2p/2` before and comes with `clawchat/1`.
pub(super) fn downgrade(stage: &Stage<'_>) -> Outcome<String> {
    let bob = stage.gateway("bob")?;
    let process = bob.pid();
    let mut carol = stage.gateway_as("carol")?;
    let carols = carol.principal().to_owned();
    carol.learn(&bob)?;
    let hello = carol.clawchat(&["send", bob.principal(), "native", "--wait", "120"])?;
    if hello["status"] != "delivered" {
        return Err(format!("the native message was answered with {hello}"));
    }
    let protocol = bob.known(&carols)?.map(|entry| entry["protocol"].clone());
    if protocol.as_ref().is_none_or(|protocol| protocol != "snap2p/2") {
        return Err(format!("the native peer is listed with {protocol:?}"));
    }
    carol.stop()?;

    let peer = dial(stage, "carol", &bob, &["--send", "legacy {i}"])?;
    if peer.principal()? != carols {
        return Err("the peer is not who it should be".to_owned());
    }
    let reason = refused(peer)?;
    same_texts(
        &["native".to_owned()],
        &contents(&bob.inbox()?),
        "what is in the inbox",
    )?;

    // Nor do we speak it to her ourselves.
    let mut listening = stage.peer("carol", &["--idle", UNTIL_ENDED])?;
    bob.clawchat(&["peers", "add", &carols, &listening.address()?])?;
    bob.send(&carols, &["a secret".to_owned()])?;
    let entry = stage.until("an attempt fails", || {
        let entry = bob.outbox()?.pop();
        Ok(entry.filter(|entry| entry["lastError"].is_string()))
    })?;
    if entry["status"] != "pending" {
        return Err(format!("the message to her is {entry}"));
    }
    if !listening.so_far("session").is_empty() || !listening.so_far("message").is_empty() {
        return Err("the old protocol was spoken to her".to_owned());
    }
    bob.is_healthy(process)?;
    Ok(format!(
        "pinned to snap2p/2, she is refused ({reason}), and a message to her waits ({})",
        entry["lastError"].as_str().unwrap_or_default()
    ))
}

/// Identities that admit the caller, and identities that do not.
pub(super) fn access_list(stage: &Stage<'_>) -> Outcome<String> {
    let friend = stage.principal("friend")?;
    let bob = stage.gateway_with("bob", |config| {
        if let Some(first) = config
            .get_mut("identities")
            .and_then(|list| list.get_mut(0))
            .and_then(Value::as_object_mut)
        {
            first.insert("allowedRemotePeers".to_owned(), json!([friend]));
        }
    })?;
    let reason = refused(dial(stage, "stranger", &bob, &["--send", "one {i}"])?)?;
    if reason != "ERR_NOT_ALLOWED" {
        return Err(format!("the stranger was refused with {reason}"));
    }
    let added = bob.ask(&json!({ "cmd": "identity_add", "nick": "open", "password": PASSWORD }))?;
    let open = text(&added, "principal")?;
    for (who, answers) in [("stranger", open.as_str()), ("friend", bob.principal())] {
        let said = dial(stage, who, &bob, &["--send", &format!("{who} {{i}}")])?.finish()?;
        let session = said.iter().find(|event| is(event, "session"));
        if session.is_none_or(|session| session["principal"] != answers) {
            return Err(format!(
                "the {who} was answered by {session:?} instead of {answers}"
            ));
        }
        same_texts(
            &numbered(who, 1),
            &contents(&inbox_of(&bob, answers)?),
            "what is in the inbox",
        )?;
    }
    Ok(format!(
        "a caller no identity admits is refused ({reason}); otherwise the first that admits it answers and gets its \
         messages"
    ))
}

/// A message for somebody a peer does not answer as.
pub(super) fn other_identity(stage: &Stage<'_>) -> Outcome<String> {
    let alice = stage.gateway("alice")?;
    let mut peer = stage.peer("first", &["--idle", UNTIL_ENDED])?;
    let second = stage.principal("second")?;
    alice.clawchat(&["peers", "add", &second, &peer.address()?])?;
    alice.send(&second, &["not for the first".to_owned()])?;
    let entry = stage.until("the message fails", || {
        let entry = alice.outbox()?.pop();
        Ok(entry.filter(|entry| entry["status"] == "failed"))
    })?;
    let reason = text(&entry, "lastError")?;
    // What is for the first still gets there, and nothing else does.
    let first = peer.principal()?;
    alice.clawchat(&["peers", "add", &first, &peer.address()?])?;
    alice.send(&first, &["for the first".to_owned()])?;
    let arrived = peer.events("message", 1)?;
    same_texts(&["for the first".to_owned()], &contents(&arrived), "what arrived")?;
    Ok(format!(
        "it fails ({reason}) and does not reach the identity that answers there"
    ))
}

fn inbox_of(gateway: &Daemon, identity: &str) -> Outcome<Vec<Value>> {
    let inbox = gateway.ask(&json!({ "cmd": "inbox", "as": identity }))?;
    Ok(inbox.as_array().cloned().unwrap_or_default())
}
