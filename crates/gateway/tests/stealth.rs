//! Strangers that look for an identity that does not want to be found. Apart from the other tests, because time is
//! measured here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use clawchat_node::{ErrorCode, SessionOpenError};
use clawchat_testkit::Person::{Alice, Bob, Carol, Dave};
use clawchat_testkit::stranger;
use clawchat_types::{InviteToken, PeerId, Principal};
use serde_json::json;

use common::{Gate, Rogue};

/// How far the medians of two kinds of question may be apart, as a factor. An X25519 agreement or a signature, made for
/// one of them alone, is beyond it.
const FACTOR: f64 = 1.5;
/// Questions of each kind in one measurement, taken in turns.
const ROUNDS: usize = 60;
/// Handshakes a minute that one address may begin for nothing.
const PER_MINUTE: u64 = 120;
/// Tokens guessed.
const GUESSES: u32 = 400;
/// Measurements, at most: chance does not repeat itself, a difference that is there does.
const MEASUREMENTS: usize = 10;

/// Bob is hidden, Carol beside him is not.
async fn gate() -> Gate {
    let mut gate = Gate::set_up(&[Carol, Bob]);
    gate.edit(|config| config["identities"][1]["visibility"] = json!("stealth"));
    gate.start().await;
    gate
}

/// One kind of question.
#[derive(Clone, Copy, Debug)]
struct Question {
    target: Principal,
    knock: Option<InviteToken>,
}

impl Question {
    /// Asks once. The answer is the same for all; how long did it take?
    async fn ask(&self, rogue: &Rogue, peer: &PeerId) -> Duration {
        let start = Instant::now();
        let refused = rogue.ask_for(peer, self.target, self.knock).await.unwrap_err();
        let took = start.elapsed();
        assert_eq!(
            refused,
            SessionOpenError::Refused(ErrorCode::UnknownPrincipal),
            "{self:?}"
        );
        took
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_identity_cannot_be_told_from_one_that_is_not_there() {
    let (gate, honest) = tokio::join!(gate(), Gate::of(&[Alice]));
    let (bob, carol) = (gate.caller(Bob), gate.caller(Carol));
    // There is an invite that would open, so that a wrong knock is compared with something.
    let invite = bob.ok(json!({ "cmd": "invite_create", "uses": 5 })).await;
    let rogue = Rogue::new(Dave.identity()).await;
    let peer = rogue.dial(&gate).await;
    // On a connection with a session nobody counts handshakes, so the questions are not refused for their number.
    let session = rogue.open(&peer, Carol).await.unwrap();
    let absent = *stranger(7).principal();
    let wrong = Some(InviteToken::new([7; InviteToken::BYTES]));
    let question = |target: Principal, knock| Question { target, knock };
    let questions = [
        question(Bob.principal(), None),
        question(absent, None),
        question(Bob.principal(), wrong),
        question(absent, wrong),
    ];
    let mut seen = Vec::new();
    let mut alike = false;
    for _ in 0..MEASUREMENTS {
        let mut times: [Vec<Duration>; 4] = Default::default();
        let mut answered = Vec::new();
        for round in 0..ROUNDS {
            // Each of them comes first as often as the others.
            for step in 0..questions.len() {
                let turn = (round + step) % questions.len();
                times[turn].push(questions[turn].ask(&rogue, &peer).await);
            }
            // Somebody who does answer, for comparison.
            let start = Instant::now();
            let opened = rogue.open(&peer, Carol).await.unwrap();
            answered.push(start.elapsed());
            opened.close(ErrorCode::NoError);
        }
        let [hidden, missing, hidden_knock, missing_knock] = times.map(median);
        let answered = median(answered);
        let apart = |one: f64, other: f64| (one / other).max(other / one);
        // What is measured does show cryptography: whoever answers takes longer than that.
        let shows = answered > hidden.max(missing) * FACTOR;
        alike = shows && apart(hidden, missing) < FACTOR && apart(hidden_knock, missing_knock) < FACTOR;
        seen.push([hidden, missing, hidden_knock, missing_knock, answered]);
        if alike {
            break;
        }
    }
    assert!(alike, "medians in seconds: {seen:?}");

    let asked = (seen.len() * ROUNDS * questions.len()) as u64;
    assert_eq!(
        carol.metric("clawchat_sessions_refused_total", "nobody").await,
        asked
    );
    assert_eq!(carol.metric("clawchat_knocks_total", "refused").await, asked / 2);
    // The invite works as before, and so does the neighbour.
    let alice = honest.caller(Alice);
    alice
        .ok(json!({ "cmd": "peer_add", "invite": invite["invite"] }))
        .await;
    alice.deliver(Bob.principal(), "by invite").await;
    alice.knows(Carol, &gate).await;
    alice.deliver(Carol.principal(), "hello").await;
    assert_eq!(carol.texts().await, ["hello"]);
    drop(session);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_tokens_is_cut_off_by_the_address_it_comes_from() {
    let gate = gate().await;
    let (bob, rogue) = (gate.caller(Bob), Rogue::new(Dave.identity()).await);
    let mut refused = 0;
    let start = Instant::now();
    for guess in 0..GUESSES {
        let mut token = [0; InviteToken::BYTES];
        token[..4].copy_from_slice(&guess.to_be_bytes());
        let knock = Some(InviteToken::new(token));
        loop {
            let peer = rogue.dial(&gate).await;
            match rogue.ask_for(&peer, Bob.principal(), knock).await.unwrap_err() {
                SessionOpenError::Refused(ErrorCode::UnknownPrincipal) => break,
                SessionOpenError::Refused(ErrorCode::RateLimited) => {
                    refused += 1;
                    break;
                }
                // On a slow machine its time without a session is over in between.
                SessionOpenError::Unreachable { .. } | SessionOpenError::Broken(_) => {}
                other => panic!("{other}"),
            }
        }
    }
    // So many a minute come through, and what has come free meanwhile.
    let through = u64::from(GUESSES) - refused;
    let most = PER_MINUTE + start.elapsed().as_secs() * PER_MINUTE / 60 + 1;
    assert!(through <= most, "{through} of {GUESSES}, not {most}");
    assert!(bob.metric("clawchat_handshakes_ended_total", "too_often").await >= refused);
    assert!(bob.metric("clawchat_knocks_total", "refused").await <= through);
    assert_eq!(bob.metric("clawchat_knocks_total", "opened").await, 0);
}
