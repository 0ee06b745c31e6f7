//! PX-1 between the two kinds of gateway: resolve and push frames.

use serde_json::{Value, json};

use super::peer::{Peer, is};
use super::stage::{Stage, UNTIL_ENDED};
use crate::gateways::Outcome;

/// A PeerId of nobody here.
const SOMEBODY: &str = "12D3KooWPqT2nMDSiXUSx5D7fasaxhxKigVhcqfkKqrLghCq9jxz";

/// The peer asks us and tells us; we ask the peer.
pub(super) fn exchange(stage: &Stage<'_>) -> Outcome<String> {
    let bob = stage.gateway("bob")?;
    let (unknown, pushed, kept) = (
        stage.principal("unknown")?,
        stage.principal("pushed")?,
        stage.principal("kept")?,
    );
    let pushed_address = format!("/ip4/203.0.113.7/tcp/9000/p2p/{SOMEBODY}");
    let kept_address = format!("/ip4/203.0.113.8/tcp/9000/p2p/{SOMEBODY}");
    let (push, know) = (
        format!("{pushed}={pushed_address}"),
        format!("{kept}={kept_address}"),
    );
    let mut peer = stage.peer(
        "js",
        &[
            "--dial",
            &bob.address(),
            "--resolve",
            bob.principal(),
            "--resolve",
            &unknown,
            "--push",
            &push,
            "--know",
            &know,
            "--idle",
            UNTIL_ENDED,
        ],
    )?;
    let answers = peer.events("px1_resolve", 2)?;
    let of = |principal: &str| answers.iter().find(|answer| answer["principal"] == principal);
    let about_us = of(bob.principal()).map(|answer| &answer["peer"]);
    let fits = about_us.is_some_and(|about| {
        about["principal"] == bob.principal()
            && about["peerId"] == bob.peer_id()
            && contains_port(&about["multiaddrs"], bob.port())
    });
    if !fits {
        return Err(format!("asked about ourselves, we answered {about_us:?}"));
    }
    if of(&unknown).is_none_or(|answer| !answer["peer"].is_null()) {
        return Err(format!("asked about nobody, we answered {:?}", of(&unknown)));
    }
    stage.until("what the peer pushed is known", || {
        let found = bob.clawchat(&["peers", "resolve", &pushed])?;
        Ok(has_address(&found, &pushed_address).then_some(()))
    })?;
    let principal = peer.principal()?;
    let found = bob.clawchat(&["peers", "resolve", &kept, "--through", &principal])?;
    if !has_address(&found, &kept_address) {
        return Err(format!("asked through the peer, {kept} is {found}"));
    }
    asked_about(&mut peer, &kept)?;
    let found = bob.clawchat(&["peers", "resolve", &unknown, "--through", &principal])?;
    if !found.is_null() {
        return Err(format!("asked through the peer, nobody is {found}"));
    }
    Ok(
        "the peer finds us through us, with addresses and PeerId, and null for nobody; its hint shows in peers resolve; \
        peers resolve --through asks it"
            .to_owned(),
    )
}

/// A gateway that is public says where it is; a private one does not.
pub(super) fn public(stage: &Stage<'_>) -> Outcome<String> {
    let bob = stage.gateway_with("bob", |config| {
        config.insert("visibility".to_owned(), json!("public"));
    })?;
    let carol = stage.gateway("carol")?;
    let peer = stage.peer("js", &["--dial", &bob.address(), "--expect-px", "1"])?;
    let shy = stage.peer("shy", &["--dial", &carol.address(), "--idle", "3"])?;
    let said = peer.finish()?;
    let told = |event: &&Value| is(event, "px1_push") && event["direction"] == "in";
    let entries = said
        .iter()
        .filter(told)
        .flat_map(|push| push["peers"].as_array().cloned().unwrap_or_default());
    let entries: Vec<Value> = entries.collect();
    let fits = entries.iter().any(|entry| {
        entry["principal"] == bob.principal()
            && entry["peerId"] == bob.peer_id()
            && contains_port(&entry["multiaddrs"], bob.port())
    });
    if !fits {
        return Err(format!("the public gateway pushed {entries:?}"));
    }
    let said = shy.finish()?;
    if said.iter().any(|event| told(&event)) {
        return Err(format!("the private gateway pushed: {said:?}"));
    }
    Ok(
        "a public gateway pushes its addresses and PeerId after the session opens; a private one pushes nothing"
            .to_owned(),
    )
}

fn asked_about(peer: &mut Peer, principal: &str) -> Outcome {
    let asked = peer.event("px1_request")?;
    if asked["principal"] == principal && asked["found"] == true {
        Ok(())
    } else {
        Err(format!("the peer was asked {asked}"))
    }
}

fn contains_port(addresses: &Value, port: u16) -> bool {
    let port = format!("/tcp/{port}");
    let mut addresses = addresses.as_array().into_iter().flatten();
    addresses.any(|address| {
        address
            .as_str()
            .is_some_and(|address| address.ends_with(&port) || address.contains(&format!("{port}/")))
    })
}

fn has_address(found: &Value, address: &str) -> bool {
    let mut addresses = found["multiaddrs"].as_array().into_iter().flatten();
    addresses.any(|known| known == address)
}
