//! Peers that lie about where others are, or ask and tell without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clawchat_identity::{CardDetails, ContactCard, Identity};
use clawchat_node::Stream;
use clawchat_snap2p::px1::{End, Message, MessageReader, PX1_LABEL, encode};
use clawchat_testkit::Person::{Alice, Bob, Carol, Dave};
use clawchat_testkit::attestation_from;
use clawchat_types::{Locator, Network, Principal, UnixSeconds};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::victims::dialable;
use crate::common::{Gate, Rogue, eventually, within};

/// Questions that are answered at once, before one each second is.
const QUESTIONS_BURST: u32 = 32;

pub(crate) fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixSeconds(i64::try_from(since.as_secs()).unwrap())
}

/// A public card of somebody, as of a moment, with these addresses.
pub(crate) fn card(identity: &Identity, at: UnixSeconds, addresses: &[&str]) -> Vec<u8> {
    let details = CardDetails {
        locators: addresses
            .iter()
            .map(|address| address.parse::<Locator>().unwrap())
            .collect(),
        capabilities: vec!["public".to_owned()],
        alias: None,
    };
    let attestation = attestation_from(identity, at);
    let card = ContactCard::create(
        identity.node_key(),
        attestation,
        details,
        at,
        Duration::from_secs(3600),
    );
    card.unwrap().to_bytes()
}

pub(crate) fn push(cards: Vec<Vec<u8>>) -> Message {
    Message::Push {
        cards: cards.into_iter().map(Arc::from).collect(),
    }
}

pub(crate) async fn say(stream: &mut Stream, message: &Message) -> bool {
    within(stream.write_all(encode(message).unwrap().into()))
        .await
        .is_ok()
}

async fn px1(gate: &Gate) -> Value {
    gate.caller(Bob).ok(json!({ "cmd": "status" })).await["px1"].clone()
}

