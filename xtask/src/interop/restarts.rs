//! Either side goes away and comes back.

use std::collections::HashMap;

use serde_json::Value;

use super::stage::{Daemon, Stage, UNTIL_ENDED, seed};
use super::talk::{all_sent, contents, messages, numbered, same_texts};
use crate::gateways::{Outcome, free_ports};

/// Messages of one burst.
const BURST: usize = 20;
/// Messages of a peer right before a kill.
const MANY: usize = 100;

/// A peer is killed while messages for it wait, and comes back as itself.
pub(super) fn peer_returns(stage: &Stage<'_>) -> Outcome<String> {
    let alice = stage.gateway("alice")?;
    let (listen, key) = (format!("/ip4/127.0.0.1/tcp/{}", free_ports()?), seed("js"));
    let home = ["--listen", &listen, "--key-seed", &key];
    let peer = |arguments: &[&str]| stage.peer("js", &[&home, arguments].concat());
    let burst = BURST.to_string();

    let mut first = peer(&["--expect", &burst, "--idle", UNTIL_ENDED])?;
    let principal = first.principal()?;
    let before = numbered("before", BURST);
    alice.clawchat(&["peers", "add", &principal, &first.address()?])?;
    alice.send(&principal, &before)?;
    first.event("enough")?;
    same_texts(
        &before,
        &contents(&first.so_far("message")),
        "what arrived before",
    )?;
    all_sent(stage, &alice, BURST)?;
    first.kill();

    let meanwhile = numbered("meanwhile", BURST);
    alice.send(&principal, &meanwhile)?;
    let second = peer(&["--expect", &burst, "--idle", "1"])?;
    same_texts(
        &meanwhile,
        &messages(&second.finish()?),
        "what arrived after the return",
    )?;
    all_sent(stage, &alice, 2 * BURST)?;
    Ok(format!(
        "the {BURST} messages queued while the peer was away arrive once and in order, those before are not repeated"
    ))
}

/// Our gateway is killed and stopped with messages on their way.
pub(super) fn we_return(stage: &Stage<'_>) -> Outcome<String> {
    let mut bob = stage.gateway("bob")?;
    let count = MANY.to_string();
    let writer = stage.peer(
        "writer",
        &[
            "--dial",
            &bob.address(),
            "--send",
            "in {i}",
            "--count",
            &count,
            "--idle",
            UNTIL_ENDED,
        ],
    );
    let mut writer = writer?;
    let acknowledged = writer.event("sent")?;
    bob.kill();
    if acknowledged["acknowledged"] != true {
        return Err(format!("the PING was not answered: {acknowledged}"));
    }
    writer.kill();
    bob.start()?;
    let inbox = contents(&bob.inbox()?);
    same_texts(
        &numbered("in", MANY),
        &inbox,
        "what is in the inbox after SIGKILL",
    )?;

    // Killed and stopped with messages queued a moment before.
    let mut reader = stage.peer("reader", &["--idle", UNTIL_ENDED])?;
    let principal = reader.principal()?;
    bob.clawchat(&["peers", "add", &principal, &reader.address()?])?;
    let mut sent = Vec::new();
    for (round, end) in [Daemon::kill_now, Daemon::stop_now].into_iter().enumerate() {
        let burst = numbered(&format!("round {round}, out"), BURST);
        bob.send(&principal, &burst)?;
        end(&mut bob)?;
        bob.start()?;
        sent.extend(burst);
        all_sent(stage, &bob, sent.len())?;
    }
    let arrived = stage.until("all messages arrive", || {
        let arrived = reader.so_far("message");
        let once = once(&arrived)?;
        Ok((once.len() >= sent.len()).then_some(arrived))
    })?;
    same_texts(&sent, &once(&arrived)?, "what arrived at the peer")?;
    let again = arrived.len() - sent.len();
    Ok(format!(
        "{MANY} messages whose PING was answered are there after SIGKILL; {} queued right before a SIGKILL and a stop all \
         arrive in order ({again} came a second time, with the same id)",
        sent.len()
    ))
}

impl Daemon {
    fn kill_now(&mut self) -> Outcome {
        self.kill();
        Ok(())
    }

    fn stop_now(&mut self) -> Outcome {
        self.stop()
    }
}

/// The texts in the order of their first arrival. What comes again must come with the id it had.
fn once(arrived: &[Value]) -> Outcome<Vec<String>> {
    let mut ids: HashMap<&str, &Value> = HashMap::new();
    let mut texts = Vec::new();
    for message in arrived {
        let text = message["content"].as_str().unwrap_or_default();
        match ids.insert(text, &message["id"]) {
            None => texts.push(text.to_owned()),
            Some(id) if *id == message["id"] => {}
            Some(id) => {
                return Err(format!("{text:?} came as {id} and again as {}", message["id"]));
            }
        }
    }
    Ok(texts)
}
