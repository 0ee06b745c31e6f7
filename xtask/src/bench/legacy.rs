//! Messages to a ClawChat 1.0 peer on Node: how fast they go, and which side has more work with them.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clawchat_identity::{Mnemonic, Wallet};
use clawchat_types::Network;
use serde_json::json;

use super::Effort;
use super::figure::{Figure, Target};
use super::process::whole_processor_time;
use super::traffic::Line;
use crate::gateways::{Gateway, Outcome};
use crate::interop::{self, LastLines, NotInstalled, Peer};
use crate::say;

/// Messages that open the session and warm both sides up.
const WARM_UP: u64 = 500;
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(300);
/// Between two looks at how far the warming up is.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What it takes to send to such a peer, where Node is installed.
pub(super) fn measure(folder: &Path, effort: &Effort) -> Outcome<Vec<Figure>> {
    let installed = match interop::install() {
        Ok(installed) => installed,
        Err(NotInstalled::Missing(reason)) => {
            say(&format!("skipped: messages to a ClawChat 1.0 peer ({reason})"));
            return Ok(Vec::new());
        }
        Err(NotInstalled::Failed(reason)) => return Err(reason),
    };
    say("messages to a ClawChat 1.0 peer");
    let mut gateway = Gateway::set_up(&folder.join("clawchatd"), "alice")?;
    gateway.start()?;
    let words = tempfile::NamedTempFile::new().map_err(|error| format!("a temporary file: {error}"))?;
    std::fs::write(words.path(), Mnemonic::from_entropy([7; 32]).expose_words())
        .map_err(|error| format!("{}: {error}", words.path().display()))?;
    let mut command = installed.command();
    command.arg("--mnemonic-file").arg(words.path());
    command.args(["--idle", "60", "--timeout"]);
    command.arg(LIMIT.as_secs().to_string());
    command.arg("--expect").arg((WARM_UP + effort.legacy).to_string());
    let deadline = Instant::now() + LIMIT;
    let mut peer = Peer::start("the peer", command, deadline, LastLines::default())?;
    let principal = peer.principal()?;
    gateway.ask(
        &json!({ "cmd": "peer_add", "principal": principal, "address": peer.address()?, "alias": "js" }),
    )?;
    let mut line = Line::open_to(&gateway, "js")?;
    line.queued(WARM_UP)?;
    while sent(&gateway)? < WARM_UP {
        if Instant::now() >= deadline {
            return Err("the peer does not take messages".to_owned());
        }
        thread::sleep(LOOK_AGAIN);
    }

    // Nobody answers there: this is the work of taking messages in and storing them alone.
    let nobody = Wallet::from_mnemonic(&Mnemonic::from_entropy([8; 32]))
        .map_err(|error| error.to_string())?
        .principal(Network::Testnet)
        .to_string();
    let mut idle_line = Line::open_to(&gateway, &nobody)?;
    let before = gateway.pid().and_then(whole_processor_time);
    idle_line.queued(effort.legacy)?;
    let after = gateway.pid().and_then(whole_processor_time);
    let queueing = after
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));

    let processes = [gateway.pid().unwrap_or_default(), peer.pid()];
    let before = processes.map(whole_processor_time);
    let begun = Instant::now();
    line.queued(effort.legacy)?;
    peer.event("enough")?;
    let took = begun.elapsed();
    let after = processes.map(whole_processor_time);
    let count = effort.legacy as f64;
    let name = format!(
        "{} messages to a ClawChat 1.0 peer, until it has all",
        effort.legacy
    );
    let mut figures = vec![Figure::new(&name, count / took.as_secs_f64(), "msg/s")];
    if let ([Some(ours_before), Some(theirs_before)], [Some(ours), Some(theirs)]) = (before, after) {
        let ours = ours.saturating_sub(ours_before).as_secs_f64();
        let theirs = theirs.saturating_sub(theirs_before).as_secs_f64();
        figures.extend([
            Figure::new(
                "  processor time of clawchatd per message",
                ours * 1e6 / count,
                "us",
            ),
            Figure::new(
                "    of that, to take it in and store it",
                queueing.unwrap_or_default().as_secs_f64() * 1e6 / count,
                "us",
            ),
            Figure::new(
                "  processor time of the peer (Node) per message",
                theirs * 1e6 / count,
                "us",
            ),
            Figure::new("  clawchatd's beside the peer's", ours / theirs, "times")
                .target(Target::AtMost(1.0)),
        ]);
    }
    gateway.stop()?;
    Ok(figures)
}

/// How many of the first messages have been sent.
fn sent(gateway: &Gateway) -> Outcome<u64> {
    let outbox = gateway.ask(&json!({ "cmd": "outbox", "limit": WARM_UP }))?;
    let messages = outbox.as_array().into_iter().flatten();
    let sent = messages.filter(|message| message["status"] == "sent").count();
    u64::try_from(sent).map_err(|error| error.to_string())
}