async fn resolved(gate: &Gate, principal: &Principal) -> Value {
    gate.caller(Bob)
        .ok(json!({ "cmd": "peer_resolve", "principal": principal.to_string() }))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_cards_that_hold_are_believed() {
    let (gate, honest) = tokio::join!(Gate::of(&[Bob]), Gate::of(&[Alice]));
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&gate, Bob).await;
    let mut stream = within(session.open_stream(PX1_LABEL)).await.unwrap();

    let good = card(&Alice.identity(), now(), &["/ip4/192.0.2.10/tcp/9000"]);
    let mut forged = card(&Carol.identity(), now(), &["/ip4/192.0.2.66/tcp/9000"]);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let bad = vec![
        forged,
        card(
            &Carol.identity(),
            UnixSeconds(now().0 + 7200),
            &["/ip4/192.0.2.66/tcp/9000"],
        ),
        card(
            &Carol.identity(),
            UnixSeconds(now().0 - 90_000),
            &["/ip4/192.0.2.66/tcp/9000"],
        ),
        card(
            &Carol.identity_on(Network::Mainnet),
            now(),
            &["/ip4/192.0.2.66/tcp/9000"],
        ),
        card(&Bob.identity(), now(), &["/ip4/192.0.2.66/tcp/9000"]),
        b"no card at all".to_vec(),
    ];
    assert!(say(&mut stream, &push([bad, vec![good]].concat())).await);
    eventually("the good one is believed", async || {
        (px1(&gate).await["cards"] == 1).then_some(())
    })
    .await;
    let found = resolved(&gate, &Alice.principal()).await;
    assert!(
        found["multiaddrs"][0]
            .as_str()
            .unwrap()
            .starts_with("/ip4/192.0.2.10/"),
        "{found}"
    );
    assert_eq!(resolved(&gate, &Carol.principal()).await, Value::Null);
    assert!(px1(&gate).await["forged"].as_u64().unwrap() >= 5);
    let bob = gate.caller(Bob);
    let cards = "clawchat_px1_cards_received_total";
    // Forged, from the future, of the other network, over, and none.
    assert_eq!(bob.metric(cards, "invalid").await, 5);
    assert_eq!(bob.metric(cards, "own").await, 1);
    assert_eq!(bob.metric(cards, "new").await, 1);
    // Nobody got into the peer list by being talked about.
    let peers = gate.caller(Bob).ok(json!({ "cmd": "peers" })).await;
    assert_eq!(peers.as_array().unwrap().len(), 1, "{peers}");
    honest.caller(Alice).knows(Bob, &gate).await;
    honest.caller(Alice).deliver(Bob.principal(), "honest").await;
    assert_eq!(bob.texts().await, ["honest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_with_ten_thousand_addresses_ends_the_stream_that_brings_it_and_nothing_else() {
    let (gate, honest) = tokio::join!(Gate::of(&[Bob]), Gate::of(&[Alice]));
    let (alice, bob) = (honest.caller(Alice), gate.caller(Bob));
    alice.knows(Bob, &gate).await;
    alice.deliver(Bob.principal(), "before").await;
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&gate, Bob).await;
    let mut stream = within(session.open_stream(PX1_LABEL)).await.unwrap();
    // Such a card is longer than any message may be, so it is not even read.
    let address = "/ip4/203.0.113.1/tcp/9000";
    let card = card(&Carol.identity(), now(), &[address]);
    let at = card
        .windows(address.len())
        .position(|window| window == address.as_bytes());
    let mut card = card;
    card.splice(at.unwrap()..at.unwrap(), address.repeat(9_999).into_bytes());
    let length = u32::try_from(card.len()).unwrap().to_be_bytes();
    // It may be broken off before all of it is written.
    let _ = within(stream.write_all([length.to_vec(), card].concat().into())).await;
    bob.counted("clawchat_px1_dropped_total", "malformed", 1).await;
    assert_eq!(px1(&gate).await["cards"], 1, "the honest one's own");
    alice.deliver(Bob.principal(), "after").await;
    assert_eq!(bob.texts().await, ["before", "after"]);
    assert!(!session.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_dialed_on_this_machine_because_a_stranger_says_so() {
    let gate = Gate::of(&[Bob]).await;
    // Where there is no network, this machine is all there is to dial.
    if dialable(&gate.caller(Bob)).await.is_loopback() {
        eprintln!("skipped: this machine has no network, so it may be dialed");
        return;
    }
    let victim = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", victim.local_addr().unwrap().port());
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&gate, Bob).await;
    let mut stream = within(session.open_stream(PX1_LABEL)).await.unwrap();
    // The card is real, and the address is somebody else's door. Somewhere else, too, so that trying has a beginning.
    let decoy = card(&Carol.identity(), now(), &[&address, "/ip4/203.0.113.1/tcp/9"]);
    assert!(say(&mut stream, &push(vec![decoy])).await);
    eventually("the card is there", async || {
        (px1(&gate).await["cards"] == 1).then_some(())
    })
    .await;
    let bob = gate.caller(Bob);
    let id = bob.send(Carol.principal(), "hello?").await;
    eventually("it was tried", async || {
        let entry = bob.sent(&id).await;
        (entry["attempts"].as_u64()? > 0).then_some(())
    })
    .await;
    let knock = tokio::time::timeout(Duration::from_millis(1), victim.accept()).await;
    assert!(knock.is_err(), "the victim was dialed");
    assert!(bob.metric("clawchat_dials_held_total", "private").await >= 1);
    let honest = Gate::of(&[Alice]).await;
    honest.caller(Alice).knows(Bob, &gate).await;
    honest.caller(Alice).deliver(Bob.principal(), "honest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_reports_of_itself_leads_into_no_private_network() {
    let gate = Gate::of(&[Bob]).await;
    let [inside, outside] = ["/ip4/10.77.0.1/tcp/22", "/ip4/203.0.113.7/tcp/9000"];
    let says = [inside, outside].map(|address| address.parse().unwrap());
    let rogue = Rogue::reporting(Dave.identity(), says.to_vec()).await;
    let said = format!("{:?}", rogue.node.locators());
    assert!(said.contains(inside) && said.contains(outside), "{said}");
    let _session = rogue.session(&gate, Bob).await;
    let noted = eventually("its addresses are noted", async || {
        let peers = gate.caller(Bob).ok(json!({ "cmd": "peers" })).await;
        let noted = peers[0]["addresses"].to_string();
        noted.contains(outside).then_some(noted)
    })
    .await;
    assert!(!noted.contains(inside), "{noted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_questions_and_cards_cost_nobody_else_anything() {
    let gate = Gate::of(&[Bob]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&gate, Bob).await;
    let stream = within(session.open_stream(PX1_LABEL)).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let start = Instant::now();
    let flood = tokio::spawn(async move {
        let same = card(&Alice.identity(), now(), &["/ip4/192.0.2.10/tcp/9000"]);
        for id in 0..3000 {
            let question = Message::Resolve {
                id,
                principal: Carol.principal(),
                max: 1,
            };
            let told = push(vec![same.clone(); 20]);
            for message in [question, told] {
                if writer.write_all(encode(&message).unwrap().into()).await.is_err() {
                    return;
                }
            }
        }
    });
    let heard = Arc::new(AtomicU64::new(0));
    let hearing = Arc::clone(&heard);
    let answers = tokio::spawn(async move {
        let mut incoming = MessageReader::new(End::Opener);
        while let Some(Ok(bytes)) = reader.read().await {
            incoming.handle_bytes(&bytes).unwrap();
            let more = std::iter::from_fn(|| incoming.next_message()).count() as u64;
            hearing.fetch_add(more, Ordering::Relaxed);
        }
        hearing.load(Ordering::Relaxed)
    });
    let honest = Gate::of(&[Alice]).await;
    let alice = honest.caller(Alice);
    alice.knows(Bob, &gate).await;
    for number in 0..20 {
        alice.deliver(Bob.principal(), &format!("through {number}")).await;
    }
    within(flood).await.unwrap();
    eventually("the flood was limited", async || {
        (px1(&gate).await["limited"].as_u64()? > 100).then_some(())
    })
    .await;
    // What is still on its way when the session ends is lost.
    let bob = gate.caller(Bob);
    let questions = async || bob.metric("clawchat_px1_received_total", "question").await;
    let dropped = async || {
        bob.metric("clawchat_px1_dropped_total", "questions_too_often")
            .await
    };
    eventually("the answers are there", async || {
        let answered = heard.load(Ordering::Relaxed);
        (answered + dropped().await + 1 >= questions().await).then_some(())
    })
    .await;
    session.close(clawchat_node::ErrorCode::NoError);
    let answers = within(answers).await.unwrap();
    // A burst, and then one each second.
    let most = u64::from(QUESTIONS_BURST) + start.elapsed().as_secs() + 8;
    assert!(answers < most, "{answers} answers to a flood");
    let (questions, dropped) = (questions().await, dropped().await);
    assert!(
        questions > 100 && dropped >= questions - answers - 1,
        "{dropped} of {questions}"
    );
    assert!(bob.metric("clawchat_px1_dropped_total", "pushes_too_often").await > 100);
    assert_eq!(gate.caller(Bob).texts().await.len(), 20);
}
