//! Finding peers through peers: addresses are asked for before a message has to wait.

use std::time::Duration;

use clawchat_node::{ErrorCode, SessionHandle, Stream};
use clawchat_snap2p::px1::{End, Message, MessageReader, PX1_LABEL, encode};
use clawchat_testkit::Person::{self, Alice, Bob, Carol, Dave};
use clawchat_testkit::Stopwatch;
use clawchat_types::Principal;
use serde_json::{Value, json};

use crate::common::{Gate, Rogue, eventually, within};

/// A gateway whose identities may be told about.
async fn public(person: Person) -> Gate {
    let mut gate = Gate::set_up(&[person]);
    gate.edit(|config| config["visibility"] = "public".into());
    gate.start().await;
    gate
}

/// Waits until a gateway has so many cards.
async fn has_cards(gate: &Gate, person: Person, count: u64) {
    eventually("the cards are there", async || {
        let status = gate.caller(person).ok(json!({ "cmd": "status" })).await;
        (status["px1"]["cards"].as_u64()? >= count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_know_a_third_find_each_other() {
    let (a, b, c) = tokio::join!(public(Alice), public(Bob), public(Carol));
    b.caller(Bob).knows(Alice, &a).await;
    c.caller(Carol).knows(Alice, &a).await;
    has_cards(&a, Alice, 2).await;
    // Neither was ever told where the other is.
    c.caller(Carol).deliver(Bob.principal(), "found you").await;
    assert_eq!(b.caller(Bob).texts().await, ["found you"]);
    b.caller(Bob).deliver(Carol.principal(), "so you did").await;
    // And when the one in the middle is gone, they still know.
    let mut a = a;
    a.stop().await;
    c.caller(Carol).deliver(Bob.principal(), "without her").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_ones_are_found_too_by_whoever_asks() {
    let (a, b, c) = tokio::join!(Gate::of(&[Alice]), Gate::of(&[Bob]), Gate::of(&[Carol]));
    b.caller(Bob).knows(Alice, &a).await;
    c.caller(Carol).knows(Alice, &a).await;
    has_cards(&a, Alice, 2).await;
    c.caller(Carol).deliver(Bob.principal(), "found you").await;
    assert_eq!(b.caller(Bob).texts().await, ["found you"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_say_what_they_want_to_be_called() {
    let (mut a, b) = tokio::join!(Gate::of(&[Alice]), Gate::of(&[Bob]));
    b.caller(Bob).knows(Alice, &a).await;
    eventually("both know the other's name", async || {
        let at_bob = b.caller(Bob).ok(json!({ "cmd": "peers" })).await;
        let at_alice = a.caller(Alice).ok(json!({ "cmd": "peers" })).await;
        (at_bob[0]["displayName"] == "alice" && at_alice[0]["displayName"] == "bob").then_some(())
    })
    .await;
    let connected = b.caller(Bob).ok(json!({ "cmd": "peers" })).await;
    assert_eq!(connected[0]["path"], "direct");
    a.stop().await;
    eventually("the end of the connection", async || {
        let gone = b.caller(Bob).ok(json!({ "cmd": "peers" })).await;
        (gone[0]["connected"] == false && gone[0]["path"] == Value::Null).then_some(())
    })
    .await;
    // For people to read: nobody is found by it.
    let to_a_name = json!({ "cmd": "send", "to": "alice", "content": "x" });
    assert_eq!(b.caller(Bob).refused(to_a_name).await, "unknown_recipient");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_moved_is_found_through_others() {
    let (a, mut b, mut c) = tokio::join!(public(Alice), public(Bob), public(Carol));
    b.caller(Bob).knows(Alice, &a).await;
    c.caller(Carol).knows(Alice, &a).await;
    c.caller(Carol).knows(Bob, &b).await;
    c.caller(Carol).deliver(Bob.principal(), "at home").await;
    c.stop().await;
    b.stop().await;
    b.move_house();
    b.start().await;
    has_cards(&a, Alice, 1).await;
    c.start().await;
    c.caller(Carol).deliver(Bob.principal(), "at the new place").await;
    assert_eq!(b.caller(Bob).texts().await, ["at home", "at the new place"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_knows_is_an_answer_and_comes_soon() {
    let (a, b) = tokio::join!(public(Alice), public(Bob));
    b.caller(Bob).knows(Alice, &a).await;
    has_cards(&b, Bob, 1).await;
    let watch = Stopwatch::start();
    let resolve = json!({ "cmd": "peer_resolve", "principal": Carol.principal().to_string() });
    assert_eq!(b.caller(Bob).ok(resolve).await, Value::Null);
    assert!(watch.elapsed() < Duration::from_secs(10), "{:?}", watch.elapsed());
    let id = b.caller(Bob).send(Carol.principal(), "are you there?").await;
    assert_eq!(b.caller(Bob).sent(&id).await["status"], "pending");
}

/// Asks where somebody is, over a stream of ours. Gives how many cards come back.
async fn asked(stream: &mut Stream, id: u64, principal: Principal) -> usize {
    let question = Message::Resolve {
        id,
        principal,
        max: 1,
    };
    within(stream.write_all(encode(&question).unwrap().into()))
        .await
        .unwrap();
    let mut incoming = MessageReader::new(End::Opener);
    within(async {
        loop {
            let read = stream.read().await.expect("the stream goes on").unwrap();
            incoming.handle_bytes(&read).unwrap();
            if let Some(Message::Found { id: answered, cards }) = incoming.next_message() {
                assert_eq!(answered, id);
                return cards.len();
            }
        }
    })
    .await
}

/// How many sessions Bob's gateway has.
async fn sessions(gate: &Gate) -> u64 {
    gate.caller(Bob).metric("clawchat_sessions", "snap2p/2").await
}

/// The next stream on which a gateway asks and tells.
async fn told(session: &SessionHandle) -> Stream {
    within(async {
        loop {
            let inbound = session.accept().await.expect("the session goes on");
            if inbound.label() == PX1_LABEL {
                return inbound.accept();
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_be_told_follows_the_access_list_while_a_session_lasts() {
    let b = Gate::of(&[Bob]).await;
    let bob = b.caller(Bob);
    let mut dave = Rogue::new(Dave.identity()).await;
    let rule = async |cmd: &str, peer: &str| {
        bob.ok(json!({ "cmd": cmd, "who": "bob", "peer": peer })).await;
    };
    rule("identity_deny", "*").await;
    let (principal, address) = (dave.principal().to_string(), dave.address());
    bob.ok(json!({ "cmd": "peer_add", "principal": principal, "address": address }))
        .await;
    // Bob began it, so it outlasts every rule.
    let session = dave.visitor().await;
    let mut stream = within(session.open_stream(PX1_LABEL)).await.unwrap();
    assert_eq!(asked(&mut stream, 1, Bob.principal()).await, 0);
    rule("identity_allow", &principal).await;
    assert_eq!(asked(&mut stream, 2, Bob.principal()).await, 1);
    rule("identity_deny", &principal).await;
    assert_eq!(asked(&mut stream, 3, Bob.principal()).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_one_of_two_sessions_ends_no_exchange_over_the_other() {
    let b = Gate::of(&[Bob]).await;
    let dave = Rogue::new(Dave.identity()).await;
    let first = dave.session(&b, Bob).await;
    let peer = first.peer_id().clone();
    let second = dave.open(&peer, Bob).await.unwrap();
    eventually("there are two", async || (sessions(&b).await == 2).then_some(())).await;
    // Whichever of them the peer takes for the newest.
    let mut older = within(first.open_stream(PX1_LABEL)).await.unwrap();
    assert_eq!(asked(&mut older, 1, Bob.principal()).await, 1);
    let mut newer = within(second.open_stream(PX1_LABEL)).await.unwrap();
    assert_eq!(asked(&mut newer, 2, Bob.principal()).await, 1);
    first.close(ErrorCode::NoError);
    eventually("one is left", async || (sessions(&b).await == 1).then_some(())).await;
    assert_eq!(asked(&mut newer, 3, Bob.principal()).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_ended_a_stream_is_asked_over_another() {
    let b = Gate::of(&[Bob]).await;
    let bob = b.caller(Bob);
    let dave = Rogue::new(Dave.identity()).await;
    let session = dave.session(&b, Bob).await;
    // What is asked over a stream that just ended is lost, so it is asked again and again.
    let asking = tokio::spawn(async move {
        let resolve = json!({ "cmd": "peer_resolve", "principal": Carol.principal().to_string() });
        loop {
            assert_eq!(bob.ok(resolve.clone()).await, Value::Null);
        }
    });
    for _ in 0..3 {
        let mut stream = told(&session).await;
        // Whatever it is: hear the beginning of it, and no more.
        within(stream.read()).await.unwrap().unwrap();
        stream.finish();
    }
    asking.abort();
}
