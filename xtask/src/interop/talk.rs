//! Messages in both directions, of every size, over sessions either side opened.

use serde_json::Value;

use super::peer::{Peer, is};
use super::stage::{Daemon, Stage, UNTIL_ENDED};
use crate::gateways::Outcome;

/// Messages in one direction.
const MANY: usize = 100;
/// Bytes of the longest text.
const LONG_TEXT: usize = 1024 * 1024;
/// Ordinary messages before and behind the unusual ones.
const ORDINARY: usize = 20;

/// A peer dials us.
pub(super) fn dialed(stage: &Stage<'_>) -> Outcome<String> {
    let bob = stage.gateway("bob")?;
    let count = MANY.to_string();
    let peer = stage.peer(
        "js",
        &[
            "--dial",
            &bob.address(),
            "--nick",
            "Js",
            "--send",
            "message {i}",
            "--count",
            &count,
        ],
    )?;
    let principal = peer.principal()?;
    let said = peer.finish()?;
    check_session(&said, &bob)?;
    // The PONG behind them was answered, so they are on disk.
    let inbox = bob.inbox()?;
    same_texts(
        &numbered("message", MANY),
        &contents(&inbox),
        "what arrived at our gateway",
    )?;
    for message in &inbox {
        if message["from"] != principal.as_str() || message["fromNick"] != "Js" {
            return Err(format!("a message came in with another sender: {message}"));
        }
    }
    Ok(format!(
        "the session is bound to both node keys; {MANY} messages are in our inbox, once and in order, when the PING \
         behind them is answered"
    ))
}

/// We dial a peer.
pub(super) fn dialing(stage: &Stage<'_>) -> Outcome<String> {
    let alice = stage.gateway("alice")?;
    let count = MANY.to_string();
    let mut peer = stage.peer("js", &["--expect", &count, "--idle", UNTIL_ENDED])?;
    let principal = peer.principal()?;
    alice.clawchat(&["peers", "add", &principal, &peer.address()?])?;
    let texts = numbered("message", MANY);
    let [first, others @ ..] = texts.as_slice() else {
        return Err("there is nothing to send".to_owned());
    };
    alice.clawchat(&["send", &principal, first])?;
    alice.send(&principal, others)?;
    peer.event("enough")?;
    let arrived = peer.so_far("message");
    same_texts(&texts, &contents(&arrived), "what arrived at the peer")?;
    for message in &arrived {
        if message["from"] != alice.principal() || message["spoofed"] != false {
            return Err(format!("a message went out with another sender: {message}"));
        }
    }
    all_sent(stage, &alice, MANY)?;
    let list = alice.clawchat(&["peers", "list"])?;
    let entry = list
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| entry["principal"] == principal.as_str());
    if entry.is_none_or(|entry| entry["protocol"] != "clawchat/1" || entry["connected"] != true) {
        return Err(format!("peers list says {list}"));
    }
    peer.kill();
    stage.until("the peer's end is noticed", || {
        Ok((!alice.is_connected(&principal)?).then_some(()))
    })?;
    all_sent(stage, &alice, MANY)?;
    Ok(format!(
        "{MANY} messages arrived once and in order, and stay \"sent\", not \"delivered\", when the peer has gone; peers \
         list says clawchat/1"
    ))
}

/// Texts of every kind, both ways at once.
pub(super) fn both_ways(stage: &Stage<'_>) -> Outcome<String> {
    let bob = stage.gateway("bob")?;
    let texts = texts(LONG_TEXT);
    let file = stage.write("texts.json", &Value::from(texts.clone()).to_string())?;
    let count = texts.len().to_string();
    let file = file.display().to_string();
    let mut peer = stage.peer(
        "js",
        &["--dial", &bob.address(), "--send-file", &file, "--expect", &count],
    )?;
    peer.event("session")?;
    bob.send(&peer.principal()?, &texts)?;
    peer.event("sent")?;
    same_texts(&texts, &contents(&bob.inbox()?), "what arrived at our gateway")?;
    all_sent(stage, &bob, texts.len())?;
    let said = peer.finish()?;
    same_texts(&texts, &messages(&said), "what arrived at the peer")?;
    Ok(format!(
        "{count} texts each way over one session are the same at the other end: empty, emoji, combining marks, NUL, \
         newlines, and {LONG_TEXT} bytes"
    ))
}

/// Frames that come in pieces.
pub(super) fn pieces(stage: &Stage<'_>) -> Outcome<String> {
    let bob = stage.gateway("bob")?;
    let short: Vec<String> = texts(0).into_iter().take(2 * ORDINARY).collect();
    let long = texts(100_000);
    let dial = |name: &str, texts: &[String], bytes: &str| -> Outcome<Peer> {
        let file = stage.write(&format!("{name}.json"), &Value::from(texts.to_vec()).to_string())?;
        let file = file.display().to_string();
        stage.peer(
            name,
            &["--dial", &bob.address(), "--send-file", &file, "--chunk", bytes],
        )
    };
    let peers = [dial("ones", &short, "1")?, dial("sevens", &long, "7")?];
    for (peer, texts) in peers.into_iter().zip([&short, &long]) {
        let principal = peer.principal()?;
        peer.finish()?;
        let inbox = bob.inbox()?;
        let from = |message: &&Value| message["from"] == principal.as_str();
        let arrived: Vec<Value> = inbox.iter().filter(from).cloned().collect();
        same_texts(texts, &contents(&arrived), "what arrived in pieces")?;
    }
    Ok("handshake and messages arrive whole when every write is 1 byte, and when it is 7".to_owned())
}

