//! How peers find each other, greet, and meet again.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{LOBBY, Ours, address, identity, list, node};
use crate::gateways::{Outcome, free_ports, text};
use crate::interop::stage::Stage;

/// Who says what first, in both directions, with keys and without.
pub(in crate::interop) fn handshake(stage: &Stage<'_>) -> Outcome<String> {
    let mut ours = Ours::new(stage, "ours");
    let mut listeners = Vec::new();
    for (name, keys) in [("dialed", Some("dialed-keys")), ("dialed opaque", None)] {
        let mut peer = node(
            stage,
            name,
            keys,
            &["--listen", "0", "--subscribe", LOBBY, "--expect", "1", "--frames"],
        )?;
        ours.peers.push(address(&mut peer)?);
        listeners.push(peer);
    }
    ours.start()?;
    let url = ours.url();
    for (name, keys) in [("dialing", Some("dialing-keys")), ("dialing opaque", None)] {
        let arguments = [
            "--connect",
            &url,
            "--subscribe",
            LOBBY,
            "--expect",
            "1",
            "--frames",
        ];
        listeners.push(node(stage, name, keys, &arguments)?);
    }
    let mut names = Vec::new();
    for peer in &mut listeners {
        let shaken = peer.event("handshake")?;
        let fits = shaken["peer_id"] == ours.peer_id.as_str()
            && shaken["key_matches_peer_id"] == true
            && shaken["capabilities"]["relay"] == true
            && shaken["capabilities"]["store"] == true;
        if !fits {
            return Err(format!("our handshake was {shaken}"));
        }
        peer.event("subscribe")?;
        peer.event("sync_request")?;
        names.push(identity(peer)?);
    }
    // The keys of that handshake are the ones in the folder, in the original's format.
    let pem =
        fs::read_to_string(ours.home.join("keys/pub.pem")).map_err(|error| format!("pub.pem: {error}"))?;
    let told = text(&listeners[0].event("handshake")?, "public_key")?;
    if told != pem {
        return Err(format!("pub.pem is {pem:?}, and the handshake says {told:?}"));
    }
    let links = ours.links(names.len())?;
    for name in &names {
        let Some(link) = links.iter().find(|link| link["peerId"] == name.as_str()) else {
            return Err(format!("no link with {name} in {links:?}"));
        };
        if link["relay"] != true || link["store"] != true {
            return Err(format!("what {name} can do is {link}"));
        }
    }
    // Whoever dialed speaks first; either way the first frame from us is the handshake.
    for peer in &mut listeners {
        let frames = peer.events("got", 1)?;
        let frame = text(&frames[0], "raw")?;
        if !frame.starts_with(r#"{"type":"handshake","version":1,"peer_id":""#) {
            return Err(format!("the first frame from us is {frame}"));
        }
    }
    ours.say("hello")?;
    for peer in listeners {
        peer.finish()?;
    }
    Ok(
        "dialing and dialed, with keys and without: our key fits our name, both sides subscribe and ask"
            .to_owned(),
    )
}

/// Peers of both kinds live by a list that our server serves.
pub(in crate::interop) fn bootstrap(stage: &Stage<'_>) -> Outcome<String> {
    let file = stage.write("bootstrap.json", &list(&[]))?;
    let mut command = Command::new(stage.ours("clawchat"));
    command
        .args([
            "bootstrap",
            "serve",
            "--port",
            "0",
            "--host",
            "127.0.0.1",
            "--file",
        ])
        .arg(&file);
    let mut server = stage.program("list (clawchat bootstrap serve)", command, "started")?;
    let list_url = text(&server.event("started")?, "url")?;
    let mut first = Ours::new(stage, "first");
    first.bootstrap = Some(list_url.clone());
    first.start()?;
    // Not asked for signatures: it may hear of a message from another peer on Node first, which answers without them.
    let mut listed = node(
        stage,
        "listed",
        Some("listed-keys"),
        &["--listen", "0", "--subscribe", LOBBY, "--expect", "2"],
    )?;
    let (listed_id, listed_url) = (identity(&mut listed)?, address(&mut listed)?);
    // Our own entry is in it too: nobody dials itself.
    stage.write(
        "bootstrap.json",
        &list(&[(&first.peer_id, &first.url()), (&listed_id, &listed_url)]),
    )?;
    let mut second = Ours::new(stage, "second");
    second.bootstrap = Some(list_url.clone());
    second.start()?;
    second.links(2)?;
    first.links(1)?;
    // One that the list leads to ours and to the other one.
    let guest = node(
        stage,
        "guest",
        Some("guest-keys"),
        &[
            "--bootstrap",
            &list_url,
            "--subscribe",
            LOBBY,
            "--publish",
            LOBBY,
            "I am new",
            "--expect",
            "1",
            "--require-valid",
        ],
    )?;
    first.history_of(1)?;
    second.history_of(1)?;
    second.say("welcome")?;
    let said = guest.finish()?;
    if said.iter().filter(|event| event["event"] == "handshake").count() < 2 {
        return Err("the guest did not meet both peers of the list".to_owned());
    }
    listed.finish()?;
    for ours in [&first, &second] {
        let bodies: Vec<Value> = ours
            .history_of(2)?
            .iter()
            .map(|message| message["body"].clone())
            .collect();
        if bodies != ["I am new", "welcome"] {
            return Err(format!("{} has {bodies:?}", ours.name));
        }
    }
    // A broken file changes nothing for those who ask.
    stage.write("bootstrap.json", "{\"version\":1,\"peers\":[")?;
    let late = node(
        stage,
        "late",
        None,
        &["--bootstrap", &list_url, "--subscribe", LOBBY, "--expect", "2"],
    )?;
    late.finish()?;
    server.stop()?;
    Ok(
        "our server's list leads peers of both kinds to each other; a broken file keeps the last good list"
            .to_owned(),
    )
}

/// Links that break are made again by whoever made them, and nothing is missed.
pub(in crate::interop) fn returns(stage: &Stage<'_>) -> Outcome<String> {
    // Ours is killed; the other one dials again.
    let mut ours = Ours::started(stage, "ours")?;
    let mut patient = node(
        stage,
        "patient",
        Some("patient-keys"),
        &[
            "--connect",
            &ours.url(),
            "--reconnect",
            "0.2",
            "--subscribe",
            LOBBY,
            "--expect",
            "3",
            "--require-valid",
        ],
    )?;
    patient.event("subscribe")?;
    ours.say("before")?;
    patient.event("message")?;
    ours.kill();
    patient.event("closed")?;
    ours.start()?;
    ours.say("right after")?;
    ours.links(1)?;
    ours.say("later")?;
    patient.finish()?;
    // The other one is killed; ours dials again.
    let port = free_ports()?.to_string();
    let mut mortal = node(
        stage,
        "mortal",
        Some("mortal-keys"),
        &["--listen", &port, "--subscribe", LOBBY],
    )?;
    let url = address(&mut mortal)?;
    let mut dialing = Ours::new(stage, "dialing");
    dialing.peers.push(url);
    dialing.start()?;
    dialing.say("one")?;
    mortal.event("message")?;
    mortal.kill();
    dialing.say("two")?;
    let again = node(
        stage,
        "mortal again",
        Some("mortal-keys"),
        &[
            "--listen",
            &port,
            "--subscribe",
            LOBBY,
            "--expect",
            "2",
            "--require-valid",
        ],
    )?;
    again.finish()?;
    dialing.history_of(2)?;
    Ok(
        "killed on either side, the link is made again by whoever dialed, and what was said meanwhile comes"
            .to_owned(),
    )
}
