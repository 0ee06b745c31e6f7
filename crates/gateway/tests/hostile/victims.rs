//! Peers that want us to dial somebody else: whoever they name is bothered a bounded number of times, whatever they say
//! and in however many names.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clawchat_node::SessionHandle;
use clawchat_snap2p::clawchat1::px1::PeerInfo;
use clawchat_snap2p::px1::{End, Message, MessageReader, PX1_LABEL, encode};
use clawchat_testkit::Person::{Alice, Bob, Carol, Dave};
use clawchat_testkit::stranger;
use clawchat_types::{Locator, Principal, UnixMillis};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::whereabouts::{card, now, push, say};
use crate::common::{Caller, Gate, Rogue, eventually, within};

/// Dials to one host a minute, for all principals together that were never met there.
const DIALS_PER_HOST: u64 = 10;
/// Principals that Bob writes to and that the rogue claims to know, by the way in which it says so. Questions first: at
/// most 32 are asked of one peer at once.
const ANSWERED: std::ops::Range<u64> = 100..124;
const PUSHED: std::ops::Range<u64> = 200..260;
const HINTED: std::ops::Range<u64> = 300..320;

/// Somebody who has nothing to do with it, and counts who knocks.
struct Victim {
    address: (Ipv4Addr, u16),
    knocks: Arc<AtomicU64>,
}

impl Victim {
    /// Listens at an address that the gateway would dial.
    async fn near(caller: &Caller) -> Self {
        let ip = dialable(caller).await;
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = (ip, listener.local_addr().unwrap().port());
        let knocks = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&knocks);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counting.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, knocks }
    }

    /// Ways to write its address.
    fn addresses(&self) -> Vec<String> {
        let (ip, port) = self.address;
        let peer = Alice.peer_id();
        vec![
            format!("/ip4/{ip}/tcp/{port}"),
            format!("/ip4/{ip}/tcp/{port}/ws"),
            format!("/ip4/{ip}/tcp/{port}/p2p/{peer}"),
        ]
    }
}

/// An address of this machine that the gateway would dial if a stranger named it: on its own network if it has one, else
/// the machine's own.
pub(super) async fn dialable(caller: &Caller) -> Ipv4Addr {
    let ours: Vec<Locator> = serde_json::from_value(caller.ok(json!({ "cmd": "multiaddrs" })).await).unwrap();
    ours.iter()
        .filter_map(|locator| match locator.ip() {
            Some(std::net::IpAddr::V4(ip)) => Some(ip),
            Some(std::net::IpAddr::V6(_)) | None => None,
        })
        .find(|ip| !ip.is_loopback() && !ip.is_link_local())
        .unwrap_or(Ipv4Addr::LOCALHOST)
}

/// Answers every question with one of these cards.
async fn lie(session: SessionHandle, known: HashMap<Principal, Arc<[u8]>>) {
    let known = Arc::new(known);
    while let Some(inbound) = session.accept().await {
        if inbound.label() != PX1_LABEL {
            continue;
        }
        let mut stream = inbound.accept();
        let known = Arc::clone(&known);
        tokio::spawn(async move {
            let mut incoming = MessageReader::new(End::Acceptor);
            while let Some(Ok(bytes)) = stream.read().await {
                incoming.handle_bytes(&bytes).unwrap();
                while let Some(message) = incoming.next_message() {
                    let Message::Resolve { id, principal, .. } = message else {
                        continue;
                    };
                    let found = Message::Found {
                        id,
                        cards: known.get(&principal).cloned().into_iter().collect(),
                    };
                    if stream.write_all(encode(&found).unwrap().into()).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victim_named_for_everybody_is_dialed_a_bounded_number_of_times() {
    let (gate, honest) = tokio::join!(Gate::of(&[Bob]), Gate::of(&[Alice]));
    let bob = gate.caller(Bob);
    let victim = Victim::near(&bob).await;
    let addresses = victim.addresses();
    let start = Instant::now();

    // One peer answers with it, and tells it unasked, in signed cards. They are real: of identities made up for it; and
    // made before anybody waits for one.
    let words: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let answers = ANSWERED
        .map(stranger)
        .map(|known| (*known.principal(), card(&known, now(), &words).into()))
        .collect();
    let cards: Vec<Vec<u8>> = PUSHED
        .map(|number| card(&stranger(number), now(), &words))
        .collect();
    let rogue = Rogue::new(Dave.identity()).await;
    let session = rogue.session(&gate, Bob).await;
    tokio::spawn(lie(session.clone(), answers));
    let mut stream = within(session.open_stream(PX1_LABEL)).await.unwrap();
    for cards in cards.chunks(20) {
        assert!(say(&mut stream, &push(cards.to_vec())).await);
    }
    // Another, of ClawChat 1.0, says so without a signature.
    let unsigned = Rogue::new(Carol.identity()).await;
    let _session = unsigned.legacy_session(&gate).await.unwrap();
    let peer = unsigned.dial(&gate).await;
    let hints = HINTED.map(|number| PeerInfo {
        principal: stranger(number).principal().to_string(),
        multiaddrs: addresses.clone(),
        last_seen: UnixMillis(u64::try_from(now().0).unwrap() * 1000),
        peer_id: None,
    });
    within(unsigned.node.px1_push(&peer, hints.collect()))
        .await
        .unwrap();
    let told = PUSHED.end - PUSHED.start;
    bob.counted("clawchat_px1_cards_received_total", "new", told)
        .await;
    let hinted = HINTED.end - HINTED.start;
    bob.counted("clawchat_hints_received_total", "taken", hinted)
        .await;

    // And Bob, or an agent of his, writes to all of them.
    let mut waiting = Vec::new();
    for number in ANSWERED.chain(PUSHED).chain(HINTED) {
        waiting.push(bob.send(stranger(number).principal(), "hello?").await);
    }
    let alice = honest.caller(Alice);
    alice.knows(Bob, &gate).await;
    for number in 0..5 {
        alice
            .deliver(Bob.principal(), &format!("meanwhile {number}"))
            .await;
    }
    eventually("each was tried", async || {
        let outbox = bob.ok(json!({ "cmd": "outbox" })).await;
        let tried = |entry: &&Value| entry["attempts"].as_u64().is_some_and(|count| count > 0);
        let tried = outbox.as_array()?.iter().filter(tried).count();
        (tried >= waiting.len()).then_some(())
    })
    .await;
    let total = waiting.len() as u64;

    let dialed = victim.knocks.load(Ordering::Relaxed);
    let minutes_begun = start.elapsed().as_secs() / 60 + 1;
    assert!(
        (1..=DIALS_PER_HOST * (minutes_begun + 1)).contains(&dialed),
        "the victim was dialed {dialed} times for {total} principals"
    );
    // The rest was held back: the host had its share, or the address rests for everybody since it failed for one.
    let held = bob.metric("clawchat_dials_held_total", "host").await
        + bob.metric("clawchat_dials_held_total", "resting").await;
    assert!(
        held >= total - dialed,
        "{held} held, {dialed} dialed, {total} in all"
    );
    assert_eq!(bob.texts().await.len(), 5);
    bob.deliver(Alice.principal(), "and back").await;
}
