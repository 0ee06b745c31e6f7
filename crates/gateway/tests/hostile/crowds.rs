//! Peers that come with more than their share.

use clawchat_node::SessionOpenError;
use clawchat_testkit::Person::{Alice, Bob, Dave};
use clawchat_testkit::stranger;

use crate::common::{Chat, Gate, Rogue, eventually, pair, within};

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
    let mut storm = tokio::task::JoinSet::new();
    for number in 0..6 {
        let rogue = Rogue::new(stranger(number)).await;
        let peer = rogue.dial(&b).await;
        storm.spawn(async move {
            let mut letters = 0;
            for round in 0..30 {
                let Ok(session) = rogue.open(&peer, Bob).await else {
                    continue;
                };
                let mut chat = Chat::open(&session).await;
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
