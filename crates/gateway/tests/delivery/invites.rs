//! Invites: whom they let in, how often, and what everybody else sees.

use std::path::Path;
use std::time::{Duration, Instant};

use clawchat_identity::{CardDetails, ContactCard, Identity, Invite};
use clawchat_testkit::Person::{self, Alice, Bob, Carol, Dave};
use clawchat_types::{Network, UnixSeconds};
use serde_json::{Value, json};

use crate::common::{Caller, Gate, Rogue, eventually, within};

const STRANGER: &str = "does not know this principal";

/// A gateway whose one identity is stealth.
async fn hidden(person: Person) -> Gate {
    let mut gate = Gate::set_up(&[person]);
    gate.edit(|config| config["identities"][0]["visibility"] = json!("stealth"));
    gate.start().await;
    gate
}

async fn invite(of: &Caller, limits: Value) -> String {
    let mut request = json!({ "cmd": "invite_create" });
    for (key, value) in limits.as_object().unwrap() {
        request[key] = value.clone();
    }
    of.ok(request).await["invite"].as_str().unwrap().to_owned()
}

async fn take(caller: &Caller, invite: &str) -> Value {
    caller.ok(json!({ "cmd": "peer_add", "invite": invite })).await
}

/// Why a message to somebody hidden does not get there.
async fn in_vain(caller: &Caller, to: Person) -> String {
    let id = caller.send(to.principal(), "hello?").await;
    // A try may have begun while the other gateway was not there.
    let told = |entry: &Value| {
        entry["lastError"]
            .as_str()
            .is_some_and(|why| why.contains(STRANGER))
    };
    assert_eq!(caller.sent_once(&id, told).await["status"], "pending");
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stealth_identity_answers_those_it_invited_and_nobody_else() {
    let (mut bob_gate, mut alice_gate, carol_gate) =
        tokio::join!(hidden(Bob), Gate::of(&[Alice]), Gate::of(&[Carol]));
    let bob = bob_gate.caller(Bob);
    assert_eq!(bob.ok(json!({ "cmd": "status" })).await.get("invite"), None);
    let line = invite(&bob, json!({ "uses": 1 })).await;

    let alice = alice_gate.caller(Alice);
    assert_eq!(take(&alice, &line).await["displayName"], Bob.nick());
    alice.deliver(Bob.principal(), "by invite").await;
    assert_eq!(bob.texts_once(1).await, ["by invite"]);
    let listed = bob.ok(json!({ "cmd": "invite_list" })).await;
    assert_eq!(listed[0]["state"], "used-up");
    assert_eq!(listed[0]["usedBy"], json!([Alice.principal()]));

    // The address alone, and an invite that somebody else has used up: as unknown as nobody.
    let carol = carol_gate.caller(Carol);
    carol.knows(Bob, &bob_gate).await;
    in_vain(&carol, Bob).await;
    take(&carol, &line).await;
    let id = in_vain(&carol, Bob).await;
    // A try that was under way says less than one that shows the invite.
    let says = |entry: &Value| entry["lastError"].as_str().unwrap_or_default().to_owned();
    carol
        .sent_once(&id, |entry| {
            says(entry).contains("used up") && says(entry).contains("ask for a new one")
        })
        .await;

    // Both start again: who was let in once comes back, who was not does not.
    bob_gate.stop().await;
    alice_gate.stop().await;
    bob_gate.start().await;
    alice_gate.start().await;
    alice.deliver(Bob.principal(), "once more").await;
    in_vain(&carol, Bob).await;
    assert_eq!(bob.texts().await, ["by invite", "once more"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_invite_lets_nobody_in_any_more() {
    let (bob_gate, alice_gate) = tokio::join!(hidden(Bob), Gate::of(&[Alice]));
    let (bob, alice) = (bob_gate.caller(Bob), alice_gate.caller(Alice));
    let line = invite(&bob, json!({})).await;
    take(&alice, &line).await;
    alice.deliver(Bob.principal(), "hello").await;
    let revoked = bob.ok(json!({ "cmd": "invite_revoke", "invite": line })).await;
    assert_eq!(revoked["used"], 1);
    // What is on its way while the session ends may still arrive, or fail for another reason.
    eventually("the door is shut", async || {
        let id = alice.send(Bob.principal(), "still there?").await;
        let tried = |entry: &Value| entry["status"] == "delivered" || !entry["lastError"].is_null();
        (alice.sent_once(&id, tried).await["status"] != "delivered").then_some(())
    })
    .await;
    in_vain(&alice, Bob).await;
    assert_eq!(bob.ok(json!({ "cmd": "invite_list" })).await, json!([]));
    assert_eq!(
        bob.refused(json!({ "cmd": "invite_revoke", "invite": line }))
            .await,
        "no_such_invite"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_identity_does_not_come_back_to_whom_it_shut_out() {
    let (bob_gate, alice_gate) = tokio::join!(hidden(Bob), Gate::of(&[Alice]));
    let (alice, bob) = (alice_gate.caller(Alice), bob_gate.caller(Bob));
    let line = invite(&bob, json!({ "uses": 1 })).await;
    take(&alice, &line).await;
    alice.deliver(Bob.principal(), "by invite").await;
    bob.ok(json!({ "cmd": "invite_revoke", "invite": line })).await;
    // Longer than it takes until those who are missed are dialed.
    let request = json!({ "cmd": "send", "to": Bob.principal().to_string(), "content": "still there?", "wait": 12_000 });
    let sent = alice.ask(request).await;
    assert_eq!(sent["code"], "timeout", "{sent}");
    assert_eq!(bob.texts().await, ["by invite"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_when_an_identity_hides_needs_an_invite_like_everybody() {
    let (bob_gate, alice_gate) = tokio::join!(Gate::of(&[Bob]), Gate::of(&[Alice]));
    let (alice, bob) = (alice_gate.caller(Alice), bob_gate.caller(Bob));
    alice.knows(Bob, &bob_gate).await;
    alice.deliver(Bob.principal(), "seen").await;
    let mut events = bob.subscribe(json!({ "events": ["peer"] })).await;
    bob_gate.edit(|config| config["identities"][0]["visibility"] = json!("stealth"));
    bob.ok(json!({ "cmd": "reload" })).await;
    let gone = events.hear_until(|line| line["event"] == "peer").await;
    assert_eq!(gone["connected"], false);
    let id = in_vain(&alice, Bob).await;
    let line = invite(&bob, json!({})).await;
    take(&alice, &line).await;
    alice.sent_once(&id, |entry| entry["status"] == "delivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_in_while_the_invite_is_revoked_does_not_stay() {
    const ROUNDS: u32 = 40;
    let bob_gate = hidden(Bob).await;
    let bob = bob_gate.caller(Bob);
    let rogue = Rogue::new(Dave.identity()).await;
    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        let line = invite(&bob, json!({})).await;
        let token = Invite::from_text(&line).unwrap().token().copied();
        let peer = rogue.dial(&bob_gate).await;
        let opening = async {
            let begun = Instant::now();
            let session = rogue.ask_for(&peer, Bob.principal(), token).await;
            (session, begun.elapsed())
        };
        let revoking = async {
            // At another moment of the opening each time; the first tells how long that takes.
            tokio::time::sleep(longest * round / ROUNDS).await;
            bob.ok(json!({ "cmd": "invite_revoke", "invite": line })).await;
        };
        let ((session, took), ()) = tokio::join!(opening, revoking);
        longest = longest.max(took);
        // Refused, or let in before: then shown out.
        if let Ok(session) = session {
            within(session.closed()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_opens_a_closed_list_and_a_denial_closes_it_again() {
    let mut bob_gate = Gate::set_up(&[Bob]);
    bob_gate.edit(|config| config["identities"][0]["allowedRemotePeers"] = json!([]));
    bob_gate.start().await;
    let (alice_gate, carol_gate) = tokio::join!(Gate::of(&[Alice]), Gate::of(&[Carol]));
    let (bob, alice, carol) = (
        bob_gate.caller(Bob),
        alice_gate.caller(Alice),
        carol_gate.caller(Carol),
    );
    let line = invite(&bob, json!({ "expires": 3_600_000 })).await;
    take(&alice, &line).await;
    alice.deliver(Bob.principal(), "let in").await;

    carol.knows(Bob, &bob_gate).await;
    let refused = carol.deliver_or_not(Bob.principal(), "not let in").await;
    assert_eq!(refused["code"], "not_allowed", "{refused}");

    let deny = json!({ "cmd": "identity_deny", "who": Bob.nick(), "peer": Alice.principal() });
    bob.ok(deny).await;
    let refused = eventually("the denial counts", async || {
        let answer = alice.deliver_or_not(Bob.principal(), "denied").await;
        (answer["ok"] == false).then_some(answer)
    })
    .await;
    assert_eq!(refused["code"], "not_allowed", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_is_on_disk_before_anything_is_taken() {
    let (bob_gate, alice_gate) = tokio::join!(hidden(Bob), Gate::of(&[Alice]));
    let (bob, alice) = (bob_gate.caller(Bob), alice_gate.caller(Alice));
    let line = invite(&bob, json!({ "uses": 3 })).await;
    alice
        .ok(json!({ "cmd": "peer_add", "invite": line, "alias": "bobby" }))
        .await;
    assert_eq!(take(&alice, &line).await["alias"], "bobby", "the alias stays");
    alice.deliver(Bob.principal(), "hello").await;
    // What a machine that loses power now would find.
    let file = bob_gate
        .root()
        .join("identities")
        .join(Bob.principal().to_string())
        .join("invites.json");
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let members = &kept["invites"][0]["members"];
    assert_eq!(members[0]["principal"], json!(Alice.principal()));
    assert_owner_only(&file);
}

fn assert_owner_only(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_invite_is_said() {
    let (bob_gate, alice_gate) = tokio::join!(Gate::of(&[Bob]), Gate::of(&[Alice]));
    let (bob, alice) = (bob_gate.caller(Bob), alice_gate.caller(Alice));
    let line = invite(&bob, json!({ "uses": 1 })).await;
    let made = |network: Network, issued: UnixSeconds| {
        let me = Identity::generate(network, None, [1; 32], [2; 32]).unwrap();
        let life = std::time::Duration::from_secs(3600);
        let attestation = me.attest(issued, life, [3; 32]);
        let card = ContactCard::create(me.node_key(), attestation, CardDetails::default(), issued, life);
        Invite::new(card.unwrap(), None).to_text()
    };
    let now = UnixSeconds(
        std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_secs()
            .try_into()
            .unwrap(),
    );
    let (token, card) = line.split_once('.').unwrap();
    let (head, tail) = card.split_at(card.len() - 40);
    let forged = format!("clawchat:{head}{}", tail.chars().rev().collect::<String>());
    for (bad, code, says) in [
        ("hello".to_owned(), "invalid_request", "not an invite"),
        (line[..line.len() - 5].to_owned(), "invalid_request", "cut short"),
        (token.to_owned(), "invalid_request", "cut short"),
        (line.replace('.', "#"), "invalid_request", "character"),
        (forged, "not_allowed", "forged"),
        (
            made(Network::Testnet, UnixSeconds(now.0 - 7200)),
            "not_allowed",
            "expired",
        ),
        (
            made(Network::Testnet, UnixSeconds(now.0 + 7200)),
            "not_allowed",
            "valid only",
        ),
        (made(Network::Mainnet, now), "wrong_network", "the other network"),
    ] {
        let answer = alice.ask(json!({ "cmd": "peer_add", "invite": bad })).await;
        assert_eq!(answer["code"], code, "{bad}: {answer}");
        assert!(
            answer["error"].as_str().unwrap().contains(says),
            "{bad}: {answer}"
        );
    }
    let own = bob.ask(json!({ "cmd": "peer_add", "invite": line })).await;
    assert_eq!(own["code"], "invalid_request", "{own}");
    assert!(own["error"].as_str().unwrap().contains("own invite"), "{own}");
    let mistyped = json!({ "cmd": "peer_resolve", "principal": format!("{}X", Bob.principal()) });
    assert_eq!(alice.refused(mistyped).await, "no_such_peer");
    for (limits, field) in [
        (json!({ "cmd": "invite_create", "uses": 0 }), "uses"),
        (json!({ "cmd": "invite_create", "uses": 5000 }), "uses"),
        (json!({ "cmd": "invite_create", "expires": 1000 }), "1 minute"),
        (
            json!({ "cmd": "invite_create", "expires": 9_000_000_000_u64 }),
            "90 days",
        ),
    ] {
        let answer = bob.ask(limits).await;
        assert_eq!(answer["code"], "invalid_request", "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(field), "{answer}");
    }
}
