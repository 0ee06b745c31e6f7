//! Who may say what in whose name.

use clawchat_identity::NodeKey;
use clawchat_mesh::{
    Came, CloseReason, MeshEvent, Message, PeerName, Refusal, Side, Trust, check, public_key_pem,
};
use clawchat_types::{NodeId, UnixMillis};

use crate::one::{NOW, One};

const STORES: &str = r#""relay":true,"store":true,"arrival_order":true"#;

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

fn signed(by: &NodeKey, name: &PeerName, id: &str) -> String {
    let message = Message::draft("lobby".parse().unwrap(), name.clone(), "said", None, NOW, id).unwrap();
    message.sign(by).unwrap().text().to_string()
}

fn unsigned(text: &str) -> String {
    let (front, _) = text.split_once(",\"signature\"").unwrap();
    format!("{front}}}")
}

fn page(messages: &[String], more: bool) -> String {
    let messages = messages.join(",");
    format!(
        "{{\"type\":\"sync_response\",\"channel_id\":\"lobby\",\"messages\":[{messages}],\"more\":{more}}}"
    )
}

fn stored(one: &One) -> Vec<(String, Trust)> {
    let entries = one.log.channels.values().flatten();
    entries
        .map(|entry| (entry.message().id().to_owned(), entry.trust()))
        .collect()
}

#[test]
fn a_key_s_name_needs_its_signature() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "p", "");
    let (author, other) = (key(1), key(2));
    let name = PeerName::of_key(&author.node_id());
    let good = signed(&author, &name, "good");
    let forged = signed(&other, &PeerName::of_key(&other.node_id()), "forged")
        .replace(PeerName::of_key(&other.node_id()).as_str(), name.as_str());
    one.take_sent(link);
    for text in [
        &forged,
        &unsigned(&good),
        &good.replace("said", "sold"),
        &good.replace("\"good\"", "\"moved\""),
        &good.replace("lobby", "attic"),
    ] {
        one.get(link, text);
        let answer = r#"{"type":"error","code":"invalid_message","message":"Invalid signature"}"#;
        assert_eq!(one.take_sent(link), [answer], "{text}");
    }
    assert_eq!(stored(&one), []);
    one.get(link, &good);
    assert_eq!(stored(&one), [("good".to_owned(), Trust::Verified)]);
    assert_eq!(one.mesh.counters().refused, 5);
}

#[test]
fn a_page_we_asked_for_may_lack_signatures_but_not_have_wrong_ones() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "p", STORES);
    let author = key(1);
    let name = PeerName::of_key(&author.node_id());
    let texts: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|id| signed(&author, &name, id))
        .collect();
    one.get(
        link,
        &page(
            &[
                texts[0].clone(),
                unsigned(&texts[1]),
                texts[2].replace("said", "sold"),
            ],
            false,
        ),
    );
    let (a, b) = ("a".to_owned(), "b".to_owned());
    assert_eq!(
        stored(&one),
        [(a.clone(), Trust::Verified), (b.clone(), Trust::Unverified)]
    );
    // A verified copy takes the place of an unverified one, and is told apart from a new message.
    one.get(link, &texts[1]);
    assert_eq!(stored(&one), [(a, Trust::Verified), (b, Trust::Verified)]);
    let events: Vec<_> = one
        .events
        .iter()
        .filter(|event| matches!(event, MeshEvent::Verified { arrival: 2, .. }))
        .collect();
    assert_eq!(events.len(), 1);
    // Nobody asked for this one.
    one.get(link, &page(&[signed(&author, &name, "d")], false));
    assert_eq!(stored(&one).len(), 2);
}

