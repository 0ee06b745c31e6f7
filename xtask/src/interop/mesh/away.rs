//! What was said while somebody was away.

use serde_json::Value;

use super::{LOBBY, Ours, address, check_messages, check_numbered, identity, node};
use crate::gateways::Outcome;
use crate::interop::stage::{Stage, UNTIL_ENDED};

/// Messages missed: several pages of an existing peer, which answers with 500 at most.
const MISSED: usize = 1200;
const MISSED_TEXT: &str = "1200";

/// Ours comes later. With signatures in its answers the other peer's messages are verified, without they are not.
pub(in crate::interop) fn we_were_away(stage: &Stage<'_>) -> Outcome<String> {
    let mut proven = Vec::new();
    for (name, more, verified) in [
        ("signing", &["--sync-signatures"][..], true),
        ("silent", &[], false),
    ] {
        let keys = format!("{name}-keys");
        // It stays until ours has sent something.
        let base = [
            "--listen",
            "0",
            "--subscribe",
            LOBBY,
            "--publish-now",
            "--publish",
            LOBBY,
            "missed",
            "--count",
            MISSED_TEXT,
            "--expect",
            "1",
        ];
        let mut other = node(stage, name, Some(&keys), &[&base[..], more].concat())?;
        let (key, url) = (identity(&mut other)?, address(&mut other)?);
        other.events("published", MISSED)?;
        let mut ours = Ours::new(stage, &format!("ours-{name}"));
        ours.peers.push(url);
        ours.start()?;
        let history = ours.history_of(MISSED)?;
        check_numbered(&history, "missed", MISSED)?;
        check_messages(&history, &key, verified)?;
        // Once more, from its own disk: nothing comes twice.
        ours.kill();
        ours.start()?;
        ours.links(1)?;
        ours.say("enough")?;
        other.finish()?;
        ours.history_of(MISSED + 1)?;
        proven.push(if verified { "verified" } else { "unverified" });
    }
    Ok(format!(
        "{MISSED} missed messages came by sync, each once, {} where their signatures came along and {} where not",
        proven[0], proven[1]
    ))
}

/// The other peer comes later, after ours was killed and came back.
pub(in crate::interop) fn they_were_away(stage: &Stage<'_>) -> Outcome<String> {
    let mut ours = Ours::started(stage, "ours")?;
    let writer = node(
        stage,
        "writer",
        Some("writer-keys"),
        &[
            "--connect",
            &ours.url(),
            "--subscribe",
            LOBBY,
            "--publish",
            LOBBY,
            "kept",
            "--count",
            MISSED_TEXT,
            "--linger",
            UNTIL_ENDED,
        ],
    )?;
    let before = ours.history_of(MISSED)?;
    writer.dismiss()?;
    ours.kill();
    ours.start()?;
    let after = ours.history_of(MISSED)?;
    let ids =
        |messages: &[Value]| -> Vec<Value> { messages.iter().map(|message| message["id"].clone()).collect() };
    if ids(&before) != ids(&after) {
        return Err("the history changed when our peer was killed".to_owned());
    }
    let late = node(
        stage,
        "late",
        Some("late-keys"),
        &[
            "--connect",
            &ours.url(),
            "--subscribe",
            LOBBY,
            "--expect",
            MISSED_TEXT,
            "--require-valid",
        ],
    )?;
    let said = late.finish()?;
    let pages = said
        .iter()
        .filter(|event| event["event"] == "sync_response")
        .count();
    Ok(format!(
        "{MISSED} messages, acknowledged to nobody, survived a kill; a peer that came later had all of them in {pages} \
         pages, with their signatures"
    ))
}
