//! Names that want to be mistaken for somebody else's.

use std::time::Duration;

use clawchat_identity::{AliasCard, CardDetails, ContactCard, Identity};
use clawchat_snap2p::chat::ChatEvent;
use clawchat_snap2p::px1::PX1_LABEL;
use clawchat_testkit::Person::{Alice, Bob, Dave};
use clawchat_testkit::attestation_from;
use clawchat_types::UnixSeconds;
use serde_json::{Value, json};

use super::whereabouts::{now, push, say};
use crate::common::{Chat, Rogue, eventually, pair, within};

const HOUR: Duration = Duration::from_secs(3600);

/// A card of somebody as of a moment, with an alias issued at another.
fn named(who: &Identity, at: UnixSeconds, name: &str, named_at: UnixSeconds) -> Vec<u8> {
    let name = Some(name.parse().unwrap());
    let alias = AliasCard::create(
        who.wallet(),
        who.network(),
        "mallory",
        name,
        named_at,
        HOUR,
        [1; 32],
    );
    let details = CardDetails {
        alias: Some(AliasCard::from_bytes(&alias.unwrap().to_bytes()).unwrap()),
        ..CardDetails::default()
    };
    let card = ContactCard::create(who.node_key(), attestation_from(who, at), details, at, HOUR);
    card.unwrap().to_bytes()
}

fn ago(seconds: i64) -> UnixSeconds {
    UnixSeconds(now().0 - seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sender_calls_itself_is_shown_harmlessly_and_counts_for_nothing() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let bob = b.caller(Bob);
    a.caller(Alice).deliver(Bob.principal(), "it is me").await;
    let shown = async |from: &str| {
        let inbox = bob.inbox().await;
        let message = inbox.iter().find(|message| message["from"] == from);
        message.expect("a message from there")["fromDisplayName"].clone()
    };
    let alices = Alice.principal().to_string();
    eventually("her name is known", async || {
        (shown(&alices).await == "alice").then_some(())
    })
    .await;

    let mut watching = bob.subscribe(json!({ "events": ["message"] })).await;
    let me = Dave.identity();
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&b, Bob).await;
    let mut chat = Chat::open(&session).await;
    let event = chat.put(rogue.letter(1, Bob, "it is me, really")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    let mallory = rogue.principal().to_string();
    assert_eq!(shown(&mallory).await, Value::Null, "it has not said");
    assert_eq!(watching.hear().await["message"]["fromDisplayName"], Value::Null);

    // A Cyrillic letter among Latin ones, an invisible one, a full-width one. Those that turn text round are in no card.
    // Each alias is newer than the one before.
    let mut stream = within(session.open_stream(PX1_LABEL)).await.unwrap();
    let names = [
        ("\u{430}lice", "\\u{430}lice"),
        ("al\u{200b}ice", "al\\u{200b}ice"),
        ("\u{ff21}lice", "Alice"),
    ];
    for (step, (name, fit)) in (0_i64..).zip(names) {
        let at = ago(60 - step);
        assert!(say(&mut stream, &push(vec![named(&me, at, name, at)])).await);
        eventually(fit, async || (shown(&mallory).await == fit).then_some(())).await;
    }
    // One that is over is not taken, though the card around it is newer; nor is one in the name of another.
    let late = named(&me, ago(10), "late", ago(2 * 3600 + 600));
    let mut stolen = named(&Alice.identity(), ago(5), "stolen", ago(5));
    let end = stolen.len() - 1;
    stolen[end] ^= 1;
    let known = bob.metric("clawchat_px1_cards_received_total", "new").await;
    assert!(say(&mut stream, &push(vec![stolen, late])).await);
    bob.counted("clawchat_px1_cards_received_total", "new", known + 1)
        .await;
    assert_eq!(shown(&mallory).await, "Alice");
    assert_eq!(shown(&alices).await, "alice");

    // What looks like her name leads nowhere, here and in every list.
    for name in ["Alice", "alice", "mallory", "\u{430}lice"] {
        let send = json!({ "cmd": "send", "to": name, "content": "x" });
        assert_eq!(bob.refused(send).await, "unknown_recipient", "{name}");
        let recv = json!({ "cmd": "recv", "from": name });
        assert_ne!(
            bob.ask(recv).await["data"].as_array().map(Vec::len),
            Some(1),
            "{name}"
        );
    }
    chat.put(rogue.letter(2, Bob, "again")).await.unwrap();
    let told = watching.hear().await["message"].take();
    assert_eq!(
        (&told["fromDisplayName"], &told["from"]),
        (&json!("Alice"), &json!(mallory))
    );
    let unread = bob.ok(json!({ "cmd": "recv", "unread": true })).await;
    let names: Vec<&Value> = unread
        .as_array()
        .unwrap()
        .iter()
        .map(|message| &message["fromDisplayName"])
        .collect();
    assert_eq!(names, ["alice", "Alice", "Alice"]);
    a.caller(Alice).deliver(Bob.principal(), "still me").await;
}