#[test]
fn who_was_away_gets_the_verified_copy_of_what_it_may_have_unverified() {
    let mut one = One::opaque();
    one.follow("lobby");
    let source = one.neighbour(1, "p", STORES);
    let author = key(1);
    let name = PeerName::of_key(&author.node_id());
    let texts: Vec<String> = (0..300)
        .map(|id| signed(&author, &name, &id.to_string()))
        .collect();
    let bare: Vec<String> = texts.iter().map(|text| unsigned(text)).collect();
    one.get(source, &page(&bare, false));
    // Somebody took that over from us, unverified, and is away when it is proven here.
    for text in &texts {
        one.get(source, text);
    }
    assert!(stored(&one).iter().all(|(_, trust)| *trust == Trust::Verified));
    let subscribe = r#"{"type":"subscribe","channel_id":"lobby"}"#;
    let back = one.neighbour(2, "q", STORES);
    one.get(back, subscribe);
    let sent = one.take_sent(back);
    let got: Vec<&String> = sent
        .iter()
        .filter(|text| text.contains("\"signature\""))
        .collect();
    // Bounded: the newest ones.
    assert_eq!(got.len(), 256);
    assert!(got.iter().all(|text| texts[300 - 256..].contains(text)));
    // It is not a peer of ours that does otherwise: it has what it has.
    let old = one.neighbour(3, "r", "\"store\":true");
    one.get(old, subscribe);
    assert!(
        one.take_sent(old)
            .iter()
            .all(|text| !text.contains("\"signature\""))
    );
    // Nor is somebody bothered with what he said himself.
    let author = one.neighbour(4, name.as_str(), STORES);
    one.get(author, subscribe);
    assert!(
        one.take_sent(author)
            .iter()
            .all(|text| !text.contains("\"signature\""))
    );
}

#[test]
fn an_opaque_name_is_never_proven_and_keeps_its_key() {
    let (first, second) = (key(1), key(2));
    let name: PeerName = "opaque".parse().unwrap();
    let known = |asked: &str| (asked == "opaque").then(|| first.node_id());
    let message = |by: &NodeKey| Message::from_text(&signed(by, &name, "id")).unwrap();
    assert_eq!(
        check(message(&first), Came::Live, &known, NOW).unwrap().trust(),
        Trust::Unverified
    );
    assert_eq!(
        check(message(&second), Came::Live, &known, NOW),
        Err(Refusal::InvalidSignature)
    );
    assert!(check(message(&second), Came::Live, &|_| None, NOW).is_ok());
    let bare = Message::from_text(&unsigned(&signed(&first, &name, "id"))).unwrap();
    assert!(check(bare, Came::Live, &known, NOW).is_ok());
}

fn handshake(name: &str, key: &NodeId) -> String {
    let pem = public_key_pem(key).replace('\n', "\\n");
    format!("{{\"type\":\"handshake\",\"version\":1,\"peer_id\":\"{name}\",\"public_key\":\"{pem}\"}}")
}

#[test]
fn a_name_belongs_to_the_key_seen_with_it_first() {
    let mut one = One::opaque();
    let (first, second) = (key(1).node_id(), key(2).node_id());
    let link = one.open(1, Side::Accepted);
    one.get(link, &handshake("opaque", &first));
    assert_eq!(one.keys.get("opaque"), Some(&first));
    for (number, text, why) in [
        (2, handshake("opaque", &second), Some(CloseReason::Unauthorized)),
        (3, handshake("opaque", &first), None),
        (
            4,
            handshake(PeerName::of_key(&first).as_str(), &second),
            Some(CloseReason::Unauthorized),
        ),
        (5, handshake(PeerName::of_key(&first).as_str(), &first), None),
        (6, handshake("me", &second), Some(CloseReason::Ourselves)),
    ] {
        let link = one.open(number, Side::Accepted);
        one.get(link, &text);
        assert_eq!(one.closed.get(&link).copied(), why, "{number}");
        if why == Some(CloseReason::Unauthorized) {
            let answer =
                r#"{"type":"error","code":"unauthorized","message":"The peer_id belongs to another key"}"#;
            assert_eq!(one.take_sent(link), [answer]);
        }
    }
    // Also while the driver's table does not know it yet.
    one.keys.clear();
    let link = one.open(7, Side::Accepted);
    one.get(link, &handshake("opaque", &second));
    assert_eq!(one.closed.get(&link), Some(&CloseReason::Unauthorized));
    assert_eq!(one.mesh.links().len(), 3);
}

#[test]
fn times_far_ahead_are_refused_live() {
    let name: PeerName = "p".parse().unwrap();
    let at = |time: UnixMillis, came| {
        let draft = Message::draft("lobby".parse().unwrap(), name.clone(), "", None, time, "1").unwrap();
        check(draft, came, &|_| None, NOW).map(|message| message.time())
    };
    let edge = NOW.after(clawchat_mesh::MAX_TIME_AHEAD);
    assert_eq!(at(edge, Came::Live), Ok(edge));
    let beyond = UnixMillis(edge.0 + 1);
    assert_eq!(at(beyond, Came::Live), Err(Refusal::FromTheFuture));
    assert_eq!(at(beyond, Came::Asked), Ok(beyond));
}
