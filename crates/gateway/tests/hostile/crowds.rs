//! Peers that come with more than their share.

use std::time::Duration;

use clawchat_node::{SessionHandle, SessionOpenError};
use clawchat_snap2p::chat::ChatEvent;
use clawchat_testkit::Person::{Alice, Bob, Dave};
use clawchat_testkit::stranger;
use clawchat_types::Locator;
use serde_json::json;
use tokio::task::JoinSet;

use crate::common::{Chat, Gate, Rogue, eventually, pair, within};

/// Connections of a small gateway, and how many sessions of them strangers may hold.
const CONNECTIONS: u64 = 16;
const STRANGERS: u64 = CONNECTIONS / 2;
/// How soon somebody who was shown out is back.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Sessions one principal may hold with one identity.
const SESSIONS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_opens_sessions_without_end_keeps_only_a_few_of_them() {
    let (a, b) = pair(&[Alice], &[Bob]).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let peer = rogue.dial(&b).await;
    let mut sessions = Vec::new();
    for _ in 0..40 {
        match rogue.open(&peer, Bob).await {
            Ok(session) => sessions.push(session),
            Err(SessionOpenError::Busy | SessionOpenError::Refused(_) | SessionOpenError::Broken(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(sessions.len() > SESSIONS);
    eventually("the older ones are closed", async || {
        let open = sessions.iter().filter(|session| !session.is_closed()).count();
        (open <= SESSIONS).then_some(())
    })
    .await;
    // The newest ones are kept.
    let mut chat = Chat::open(sessions.last().unwrap()).await;
    chat.put(rogue.letter(1, Bob, "the last one")).await.unwrap();
    a.caller(Alice).deliver(Bob.principal(), "honest").await;
    assert_eq!(b.caller(Bob).texts().await, ["the last one", "honest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_newcomer_gets_through_a_storm_of_sessions_and_letters() {
    let (a, b) = tokio::join!(Gate::of(&[Alice]), Gate::of(&[Bob]));
    let mut storm = JoinSet::new();
    for number in 0..6 {
        let rogue = Rogue::new(stranger(number)).await;
        let peer = rogue.dial(&b).await;
        storm.spawn(async move {
            let mut letters = 0;
            for round in 0..30 {
                let Ok(session) = rogue.open(&peer, Bob).await else {
                    continue;
                };
                // Whoever comes may be shown out again at once.
                let Ok(mut chat) = Chat::try_open(&session).await else {
                    continue;
                };
                if chat
                    .put(rogue.letter(round, Bob, &format!("{number} {round}")))
                    .await
                    .is_ok()
                {
                    letters += 1;
                }
            }
            letters
        });
    }
    let alice = a.caller(Alice);
    alice.knows(Bob, &b).await;
    for number in 0..10 {
        alice.deliver(Bob.principal(), &format!("honest {number}")).await;
    }
    let letters: usize = within(storm.join_all()).await.into_iter().sum();
    let texts = b.caller(Bob).texts().await;
    let honest = texts.iter().filter(|text| text.starts_with("honest")).count();
    assert_eq!(honest, 10);
    assert!(letters > 0 && texts.len() >= letters + honest);
}

/// Comes in while there is room.
async fn come_in(rogue: &Rogue, gate: &Locator) -> SessionHandle {
    // On a busy machine one dial may take longer than it may.
    let connecting = async || rogue.node.connect(std::slice::from_ref(gate)).await.ok();
    let connected = eventually("a connection", connecting).await;
    let session = rogue.ask_for(&connected.peer, Bob.principal(), None).await;
    session.expect("room for one more")
}

/// Comes in once.
async fn come(rogue: &Rogue, gate: &Locator) -> Option<SessionHandle> {
    let connected = rogue.node.connect(std::slice::from_ref(gate)).await.ok()?;
    rogue.ask_for(&connected.peer, Bob.principal(), None).await.ok()
}

/// Somebody with many wallets who is at the door again as soon as he was shown out, until the task is dropped.
async fn come_again_and_again(rogue: Rogue, gate: Locator, mut inside: Option<SessionHandle>) {
    loop {
        // Refused, or thrown out, now or later: all the same to him.
        if let Some(session) = inside {
            session.closed().await;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        inside = come(&rogue, &gate).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_wallets_leaves_room_for_contacts_and_does_not_shut_others_out() {
    let mut gate = Gate::set_up(&[Bob]);
    gate.edit(|config| {
        config["limits"] = json!({ "connections": CONNECTIONS, "connectionsPerIp": CONNECTIONS / 4 });
        // Everybody may come, and Alice is somebody.
        config["identities"][0]["allowedRemotePeers"] = json!(["*", Alice.principal()]);
    });
    gate.start().await;
    let bob = gate.caller(Bob);
    let strangers = async || bob.metric("clawchat_sessions_of_strangers", "").await;
    let displaced = async || bob.metric("clawchat_sessions_displaced_total", "strangers").await;
    // Without a second address the crowd could not be told from the others, here or anywhere.
    let Some(address) = gate.address_v6() else { return };
    let locator: Locator = address.parse().unwrap();
    let mut crowd = JoinSet::new();
    // More than there are connections, from an address of their own. The first ones come one by one, until they hold
    // all they may and somebody has to go: in a throng they push each other out at the door, and on a slow machine
    // their address has had its share of handshakes before enough of them are inside.
    for number in 0..CONNECTIONS + 8 {
        let rogue = Rogue::new(stranger(number)).await;
        let inside = if number <= STRANGERS {
            Some(come_in(&rogue, &locator).await)
        } else {
            None
        };
        crowd.spawn(come_again_and_again(rogue, locator.clone(), inside));
    }
    bob.counted("clawchat_sessions_displaced_total", "strangers", 1)
        .await;
    assert!(strangers().await <= STRANGERS);

    // The contact comes when the house is full.
    let mut alice_gate = Gate::of(&[Alice]).await;
    let alice = alice_gate.caller(Alice);
    alice.knows(Bob, &gate).await;
    alice.deliver(Bob.principal(), "there is room").await;
    // They come again and again, until their address has had its share of handshakes; she stays.
    bob.counted("clawchat_handshakes_ended_total", "too_often", 1)
        .await;
    assert!(displaced().await <= 200, "{}", displaced().await);
    assert!(strangers().await <= STRANGERS);
    assert!(alice.connected().await.contains(&Bob.principal().to_string()));
    alice.deliver(Bob.principal(), "and still").await;
    alice_gate.stop().await;
    alice_gate.start().await;
    alice.deliver(Bob.principal(), "again").await;

    // A stranger from elsewhere with something to say is not shut out either.
    let honest = Rogue::new(Dave.identity()).await;
    let mut chat = honest.chat(&gate, Bob).await;
    let event = chat.put(honest.letter(1, Bob, "from afar")).await.unwrap();
    assert!(matches!(event, ChatEvent::Acked { .. }), "{event:?}");
    assert!(strangers().await <= STRANGERS);
    crowd.shutdown().await;
    assert_eq!(
        bob.texts().await,
        ["there is room", "and still", "again", "from afar"]
    );
}