/// Whether the peer opened a session with that gateway, and all keys fit.
pub(super) fn check_session(said: &[Value], gateway: &Daemon) -> Outcome {
    let session = said
        .iter()
        .find(|event| is(event, "session"))
        .ok_or("there was no session")?;
    let bound = &session["bound"];
    let fits = session["principal"] == gateway.principal()
        && session["peerId"] == gateway.peer_id()
        && ["helloKey", "connectionKey", "nonce"].map(|key| bound[key] == true) == [true; 3];
    if fits {
        Ok(())
    } else {
        Err(format!("the session does not fit: {session}"))
    }
}

/// Waits until every message of a gateway is `sent`. None may ever be `delivered` or `failed`.
pub(super) fn all_sent(stage: &Stage<'_>, gateway: &Daemon, count: usize) -> Outcome {
    stage.until("all messages are sent", || {
        let outbox = gateway.outbox()?;
        if let Some(wrong) = outbox
            .iter()
            .find(|message| message["status"] == "delivered" || message["status"] == "failed")
        {
            return Err(format!("the outbox has {wrong}"));
        }
        let sent = outbox.iter().filter(|message| message["status"] == "sent");
        Ok((sent.count() == count).then_some(()))
    })
}

/// `WORD 0`, `WORD 1`, …
pub(super) fn numbered(word: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{word} {number}")).collect()
}

/// The texts of messages, in their order.
pub(super) fn contents(messages: &[Value]) -> Vec<String> {
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    messages.iter().map(text).collect()
}

/// The texts of the messages among a peer's events.
pub(super) fn messages(said: &[Value]) -> Vec<String> {
    let messages: Vec<Value> = said
        .iter()
        .filter(|event| is(event, "message"))
        .cloned()
        .collect();
    contents(&messages)
}

/// Whether the same texts arrived, once and in order.
pub(super) fn same_texts(sent: &[String], arrived: &[String], what: &str) -> Outcome {
    if sent == arrived {
        return Ok(());
    }
    let short = |text: Option<&String>| text.map(|text| text.chars().take(40).collect::<String>());
    let first = sent
        .iter()
        .zip(arrived)
        .take_while(|(sent, arrived)| sent == arrived)
        .count();
    Err(format!(
        "{what} is not what was sent: {} messages of {}; number {first} is {:?} instead of {:?}",
        arrived.len(),
        sent.len(),
        short(arrived.get(first)),
        short(sent.get(first)),
    ))
}

/// Texts of every kind, the longest of `long` bytes.
fn texts(long: usize) -> Vec<String> {
    let mut texts = numbered("before", ORDINARY);
    let unusual = [
        "",
        " ",
        "\u{0}",
        "a\u{0}b\nc\r\n\td\u{7f}\u{1b}[31m",
        "🦀 👩\u{200d}👩\u{200d}👧\u{200d}👦 🏳\u{fe0f}\u{200d}🌈",
        "e\u{301} is not \u{e9}, Z\u{351}\u{36b}\u{343}\u{32a}",
        "\u{202e}right to left\u{202c} שלום مرحبا",
        // No U+FEFF in front: JavaScript takes it for a byte order mark when it reads a text, and drops it.
        "\u{2028}\u{2029}\u{feff}\u{10ffff}\u{fffd}",
        r#"{"type":3} "quoted" \u0000 \\ </script>"#,
    ];
    texts.extend(unusual.map(str::to_owned));
    let mixed = "é🦀x";
    let mut longest = mixed.repeat(long / mixed.len());
    longest.push_str(&"y".repeat(long % mixed.len()));
    texts.push(longest);
    texts.extend(numbered("behind", ORDINARY));
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_where_it_begins() {
        let sent = numbered("message", 3);
        assert_eq!(same_texts(&sent, &sent, "it"), Ok(()));
        let [first, second, third] = [0, 1, 2].map(|number| sent[number].clone());
        for arrived in [
            vec![first.clone(), second.clone()],
            vec![first.clone(), third, second.clone()],
            vec![first, second.clone(), second, sent[2].clone()],
        ] {
            assert!(same_texts(&sent, &arrived, "it").is_err(), "{arrived:?}");
        }
    }

    #[test]
    fn the_long_text_is_as_long_as_it_should_be() {
        let longest = texts(LONG_TEXT).iter().map(String::len).max();
        assert_eq!(longest, Some(LONG_TEXT));
    }
}
